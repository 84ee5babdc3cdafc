//! An incomplete line.
//!
//! hyper keeps the line itself; a second copy of an endless line would double its cost. The framing of a
//! request depends only on the ends of a line. So only the beginning and the end of a long line are
//! kept, and of its middle only whether it has a violation.

/// How much of a line's beginning is kept.
const HEAD: usize = 64;

/// How much of a line's end is kept.
const TAIL: usize = 24;

/// An incomplete line.
#[derive(Debug)]
pub(super) struct Partial {
    head: [u8; HEAD],
    tail: [u8; TAIL],
    /// Its length so far, in bytes.
    length: usize,
    /// Whether there is a byte between head and tail that is not white space.
    text_between: bool,
    /// There is a CR or NUL before the last byte.
    control: bool,
    /// Whether there is a colon, and whether white space is before it.
    colon: Option<bool>,
}

/// The relevant parts of a complete line.
pub(super) struct Whole<'l> {
    /// The line; of a long one its beginning and end.
    pub(super) line: &'l [u8],
    /// Whether there is a byte between them that is not white space.
    pub(super) text_between: bool,
    /// There is a CR or NUL before the last byte.
    pub(super) control: bool,
    /// Whether there is a colon, and whether white space is before it.
    pub(super) colon: Option<bool>,
}

impl Whole<'_> {
    /// The first part of the line without gaps.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.line[..self.line.len().min(HEAD)]
    }
}

impl Partial {
    pub(super) fn new() -> Self {
        Self {
            head: [0; HEAD],
            tail: [0; TAIL],
            length: 0,
            text_between: false,
            control: false,
            colon: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let Some((_, before)) = bytes.split_last() else {
            return;
        };
        let was_last = self.last();
        let ended_line = |byte: u8| matches!(byte, b'\r' | 0);
        self.control |= was_last.is_some_and(ended_line) || before.iter().any(|b| ended_line(*b));
        if self.colon.is_none()
            && let Some(at) = memchr::memchr(b':', bytes)
        {
            let precedes = at.checked_sub(1).map(|at| bytes[at]).or(was_last);
            self.colon = Some(precedes.is_none_or(|byte| byte.is_ascii_whitespace()));
        }
        let to_head = HEAD.saturating_sub(self.length).min(bytes.len());
        let (head, rest) = bytes.split_at(to_head);
        if !head.is_empty() {
            self.head[self.length..self.length + head.len()].copy_from_slice(head);
        }
        self.push_tail(rest);
        self.length += bytes.len();
    }

    /// Moves bytes from the tail to the middle.
    fn push_tail(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let filled = self.length.saturating_sub(HEAD).min(TAIL);
        let leaving = (filled + bytes.len()).saturating_sub(TAIL);
        let from_tail = leaving.min(filled);
        let (passing, staying) = bytes.split_at(leaving - from_tail);
        let is_text = |byte: &u8| !byte.is_ascii_whitespace();
        self.text_between |=
            self.tail[..from_tail].iter().any(is_text) || passing.iter().any(is_text);
        self.tail.copy_within(from_tail..filled, 0);
        let kept = filled - from_tail;
        self.tail[kept..kept + staying.len()].copy_from_slice(staying);
    }

    fn last(&self) -> Option<u8> {
        let at = self.length.checked_sub(1)?;
        Some(match at.checked_sub(HEAD) {
            None => self.head[at],
            Some(beyond) => self.tail[beyond.min(TAIL - 1)],
        })
    }

    /// Passes the line to `look`, and begins a new one.
    pub(super) fn end<T>(&mut self, look: impl FnOnce(Whole<'_>) -> T) -> T {
        let mut line = [0; HEAD + TAIL];
        let head = self.length.min(HEAD);
        let tail = (self.length - head).min(TAIL);
        line[..head].copy_from_slice(&self.head[..head]);
        line[head..head + tail].copy_from_slice(&self.tail[..tail]);
        let looked = look(Whole {
            line: &line[..head + tail],
            text_between: self.text_between,
            control: self.control,
            colon: self.colon,
        });
        *self = Self::new();
        looked
    }
}
