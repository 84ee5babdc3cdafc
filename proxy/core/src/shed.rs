//! Connections that are closed in favour of others.

/// Why a connection is closed in favour of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// All strangers' places at its listener are taken.
    ListenerFull,
    /// All strangers' places of its source are taken.
    SourceFull,
    /// Memory or file descriptors are short.
    Resources,
    /// It showed proofs that were refused.
    ProofRefused,
    /// Its workload holds more than its share, and another has less.
    Share,
}

impl Shed {
    /// The stable name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ListenerFull => "listener_full",
            Self::SourceFull => "source_full",
            Self::Resources => "resources",
            Self::ProofRefused => "proof_refused",
            Self::Share => "share_exceeded",
        }
    }
}
