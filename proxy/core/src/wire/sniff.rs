//! Detects a client's protocol by its first bytes: TLS and the name in SNI, HTTP/1, HTTP/2, or something
//! else.
//!
//! This code reads no socket, and the result does not depend on how the bytes were split: it is the same
//! if they come at once or one by one (`tests/fuzz` checks this). A `ClientHello` can be split over
//! segments and over TLS records; with post-quantum key shares it usually spans segments.

/// How many first bytes are examined at most.
pub const MOST: usize = 64 * 1024;

/// The longest text that is accepted as an HTTP method.
const LONGEST_METHOD: usize = 32;
/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 8446, section 5.1.
const HANDSHAKE: u8 = 22;
const MAJOR: u8 = 3;
const RECORD_HEADER: usize = 5;
const LONGEST_FRAGMENT: usize = 1 << 14;

/// RFC 8446, section 4.
const CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER: usize = 4;

const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const EARLY_DATA: u16 = 42;

/// A detected protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DetectedProtocol {
    /// TLS, with a complete `ClientHello`.
    Tls(ClientHello),
    /// HTTP/1.0 or 1.1, with a complete request line.
    Http1,
    /// HTTP/2 without TLS, by its preface.
    Http2,
    /// Something else.
    Unknown,
}

/// The relevant parts of a `ClientHello`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name in SNI (RFC 6066, section 3), as it was sent; ASCII.
    pub server_name: Option<String>,
    /// Whether it has the ECH extension: the name may be an outer one that hides the real name. Clients
    /// also send the extension without content (GREASE), which looks the same.
    pub encrypted: bool,
    /// Whether it announces early data, which follows it at once.
    pub early_data: bool,
}

/// Bytes that begin like TLS but cannot be a `ClientHello`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Examines the first bytes of a connection as they come. Each byte is examined once.
#[derive(Debug, Default)]
pub struct Sniffer {
    /// How far the bytes were examined: for TLS the start of the next record.
    next: usize,
    /// The handshake message so far, without record headers.
    message: Vec<u8>,
}

impl Sniffer {
    /// Continues with more bytes. `seen` is everything that came so far, from the first byte; `None`
    /// asks for more.
    ///
    /// # Errors
    /// When it begins like TLS but cannot be TLS.
    pub fn look(&mut self, seen: &[u8]) -> Result<Option<DetectedProtocol>, Malformed> {
        if begins_as_tls(seen) {
            return self.look_at_tls(seen);
        }
        Ok(self.look_at_http(seen))
    }

    /// The length of the `ClientHello` with its record headers, after it was detected.
    pub fn hello_length(&self) -> usize {
        self.next
    }

    /// The result when nothing more comes, or when `MOST` bytes were not enough.
    ///
    /// # Errors
    /// When a `ClientHello` is incomplete.
    pub fn end(seen: &[u8]) -> Result<DetectedProtocol, Malformed> {
        if !seen.is_empty() && begins_as_tls(seen) {
            return Err(Malformed("the ClientHello is not complete"));
        }
        Ok(DetectedProtocol::Unknown)
    }

    fn look_at_tls(&mut self, seen: &[u8]) -> Result<Option<DetectedProtocol>, Malformed> {
        while let Some([kind, major, _, high, low]) = seen.get(self.next..self.next + RECORD_HEADER)
        {
            if [*kind, *major] != [HANDSHAKE, MAJOR] {
                return Err(Malformed("another record is inside the ClientHello"));
            }
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length == 0 || length > LONGEST_FRAGMENT {
                return Err(Malformed("a TLS record has an impossible length"));
            }
            let start = self.next + RECORD_HEADER;
            // The first byte has the message type: no need to wait for the rest.
            let first = seen.get(start).filter(|_| self.message.is_empty());
            if first.is_some_and(|message| *message != CLIENT_HELLO) {
                return Ok(Some(DetectedProtocol::Unknown));
            }
            let Some(fragment) = seen.get(start..start + length) else {
                break;
            };
            self.message.extend_from_slice(fragment);
            self.next = start + length;
            if let Some(hello) = whole_hello(&self.message)? {
                return Ok(Some(DetectedProtocol::Tls(hello)));
            }
        }
        Ok(None)
    }

