//! What is known of a request body on its way, and what is kept of it.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::forward::pool::lock;

/// What is known of a request body while it is being sent, shared by who records it and who
/// watches over its progress.
#[derive(Debug, Default)]
pub struct BodyMeter {
    bytes: AtomicU64,
    flags: AtomicU8,
    /// Written by whoever sends the body, read once when its answer is there: never contended.
    kept: Mutex<Kept>,
}

/// What is kept of a body, by reference, in case that it must be sent once more.
#[derive(Default)]
enum Kept {
    /// Nothing is wanted.
    #[default]
    Not,
    /// All of it so far; so many more bytes may follow.
    Pieces {
        pieces: SmallVec<[Bytes; 2]>,
        room: usize,
    },
    /// It was more than the bound.
    TooLarge,
}

/// Shows no content.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Not => "Not",
            Self::Pieces { .. } => "Pieces",
            Self::TooLarge => "TooLarge",
        })
    }
}

/// Why a body cannot be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It is larger than what is kept.
    #[error("the request's body is larger than limits.replayBytes")]
    TooLarge,
    /// The answer came before the client had sent it all.
    #[error("the answer came before the whole request was sent")]
    Unfinished,
}

pub(super) const ENDED: u8 = 1;
pub(super) const FAILED: u8 = 2;
pub(super) const AWAITS_CLIENT: u8 = 4;
pub(super) const COMPLETE: u8 = 8;

impl BodyMeter {
    /// One that keeps up to `bytes` of the body, in case that it must be sent once more.
    pub fn keeping(bytes: usize) -> Self {
        let kept = Kept::Pieces {
            pieces: SmallVec::new(),
            room: bytes,
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
            Kept::Pieces { .. } if self.has(FAILED) || !self.has(COMPLETE) => {
                Err(NotKept::Unfinished)
            }
            Kept::Pieces { pieces, .. } => Ok(joined(&pieces)),
        }
    }

    /// Begins anew, as if nothing had been handed over. Returns what was.
    ///
    /// # Errors
    /// When it was not kept as a whole.
    pub(super) fn rewind(&self) -> Result<Bytes, NotKept> {
        let mut kept = self.kept();
        let again = match &mut *kept {
            Kept::Pieces { pieces, room } => {
                let again = joined(pieces);
                pieces.clear();
                *room += again.len();
                again
            }
            Kept::Not | Kept::TooLarge if self.bytes() == 0 => Bytes::new(),
            Kept::Not | Kept::TooLarge => return Err(NotKept::TooLarge),
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
        let Kept::Pieces { pieces, room } = &mut *kept else {
            return;
        };
        match room.checked_sub(data.len()) {
            Some(rest) => {
                *room = rest;
                pieces.push(data.clone());
            }
            None => *kept = Kept::TooLarge,
        }
    }

    /// A body that says that it will be too large need not be kept at all.
    pub(super) fn announced(&self, bytes: u64) {
        let mut kept = self.kept();
        if let Kept::Pieces { room, .. } = &*kept
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
