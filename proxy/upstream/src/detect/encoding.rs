//! Content codings (RFC 9110, section 8.4.1), undone for a look at the first bytes of a body.
//!
//! What goes on to the client is never decoded. A decoder works on a few bytes of an upstream that may be
//! hostile: its output is bounded by the caller, its window by the coding (32 KiB for gzip and
//! deflate, 16 MiB for Brotli, which grows only with what is decoded) or by us (8 MiB for
//! Zstandard, as RFC 9659 has it).

use std::{borrow::Cow, io::Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliState, reader::StandardAlloc};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use ruzstd::decoding::StreamingDecoder;

/// The largest window of Zstandard that a web server may use (RFC 9659, section 3).
const ZSTD_WINDOW: u64 = 8 * 1024 * 1024;

/// How a body is encoded.
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

/// What could be decoded.
#[derive(Debug)]
pub(super) struct Decoded<'b> {
    /// The first bytes in clear.
    pub(super) bytes: Cow<'b, [u8]>,
    /// There was more than the limit.
    pub(super) too_long: bool,
}

impl Encoding {
    /// What the headers say; `None` for one that we do not know, or for several.
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

    /// Decodes what has come, up to `limit` bytes. What is broken off or corrupt ends early.
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
                    // Its head is not there yet, or wants a larger window.
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

/// Reads one byte more than `limit`, or as far as it goes.
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

/// By the strict decoder, which takes no window beyond that of RFC 7932.
fn brotli(body: &[u8], limit: usize) -> Vec<u8> {
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut decoded = vec![0; limit.saturating_add(1)];
    let (mut left, mut read) = (body.len(), 0);
    let (mut room, mut written, mut total) = (decoded.len(), 0, 0);
    // Its result adds nothing: what could be decoded is there, and how far that is shows.
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

/// The head of RFC 1950: method and window, and a check over both bytes.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0
        }
        _ => false,
    }
}
