//! The state of a request body while it is sent, and the copy that is kept of it.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use countersign_core::budget::Charge;

use crate::{forward::lock::lock, inject::FormFault};

/// The state of a request body while it is sent, shared by the record and by the timeouts.
#[derive(Debug, Default)]
pub struct BodyMeter {
    bytes: AtomicU64,
    flags: AtomicU8,
    /// Written while the body is sent, read once when the response arrives: never contended.
    kept: Mutex<Kept>,
    /// The charge for a body that is in memory.
    charges: Mutex<Vec<Charge>>,
    /// Why the rest of it must not be sent.
    refused: OnceLock<FormFault>,
}

/// The copy of a body, in case it must be sent again. It is copied: a reference to a few bytes would keep
/// their whole buffer alive.
#[derive(Default)]
enum Kept {
    /// No copy is wanted.
    #[default]
    Not,
    /// All of it so far; this many more bytes may follow.
    Copy {
        bytes: Vec<u8>,
        room: usize,
        charge: Charge,
    },
    /// It was more than the bound.
    TooLarge,
    /// There was no memory for it.
    Short,
}

/// Prints no content.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Not => "Not",
            Self::Copy { .. } => "Copy",
            Self::TooLarge => "TooLarge",
            Self::Short => "Short",
        })
    }
}

/// Why a body cannot be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It is larger than the copy may be.
    #[error("the request's body is larger than limits.replayBytes")]
    TooLarge,
    /// There was no memory to keep it in.
    #[error("there was no memory to keep the request's body in")]
    Short,
    /// The response arrived before the client had sent all of it.
    #[error("the answer came before the whole request was sent")]
    Unfinished,
}

pub(super) const ENDED: u8 = 1;
pub(super) const FAILED: u8 = 2;
pub(super) const AWAITS_CLIENT: u8 = 4;
pub(super) const COMPLETE: u8 = 8;
pub(super) const MALFORMED: u8 = 16;

impl BodyMeter {
    /// A meter that keeps a copy of up to `room` bytes, in case the body must be sent again.
    pub fn keeping(room: usize, charge: Charge) -> Self {
        let kept = Kept::Copy {
            bytes: Vec::new(),
            room,
            charge,
        };
        Self {
            kept: Mutex::new(kept),
            ..Self::default()
        }
    }

    /// The whole body, to be sent again. The copy is dropped.
    ///
    /// # Errors
    /// When it was not kept as a whole.
    pub fn take_kept(&self) -> Result<Bytes, NotKept> {
        let kept = std::mem::take(&mut *self.kept());
        match kept {
            Kept::Not | Kept::TooLarge => Err(NotKept::TooLarge),
            Kept::Short => Err(NotKept::Short),
            Kept::Copy { .. } if self.has(FAILED) || !self.has(COMPLETE) => {
                Err(NotKept::Unfinished)
            }
            Kept::Copy { bytes, charge, .. } => {
                self.holds(charge);
                Ok(bytes.into())
            }
        }
    }

    /// Starts again, as if nothing had been sent; returns what was.
    ///
    /// # Errors
    /// When it was not kept as a whole.
    pub(super) fn rewind(&self) -> Result<Bytes, NotKept> {
        let mut kept = self.kept();
        let again = match &mut *kept {
            Kept::Copy { bytes, room, .. } => {
                let again = Bytes::from(std::mem::take(bytes));
                *room += again.len();
                again
            }
            Kept::Not | Kept::TooLarge | Kept::Short if self.bytes() == 0 => Bytes::new(),
            Kept::Not | Kept::TooLarge => return Err(NotKept::TooLarge),
            Kept::Short => return Err(NotKept::Short),
        };
        self.restart();
        Ok(again)
    }

    /// Resets the counters.
    pub(super) fn restart(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.flags.store(0, Ordering::Release);
    }

    /// Drops the copy.
    pub fn forget_kept(&self) {
        *self.kept() = Kept::Not;
    }

    /// Counts a piece that is sent, and copies it.
    pub(super) fn count(&self, data: &Bytes) {
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.keep(data);
    }

    fn keep(&self, data: &Bytes) {
        let mut kept = self.kept();
        let Kept::Copy {
            bytes,
            room,
            charge,
        } = &mut *kept
        else {
            return;
        };
        let Some(rest) = room.checked_sub(data.len()) else {
            *kept = Kept::TooLarge;
            return;
        };
        let length = bytes.len() + data.len();
        if length > bytes.capacity() {
            let capacity = length.max(2 * bytes.capacity());
            if charge.set(capacity).is_err() {
                *kept = Kept::Short;
                return;
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        *room = rest;
        bytes.extend_from_slice(data);
    }

    /// Holds a charge as long as the meter exists.
    pub fn holds(&self, charge: Charge) {
        lock(&self.charges).push(charge);
    }

    /// A body that is announced as too large need not be copied.
    pub(super) fn announced(&self, bytes: u64) {
        let mut kept = self.kept();
        if let Kept::Copy { room, .. } = &*kept
            && bytes > *room as u64
        {
            *kept = Kept::TooLarge;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    /// Bytes given to the upstream connection so far, without trailers.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it has ended: all was sent, or it was given up.
    pub fn ended(&self) -> bool {
        self.has(ENDED)
    }

    /// Why the rest of it must not be sent, if that is so.
    pub(in crate::forward) fn refused(&self) -> Option<&FormFault> {
        self.refused.get()
    }

    pub(super) fn refuse(&self, fault: FormFault) {
        // The first one counts.
        self.refused.get_or_init(|| fault);
    }

    /// Whether the client broke it off.
    pub fn failed(&self) -> bool {
        self.has(FAILED)
    }

    /// Whether it is not valid HTTP.
    pub(in crate::forward) fn malformed(&self) -> bool {
        self.has(MALFORMED)
    }

    /// Whether it waits for the client.
    pub(in crate::forward) fn awaits_client(&self) -> bool {
        self.has(AWAITS_CLIENT)
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    pub(super) fn set(&self, flag: u8) {
        self.flags.fetch_or(flag, Ordering::Release);
    }

    pub(super) fn clear(&self, flag: u8) {
        if self.has(flag) {
            self.flags.fetch_and(!flag, Ordering::Release);
        }
    }
}

/// The pieces joined, without copying if only one is not empty.
pub(super) fn joined(pieces: &[Bytes]) -> Bytes {
    let mut full = pieces.iter().filter(|piece| !piece.is_empty());
    match (full.next(), full.next()) {
        (None, _) => Bytes::new(),
        (Some(one), None) => one.clone(),
        (Some(_), Some(_)) => pieces.concat().into(),
    }
}

#[cfg(test)]
mod tests;
