//! Where each HTTP/1.1 request begins and ends, read more strictly than hyper reads it.
//!
//! hyper takes a bare LF for a line end and lets `Transfer-Encoding` win over `Content-Length`.
//! Every request is written anew, so an upstream never sees the difference, but whoever sends such
//! requests is confused or tries something, and both deserve a 400 (RFC 9112, sections 2.2, 5.2
//! and 6.1). This follows the bytes that hyper is about to read, also where requests are
//! pipelined, and says what is wrong with them; it changes nothing.

use super::activity::Violation;
use crate::lines;

/// The place in a client's bytes.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The longest line, in bytes.
    longest: usize,
    /// Whether the last head was one of HTTP/1.0.
    http10: bool,
}

/// What bytes of a request are a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A head that goes on.
    Head,
    /// A head, to its end.
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
    /// In a body, or a chunk, with so many bytes to come.
    Body { left: u64, chunked: bool },
    /// Before a chunk's size.
    ChunkSize,
    /// Behind a chunk's data.
    ChunkEnd,
    /// In a chunked body's trailers.
    Trailers,
    /// Something was wrong: what follows means nothing any more.
    Broken,
}

/// What the headers have said of the body so far.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    connect: bool,
    http10: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    /// At the beginning of a connection.
    pub(super) fn new(longest_line: usize) -> Self {
        Self {
            state: State::Start,
            line: Vec::new(),
            longest: longest_line,
            http10: false,
        }
    }

    /// Whether a head has begun and is not complete.
    pub(super) fn within_head(&self) -> bool {
        match self.state {
            State::Start => !self.line.is_empty(),
            State::Headers(_) | State::Broken => true,
            State::Body { .. } | State::ChunkSize | State::ChunkEnd | State::Trailers => false,
        }
    }

    /// Whether the next byte begins a request.
    pub(super) fn between_requests(&self) -> bool {
        matches!(self.state, State::Start) && self.line.is_empty()
    }

    /// Whether the last request knows of interim responses.
    pub(super) fn takes_interim(&self) -> bool {
        !self.http10
    }

    /// Follows the bytes that came next.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            if let State::Broken = self.state {
                return Ok(());
            }
            bytes = &bytes[self.step(bytes)?..];
        }
        Ok(())
    }

    /// Follows the bytes to the end of a head or of a body, and says how many these are.
    pub(super) fn follow_part(&mut self, bytes: &[u8]) -> Result<(usize, Part), Violation> {
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

    /// Follows the next line, or the body as far as it is there.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        if let State::Body { left, chunked } = self.state {
            // No more than the slice is long, so it fits.
            let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.state = State::body(left - here as u64, chunked);
            return Ok(here);
        }
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.line.extend_from_slice(bytes);
            return self.bounded().map(|()| bytes.len());
        };
        let last = &bytes[..end];
        let next = if self.line.is_empty() {
            self.state.line(last)
        } else {
            self.line.extend_from_slice(last);
            let next = self.state.line(&self.line);
            self.line.clear();
            next
        };
        self.state = next.inspect_err(|_| self.state = State::Broken)?;
        if let State::Headers(head) = self.state {
            self.http10 = head.http10;
        }
        Ok(end + 1)
    }

    fn bounded(&mut self) -> Result<(), Violation> {
        if self.line.len() <= self.longest {
            return Ok(());
        }
        self.state = State::Broken;
        self.line = Vec::new();
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

    /// The state after a line, which is given without its LF.
    fn line(self, line: &[u8]) -> Result<Self, Violation> {
        let line = lines::whole(line).map_err(Violation)?;
        match self {
            // RFC 9112, section 2.2: empty lines before a request are ignored. One ends trailers.
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
                Some(lines::digits(value).ok_or(Violation("Content-Length is no number"))?);
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

    /// The state behind the head.
    fn end(self) -> Result<State, Violation> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Violation(
                "there are both Content-Length and Transfer-Encoding",
            )),
            (None, true) if self.http10 => Err(Violation("HTTP/1.0 has no Transfer-Encoding")),
            (Some(1..), false) | (None, true) if self.connect => {
                Err(Violation("CONNECT has no body"))
            }
            (None, true) => Ok(State::ChunkSize),
            (length, false) => Ok(State::body(length.unwrap_or(0), false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Follows a text at once, and byte by byte; both must find the same.
    fn follow(text: &str) -> (Result<(), Violation>, Framing) {
        let mut whole = Framing::new(100);
        let at_once = whole.follow(text.as_bytes());
        let mut bytewise = Framing::new(100);
        let slowly = text
            .as_bytes()
            .chunks(1)
            .try_for_each(|byte| bytewise.follow(byte));
        assert_eq!(at_once, slowly);
        assert_eq!(whole.within_head(), bytewise.within_head());
        (at_once, whole)
    }

    #[rstest]
    #[case::plain("GET / HTTP/1.1\r\nHost: a\r\n\r\n")]
    #[case::empty_line_before("\r\nGET / HTTP/1.1\r\n\r\n")]
    #[case::body("POST / HTTP/1.1\r\ncontent-length:3\r\n\r\na\nb")]
    #[case::chunked(
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\na\nb\r\n0\r\nt: 1\r\n\r\n"
    )]
    #[case::connect("CONNECT a:443 HTTP/1.1\r\nContent-Length: 0\r\n\r\n")]
    #[case::old("GET / HTTP/1.0\r\nContent-Length: 0\r\n\r\n")]
    #[case::odd_but_legal("GET / HTTP/1.1\r\nx-content-length: q\r\nempty:\r\n\r\n")]
    fn an_honest_request_ends_where_the_next_begins(#[case] request: &str) {
        let (found, framing) = follow(request);
        assert_eq!(found, Ok(()));
        assert!(!framing.within_head());
        // A violation in the next request is found only if its beginning is known.
        let (found, _) = follow(&format!("{request}{GET}GET / HTTP/1.1\n"));
        assert_eq!(found, Err(Violation("a line ends with LF alone")));
    }

    #[rstest]
    #[case::bare_lf("GET / HTTP/1.1\nHost: a\r\n\r\n")]
    #[case::bare_lf_at_the_end("GET / HTTP/1.1\r\nHost: a\n\n")]
    #[case::bare_cr("GET / HTTP/1.1\r\nHost: a\rx: b\r\n\r\n")]
    #[case::nul("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n")]
    #[case::folded("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n")]
    #[case::no_colon("GET / HTTP/1.1\r\nHost\r\n\r\n")]
    #[case::space_before_colon("GET / HTTP/1.1\r\nContent-Length : 3\r\n\r\n")]
    #[case::both("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")]
    #[case::both_turned(
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
    )]
    #[case::two_lengths("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n")]
    #[case::length_list("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n")]
    #[case::signed_length("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n")]
    #[case::two_encodings(
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    )]
    #[case::encoding_list("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")]
    #[case::unknown_encoding("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n")]
    #[case::old_with_encoding("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")]
    #[case::connect_with_body("CONNECT a:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\n")]
    #[case::odd_chunk("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n")]
    #[case::chunk_too_long("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n")]
    #[case::chunk_with_lf("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n")]
    fn what_servers_read_differently_is_a_violation(#[case] request: &str) {
        let (found, framing) = follow(request);
        assert!(found.is_err());
        assert!(framing.within_head());
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let (found, _) = follow(&"x".repeat(101));
        assert_eq!(found, Err(Violation("a line is too long")));
    }

    #[rstest]
    #[case("", false)]
    #[case("G", true)]
    #[case("GET / HTTP/1.1\r\n", true)]
    #[case("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", false)]
    #[case("GET / HTTP/1.1\r\n\r\nGET", true)]
    fn knows_when_a_head_is_due(#[case] text: &str, #[case] within: bool) {
        assert_eq!(follow(text).1.within_head(), within);
    }
}
