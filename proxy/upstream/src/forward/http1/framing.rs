//! Finds where each HTTP/1.1 response begins and ends, as strictly as for requests.
//!
//! hyper's client accepts a bare LF as a line end, reads an unknown transfer coding to the end of the
//! connection, and skips any number of interim responses. This parser follows the bytes that hyper is about
//! to read and reports violations (RFC 9112, sections 2.2, 4 to 7); it changes nothing. It also finds out
//! whether the connection may be reused.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use countersign_core::wire::lines::{self, LineError};

/// The most interim responses (1xx) to one request.
const MOST_INTERIM: u8 = 16;

/// Not violations: bounds of this gateway.
const LONG_LINE: LineError = "a line of it is longer than limits.headBytes";
const MANY_INTERIM: LineError = "it has more than 16 interim responses";
pub(super) const BOUNDS: [LineError; 2] = [LONG_LINE, MANY_INTERIM];

/// What a request asks for, as far as the end of its response depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A response with a body.
    Content,
    /// A response to HEAD.
    Head,
    /// A response that may be a 101.
    Upgrade,
}

const NOTHING: u8 = 0;
const CONTENT: u8 = 1;
const HEAD: u8 = 2;
const UPGRADE: u8 = 3;

/// State shared by the sender of requests and the parser of responses.
#[derive(Debug, Default)]
pub(super) struct Progress {
    asked: AtomicU8,
    begun: AtomicBool,
    last: AtomicBool,
}

impl Progress {
    /// A request is about to be sent; one response is expected.
    pub(super) fn ask(&self, asked: Asked) {
        let asked = match asked {
            Asked::Content => CONTENT,
            Asked::Head => HEAD,
            Asked::Upgrade => UPGRADE,
        };
        self.begun.store(false, Ordering::Relaxed);
        self.asked.store(asked, Ordering::Release);
    }

    /// Whether a byte has arrived since the last request.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether the connection must not be reused: it is uncertain where a response ends, or more was sent
    /// than was asked for.
    pub(super) fn is_last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Asked> {
        let asked = match self.asked.swap(NOTHING, Ordering::AcqRel) {
            CONTENT => Asked::Content,
            HEAD => Asked::Head,
            UPGRADE => Asked::Upgrade,
            _ => return None,
        };
        self.begun.store(true, Ordering::Relaxed);
        Some(asked)
    }

    fn doubt(&self) {
        self.last.store(true, Ordering::Relaxed);
    }
}

/// The parser's position in an upstream's bytes.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    asked: Asked,
    interim: u8,
    /// The beginning of an incomplete line.
    line: Vec<u8>,
    /// The longest line, in bytes.
    longest: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before the first byte of a response.
    Between,
    /// In a status line.
    Start,
    /// In the headers.
    Headers(Head),
    /// In a body or a chunk, with this many bytes left.
    Body { left: u64, chunked: bool },
    /// Before a chunk's size.
    ChunkSize,
    /// After a chunk's data.
    ChunkEnd,
    /// In a chunked body's trailers.
    Trailers,
    /// In data that ends with the connection: a body, another protocol, unrequested data, or anything after
    /// an error.
    Endless,
}

/// The head so far.
#[derive(Debug, Clone, Copy)]
struct Head {
    status: u16,
    http10: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    /// The start of a connection.
    pub(super) fn new(longest_line: usize) -> Self {
        Self {
            state: State::Between,
            asked: Asked::Content,
            interim: 0,
            line: Vec::new(),
            longest: longest_line,
        }
    }

    /// Parses the next bytes.
    pub(super) fn follow(&mut self, bytes: &[u8], progress: &Progress) -> Result<(), LineError> {
        let followed = self.advance(bytes, progress);
        if followed.is_err() {
            progress.doubt();
            self.state = State::Endless;
            self.line = Vec::new();
        }
        followed
    }

