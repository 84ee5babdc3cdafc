//! Decodes content codings (RFC 9110, section 8.4.1), to examine the first bytes of a body.
//!
//! What the client gets is never decoded. A decoder reads a few bytes from an upstream that may be hostile:
//! the caller bounds its output; its window is bounded by the coding (32 KiB for gzip and deflate, 16 MiB
//! for Brotli, which grows only with the output) or here (8 MiB for Zstandard, as in RFC 9659).

use std::{borrow::Cow, io::Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliState, reader::StandardAlloc};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use ruzstd::decoding::StreamingDecoder;

/// The largest window of Zstandard that a web server may use (RFC 9659, section 3).
const ZSTD_WINDOW: u64 = 8 * 1024 * 1024;

/// The encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// `gzip` (RFC 1952).
    Gzip,
    /// `deflate` (RFC 1950, and bare RFC 1951 as some servers send it).
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
}

/// The result of decoding.
#[derive(Debug)]
pub(super) struct Decoded<'b> {
    /// The first decoded bytes.
    pub(super) bytes: Cow<'b, [u8]>,
    /// There was more than the limit.
    pub(super) too_long: bool,
}

impl Encoding {
    /// The encoding in the headers; `None` for an unknown one, or for several.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let Some(value) = values.next() else {
            return Some(Self::Identity);
        };
        if values.next().is_some() {
            return None;
        }
        let known = [
            ("identity", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("br", Self::Brotli),
            ("zstd", Self::Zstd),
        ];
        let written = value.as_bytes().trim_ascii();
        known
            .iter()
            .find(|(name, _)| written.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, encoding)| *encoding)
    }

    /// Decodes the bytes so far, up to `limit` bytes. Broken or corrupt data ends early.
    pub(super) fn decode(self, body: &[u8], limit: usize) -> Decoded<'_> {
        let decoded = match self {
            Self::Identity => {
                return Decoded {
                    bytes: Cow::Borrowed(&body[..body.len().min(limit)]),
                    too_long: body.len() > limit,
                };
            }
            Self::Gzip => read(MultiGzDecoder::new(body), limit),
            Self::Deflate if is_zlib(body) => read(ZlibDecoder::new(body), limit),
            Self::Deflate => read(DeflateDecoder::new(body), limit),
            Self::Brotli => brotli(body, limit),
            Self::Zstd => {
                match StreamingDecoder::new_with_max_window_size(body, ZSTD_WINDOW) {
                    Ok(decoder) => read(decoder, limit),
                    // Its head is incomplete, or asks for a larger window.
                    Err(_) => Vec::new(),
                }
            }
        };
        bounded(decoded, limit)
    }
}

fn bounded(mut decoded: Vec<u8>, limit: usize) -> Decoded<'static> {
    let too_long = decoded.len() > limit;
    decoded.truncate(limit);
    Decoded {
        bytes: Cow::Owned(decoded),
        too_long,
    }
}

/// Reads one byte more than `limit`, or as much as possible.
fn read(mut decoder: impl Read, limit: usize) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut piece = [0; 4096];
    while decoded.len() <= limit {
        match decoder.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => decoded.extend_from_slice(&piece[..count]),
        }
    }
    decoded
}

/// Uses the strict decoder, which accepts no window beyond that of RFC 7932.
fn brotli(body: &[u8], limit: usize) -> Vec<u8> {
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut decoded = vec![0; limit.saturating_add(1)];
    let (mut left, mut read) = (body.len(), 0);
    let (mut room, mut written, mut total) = (decoded.len(), 0, 0);
    // The output already shows how far it came.
    BrotliDecompressStream(
        &mut left,
        &mut read,
        body,
        &mut room,
        &mut written,
        &mut decoded,
        &mut total,
        &mut state,
    );
    decoded.truncate(written);
    decoded
}

/// The header of RFC 1950: method, window, and a check over both bytes.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0
        }
        _ => false,
    }
}
