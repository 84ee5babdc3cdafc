//! The boundaries of each HTTP/1.1 request, parsed more strictly than hyper does.
//!
//! hyper accepts a bare LF as a line end, and lets `Transfer-Encoding` override `Content-Length`. Every
//! request is written anew, so an upstream never sees the difference. But a client that sends such
//! requests is broken or malicious, and gets a 400 (RFC 9112, sections 2.2, 5.2 and 6.1). This follows
//! the bytes that hyper is about to read, pipelined requests included, and reports violations. It
//! changes nothing.

mod partial;

use super::connection_state::Violation;
use crate::wire::lines;
use partial::{Partial, Whole};

/// The position in a client's bytes.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// An incomplete line.
    line: Partial,
    /// The longest line, in bytes.
    longest: usize,
    /// Whether the last head was HTTP/1.0.
    http10: bool,
    /// The complete lines of the current head, in bytes.
    head: usize,
}

/// The part of a request that bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A head that is incomplete.
    Head,
    /// A head, up to its end.
    WholeHead,
    /// A body.
    Body,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a request line, or in one.
    Start,
    /// In the headers.
    Headers(Head),
    /// In a body, or a chunk, with this many bytes left.
    Body { left: u64, chunked: bool },
    /// Before a chunk's size.
    ChunkSize,
    /// After a chunk's data.
    ChunkEnd,
    /// In a chunked body's trailers.
    Trailers,
    /// There was a violation: the following bytes have no meaning.
    Broken,
}

/// What the headers so far say about the body.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    connect: bool,
    http10: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    /// At the beginning of a connection.
    pub fn new(longest_line: usize) -> Self {
        Self {
            state: State::Start,
            line: Partial::new(),
            longest: longest_line,
            http10: false,
            head: 0,
        }
    }

    /// Whether a head has begun and is incomplete.
    pub(super) fn within_head(&self) -> bool {
        match self.state {
            State::Start => !self.line.is_empty(),
            State::Headers(_) | State::Broken => true,
            State::Body { .. } | State::ChunkSize | State::ChunkEnd | State::Trailers => false,
        }
    }

    /// Whether a body has begun and is incomplete.
    pub(super) fn within_body(&self) -> bool {
        match self.state {
            State::Body { .. } | State::ChunkSize | State::ChunkEnd | State::Trailers => true,
            State::Start | State::Headers(_) | State::Broken => false,
        }
    }

    /// How much of an incomplete head has come, in bytes.
    pub(super) fn head_bytes(&self) -> usize {
        match self.state {
            State::Start | State::Headers(_) => self.head + self.line.len(),
            State::Body { .. }
            | State::ChunkSize
            | State::ChunkEnd
            | State::Trailers
            | State::Broken => self.line.len(),
        }
    }

    /// Whether the next byte begins a request.
    pub fn between_requests(&self) -> bool {
        matches!(self.state, State::Start) && self.line.is_empty()
    }

    /// Whether the last request's version supports interim responses.
    pub(super) fn takes_interim(&self) -> bool {
        !self.http10
    }

    /// Follows the next bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            if let State::Broken = self.state {
                return Ok(());
            }
            bytes = &bytes[self.step(bytes)?..];
        }
        Ok(())
    }

    /// Follows the bytes to the end of a head or of a body, and returns how many these are.
    pub fn follow_part(&mut self, bytes: &[u8]) -> Result<(usize, Part), Violation> {
        let in_head = self.within_head() || self.between_requests();
        let mut followed = 0;
        while followed < bytes.len() {
            let within_headers = matches!(self.state, State::Headers(_));
            followed += self.step(&bytes[followed..])?;
            if in_head && within_headers && !matches!(self.state, State::Headers(_)) {
                return Ok((followed, Part::WholeHead));
            }
            if !in_head && self.between_requests() {
                break;
            }
        }
        Ok((followed, if in_head { Part::Head } else { Part::Body }))
    }

    /// Follows the next line, or the part of a body that is there.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        if let State::Body { left, chunked } = self.state {
            // At most the length of the slice, so it fits.
            let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.state = State::body(left - here as u64, chunked);
            return Ok(here);
        }
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.line.push(bytes);
            return self.bounded().map(|()| bytes.len());
        };
        let last = &bytes[..end];
        let state = self.state;
        let length = self.line.len() + last.len() + 1;
        let next = if self.line.is_empty() {
            state.line(last)
        } else {
            self.line.push(last);
            self.line.end(|line| state.long_line(&line))
        };
        self.state = next.inspect_err(|_| self.state = State::Broken)?;
        self.head = match self.state {
            State::Headers(head) => {
                self.http10 = head.http10;
                self.head + length
            }
            _ => 0,
        };
        Ok(end + 1)
    }

    fn bounded(&mut self) -> Result<(), Violation> {
        if self.line.len() <= self.longest {
            return Ok(());
        }
        self.state = State::Broken;
        self.line = Partial::new();
        Err(Violation("a line is too long"))
    }
}