    fn advance(&mut self, mut bytes: &[u8], progress: &Progress) -> Result<(), LineError> {
        while !bytes.is_empty() {
            match self.state {
                State::Endless => return Ok(()),
                State::Between => {
                    self.begin(progress);
                    continue;
                }
                State::Body { left, chunked } => {
                    let here = left.min(bytes.len() as u64);
                    // At most the length of the slice, so it fits.
                    bytes = &bytes[usize::try_from(here).unwrap_or(bytes.len())..];
                    self.state = State::body(left - here, chunked);
                    continue;
                }
                State::Start
                | State::Headers(_)
                | State::ChunkSize
                | State::ChunkEnd
                | State::Trailers => {}
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return self.bounded();
            };
            let (last, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if self.line.is_empty() {
                self.line(last, progress)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(last);
                self.line(&line, progress)?;
                line.clear();
                self.line = line;
            }
        }
        Ok(())
    }

    fn begin(&mut self, progress: &Progress) {
        self.interim = 0;
        self.state = if let Some(asked) = progress.take() {
            self.asked = asked;
            State::Start
        } else {
            progress.doubt();
            State::Endless
        };
    }

    fn bounded(&self) -> Result<(), LineError> {
        if self.line.len() <= self.longest {
            Ok(())
        } else {
            Err(LONG_LINE)
        }
    }

    /// Parses a line without its LF.
    fn line(&mut self, line: &[u8], progress: &Progress) -> Result<(), LineError> {
        let line = lines::whole(line)?;
        self.state = match self.state {
            State::Start => State::Headers(status_line(line)?),
            State::Headers(head) if line.is_empty() => self.end(head, progress)?,
            State::Headers(mut head) => {
                head.header(line)?;
                State::Headers(head)
            }
            State::ChunkSize => match lines::chunk_size(line)? {
                0 => State::Trailers,
                size => State::body(size, true),
            },
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::ChunkEnd => return Err("a chunk is longer than its size"),
            State::Trailers if line.is_empty() => State::Between,
            State::Trailers => {
                lines::field(line)?;
                State::Trailers
            }
            state @ (State::Between | State::Body { .. } | State::Endless) => state,
        };
        Ok(())
    }

    /// The state after a head (RFC 9112, section 6.3).
    fn end(&mut self, head: Head, progress: &Progress) -> Result<State, LineError> {
        if head.chunked && head.http10 {
            return Err("HTTP/1.0 does not allow Transfer-Encoding");
        }
        if head.chunked && head.length.is_some() {
            // `settle` drops the length.
            progress.doubt();
        }
        Ok(match head.status {
            101 if self.asked == Asked::Upgrade && !head.http10 => State::Endless,
            101 => return Err("101 without a request to switch protocols"),
            100..=199 => {
                self.interim += 1;
                if self.interim > MOST_INTERIM {
                    return Err(MANY_INTERIM);
                }
                State::Start
            }
            204 if head.chunked || head.length.is_some_and(|length| length > 0) => {
                progress.doubt();
                State::Between
            }
            204 | 304 => State::Between,
            _ if self.asked == Asked::Head => State::Between,
            _ if head.chunked => State::ChunkSize,
            _ => match head.length {
                Some(length) => State::body(length, false),
                None => State::Endless,
            },
        })
    }
}

impl State {
    fn body(left: u64, chunked: bool) -> Self {
        match (left, chunked) {
            (0, true) => Self::ChunkEnd,
            (0, false) => Self::Between,
            (left, chunked) => Self::Body { left, chunked },
        }
    }
}

/// The beginning of a head; hyper checks the rest of the line.
fn status_line(line: &[u8]) -> Result<Head, LineError> {
    const FAULT: LineError = "the status line is malformed";
    let (http10, rest) = match line.split_at_checked(9) {
        Some((b"HTTP/1.1 ", rest)) => (false, rest),
        Some((b"HTTP/1.0 ", rest)) => (true, rest),
        Some(_) | None => return Err(FAULT),
    };
    let (status, reason) = rest.split_at_checked(3).ok_or(FAULT)?;
    if !matches!(reason.first(), None | Some(b' ')) {
        return Err(FAULT);
    }
    let status = lines::digits(status).and_then(|status| u16::try_from(status).ok());
    Ok(Head {
        status: status.filter(|status| *status >= 100).ok_or(FAULT)?,
        http10,
        length: None,
        chunked: false,
    })
}

impl Head {
    fn header(&mut self, line: &[u8]) -> Result<(), LineError> {
        let (name, value) = lines::field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            // One value, even if repeated (RFC 9112, section 6.3).
            for value in value.split(|byte| *byte == b',') {
                let length = lines::digits(value.trim_ascii());
                let length = length.ok_or("Content-Length is not a number")?;
                if self.length.is_some_and(|before| before != length) {
                    return Err("there are different Content-Lengths");
                }
                self.length = Some(length);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked {
                return Err("there is more than one Transfer-Encoding");
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding is not `chunked` alone");
            }
            self.chunked = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
