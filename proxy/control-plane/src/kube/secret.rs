//! Secrets: reading, listing, creating, and replacing with a version check.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_core::secret::Secret;
use http::{Method, StatusCode};
use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Kube, KubeError, KubeResponse, MissingRights, Right, Status};
use crate::quoted;

/// A Secret as stored by the API server.
#[derive(Clone, Deserialize)]
pub struct StoredSecret {
    /// All metadata, so that a replacement keeps what others have written there. It may contain the data
    /// again (by `kubectl apply`), and is as secret.
    metadata: Map<String, Value>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    immutable: Option<bool>,
    #[serde(default, deserialize_with = "or_default")]
    data: BTreeMap<String, Data>,
}

/// The value of a key.
#[derive(Clone)]
struct Data(Zeroizing<Vec<u8>>);

/// The result of listing one name.
#[derive(Debug)]
pub struct ListedSecret {
    /// The Secret, if it exists.
    pub secret: Option<StoredSecret>,
    /// The version from which it can be watched.
    pub resource_version: String,
}

impl StoredSecret {
    /// The version that was read; opaque.
    pub fn resource_version(&self) -> &str {
        self.metadata
            .get("resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The bytes under a key.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|data| data.0.as_slice())
    }

    /// Its keys, which are not secret.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.data.keys().map(String::as_str)
    }

    fn parse(body: &[u8]) -> Result<Self, KubeError> {
        // The cause is not shown: the parser's error contains parts of the value.
        let secret: Self =
            serde_json::from_slice(body).map_err(|_| KubeError::Malformed("Secret"))?;
        match secret.resource_version() {
            "" => Err(KubeError::Malformed("Secret")),
            _ => Ok(secret),
        }
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSecret")
            .field("resource_version", &self.resource_version())
            .field("keys", &self.data.keys())
            .finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Secret::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.expose());
        let bytes = bytes.map_err(|_| serde::de::Error::custom("no base64"))?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// Kubernetes sometimes writes `null` for an empty map.
fn or_default<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Data>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The body of a write.
#[derive(Serialize)]
struct SecretBody<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    metadata: Map<String, Value>,
    #[serde(rename = "type")]
    secret_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutable: Option<bool>,
    data: BTreeMap<&'a str, Encoded>,
}

/// A value in base64.
struct Encoded(Zeroizing<String>);

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'a> SecretBody<'a> {
    fn new(metadata: Map<String, Value>, data: &'a BTreeMap<String, Secret>) -> Self {
        let encoded = |value: &Secret| Encoded(Zeroizing::new(STANDARD.encode(value.expose())));
        Self {
            api_version: "v1",
            kind: "Secret",
            metadata,
            secret_type: "Opaque",
            immutable: None,
            data: data
                .iter()
                .map(|(key, value)| (key.as_str(), encoded(value)))
                .collect(),
        }
    }

    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, KubeError> {
        let length: usize = self.data.values().map(|value| value.0.len()).sum();
        // Allocated at once: a growing buffer leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 16 * 1024));
        serde_json::to_writer(&mut *bytes, self).map_err(|_| KubeError::Malformed("Secret"))?;
        Ok(bytes)
    }
}

/// The Secret of a request.
#[derive(Clone, Copy)]
pub(super) struct SecretRef<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl Kube {
    /// Reads one Secret. Needs the verb `get`.
    pub async fn read_secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<StoredSecret, KubeError> {
        let of = SecretRef { namespace, name };
        let answer = self.send(Method::GET, self.one(of)?, None).await?;
        match answer.status {
            StatusCode::OK => StoredSecret::parse(&answer.body),
            _ => Err(of.failure(self, "get", &answer).await),
        }
    }

    /// Reads one Secret, and the version from which it can be watched. Needs the verb `list`.
    pub async fn list_secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<ListedSecret, KubeError> {
        let of = SecretRef { namespace, name };
        let answer = self.send(Method::GET, self.selected(of)?, None).await?;
        match answer.status {
            StatusCode::OK => ListedSecret::parse(&answer.body, name),
            _ => Err(of.failure(self, "list", &answer).await),
        }
    }

    /// Creates a Secret with these values, or returns [`KubeError::AlreadyExists`]. Needs the verb
    /// `create`.
    pub async fn create_secret(
        &self,
        namespace: &str,
        name: &str,
        labels: &[(&str, &str)],
        data: &BTreeMap<String, Secret>,
    ) -> Result<StoredSecret, KubeError> {
        let of = SecretRef { namespace, name };
        let body = SecretBody::new(of.metadata(labels), data).bytes()?;
        let answer = self
            .send(Method::POST, self.all(namespace)?, Some(body))
            .await?;
        match answer.status {
            StatusCode::CREATED => StoredSecret::parse(&answer.body),
            _ => Err(of.failure(self, "create", &answer).await),
        }
    }

    /// Replaces the values of a Secret that was read, or returns [`KubeError::Conflict`] if it has
    /// changed since. Needs the verb `update`.
    pub async fn replace_secret(
        &self,
        namespace: &str,
        name: &str,
        read: &StoredSecret,
        data: &BTreeMap<String, Secret>,
    ) -> Result<StoredSecret, KubeError> {
        let of = SecretRef { namespace, name };
        let mut metadata = read.metadata.clone();
        metadata.remove("managedFields");
        let mut document = SecretBody::new(metadata, data);
        document.secret_type = read.kind.as_deref().unwrap_or("Opaque");
        document.immutable = read.immutable;
        let body = document.bytes()?;
        let answer = self.send(Method::PUT, self.one(of)?, Some(body)).await?;
        match answer.status {
            StatusCode::OK => StoredSecret::parse(&answer.body),
            _ => Err(of.failure(self, "update", &answer).await),
        }
    }

