//! Bytes of a tunnel that are held back; the caller is charged for them.

use std::{ops::Deref, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use countersign_core::budget::{Charge, Purse, Short};
use tokio::io::ReadBuf;

/// What one read makes room for; a post-quantum `ClientHello` fits.
const ROOM: usize = 2048;

/// Bytes that were read and not yet passed on.
#[derive(Debug)]
pub(super) struct Held {
    bytes: BytesMut,
    charge: Charge,
}

impl Held {
    /// Charges `room`.
    pub(super) fn new(room: &Arc<Purse>) -> Self {
        Self {
            bytes: BytesMut::new(),
            charge: room.charge(),
        }
    }

    /// The buffer, with room for one more read.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn with_room(&mut self) -> Result<&mut BytesMut, Short> {
        let wanted = self.bytes.len() + ROOM;
        // The buffer grows by doubling.
        self.charge.set(2 * wanted)?;
        self.bytes.reserve(ROOM);
        Ok(&mut self.bytes)
    }

    /// Moves the first `count` bytes to `buffer`.
    pub(super) fn pass(&mut self, count: usize, buffer: &mut ReadBuf<'_>) {
        buffer.put_slice(&self.bytes[..count]);
        self.bytes.advance(count);
        if self.bytes.is_empty() {
            // Freed, because it may be large.
            self.bytes = BytesMut::new();
            // Lowering a charge cannot fail.
            let _ = self.charge.set(0);
        }
    }

    /// All that is held.
    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::{budget::Budget, metrics::Metrics};

    use super::*;

    #[test]
    fn what_is_held_is_charged_for_until_it_passes() {
        let budget = Budget::new(512 * 1024, &Metrics::new());
        let room = budget.admit().unwrap();
        let (before, _) = budget.held();
        let mut held = Held::new(&room);
        while let Ok(bytes) = held.with_room() {
            bytes.extend_from_slice(&[b'x'; ROOM]);
        }
        let (full, _) = budget.held();
        // A stranger's half of what is free; each byte counts twice.
        assert!(
            (64 * 1024..90 * 1024).contains(&held.len()),
            "{}",
            held.len()
        );
        assert!(full >= before + 2 * held.len() - ROOM * 4, "{full}");
        let mut passed = vec![0; held.len()];
        let count = passed.len();
        held.pass(count, &mut ReadBuf::new(&mut passed));
        assert_eq!(budget.held().0, before);
        assert!(held.with_room().is_ok());
    }
}
