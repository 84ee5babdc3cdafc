//! Lines of a stream in bounded memory.

use std::{
    fmt,
    io::{self, Read},
    ops::Range,
};

/// A line longer than this is none of ours: a record has at most 15 KiB, some more with a collector's wrapping.
pub(super) const LONGEST: usize = 256 * 1024;

/// What is read at once.
const CHUNK: usize = 256 * 1024;

/// A stream, cut into lines.
pub(super) struct Lines {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// What was read and not given out yet.
    unread: Range<usize>,
    line: Range<usize>,
    ended: bool,
    /// The number of the current line; the first is 1.
    number: u64,
    bytes: u64,
}

/// What the next line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A line that ended with a line feed.
    Whole,
    /// The last line, without a line feed.
    Partial,
    /// A line that is too long to be ours; it was skipped.
    TooLong,
    /// There is no further line.
    End,
}

impl Lines {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            unread: 0..0,
            line: 0..0,
            ended: false,
            number: 0,
            bytes: 0,
        }
    }

    /// The current line, without its end.
    pub(super) fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// The number of the current line.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The bytes that were read, uncompressed.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Goes to the next line. After an error, the lines that were read before it still come, then the end.
    pub(super) fn advance(&mut self) -> io::Result<Step> {
        let mut searched = 0;
        let mut too_long = false;
        loop {
            let waiting = &self.buffer[self.unread.clone()];
            if let Some(at) = memchr::memchr(b'\n', &waiting[searched..]) {
                let start = self.unread.start;
                let end = start + searched + at;
                self.unread.start = end + 1;
                self.number += 1;
                if too_long {
                    return Ok(Step::TooLong);
                }
                self.set_line(start, end);
                return Ok(Step::Whole);
            }
            searched = waiting.len();
            if self.ended {
                return Ok(self.last(too_long));
            }
            if searched > LONGEST {
                too_long = true;
                self.unread.start = self.unread.end;
                searched = 0;
            }
            self.fill()?;
        }
    }

    /// The rest after the last line feed.
    fn last(&mut self, too_long: bool) -> Step {
        let Range { start, end } = self.unread.clone();
        self.unread.start = end;
        if too_long {
            self.number += 1;
            return Step::TooLong;
        }
        if start == end {
            return Step::End;
        }
        self.number += 1;
        self.set_line(start, end);
        Step::Partial
    }

    fn set_line(&mut self, start: usize, end: usize) {
        let with_return = self.buffer[start..end].ends_with(b"\r");
        self.line = start..end - usize::from(with_return);
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.unread.start > 0 {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let wanted = self.unread.end + CHUNK;
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.unread.end..]) {
                Ok(read) => {
                    self.ended = read == 0;
                    self.unread.end += read;
                    self.bytes += read as u64;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out a byte at a time.
    struct Slow(io::Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let most = into.len().min(1);
            self.0.read(&mut into[..most])
        }
    }

    fn all(input: impl Read + Send + 'static) -> Vec<(Step, String)> {
        let mut lines = Lines::new(Box::new(input));
        let mut all = Vec::new();
        loop {
            match lines.advance().unwrap() {
                Step::End => return all,
                step => all.push((step, String::from_utf8_lossy(lines.line()).into_owned())),
            }
        }
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let text = b"one\r\n\ntwo\nlast".to_vec();
        let expected = [
            (Step::Whole, "one".to_owned()),
            (Step::Whole, String::new()),
            (Step::Whole, "two".to_owned()),
            (Step::Partial, "last".to_owned()),
        ];
        assert_eq!(all(io::Cursor::new(text.clone())), expected);
        assert_eq!(all(Slow(io::Cursor::new(text))), expected);
    }

    #[test]
    fn a_line_without_end_takes_no_more_than_its_bound() {
        let endless = io::repeat(b'x').take(64 * 1024 * 1024);
        let mut lines = Lines::new(Box::new(endless.chain(&b"\nours\n"[..])));
        assert_eq!(lines.advance().unwrap(), Step::TooLong);
        assert_eq!(lines.advance().unwrap(), Step::Whole);
        assert_eq!(lines.line(), b"ours");
        assert_eq!(lines.number(), 2);
        assert!(
            lines.buffer.len() <= LONGEST + 2 * CHUNK,
            "{}",
            lines.buffer.len()
        );
    }

    #[test]
    fn what_came_before_an_error_is_read() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let mut lines = Lines::new(Box::new((&b"one\ntw"[..]).chain(Broken)));
        assert_eq!(lines.advance().unwrap(), Step::Whole);
        lines.advance().unwrap_err();
        assert_eq!(lines.advance().unwrap(), Step::Partial);
        assert_eq!(lines.line(), b"tw");
        assert_eq!(lines.advance().unwrap(), Step::End);
    }
}
