//! The configurable bounds.

use std::time::Duration;

use crate::Unidentified;

/// The bounds of caches, queues, headers and waits; all configurable, none unlimited.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most memory in bytes that all peers together can make the gateway hold. `None`: half of the
    /// memory that the process can have, determined at start.
    pub memory: Option<u64>,
    /// Open client connections of identified callers. Default 10,000, or as many as fit into `memory`.
    pub connections: usize,
    /// Unidentified client connections.
    pub unidentified: Unidentified,
    /// The bytes of a request head. Default 64 KiB.
    pub head_bytes: usize,
    /// The time for a request's head to arrive. Default 10 s.
    pub head_timeout: Duration,
    /// The time for a client's TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// The time to resolve and connect to an upstream, handshake included. Default 10 s.
    pub connect_timeout: Duration,
    /// The time for an upstream's response head once the request was sent. Default 300 s.
    pub response_timeout: Duration,
    /// The longest time without progress in either body. Default 300 s.
    pub body_idle_timeout: Duration,
    /// The longest idle time of a client connection. Default 300 s.
    pub client_idle_timeout: Duration,
    /// The longest idle time of an upstream connection. Default 60 s.
    pub upstream_idle_timeout: Duration,
    /// Open upstream connections to one authority with one credential. Default 256.
    pub upstream_connections: usize,
    /// The largest form body that is rewritten. Default 1 MiB.
    pub form_bytes: usize,
    /// The largest request body kept for a replay. Default 64 KiB.
    pub replay_bytes: usize,
    /// The prefix of a response read to detect a failed credential. Default 64 KiB.
    pub inspect_bytes: usize,
    /// Leaf certificates kept. Default 1,024.
    pub leaves: u64,
    /// The time open requests have to finish after SIGTERM. Default 25 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            connections: 10_000,
            unidentified: Unidentified::default(),
            head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_mins(5),
            body_idle_timeout: Duration::from_mins(5),
            client_idle_timeout: Duration::from_mins(5),
            upstream_idle_timeout: Duration::from_mins(1),
            upstream_connections: 256,
            form_bytes: 1024 * 1024,
            replay_bytes: 64 * 1024,
            inspect_bytes: 64 * 1024,
            leaves: 1024,
            drain: Duration::from_secs(25),
        }
    }
}
