//! The public state of trust, in a `ConfigMap`: which root signs, how far a rotation is, and which gateway shows what.
//! Gateways follow it to see that another root signs, operators to see how far a rotation is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    authority::Authorities,
    names::AuthorityName,
    rotation::{Answer, Position},
};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicState {
    /// Of each authority, by its name.
    #[serde(default)]
    pub authorities: BTreeMap<String, PublicAuthority>,
    /// The answer to what an operator asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// One authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicAuthority {
    /// SHA-256 of the root that signs.
    pub signs: String,
    /// SHA-256 of all roots that clients must trust, the one that signs first.
    pub trusted: Vec<String>,
    /// When the root that signs ends.
    pub ends: Timestamp,
    /// How far its rotation is.
    pub position: Position,
    /// When the root that signs replaced another, if it did: clients may still trust that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_another_at: Option<Timestamp>,
    /// What each gateway's pod shows.
    #[serde(default)]
    pub holders: BTreeMap<String, Holder>,
}

/// What a gateway shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// SHA-256 of the root that signed it.
    pub root: String,
    /// When it ends.
    pub ends: Timestamp,
}

impl PublicState {
    /// The state of these, with what is known of holders. What has ended is left out.
    pub(super) fn of(authorities: &Authorities, earlier: &Self, now: Timestamp) -> Self {
        let each = AuthorityName::ALL.map(|name| {
            let authority = authorities.get(name);
            let earlier = earlier.authorities.get(name.as_str());
            let holders = earlier.map(|earlier| earlier.holders.clone());
            let mut holders = holders.unwrap_or_default();
            holders.retain(|_, holder| holder.ends > now);
            let public = PublicAuthority {
                signs: authority.current.fingerprint(),
                trusted: authority
                    .trusted()
                    .map(|root| countersign_pki::fingerprint(root))
                    .collect(),
                ends: authority.current.validity.not_after,
                position: authority.position,
                replaced_another_at: authority.replaced_another_at,
                holders,
            };
            (name.as_str().to_owned(), public)
        });
        Self {
            authorities: each.into(),
            answer: earlier.answer.clone(),
        }
    }
}
