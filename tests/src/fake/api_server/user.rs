//! Who asks: the users of static tokens, and service accounts by tokens that the server issued.

use countersign_core::clock::Clock;
use serde_json::Value;

use super::{LEEWAY, text};
use crate::fake::issuer::{ISSUER, Keys};

/// A user, as RBAC knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

impl User {
    pub(super) fn new(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&["system:authenticated"]);
        Self {
            name: name.to_owned(),
            groups: groups.map(|&group| group.to_owned()).collect(),
        }
    }

    pub(super) fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    pub(super) fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        Self::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &of_namespace],
        )
    }

    /// The service account of a token whose audience is the API server itself.
    pub(super) fn of_token(token: &str, keys: &Keys, clock: &Clock) -> Option<Self> {
        let claims = keys.verify(token)?;
        let audiences = claims["aud"].as_array()?;
        let living = claims["exp"].as_i64()? >= clock.now().as_second() - LEEWAY;
        if !living || !audiences.iter().any(|audience| audience == ISSUER) {
            return None;
        }
        let bound: &Value = &claims["kubernetes.io"];
        Some(Self::service_account(
            &text(&bound["namespace"]),
            &text(&bound["serviceaccount"]["name"]),
        ))
    }

    pub(super) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }
}