impl State {
    fn body(left: u64, chunked: bool) -> Self {
        match (left, chunked) {
            (0, true) => Self::ChunkEnd,
            (0, false) => Self::Start,
            (left, chunked) => Self::Body { left, chunked },
        }
    }

    /// The state after a line that came in parts; its middle may not have been kept.
    fn long_line(self, whole: &Whole<'_>) -> Result<Self, Violation> {
        if whole.control && whole.line.ends_with(b"\r") {
            return Err(Violation("a line contains a CR or NUL"));
        }
        let framing = match self {
            Self::Headers(_) => {
                let name = whole.line.split(|byte| *byte == b':').next();
                whole.colon.is_some() && name.is_some_and(is_framing)
            }
            Self::ChunkSize => !whole.beginning().contains(&b';'),
            Self::Start | Self::Body { .. } | Self::ChunkEnd | Self::Trailers | Self::Broken => {
                false
            }
        };
        if framing && whole.text_between {
            return Err(Violation(
                "a header that determines the body's length is too long",
            ));
        }
        if let (Self::Headers(_), false) = (self, framing || whole.line == b"\r") {
            return self.other_header(whole);
        }
        self.line(whole.line)
    }

    /// The state after a header that does not concern the body.
    fn other_header(self, whole: &Whole<'_>) -> Result<Self, Violation> {
        if !whole.line.ends_with(b"\r") {
            return Err(Violation("a line ends with LF alone"));
        }
        match (whole.line.first(), whole.colon) {
            (Some(b' ' | b'\t'), _) => Err(Violation("a header is folded over lines")),
            (_, None) => Err(Violation("a header has no colon")),
            (_, Some(true)) => Err(Violation("a header's name is empty or followed by a space")),
            (_, Some(false)) => Ok(self),
        }
    }

    /// The state after a line, without its LF.
    fn line(self, line: &[u8]) -> Result<Self, Violation> {
        let line = lines::whole(line).map_err(Violation)?;
        match self {
            // RFC 9112, section 2.2: empty lines before a request are ignored. An empty line ends
            // trailers.
            Self::Start | Self::Trailers if line.is_empty() => Ok(Self::Start),
            Self::Start => Ok(Self::Headers(Head {
                connect: line.starts_with(b"CONNECT "),
                http10: line.ends_with(b" HTTP/1.0"),
                ..Head::default()
            })),
            Self::Headers(head) if line.is_empty() => head.end(),
            Self::Headers(mut head) => {
                head.header(line)?;
                Ok(Self::Headers(head))
            }
            Self::ChunkSize => match lines::chunk_size(line).map_err(Violation)? {
                0 => Ok(Self::Trailers),
                size => Ok(Self::body(size, true)),
            },
            Self::ChunkEnd if line.is_empty() => Ok(Self::ChunkSize),
            Self::ChunkEnd => Err(Violation("a chunk is longer than its size")),
            Self::Trailers => Ok(Self::Trailers),
            Self::Body { .. } | Self::Broken => Ok(self),
        }
    }
}

impl Head {
    fn header(&mut self, line: &[u8]) -> Result<(), Violation> {
        let (name, value) = lines::field(line).map_err(Violation)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Violation("there is more than one Content-Length"));
            }
            self.length =
                Some(lines::digits(value).ok_or(Violation("Content-Length is not a number"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked {
                return Err(Violation("there is more than one Transfer-Encoding"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation("Transfer-Encoding is not `chunked` alone"));
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// The state after the head.
    fn end(self) -> Result<State, Violation> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Violation(
                "there are both Content-Length and Transfer-Encoding",
            )),
            (None, true) if self.http10 => {
                Err(Violation("HTTP/1.0 does not allow Transfer-Encoding"))
            }
            (Some(1..), false) | (None, true) if self.connect => {
                Err(Violation("CONNECT must not have a body"))
            }
            (None, true) => Ok(State::ChunkSize),
            (length, false) => Ok(State::body(length.unwrap_or(0), false)),
        }
    }
}

/// Whether a header of this name determines the length of the body.
fn is_framing(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

#[cfg(test)]
mod tests;
