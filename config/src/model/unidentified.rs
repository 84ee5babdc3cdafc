//! The bounds of client connections on which nobody was proven yet.

use std::time::Duration;

/// How many there may be, and for how long. They take no place from those of proven callers.
#[derive(Debug, Clone, Copy)]
pub struct Unidentified {
    /// Open at one listener. Default 1,024.
    pub connections: usize,
    /// Of these, from one address, or from one /64 of IPv6. Pods behind one translated address
    /// share it. Default 512.
    pub per_source: usize,
    /// The time one may rest without a request, also after a proof was refused. Default 5 s.
    pub rest: Duration,
}

impl Default for Unidentified {
    fn default() -> Self {
        Self {
            connections: 1024,
            per_source: 512,
            rest: Duration::from_secs(5),
        }
    }
}