    fn look_at_http(&mut self, seen: &[u8]) -> Option<DetectedProtocol> {
        if PREFACE.starts_with(seen) {
            return (seen.len() == PREFACE.len()).then_some(DetectedProtocol::Http2);
        }
        if seen.starts_with(PREFACE) {
            return Some(DetectedProtocol::Http2);
        }
        for (index, byte) in seen.iter().enumerate().skip(self.next) {
            let in_line = *byte >= b' ' && *byte != 0x7f || *byte == b'\r';
            if *byte == b'\n' {
                return Some(judge_line(&seen[..index]));
            }
            if !in_line {
                return Some(DetectedProtocol::Unknown);
            }
        }
        // An invalid method is detected before its line ends.
        let method = seen.iter().take_while(|byte| is_token(**byte)).count();
        if method > LONGEST_METHOD || seen.get(method).is_some_and(|byte| *byte != b' ') {
            return Some(DetectedProtocol::Unknown);
        }
        self.next = seen.len();
        None
    }
}

/// As far as the first two bytes have come.
pub fn begins_as_tls(seen: &[u8]) -> bool {
    matches!(seen, [HANDSHAKE] | [HANDSHAKE, MAJOR, ..])
}

/// Checks a first line, without its line feed: `METHOD target HTTP/1.x` (RFC 9112, section 3).
pub fn judge_line(line: &[u8]) -> DetectedProtocol {
    let method = line.iter().take_while(|byte| is_token(**byte)).count();
    let begins = (1..=LONGEST_METHOD).contains(&method) && line.get(method) == Some(&b' ');
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let ends = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
    // `GET HTTP/1.1` has no target; the HTTP parser refuses it.
    if begins && ends {
        DetectedProtocol::Http1
    } else {
        DetectedProtocol::Unknown
    }
}

/// RFC 9110, section 5.6.2.
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The message as a `ClientHello`, if it is complete.
fn whole_hello(message: &[u8]) -> Result<Option<ClientHello>, Malformed> {
    let Some([_, high, middle, low]) = message.get(..MESSAGE_HEADER) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, *high, *middle, *low]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MOST {
        return Err(Malformed("the ClientHello is larger than 64 KiB"));
    }
    match message.get(MESSAGE_HEADER..MESSAGE_HEADER + length) {
        Some(body) => parse(body)
            .map(Some)
            .ok_or(Malformed("the ClientHello contradicts itself")),
        None => Ok(None),
    }
}

/// RFC 8446, section 4.1.2, only the relevant parts: lengths, and two extensions.
fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut rest = Bytes(body);
    rest.take(2 + 32)?; // version, random
    let session = rest.byte()?;
    rest.take(usize::from(session))?;
    let ciphers = rest.short()?;
    rest.take(usize::from(ciphers))?;
    let compressions = rest.byte()?;
    rest.take(usize::from(compressions))?;
    let mut hello = ClientHello::default();
    if rest.0.is_empty() {
        // Before TLS 1.3 a `ClientHello` can have no extensions.
        return Some(hello);
    }
    let mut extensions = rest.last_block()?;
    while !extensions.0.is_empty() {
        let kind = extensions.short()?;
        let length = extensions.short()?;
        let content = extensions.take(usize::from(length))?;
        match kind {
            SERVER_NAME if hello.server_name.is_some() => return None,
            SERVER_NAME => hello.server_name = Some(server_name(content)?),
            ENCRYPTED_CLIENT_HELLO => hello.encrypted = true,
            EARLY_DATA => hello.early_data = true,
            _ => {}
        }
    }
    Some(hello)
}

/// RFC 6066, section 3: a list with one name. Different servers would use different ones of two.
fn server_name(content: &[u8]) -> Option<String> {
    let mut list = Bytes(content).last_block()?;
    let kind = list.byte()?;
    let name = list.last_block()?;
    let usable = kind == HOST_NAME && !name.0.is_empty() && name.0.is_ascii();
    let name = usable.then_some(name.0)?;
    std::str::from_utf8(name).ok().map(str::to_owned)
}

/// The bytes that are left to parse.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2)
            .map(|taken| u16::from_be_bytes([taken[0], taken[1]]))
    }

    /// A block with its length in two bytes before it, which must be the last.
    fn last_block(mut self) -> Option<Self> {
        let length = self.short()?;
        (usize::from(length) == self.0.len()).then_some(self)
    }
}

#[cfg(test)]
mod tests;
