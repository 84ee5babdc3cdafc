//! Frames of HTTP/2, written and read by hand (RFC 9113, sections 4 and 6).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

/// Of SETTINGS and PING.
pub(super) const ACK: u8 = 1;
/// Of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const REFUSED_STREAM: u32 = 7;

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) id: u32,
    pub(super) payload: Vec<u8>,
}

/// Header fields, in order.
pub(super) type Fields<'f> = &'f [(&'f str, &'f str)];

/// Reads one frame.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(Frame {
        kind,
        flags,
        id: u32::from_be_bytes(id) & 0x7fff_ffff,
        payload,
    })
}

/// Any frame.
pub(super) fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// SETTINGS that leave all as it is.
pub(super) fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// `SETTINGS` and `WINDOW_UPDATE` that let the other side send a mebibyte.
pub(super) fn wide_settings() -> Vec<u8> {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    const WINDOW_UPDATE: u8 = 8;
    let window = (1u32 << 20).to_be_bytes();
    let stream = [&INITIAL_WINDOW_SIZE[..], &window].concat();
    let connection = frame(WINDOW_UPDATE, 0, 0, &window);
    [frame(SETTINGS, 0, 0, &stream), connection].concat()
}

pub(super) fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, ACK, 0, &[])
}

/// HEADERS, whose fields are neither compressed nor checked.
pub(super) fn headers(id: u32, fields: Fields<'_>, end: bool) -> Vec<u8> {
    let flags = END_HEADERS | if end { END_STREAM } else { 0 };
    frame(HEADERS, flags, id, &block(fields))
}

/// Fields as literals without indexing (RFC 7541, section 6.2.2).
pub(super) fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).expect("a text is short");
            assert!(length < 127, "a length of one byte");
            block.push(length);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// HEADERS with 900 fields more, which are 130 KB when they are decoded.
pub(super) fn long_headers(id: u32, fields: Fields<'_>, end: bool) -> Vec<u8> {
    repeated(id, fields, 900, end)
}

/// HEADERS with a field so many times more, each of one byte on the wire and 138 when it is decoded (RFC 7541, section
/// 6.1, and RFC 9113, section 6.5.2).
pub(super) fn repeated(id: u32, fields: Fields<'_>, times: usize, end: bool) -> Vec<u8> {
    const INDEXED: u8 = 0x40;
    /// The first entry behind the static table.
    const NEWEST: u8 = 0xbe;
    let mut long = block(&[("x-long", &"x".repeat(100))]);
    long[0] = INDEXED;
    let mut block = block(fields);
    block.extend(long);
    block.extend(std::iter::repeat_n(NEWEST, times));
    let flags = END_HEADERS | if end { END_STREAM } else { 0 };
    frame(HEADERS, flags, id, &block)
}

/// HEADERS and CONTINUATION with a field more, whose value has so many bytes.
pub(super) fn wide(id: u32, fields: Fields<'_>, bytes: usize, end: bool) -> Vec<u8> {
    /// The largest frame that everybody takes.
    const PIECE: usize = 16_384;
    let mut block = block(fields);
    block.extend(b"\0\x06x-wide\x7f");
    let mut rest = bytes - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).expect("seven bits") | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("seven bits"));
    block.resize(block.len() + bytes, b'x');
    let end = if end { END_STREAM } else { 0 };
    let pieces = block.chunks(PIECE);
    let last = pieces.len() - 1;
    let framed = pieces.enumerate().map(|(at, piece)| {
        let whole = if at == last { END_HEADERS } else { 0 };
        match at {
            0 => frame(HEADERS, end | whole, id, piece),
            _ => frame(CONTINUATION, whole, id, piece),
        }
    });
    framed.collect::<Vec<_>>().concat()
}

pub(super) fn data(id: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(DATA, if end { END_STREAM } else { 0 }, id, bytes)
}

pub(super) fn rst(id: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, id, &code.to_be_bytes())
}

pub(super) fn goaway(last: u32, code: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// A whole answer.
pub(super) fn answer(id: u32, fields: Fields<'_>, body: &[u8]) -> Vec<u8> {
    [headers(id, fields, false), data(id, body, true)].concat()
}
