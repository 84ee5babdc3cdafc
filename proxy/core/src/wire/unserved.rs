//! Requests over HTTP/2 that hyper resets or answers by itself, so that no handler hears of them.
//!
//! A malformed request (RFC 9113, section 8.1.1) is reset with `PROTOCOL_ERROR`, and one whose head is too
//! large is answered with 431. The frames of both directions tell: each header block that opens a stream is
//! a request, and it was served if a handler got it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// What h2 says in GOAWAY of a head that it does not read to its end. Its error does not say it.
const TOO_LARGE: [&[u8]; 2] = [b"header_list_way_too_large", b"too_many_continuations"];

/// How much of a frame is looked at: GOAWAY has a stream's number and a code before its text.
const LOOKED_AT: usize = 8 + TOO_LARGE[0].len();

/// Why a request was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// It is not valid HTTP/2.
    Malformed,
    /// Its head is larger than the bound.
    HeadTooLarge,
    /// A CONNECT with a Content-Length: hyper ends the connection, and with it whatever else was in progress.
    ConnectWithBody,
}

/// What became of the requests of one connection.
#[derive(Debug, Default)]
pub struct Streams {
    /// Header blocks that opened a stream.
    opened: AtomicU32,
    /// Those that a handler got, that were refused because there were too many, or that were taken here.
    known: AtomicU32,
    /// Streams that were reset as malformed. Some had begun: their bodies were malformed.
    malformed: AtomicU32,
    /// Responses, or ends of them, that are a head alone.
    heads: AtomicU32,
    /// Whether the connection was ended because of a head that is much too large.
    too_large: AtomicBool,
    /// Whether frames wait to be sent.
    blocked: AtomicBool,
    /// Whether the client sends nothing any more.
    left: AtomicBool,
}

impl Streams {
    /// A handler got a request.
    pub fn began(&self) {
        self.known.fetch_add(1, Ordering::Relaxed);
    }

    /// So many header blocks have opened a stream.
    pub(super) fn opened(&self, blocks: u32) {
        self.opened.store(blocks, Ordering::Relaxed);
    }

