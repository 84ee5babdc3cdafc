//! The connections this proxy opened a moment ago, so that one which steering rules bring back to
//! it is recognised before it goes round.

use std::{net::SocketAddr, time::Duration};

use moka::sync::Cache;
use tokio::net::TcpStream;

/// How long a connection is remembered. One that comes back does so at once; one that then says
/// nothing is looked at after `limits.handshakeTimeout`, by default 10 s.
const REMEMBERED: Duration = Duration::from_mins(2);

/// The most connections that are remembered.
const MOST: u64 = 16 * 1024;

/// Both ends of the connections that were opened last.
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
    /// Remembers a connection to `to`; to be called before anything is written to it, so that
    /// whoever reads from its other end finds it here.
    pub(super) fn note(&self, stream: &TcpStream, to: SocketAddr) {
        // Without a local address it is closed already, and comes back to nobody.
        if let Ok(from) = stream.local_addr() {
            self.0.insert((canonical(from), canonical(to)), ());
        }
    }

    /// Whether a connection from `from` that was to go to `to` is one of these.
    ///
    /// Both ends must be the same: a port that was used a moment ago may be another process's
    /// now, but hardly to the same destination.
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
