//! The stored document of one credential, and its format.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use countersign_core::secret::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::StateError;

/// The format that is written, and the latest that can be read.
const FORMAT: u32 = 1;

/// The size of a claim, in bytes, so that there is room for the result of the refresh.
pub(super) const CLAIM: usize = 8 * 1024;

/// How many seeds are remembered.
const SEEDS: usize = 32;

/// The stored document of one credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateDocument {
    pub(super) format: Format,
    /// Counts the writes.
    pub serial: u64,
    /// The seeds with which a chain ever began, oldest first. A seed in this list is not used again, so
    /// that a replica that still has the previous file does not go back to it.
    pub(crate) seeds: Vec<Fingerprint>,
    /// The tokens.
    pub(crate) pair: Option<Pair>,
    /// A refresh in progress, or whose result is unknown.
    pub(crate) attempt: Option<Attempt>,
}

/// The result of a refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Pair {
    /// The access token; `None` after it was revoked.
    pub(crate) access: Option<Access>,
    /// The token for the next refresh. Single-use.
    #[serde(with = "exposed")]
    pub(crate) refresh_token: Secret,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Access {
    #[serde(with = "exposed")]
    pub(crate) token: Secret,
    pub(crate) obtained_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// Written before a single-use token is sent: a successor that finds it knows that the token may be
/// spent although the result was never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Attempt {
    /// What is spent.
    pub(crate) spends: Fingerprint,
    /// When it was first sent.
    pub(crate) since: Timestamp,
    /// The replica that refreshes; `None` if none does and the result is unknown.
    pub(crate) lease: Option<Lease>,
}

/// The right to refresh, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Lease {
    /// The holder.
    pub(crate) holder: Arc<str>,
    /// Its end, by its holder's clock.
    pub(crate) until: Timestamp,
}

/// Identifies a secret without revealing it. Tokens are long and random, so they cannot be found from
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a secret of some kind; the same text of another kind has another fingerprint.
    pub(crate) fn of(kind: &str, secret: &Secret) -> Self {
        let text = Zeroizing::new(format!("countersign\0{kind}\0{}", secret.expose()));
        let digest = digest(&SHA256, text.as_bytes());
        Self(hex(&digest.as_ref()[..16]))
    }

    /// The first eight bytes as a number, the same in every replica.
    pub(crate) fn number(&self) -> u64 {
        let head = self.0.get(..16).unwrap_or_default();
        u64::from_str_radix(head, 16).unwrap_or_default()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        if write!(text, "{byte:02x}").is_err() {
            text.clear();
        }
        text
    })
}

/// The number of the format; always the latest once it is in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Format;

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(FORMAT)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u32::deserialize(from).map(|_| Self)
    }
}

/// Parsed first: a later format may have unknown members.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl StateDocument {
    /// Records that a chain begins with this seed.
    pub(crate) fn begin(&mut self, seed: Fingerprint) {
        self.seeds.retain(|known| *known != seed);
        self.seeds.push(seed);
        let surplus = self.seeds.len().saturating_sub(SEEDS);
        self.seeds.drain(..surplus);
    }

    /// As JSON.
    pub(super) fn write(&self) -> Zeroizing<Vec<u8>> {
        // Allocated at once, so that growing leaves no copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
        if let Err(error) = serde_json::to_writer(&mut *bytes, self) {
            // A document can always be written as JSON.
            unreachable!("{error}");
        }
        let claimed = self.attempt.as_ref().is_some_and(|a| a.lease.is_some());
        if claimed && bytes.len() < CLAIM {
            // White space after a JSON document is ignored.
            bytes.resize(CLAIM, b' ');
        }
        bytes
    }

    /// As JSON, as a secret text.
    pub(super) fn text(&self) -> Secret {
        let mut bytes = self.write();
        // Always UTF-8; moved, so that no copy remains.
        Secret::new(String::from_utf8(std::mem::take(&mut *bytes)).unwrap_or_default())
    }

    /// Parses JSON; `at` says where it was stored.
    pub(super) fn parse(bytes: &[u8], at: &str) -> Result<Self, StateError> {
        let corrupt = |reason| StateError::Corrupt {
            at: at.into(),
            reason,
        };
        let head: Head = serde_json::from_slice(bytes)
            .map_err(|_| corrupt("it is not the state of a credential"))?;
        if head.format > FORMAT {
            return Err(StateError::Later { at: at.into() });
        }
        serde_json::from_slice(bytes).map_err(|_| corrupt("it is not in the gateway's format"))
    }
}

/// The only place where secrets of the state become text.
mod exposed {
    use countersign_core::secret::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}