    /// Whether frames wait to be sent.
    pub(super) fn blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// The client has closed its side.
    pub(super) fn left(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// How many requests a handler got.
    pub(super) fn begun(&self) -> u32 {
        self.known.load(Ordering::Relaxed)
    }

    /// Whether the connection was ended because of a head that is much too large.
    pub fn ended_by_head(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// Why hyper ended the connection without an error, although nobody told it to and the client was there. To be
    /// called after all that was not served was taken.
    pub fn why_ended(&self) -> Option<Unserved> {
        let [opened, known] = [&self.opened, &self.known].map(|it| it.load(Ordering::Relaxed));
        let by_itself = opened > known && !self.left.load(Ordering::Relaxed);
        by_itself.then_some(Unserved::ConnectWithBody)
    }

    fn reset(&self, code: u32) {
        match code {
            PROTOCOL_ERROR => self.malformed.fetch_add(1, Ordering::Relaxed),
            REFUSED_STREAM => self.known.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Takes the requests that were not served. To be called when hyper has done what there was to do:
    /// while frames wait to be sent, it is not certain, and nothing is taken. Once hyper `ends` the
    /// connection it ignores further requests, which clients then send elsewhere.
    pub fn take_unserved(&self, ends: bool) -> impl Iterator<Item = Unserved> + use<> {
        let (opened, known) = (&self.opened, &self.known);
        let [opened, known] = [opened, known].map(|count| count.load(Ordering::Relaxed));
        let unserved = opened.saturating_sub(known);
        if self.blocked.load(Ordering::Relaxed) {
            return Unserved::so_many(0, 0);
        }
        if unserved == 0 {
            // Whatever was reset or answered had begun.
            if self.malformed.load(Ordering::Relaxed) + self.heads.load(Ordering::Relaxed) > 0 {
                self.forget();
            }
            return Unserved::so_many(0, 0);
        }
        let (resets, heads) = self.forget();
        let malformed = resets.min(unserved);
        let large = heads.min(unserved - malformed);
        // The client itself may have reset a malformed one.
        let malformed = if ends { malformed } else { unserved - large };
        self.known.fetch_add(malformed + large, Ordering::Relaxed);
        Unserved::so_many(malformed, large)
    }

    fn forget(&self) -> (u32, u32) {
        let counts = [&self.malformed, &self.heads];
        let [malformed, heads] = counts.map(|count| count.swap(0, Ordering::Relaxed));
        (malformed, heads)
    }
}

impl Unserved {
    fn so_many(malformed: u32, large: u32) -> impl Iterator<Item = Self> {
        let of = |why, count: u32| std::iter::repeat_n(why, count as usize);
        of(Self::Malformed, malformed).chain(of(Self::HeadTooLarge, large))
    }
}

/// Follows the frames that are sent to a client.
#[derive(Debug)]
pub(super) struct SentFrames {
    header: [u8; FRAME_HEADER],
    /// How much of the frame was sent.
    sent: usize,
    /// The beginning of an `RST_STREAM` or GOAWAY frame.
    payload: [u8; LOOKED_AT],
    /// The stream whose response was a head alone, if that was the last head.
    answered: [u8; 4],
}

impl Default for SentFrames {
    fn default() -> Self {
        Self {
            header: [0; FRAME_HEADER],
            sent: 0,
            payload: [0; LOOKED_AT],
            answered: [0; 4],
        }
    }
}

impl SentFrames {
    /// Follows the next bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8], streams: &Streams) {
        while let Some(first) = bytes.first() {
            if self.sent < FRAME_HEADER {
                self.header[self.sent] = *first;
                self.sent += 1;
                bytes = &bytes[1..];
            } else {
                let left = FRAME_HEADER + self.length() - self.sent;
                let (here, rest) = bytes.split_at(left.min(bytes.len()));
                if matches!(self.header[3], RST_STREAM | GOAWAY) {
                    let room = self.payload.iter_mut().skip(self.sent - FRAME_HEADER);
                    room.zip(here).for_each(|(room, byte)| *room = *byte);
                }
                self.sent += here.len();
                bytes = rest;
            }
            if self.sent >= FRAME_HEADER && self.sent == FRAME_HEADER + self.length() {
                self.complete(streams);
            }
        }
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.header.map(usize::from);
        high << 16 | middle << 8 | low
    }

    /// The number at this place of the payload.
    fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().map_or(0, u32::from_be_bytes)
    }

    fn complete(&mut self, streams: &Streams) {
        let [_, _, _, kind, flags, stream @ ..] = self.header;
        if kind == HEADERS && flags & END_STREAM != 0 {
            self.answered = stream;
            streams.heads.fetch_add(1, Ordering::Relaxed);
        } else if kind == RST_STREAM {
            let code = self.number(0);
            // After its 431, a stream is reset too, if its request has a body.
            if code != PROTOCOL_ERROR || self.answered != stream {
                streams.reset(code);
            }
        } else if kind == GOAWAY {
            let text = self.payload.get(8..self.length()).unwrap_or_default();
            let too_large = TOO_LARGE.contains(&text) || self.number(4) == COMPRESSION_ERROR;
            streams.too_large.fetch_or(too_large, Ordering::Relaxed);
        }
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DATA: u8 = 0;
    const CANCEL: u8 = 8;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let header = [0, 0, length, kind, flags, 0, 0, 0, stream];
        [&header, payload].concat()
    }

    fn reset(stream: u8, code: u8) -> Vec<u8> {
        frame(RST_STREAM, 0, stream, &[0, 0, 0, code])
    }

    const MALFORMED: u8 = 1;
    const REFUSED: u8 = 7;

    #[rstest]
    #[case::served(1, 1, vec![], (0, 0))]
    #[case::malformed(1, 0, reset(1, MALFORMED), (1, 0))]
    #[case::malformed_among_others(3, 1, [reset(1, MALFORMED), frame(DATA, 0, 3, b"some"), reset(5, MALFORMED)].concat(), (2, 0))]
    #[case::malformed_body(1, 1, reset(1, MALFORMED), (0, 0))]
    #[case::refused(2, 1, reset(3, REFUSED), (0, 0))]
    #[case::cancelled(1, 1, reset(1, CANCEL), (0, 0))]
    #[case::too_large(1, 0, frame(HEADERS, 5, 1, b"431"), (0, 1))]
    #[case::too_large_with_a_body(1, 0, [frame(HEADERS, 5, 1, b"431"), reset(1, MALFORMED)].concat(), (0, 1))]
    #[case::malformed_and_reset_by_its_client(1, 0, vec![], (1, 0))]
    #[case::answered_without_a_body(1, 1, frame(HEADERS, 5, 1, b"204"), (0, 0))]
    #[case::looks_like_a_reset(1, 1, frame(DATA, 0, 1, &reset(1, MALFORMED)), (0, 0))]
    fn what_no_handler_got_is_taken_once(
        #[case] opened: u32,
        #[case] begun: u32,
        #[case] sent: Vec<u8>,
        #[case] expected: (usize, usize),
    ) {
        for step in [1, 7, 1000] {
            let streams = Streams::default();
            streams.opened(opened);
            for _ in 0..begun {
                streams.began();
            }
            let mut frames = SentFrames::default();
            for piece in sent.chunks(step) {
                frames.follow(piece, &streams);
            }
            streams.blocked(true);
            assert_eq!(streams.take_unserved(false).count(), 0);
            streams.blocked(false);
            let taken: Vec<_> = streams.take_unserved(false).collect();
            let of = |why| taken.iter().filter(|taken| **taken == why).count();
            let found = (of(Unserved::Malformed), of(Unserved::HeadTooLarge));
            assert_eq!(found, expected, "in steps of {step}");
            assert_eq!(streams.take_unserved(false).count(), 0);
        }
    }

    #[rstest]
    #[case::much_too_large(11, "header_list_way_too_large", true)]
    #[case::in_too_many_pieces(11, "too_many_continuations", true)]
    #[case::rest_of_one_that_is_too_large(9, "", true)]
    #[case::too_many_resets(11, "too_many_resets", false)]
    #[case::longer(11, "header_list_way_too_large!", false)]
    #[case::protocol_error(1, "", false)]
    #[case::in_order(0, "", false)]
    fn a_head_that_ends_the_connection_is_known(
        #[case] code: u8,
        #[case] text: &str,
        #[case] expected: bool,
    ) {
        let payload = [&[0, 0, 0, 1, 0, 0, 0, code], text.as_bytes()].concat();
        let sent = [frame(HEADERS, 0, 1, b"200"), frame(GOAWAY, 0, 0, &payload)].concat();
        for step in [1, 7, 1000] {
            let (streams, mut frames) = (Streams::default(), SentFrames::default());
            for piece in sent.chunks(step) {
                frames.follow(piece, &streams);
            }
            assert_eq!(streams.ended_by_head(), expected, "in steps of {step}");
        }
    }

    #[test]
    fn what_comes_after_the_end_was_announced_is_not_too_large() {
        let streams = Streams::default();
        streams.opened(1);
        assert_eq!(streams.take_unserved(true).count(), 0);
    }
}
