//! Session tickets that are good for one host only.
//!
//! All hosts share the ticket keys, so they are rotated once for all. rustls resumes a session if the
//! client asks for the same server name as before, but the client chooses that name: a client without SNI,
//! as with every connection to an IP address, or one that asks one host's listener for another host, could
//! resume a session of another host. So the host of the certificate is sealed into the ticket and compared
//! when the ticket returns.

use std::sync::Arc;

use countersign_config::host::Host;
use rustls::server::ProducesTickets;

/// Seals one host's name into the tickets of a shared ticketer.
#[derive(Debug)]
pub(super) struct HostTicketer {
    shared: Arc<dyn ProducesTickets>,
    /// The host and a NUL, which no host contains, so that no prefix is the beginning of another.
    prefix: Box<[u8]>,
}

impl HostTicketer {
    /// Tickets for `host`.
    pub(super) fn new(shared: Arc<dyn ProducesTickets>, host: &Host) -> Self {
        let prefix = format!("{host}\0").into_bytes().into();
        Self { shared, prefix }
    }
}

impl ProducesTickets for HostTicketer {
    fn enabled(&self) -> bool {
        self.shared.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.shared.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.shared.encrypt(&[&self.prefix, plain].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.shared.decrypt(cipher)?;
        plain.starts_with(&self.prefix).then(|| {
            plain.drain(..self.prefix.len());
            plain
        })
    }
}
