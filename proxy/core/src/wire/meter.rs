//! The memory for reading from a client: the incomplete head, its read buffer, and over HTTP/2 data that
//! nothing has asked for yet.
//!
//! It is charged as it comes, and never more than is possible. Before the first proven request the
//! limits are small.

use std::{fmt, io, sync::Arc};

use countersign_types::memory::{
    CONNECTION_WINDOW, HEAD_FACTOR, REQUEST, SMALL_BODY, UNIDENTIFIED_HEAD, UNIDENTIFIED_TOTAL,
    UNIDENTIFIED_WINDOW, UPLOAD,
};
use http::request::Parts;
use http_body::SizeHint;

use crate::{
    budget::{Charge, Purse, Short, narrow},
    reason::Reason,
};

/// Included in every connection's memory; also the step of charges, in bytes.
const STEP: usize = 8 * 1024;

/// Charges for what is read.
#[derive(Debug)]
pub struct Meter {
    purse: Arc<Purse>,
    charge: Charge,
    /// The longest head of an identified caller, in bytes.
    head: usize,
    /// What came over HTTP/2 since the last request was in progress.
    since_idle: usize,
    /// Everything that came over HTTP/2 without proof: frames cost time even if they leave no state.
    unproven: usize,
}

/// Why nothing more is read from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrun {
    /// Too much came without proof; has the bound in bytes.
    Unproven(usize),
    /// There is not enough memory.
    Short(Short),
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unproven(most) => {
                write!(
                    f,
                    "more than {most} bytes came before the caller was identified"
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
    /// The reason, in responses, records and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unproven(_) => Reason::HeadTooLarge,
            Self::Short(short) => short.reason(),
        }
    }

    /// The overrun that ended a TLS handshake.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl Meter {
    /// Charges `purse`. `head` bounds the head of an identified caller.
    pub fn new(purse: &Arc<Purse>, head: usize) -> Self {
        Self {
            charge: purse.charge(),
            purse: Arc::clone(purse),
            head,
            since_idle: 0,
            unproven: 0,
        }
    }

    /// HTTP/1.1: this much of a head has come, into a buffer with this much room left.
    pub(super) fn read_head(&mut self, head: usize, room: usize) -> Result<(), Overrun> {
        let most = narrow(UNIDENTIFIED_HEAD).min(self.head);
        if head > most && !self.purse.is_identified() {
            return Err(Overrun::Unproven(most));
        }
        self.holds(head + room)
    }

    /// HTTP/2: this many bytes have come; `idle` if no request was in progress.
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

    /// Whether the caller is identified.
    pub(super) fn is_identified(&self) -> bool {
        self.purse.is_identified()
    }

    /// Nothing is held any more.
    pub(super) fn rests(&mut self) {
        // Releasing cannot fail.
        let _ = self.charge.set(0);
    }

    /// Charges in steps, so that the usual case costs nothing.
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

/// The cost of a header in addition to its name and value, in bytes.
const HEADER: usize = 64;

/// The memory of a request in progress: the part of its body that the upstream has not read, and over
/// HTTP/2, where a connection can have many requests, its head. A few bytes can encode a long head there
/// (RFC 7541), so it is not known from the bytes read.
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

/// How much of a body of this size may be buffered, at most `most`, in bytes.
pub fn most_held(size: &SizeHint, most: u64) -> usize {
    match size.exact() {
        Some(length) if length <= SMALL_BODY => 0,
        length => narrow(length.unwrap_or(most).min(most)),
    }
}

/// The size of a request's head, in bytes.
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