    /// Which of the verbs `create` and `update` the API server does not grant for a Secret. Uses a dry
    /// run of each write, because authorization is checked before the Secret's existence.
    pub async fn missing_to_write(
        &self,
        namespace: &str,
        name: &str,
        data: &BTreeMap<String, Secret>,
    ) -> Result<Vec<&'static str>, KubeError> {
        let of = SecretRef { namespace, name };
        let mut missing = Vec::new();
        for (verb, method, mut url) in [
            ("create", Method::POST, self.all(namespace)?),
            ("update", Method::PUT, self.one(of)?),
        ] {
            url.query_pairs_mut().append_pair("dryRun", "All");
            let body = SecretBody::new(of.metadata(&[]), data).bytes()?;
            let answer = self.send(method, url, Some(body)).await?;
            if answer.status.is_success() {
                continue;
            }
            match of.failure(self, verb, &answer).await {
                KubeError::Forbidden(_) => missing.push(verb),
                // The write would be done if the Secret did not exist, or existed; or the cluster uses
                // admission webhooks that do not support dry runs.
                KubeError::AlreadyExists { .. }
                | KubeError::NotFound { .. }
                | KubeError::Conflict { .. }
                | KubeError::Denied(_)
                | KubeError::Rejected { .. } => {}
                error => return Err(error),
            }
        }
        Ok(missing)
    }

    fn all(&self, namespace: &str) -> Result<Url, KubeError> {
        self.url(["api", "v1", "namespaces", namespace, "secrets"])
    }

    fn one(&self, of: SecretRef<'_>) -> Result<Url, KubeError> {
        self.url(["api", "v1", "namespaces", of.namespace, "secrets", of.name])
    }

    /// A list of one: a single Secret can only be watched in this way, and RBAC accepts it for that
    /// name.
    pub(super) fn selected(&self, of: SecretRef<'_>) -> Result<Url, KubeError> {
        let mut url = self.all(of.namespace)?;
        url.query_pairs_mut()
            .append_pair("fieldSelector", &format!("metadata.name={}", of.name));
        Ok(url)
    }
}

impl ListedSecret {
    fn parse(body: &[u8], name: &str) -> Result<Self, KubeError> {
        #[derive(Deserialize)]
        struct List {
            metadata: ListMeta,
            items: Vec<StoredSecret>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ListMeta {
            resource_version: String,
        }
        let list: List =
            serde_json::from_slice(body).map_err(|_| KubeError::Malformed("SecretList"))?;
        let of_name = |secret: &StoredSecret| {
            secret.metadata.get("name").and_then(Value::as_str) == Some(name)
        };
        Ok(Self {
            secret: list.items.into_iter().find(of_name),
            resource_version: list.metadata.resource_version,
        })
    }
}

impl SecretRef<'_> {
    fn metadata(self, labels: &[(&str, &str)]) -> Map<String, Value> {
        let labels: Map<String, Value> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
            .collect();
        Map::from_iter([
            ("name".to_owned(), Value::from(self.name)),
            ("namespace".to_owned(), Value::from(self.namespace)),
            ("labels".to_owned(), Value::Object(labels)),
        ])
    }

    /// The error for a response without success.
    pub(super) async fn failure(
        self,
        kube: &Kube,
        verb: &'static str,
        answer: &KubeResponse,
    ) -> KubeError {
        if let StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN = answer.status {
            return kube.refusal(answer, self.needed(verb)).await;
        }
        // Another kind of server sends a body that cannot be parsed.
        let status: Status = serde_json::from_slice(&answer.body).unwrap_or_default();
        self.judge(verb, answer.status.as_u16(), &status)
    }

    /// All rights for the same purpose. A watch begins with a list.
    fn needed(self, verb: &'static str) -> Vec<Right> {
        let verbs = match verb {
            "list" => vec!["list", "watch"],
            "watch" => vec!["watch", "list"],
            alone => vec![alone],
        };
        let right = |verb| Right::on_secret(verb, self.namespace, self.name);
        verbs.into_iter().map(right).collect()
    }

    pub(super) fn judge(self, verb: &'static str, code: u16, status: &Status) -> KubeError {
        let (namespace, name) = (Arc::from(self.namespace), Arc::from(self.name));
        match (code, status.reason.as_str()) {
            (401, _) => KubeError::Unauthorized("its watch ended so".into()),
            (403, "" | "Forbidden") => {
                let right = Right::on_secret(verb, self.namespace, self.name);
                KubeError::Forbidden(MissingRights::only(right))
            }
            (404, _) => KubeError::NotFound { namespace, name },
            (409, "AlreadyExists") => KubeError::AlreadyExists { namespace, name },
            (409, _) => KubeError::Conflict { namespace, name },
            (410, _) => KubeError::Gone,
            (429, _) => KubeError::Busy,
            (500.., _) => KubeError::Failed {
                status: code,
                said: quoted(&status.message).into(),
            },
            // The message may contain the invalid value.
            (_, reason) => KubeError::Rejected {
                status: code,
                reason: quoted(reason).into(),
            },
        }
    }
}
