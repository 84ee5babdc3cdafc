//! Connections over HTTP/2 that are made to cost much.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The largest frame that a server takes unless it says otherwise.
const LARGEST: usize = 16 * 1024;

/// `GET http://h/`.
const REQUEST: &[u8] = b"\x82\x86\x84\x41\x01h";

/// What each is, and its bytes.
pub(crate) fn visits() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("HTTP/2, no proof", connection(&request(1, REQUEST))),
        (
            "HTTP/2, 4,000 fields, 16 KiB",
            connection(&request(1, &fields())),
        ),
        (
            "HTTP/2, 16 KiB in Huffman's code",
            connection(&request(1, &coded())),
        ),
        (
            "HTTP/2, 12,000 references to 4 KiB",
            connection(&request(1, &references())),
        ),
        (
            "HTTP/2, 64 KiB of PING",
            connection(&frame(PING, 0, 0, &[7; 8]).repeat(3855)),
        ),
        (
            "HTTP/2, 64 KiB of SETTINGS",
            connection(&frame(SETTINGS, 0, 0, &[]).repeat(7281)),
        ),
        ("HTTP/2, 2,000 requests and resets", connection(&resets())),
    ]
}

fn connection(frames: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), frames].concat()
}

fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// As many small fields as fit, none of which is kept in the table.
fn fields() -> Vec<u8> {
    let mut block = REQUEST.to_vec();
    block.extend_from_slice(&b"\0\x01a\0".repeat((LARGEST - block.len()) / 4));
    block
}

/// One value of ones and zeros: five bits each (RFC 7541, appendix B).
fn coded() -> Vec<u8> {
    let mut block = REQUEST.to_vec();
    let length = LARGEST - block.len() - 8;
    block.extend_from_slice(b"\0\x01a");
    block.push(0xff);
    varint(length - 127, &mut block);
    block.resize(block.len() + length, 0);
    block
}

/// One value of nearly all that the table takes, and a byte for each time that it is meant again.
fn references() -> Vec<u8> {
    let mut block = REQUEST.to_vec();
    block.extend_from_slice(b"\x40\x01a\x7f");
    varint(4000 - 127, &mut block);
    block.resize(block.len() + 4000, b'x');
    block.resize(LARGEST, 0xbe);
    block
}

fn resets() -> Vec<u8> {
    let pair = |number: u32| {
        let stream = 2 * number + 1;
        [
            request(stream, REQUEST),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    (0..2000).flat_map(pair).collect()
}

/// The rest of a number whose first seven bits are all set (RFC 7541, section 5.1).
fn varint(mut rest: usize, block: &mut Vec<u8>) {
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap_or_default());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or_default()
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}
