//! The connections that the gateway opened recently, to recognise one that redirection rules send back to
//! it.

use std::{net::SocketAddr, time::Duration};

use moka::sync::Cache;
use tokio::net::TcpStream;

/// How long a connection is remembered. One that returns does so at once; if it then sends nothing it is
/// examined after `limits.handshakeTimeout`, by default 10 s.
const REMEMBERED: Duration = Duration::from_mins(2);

/// The most connections that are remembered.
const MOST: u64 = 16 * 1024;

/// Both ends of the connections that were opened recently.
pub(super) struct Dialled(Cache<(SocketAddr, SocketAddr), ()>);

impl Default for Dialled {
    fn default() -> Self {
        Self(
            Cache::builder()
                .max_capacity(MOST)
                .time_to_live(REMEMBERED)
                .build(),
        )
    }
}

impl Dialled {
    /// Remembers a connection to `to`. Must be called before anything is written to it, so that a reader at
    /// its other end finds it here.
    pub(super) fn note(&self, stream: &TcpStream, to: SocketAddr) {
        // Without a local address it is already closed.
        if let Ok(from) = stream.local_addr() {
            self.0.insert((canonical(from), canonical(to)), ());
        }
    }

    /// Whether a connection from `from`, originally to `to`, is one of these.
    ///
    /// Both ends must match: the port may have been reused by another process since, but hardly to the same
    /// destination.
    pub(super) fn contains(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.0.contains_key(&(canonical(from), canonical(to)))
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_known_by_both_its_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let stream = TcpStream::connect(to).await.unwrap();
        let (_, from) = listener.accept().await.unwrap();
        let dialled = Dialled::default();
        assert!(!dialled.contains(from, to));
        dialled.note(&stream, to);
        assert!(dialled.contains(from, to));
        let mapped = format!("[::ffff:{}]:{}", from.ip(), from.port());
        assert!(dialled.contains(mapped.parse().unwrap(), to));
        assert!(!dialled.contains(to, from));
        let other = SocketAddr::new(from.ip(), to.port());
        assert!(!dialled.contains(other, to));
    }
}
