//! How many requests were sent on each connection, to be compared with the records of them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts the requests that [`Session`](super::Session)s send, by the address of their end of the
/// connection. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<HashMap<SocketAddr, usize>>>);

/// The place of one connection.
#[derive(Debug, Clone)]
pub(super) struct Account {
    ledger: Ledger,
    address: SocketAddr,
}

impl Ledger {
    /// All counts.
    pub fn counts(&self) -> HashMap<SocketAddr, usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn account(&self, address: SocketAddr) -> Account {
        Account {
            ledger: self.clone(),
            address,
        }
    }
}

impl Account {
    /// A request is sent.
    pub(super) fn count(&self) {
        let mut counts = self.ledger.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(self.address).or_default() += 1;
    }
}
