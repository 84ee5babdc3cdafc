//! What reading from a client makes the gateway hold: the head that has not ended, the buffer it is
//! read into, and over HTTP/2 what nobody has asked for yet.
//!
//! It is charged for as it comes, and never more than that can be. Until a proven request has come,
//! what may come is little.

use std::{fmt, io, sync::Arc};

use countersign_types::memory::{
    CONNECTION_WINDOW, HEAD_FACTOR, REQUEST, SMALL_BODY, UNIDENTIFIED_HEAD, UNIDENTIFIED_TOTAL,
    UNIDENTIFIED_WINDOW, UPLOAD,
};
use http::request::Parts;
use http_body::SizeHint;

use crate::budget::{Charge, Purse, Short, narrow};

/// What every connection has room for, in bytes; and what is charged for at a time.
const STEP: usize = 8 * 1024;

/// Watches over what is read.
#[derive(Debug)]
pub struct Meter {
    purse: Arc<Purse>,
    charge: Charge,
    /// The longest head of a proven caller, in bytes.
    head: usize,
    /// What came over HTTP/2 since no request was in progress.
    since_idle: usize,
    /// All that came over HTTP/2 without proof: frames that are not kept cost time all the same.
    unproven: usize,
}

/// Why no more is read from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrun {
    /// Too much came without proof; the bound in bytes.
    Unproven(usize),
    /// There is no memory for it.
    Short(Short),
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unproven(most) => {
                write!(
                    f,
                    "more than {most} bytes came before any proof of who sends them"
                )
            }
            Self::Short(short) => short.fmt(f),
        }
    }
}

impl std::error::Error for Overrun {}

impl From<Overrun> for io::Error {
    fn from(overrun: Overrun) -> Self {
        Self::other(overrun)
    }
}

impl Overrun {
    /// The overrun that ended a TLS handshake.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl Meter {
    /// Charges `purse`. `head` bounds the head of a proven caller.
    pub fn new(purse: &Arc<Purse>, head: usize) -> Self {
        Self {
            charge: purse.charge(),
            purse: Arc::clone(purse),
            head,
            since_idle: 0,
            unproven: 0,
        }
    }

    /// HTTP/1.1: so much of a head has come, into a buffer that has so much room left.
    pub(super) fn read_head(&mut self, head: usize, room: usize) -> Result<(), Overrun> {
        let most = narrow(UNIDENTIFIED_HEAD).min(self.head);
        if head > most && !self.purse.is_identified() {
            return Err(Overrun::Unproven(most));
        }
        self.holds(head + room)
    }

    /// HTTP/2: so many bytes have come while requests were in progress or none was.
    pub(super) fn read(&mut self, bytes: usize, idle: bool) -> Result<(), Overrun> {
        if idle {
            self.since_idle = 0;
        }
        self.since_idle += bytes;
        let window = if self.purse.is_identified() {
            CONNECTION_WINDOW
        } else if self.unproven + bytes > narrow(UNIDENTIFIED_TOTAL) {
            return Err(Overrun::Unproven(narrow(UNIDENTIFIED_TOTAL)));
        } else if self.since_idle > narrow(UNIDENTIFIED_WINDOW) {
            return Err(Overrun::Unproven(narrow(UNIDENTIFIED_WINDOW)));
        } else {
            self.unproven += bytes;
            UNIDENTIFIED_WINDOW
        };
        let blocks = self.since_idle.min(narrow(HEAD_FACTOR) * self.head);
        self.holds(self.since_idle.min(narrow(window)) + blocks)
    }

    /// Whether a proven caller's.
    pub(super) fn is_identified(&self) -> bool {
        self.purse.is_identified()
    }

    /// Nothing is held any more.
    pub(super) fn rests(&mut self) {
        // Giving back cannot fail.
        let _ = self.charge.set(0);
    }

    /// Charges in steps, so that what is usual costs nothing.
    fn holds(&mut self, bytes: usize) -> Result<(), Overrun> {
        let bytes = if bytes <= STEP {
            0
        } else {
            bytes.next_multiple_of(STEP)
        };
        if bytes == self.charge.bytes() {
            return Ok(());
        }
        self.charge.set(bytes).map_err(Overrun::Short)
    }
}

/// What a header takes besides its name and value, in bytes.
const HEADER: usize = 64;

/// What a request holds while it is in progress: of its body what its upstream does not take, and over
/// HTTP/2, where a connection can have many, its head. A few bytes can stand for a long one there
/// (RFC 7541), so that what was read does not tell.
pub fn in_progress(
    purse: &Arc<Purse>,
    parts: &Parts,
    body: &SizeHint,
) -> Result<Option<Charge>, Short> {
    let mut bytes = most_held(body, UPLOAD);
    if parts.version == http::Version::HTTP_2 {
        bytes += narrow(REQUEST) + head(parts);
    }
    if bytes == 0 {
        return Ok(None);
    }
    let mut charge = purse.charge();
    charge.set(bytes)?;
    Ok(Some(charge))
}

/// What of a body of this size may be held, if it is no more than `most`, in bytes.
pub fn most_held(size: &SizeHint, most: u64) -> usize {
    match size.exact() {
        Some(length) if length <= SMALL_BODY => 0,
        length => narrow(length.unwrap_or(most).min(most)),
    }
}

/// The head of a request, in bytes.
fn head(parts: &Parts) -> usize {
    let fields = parts.headers.iter();
    let head: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len() + HEADER)
        .sum();
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    head + target
}

#[cfg(test)]
mod tests;
