//! What is known of a request body on its way, and what is kept of it.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use countersign_core::budget::Charge;

use crate::forward::pool::lock;

/// What is known of a request body while it is being sent, shared by who records it and who
/// watches over its progress.
#[derive(Debug, Default)]
pub struct BodyMeter {
    bytes: AtomicU64,
    flags: AtomicU8,
    /// Written by whoever sends the body, read once when its answer is there: never contended.
    kept: Mutex<Kept>,
    /// For what is here of it as a whole.
    charges: Mutex<Vec<Charge>>,
}

/// What is kept of a body, in case that it must be sent once more. It is copied: a reference to a few
/// bytes would keep the whole buffer that they were read into.
#[derive(Default)]
enum Kept {
    /// Nothing is wanted.
    #[default]
    Not,
    /// All of it so far; so many more bytes may follow.
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

/// Shows no content.
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

/// Why a body cannot be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It is larger than what is kept.
    #[error("the request's body is larger than limits.replayBytes")]
    TooLarge,
    /// There was no memory to keep it in.
    #[error("there was no memory to keep the request's body in")]
    Short,
    /// The answer came before the client had sent it all.
    #[error("the answer came before the whole request was sent")]
    Unfinished,
}

pub(super) const ENDED: u8 = 1;
pub(super) const FAILED: u8 = 2;
pub(super) const AWAITS_CLIENT: u8 = 4;
pub(super) const COMPLETE: u8 = 8;

impl BodyMeter {
    /// One that keeps up to `room` bytes of the body, in case that it must be sent once more.
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

    /// The whole body, to be sent once more. What was kept is let go.
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

    /// Begins anew, as if nothing had been handed over. Returns what was.
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

    /// Nothing was handed over any more.
    pub(super) fn restart(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.flags.store(0, Ordering::Release);
    }

    /// Lets go of what was kept.
    pub fn forget_kept(&self) {
        *self.kept() = Kept::Not;
    }

    /// Notes a piece that is handed over.
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

    /// Holds a charge for as long as anyone has the meter.
    pub fn holds(&self, charge: Charge) {
        lock(&self.charges).push(charge);
    }

    /// A body that says that it will be too large need not be kept at all.
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

    /// The bytes handed to the upstream connection so far, trailers not counted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether no more of it will be sent: all was handed over, or it was given up.
    pub fn ended(&self) -> bool {
        self.has(ENDED)
    }

    /// Whether the client broke it off.
    pub fn failed(&self) -> bool {
        self.has(FAILED)
    }

    /// Whether the next move is the client's.
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

/// The pieces as one, without copying if only one is not empty.
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
