//! A Secret whose values are overwritten when they are dropped.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, core::ObjectMeta};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroizing;

/// A Secret, as the API server has it.
#[derive(Debug, Clone, Serialize, Deserialize, Resource)]
#[resource(inherit = "Secret")]
#[serde(rename_all = "camelCase")]
pub(super) struct KeySecret {
    // In the type and not by it: what is sent without them is refused.
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    pub(super) metadata: ObjectMeta,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    secret_type: Option<String>,
    #[serde(default)]
    pub(super) data: BTreeMap<String, Value>,
}

/// One value.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Value(Zeroizing<Vec<u8>>);

impl KeySecret {
    /// A new one.
    pub(super) fn new(
        name: &str,
        secret_type: &str,
        data: impl IntoIterator<Item = (String, Value)>,
    ) -> Self {
        let (label, manager) = super::names::MANAGED_BY;
        Self {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([(label.to_owned(), manager.to_owned())])),
                ..ObjectMeta::default()
            },
            secret_type: Some(secret_type.to_owned()),
            data: data.into_iter().collect(),
        }
    }

    /// The same object with other content, to take its place.
    pub(super) fn with(&self, data: BTreeMap<String, Value>) -> Self {
        Self {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            data,
            ..self.clone()
        }
    }

    /// A value, if it is there and not empty.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let value = self.data.get(key)?.expose();
        (!value.is_empty()).then_some(value)
    }
}

impl Value {
    /// The value itself.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(&*self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let value = STANDARD.decode(text.as_bytes());
        let value = value.map_err(|_| D::Error::custom("a value is not base64"))?;
        Ok(Self(Zeroizing::new(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_names_its_kind_and_what_is_shown_has_no_value() {
        let secret = KeySecret::new("trust", "Opaque", [("a.key".to_owned(), "hush".into())]);
        let sent = serde_json::to_value(&secret).unwrap();
        assert_eq!(
            (&sent["apiVersion"], &sent["kind"]),
            (&"v1".into(), &"Secret".into())
        );
        assert_eq!(sent["data"]["a.key"], STANDARD.encode("hush"));
        assert!(!format!("{secret:?}").contains("hush"));
        let read: KeySecret = serde_json::from_value(sent).unwrap();
        assert_eq!(read.get("a.key"), Some(&b"hush"[..]));
        assert_eq!(read.get("b"), None);
    }
}
