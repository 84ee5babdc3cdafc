//! The bounds of unidentified client connections.

use std::time::Duration;

/// How many there can be, and for how long. They use no slots of identified callers.
#[derive(Debug, Clone, Copy)]
pub struct Unidentified {
    /// Open at one listener. Default 1,024.
    pub connections: usize,
    /// Of these, from one address, or from one /64 of IPv6. Pods behind one translated address count as
    /// one. Default 512.
    pub per_source: usize,
    /// The idle time without a request, also after a refused proof. Default 5 s.
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
