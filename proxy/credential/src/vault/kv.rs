//! KV version 2.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use countersign_core::secret::Secret;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{Vault, VaultError, VaultRequest, VaultResponse, document};

/// A secret and its version.
#[derive(Debug, Clone)]
pub struct Versioned {
    /// Its fields.
    pub fields: BTreeMap<String, Field>,
    /// The number of writes; a check-and-set names it.
    pub version: u64,
}

impl Versioned {
    /// The text of a field; `None` if there is no such field or it is not text.
    pub fn text(&self, key: &str) -> Option<&Secret> {
        self.fields.get(key).and_then(Field::text)
    }
}

/// The value of a field.
#[derive(Debug, Clone)]
pub enum Field {
    /// A text.
    Text(Secret),
    /// A number, a list or something else.
    Other,
}

impl Field {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&Secret> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::String(text) => Self::Text(Secret::new(text)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => Self::Other,
        })
    }
}

#[derive(Deserialize)]
struct KvResponse {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    data: Option<BTreeMap<String, Field>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl Vault {
    /// The newest version of a secret. If it was deleted or destroyed, the error has the version that a
    /// check-and-set must name to write the next one.
    pub async fn read(self: &Arc<Self>, mount: &str, path: &str) -> Result<Versioned, VaultError> {
        let full = format!("{mount}/data/{path}");
        let (answer, _) = self.ask(VaultRequest::read(&full)).await?;
        let document = match answer.status {
            StatusCode::NOT_FOUND if !answer.said().is_empty() => return Err(answer.failure(&full)),
            StatusCode::OK | StatusCode::NOT_FOUND => answer.parse::<KvResponse>("secret").ok(),
            _ => return Err(answer.failure(&full)),
        };
        let (mount, path) = (Arc::from(mount), Arc::from(path));
        let Some(KvResponse { data }) = document else {
            // Version 1 has no such path either, and does not say why.
            self.require_kv2(&mount).await?;
            return Err(VaultError::NotFound { mount, path });
        };
        self.note_kv2(&mount);
        let version = data.metadata.version;
        match (data.data, data.metadata.deletion_time.parse::<Timestamp>()) {
            (Some(fields), _) => Ok(Versioned { fields, version }),
            (None, Ok(at)) if !data.metadata.destroyed => Err(VaultError::Deleted {
                mount,
                path,
                version,
                at,
            }),
            (None, _) => Err(VaultError::Destroyed {
                mount,
                path,
                version,
            }),
        }
    }

    /// Writes the next version of a secret if its newest is still `cas`, where 0 means that there is
    /// none; returns the new version. After [`VaultError::Conflict`] nothing was written; after
    /// [`countersign_control_plane::TransportError::Lost`] it is not known.
    pub async fn write(
        self: &Arc<Self>,
        mount: &str,
        path: &str,
        fields: &BTreeMap<String, Secret>,
        cas: u64,
    ) -> Result<u64, VaultError> {
        #[derive(Serialize)]
        struct WriteRequest<'a> {
            options: WriteOptions,
            data: BTreeMap<&'a str, &'a str>,
        }
        #[derive(Serialize)]
        struct WriteOptions {
            cas: u64,
        }
        #[derive(Deserialize)]
        struct WriteResponse {
            data: Metadata,
        }
        // Version 1 accepts such a write, but ignores check-and-set.
        self.require_kv2(mount).await?;
        let full = format!("{mount}/data/{path}");
        let exposed = fields
            .iter()
            .map(|(key, value)| (key.as_str(), value.expose()));
        let body = document(&WriteRequest {
            options: WriteOptions { cas },
            data: exposed.collect(),
        })?;
        let mut ask = VaultRequest::update(&full, body);
        ask.capabilities = r#""create", "update""#;
        let (answer, _) = self.ask(ask).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.parse::<WriteResponse>("KV v2 version")?.data.version),
            StatusCode::BAD_REQUEST if answer.said().contains("check-and-set parameter") => {
                Err(VaultError::Conflict {
                    mount: mount.into(),
                    path: path.into(),
                })
            }
            _ => Err(answer.failure(&full)),
        }
    }

    /// Which of these capabilities the session lacks for a secret; `None` if it may not ask.
    pub async fn missing_capabilities(
        self: &Arc<Self>,
        mount: &str,
        path: &str,
        wanted: &[&'static str],
    ) -> Result<Option<Vec<&'static str>>, VaultError> {
        #[derive(Serialize)]
        struct CapabilitiesRequest<'a> {
            paths: [&'a str; 1],
        }
        #[derive(Deserialize)]
        struct CapabilitiesResponse {
            data: BTreeMap<String, Vec<String>>,
        }
        let full = format!("{mount}/data/{path}");
        let body = document(&CapabilitiesRequest { paths: [&full] })?;
        let asked = self
            .ask(VaultRequest::update("sys/capabilities-self", body))
            .await;
        let answer = match asked {
            Err(VaultError::Denied { .. }) => return Ok(None),
            asked => asked?.0,
        };
        if answer.status != StatusCode::OK {
            return Err(answer.failure("sys/capabilities-self"));
        }
        let mut told = answer.parse::<CapabilitiesResponse>("capabilities")?.data;
        let has = told
            .remove(&full)
            .ok_or(VaultError::Malformed("capabilities"))?;
        let lacks = |wanted: &&&str| !has.iter().any(|has| has == **wanted || has == "root");
        Ok(Some(wanted.iter().filter(lacks).copied().collect()))
    }

    /// Checks once that a mount is KV v2.
    async fn require_kv2(self: &Arc<Self>, mount: &str) -> Result<(), VaultError> {
        if self.knows_kv2(mount) {
            return Ok(());
        }
        let path = format!("sys/internal/ui/mounts/{mount}");
        let asked = self.ask(VaultRequest::read(&path)).await;
        // This is refused for a mount that does not exist, and for one without any usable path.
        if let Err(VaultError::Denied { .. }) = asked {
            return Err(VaultError::NoMount { path: mount.into() });
        }
        let (answer, _) = asked?;
        if answer.status != StatusCode::OK {
            return Err(answer.failure(&path));
        }
        if !is_kv2(&answer)? {
            return Err(VaultError::NotKv2 {
                mount: mount.into(),
            });
        }
        self.note_kv2(mount);
        Ok(())
    }

    fn knows_kv2(&self, mount: &str) -> bool {
        let known = self.kv2.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(mount)
    }

    fn note_kv2(&self, mount: &str) {
        let mut known = self.kv2.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(mount.to_owned());
    }
}

fn is_kv2(answer: &VaultResponse) -> Result<bool, VaultError> {
    #[derive(Deserialize)]
    struct Mount {
        data: MountData,
    }
    #[derive(Deserialize)]
    struct MountData {
        #[serde(rename = "type")]
        kind: String,
        options: Option<BTreeMap<String, String>>,
    }
    let mount = answer.parse::<Mount>("mount")?.data;
    let version = mount.options.as_ref().and_then(|o| o.get("version"));
    Ok(mount.kind == "kv" && version.is_some_and(|version| version == "2"))
}
