//! The boundaries of each HTTP/2 header block (RFC 9113, sections 3.4, 4.1, 6.2 and 6.10).
//!
//! A block can be split into any number of CONTINUATION frames, and a frame into any number of reads.
//! This follows the bytes that hyper is about to read, to know whether a block has begun and is
//! incomplete, and how long it is. It changes nothing, and leaves errors to hyper.

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`.
const PREFACE: u32 = 24;

/// The header of each frame.
const FRAME_HEADER: usize = 9;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

/// The same flag for all frames with a header block.
const END_HEADERS: u8 = 4;

/// A stream's number without the reserved bit.
const STREAM: u32 = u32::MAX >> 1;

/// The position in the bytes of a peer.
#[derive(Debug)]
pub struct Frames {
    state: State,
    /// Whether the preface and the first SETTINGS frame, with which each connection begins, have come.
    greeted: bool,
    /// Whether a block continues in the next frame.
    open: bool,
    /// How long the current block is so far, and the longest since that was asked, in bytes as they are sent.
    length: usize,
    longest: usize,
    /// How many blocks are complete.
    blocks: u64,
    /// How many of them opened a stream.
    opened: u32,
    /// The newest stream.
    newest: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In the preface, with this many bytes left.
    Preface(u32),
    /// In a frame's header, of which this much has come.
    Header {
        seen: usize,
        bytes: [u8; FRAME_HEADER],
    },
    /// In a frame's payload, with this many bytes left.
    Payload { left: u32, frame: Frame },
}

/// The relevant kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// It has a part of a header block of a stream, perhaps the last.
    Block {
        stream: u32,
        last: bool,
    },
    Settings,
    Other,
}

impl Frames {
    /// At the beginning of what a client sends.
    pub(super) fn of_client() -> Self {
        Self::from(State::Preface(PREFACE))
    }

    /// At the beginning of what a server sends.
    pub fn of_server() -> Self {
        Self::from(State::Header {
            seen: 0,
            bytes: [0; FRAME_HEADER],
        })
    }

    fn from(state: State) -> Self {
        Self {
            state,
            greeted: false,
            open: false,
            length: 0,
            longest: 0,
            blocks: 0,
            opened: 0,
            newest: 0,
        }
    }

    /// The length of the longest header block since the last call, complete or not, in bytes as they were sent.
    pub fn take_longest(&mut self) -> usize {
        std::mem::take(&mut self.longest).max(self.length)
    }

    /// Whether something is incomplete: the client's preface, or a header block.
    pub(super) fn within_head(&self) -> bool {
        let in_block = matches!(
            self.state,
            State::Payload {
                frame: Frame::Block { .. },
                ..
            }
        );
        !self.greeted || self.open || in_block
    }

    /// How many header blocks are complete; identifies the current one.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// How many header blocks have opened a stream.
    pub(super) fn opened(&self) -> u32 {
        self.opened
    }

    /// Follows the next bytes.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            match &mut self.state {
                State::Preface(left) | State::Payload { left, .. } => {
                    let here = (*left as usize).min(bytes.len());
                    bytes = &bytes[here..];
                    // At most `left`, so it fits.
                    *left -= u32::try_from(here).unwrap_or(*left);
                }
                State::Header {
                    seen,
                    bytes: header,
                } => {
                    header[*seen] = *first;
                    *seen += 1;
                    bytes = &bytes[1..];
                }
            }
            self.advance();
        }
    }

    /// Moves to the next state if the current one is complete.
    fn advance(&mut self) {
        if let State::Header { seen, bytes } = self.state
            && seen == FRAME_HEADER
        {
            let [high, middle, low, kind, flags, stream @ ..] = bytes;
            let left = u32::from_be_bytes([0, high, middle, low]);
            let frame = Frame::of(kind, flags, u32::from_be_bytes(stream));
            if let Frame::Block { .. } = frame {
                self.length += left as usize;
            }
            self.state = State::Payload { left, frame };
        }
        match self.state {
            State::Preface(0) => {}
            State::Payload { left: 0, frame } => self.complete(frame),
            State::Preface(_) | State::Header { .. } | State::Payload { .. } => return,
        }
        self.state = State::Header {
            seen: 0,
            bytes: [0; FRAME_HEADER],
        };
    }

    fn complete(&mut self, frame: Frame) {
        match frame {
            Frame::Block { stream, last } => {
                self.open = !last;
                self.blocks += u64::from(last);
                if last {
                    self.longest = self.longest.max(std::mem::take(&mut self.length));
                }
                // Others are trailers.
                if last && stream > self.newest {
                    self.newest = stream;
                    self.opened = self.opened.wrapping_add(1);
                }
            }
            Frame::Settings => self.greeted = true,
            Frame::Other => {}
        }
    }
}

impl Frame {
    fn of(kind: u8, flags: u8, stream: u32) -> Self {
        match kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => Self::Block {
                stream: stream & STREAM,
                last: flags & END_HEADERS != 0,
            },
            SETTINGS => Self::Settings,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const DATA: u8 = 0;
    const PING: u8 = 6;

    /// A frame with a payload of this length.
    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEADER + usize::from(length), 0xff);
        frame
    }

    fn greeting() -> Vec<u8> {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        [preface, frame(SETTINGS, 0, 6)].concat()
    }

    #[rstest]
    #[case::greeted(vec![], false)]
    #[case::whole_block(frame(HEADERS, END_HEADERS, 10), false)]
    #[case::empty_block(frame(HEADERS, END_HEADERS, 0), false)]
    #[case::no_end(frame(HEADERS, 0, 10), true)]
    #[case::endless([frame(HEADERS, 0, 10), frame(CONTINUATION, 0, 1), frame(CONTINUATION, 0, 0)].concat(), true)]
    #[case::ended_later([frame(HEADERS, 0, 10), frame(CONTINUATION, END_HEADERS, 1)].concat(), false)]
    #[case::half_a_frame(frame(HEADERS, END_HEADERS, 10)[..12].to_vec(), true)]
    #[case::nothing_of_a_frame(frame(HEADERS, END_HEADERS, 10)[..9].to_vec(), true)]
    #[case::end_of_stream_alone(frame(HEADERS, 1, 10), true)]
    #[case::data([frame(HEADERS, END_HEADERS, 10), frame(DATA, 0, 200)[..20].to_vec()].concat(), false)]
    #[case::pings(frame(PING, 0, 8), false)]
    #[case::half_a_header(frame(HEADERS, 0, 10)[..8].to_vec(), false)]
    fn a_head_is_open_until_its_last_frame_is_whole(
        #[case] sent: Vec<u8>,
        #[case] within_head: bool,
    ) {
        let bytes = [greeting(), sent].concat();
        for step in [1, 7, bytes.len()] {
            let mut frames = Frames::of_client();
            bytes.chunks(step).for_each(|piece| frames.follow(piece));
            assert_eq!(frames.within_head(), within_head, "in steps of {step}");
        }
    }

    #[test]
    fn a_greeting_is_due_until_its_settings_are_whole() {
        let greeting = greeting();
        let mut frames = Frames::of_client();
        for byte in &greeting {
            assert!(frames.within_head());
            frames.follow(&[*byte]);
        }
        assert!(!frames.within_head());
    }

    #[test]
    fn the_longest_block_of_a_server_is_known_once() {
        let mut frames = Frames::of_server();
        assert_eq!(frames.take_longest(), 0);
        let sent = [
            frame(SETTINGS, 0, 6),
            frame(HEADERS, 0, 100),
            frame(CONTINUATION, END_HEADERS, 50),
            frame(DATA, 0, 200),
            frame(HEADERS, END_HEADERS, 20),
        ]
        .concat();
        sent.chunks(7).for_each(|piece| frames.follow(piece));
        assert_eq!(frames.take_longest(), 150);
        assert_eq!(frames.take_longest(), 0);
        frames.follow(&frame(HEADERS, 0, 90)[..30]);
        assert_eq!(frames.take_longest(), 90);
    }

    #[test]
    fn blocks_are_counted_once_each() {
        let mut frames = Frames::of_client();
        frames.follow(&greeting());
        for _ in 0..3 {
            frames.follow(&frame(HEADERS, 0, 3));
            frames.follow(&frame(CONTINUATION, END_HEADERS, 3));
        }
        frames.follow(&frame(HEADERS, END_HEADERS, 3));
        assert_eq!(frames.blocks(), 4);
        // All are of one stream: the others are trailers.
        assert_eq!(frames.opened(), 1);
        let mut next = frame(HEADERS, END_HEADERS, 3);
        next[8] = 3;
        frames.follow(&next);
        assert_eq!(frames.opened(), 2);
    }
}
