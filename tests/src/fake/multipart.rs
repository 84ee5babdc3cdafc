//! The sizes of the parts of a `multipart/form-data` body, found while it streams by.

use http::{HeaderMap, header::CONTENT_TYPE};

/// The longest head of a part that is understood, in bytes.
const HEAD_BOUND: usize = 16 * 1024;

/// One part of a multipart body (RFC 7578).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The field's name.
    pub name: String,
    /// The file's name, if it is a file.
    pub filename: Option<String>,
    /// The bytes of its content.
    pub length: u64,
}

/// Counts the parts of a body that arrives in chunks, in bounded memory.
pub(crate) struct PartCounter {
    delimiter: Vec<u8>,
    /// What was not yet understood.
    buffer: Vec<u8>,
    parts: Vec<Part>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter, within the part's head.
    Head,
    /// Within the part's content.
    Content,
    /// The closing delimiter was there.
    Closed,
    /// This is no multipart body.
    Bad,
}

impl PartCounter {
    /// A counter, if the headers announce a multipart form.
    pub(crate) fn for_headers(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let rest = value.strip_prefix("multipart/form-data")?;
        let boundary = rest
            .split(';')
            .find_map(|field| field.trim().strip_prefix("boundary="))?
            .trim_matches('"');
        Some(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            // The first delimiter may stand at the very start, without a line before it.
            buffer: b"\r\n".to_vec(),
            parts: Vec::new(),
            state: State::Preamble,
        })
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
        while self.step() {}
    }

    /// The parts, if the body was complete and well-formed.
    pub(crate) fn finish(self) -> Option<Vec<Part>> {
        (self.state == State::Closed).then_some(self.parts)
    }

    /// Understands one more piece; false when more bytes are needed.
    fn step(&mut self) -> bool {
        match self.state {
            State::Preamble | State::Content => self.content(),
            State::Head => self.head(),
            State::Closed | State::Bad => {
                self.buffer.clear();
                false
            }
        }
    }

    fn content(&mut self) -> bool {
        if let Some(place) = find(&self.buffer, &self.delimiter) {
            // Two more bytes say whether this is the last delimiter.
            let after = place + self.delimiter.len();
            if self.buffer.len() < after + 2 {
                return false;
            }
            let next = match &self.buffer[after..after + 2] {
                b"--" => State::Closed,
                b"\r\n" => State::Head,
                _ => State::Bad,
            };
            self.count(place);
            self.buffer.drain(..after + 2);
            self.state = next;
            return true;
        }
        // The end may be the start of a delimiter.
        let known = self.buffer.len().saturating_sub(self.delimiter.len());
        self.count(known);
        self.buffer.drain(..known);
        false
    }

    fn count(&mut self, bytes: usize) {
        if self.state == State::Content
            && let Some(part) = self.parts.last_mut()
        {
            part.length += bytes as u64;
        }
    }

    fn head(&mut self) -> bool {
        let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
            if self.buffer.len() > HEAD_BOUND {
                self.state = State::Bad;
            }
            return false;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.state = match parse_head(&head) {
            Some(part) => {
                self.parts.push(part);
                State::Content
            }
            None => State::Bad,
        };
        self.buffer.drain(..end + 4);
        true
    }
}

fn parse_head(head: &str) -> Option<Part> {
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition")
            .then_some(value.trim())
    })?;
    let field = |key: &str| {
        disposition.split(';').find_map(|field| {
            let (name, value) = field.trim().split_once('=')?;
            (name == key).then(|| value.trim_matches('"').to_owned())
        })
    };
    Some(Part {
        name: field("name")?,
        filename: field("filename"),
        length: 0,
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const BODY: &str = "--b0\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n\r\n--b0\r\n\
        content-disposition: form-data; name=\"file[]\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\
        \r\nhello\r\n--b\r\nthere\r\n--b0--\r\n";

    fn count(body: &str, chunk: usize) -> Option<Vec<Part>> {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            "multipart/form-data; boundary=\"b0\"".parse().unwrap(),
        );
        let mut counter = PartCounter::for_headers(&headers).unwrap();
        for chunk in body.as_bytes().chunks(chunk) {
            counter.push(chunk);
        }
        counter.finish()
    }

    #[rstest]
    fn parts_are_counted_however_the_body_is_cut(#[values(1, 2, 7, 1000)] chunk: usize) {
        let parts = count(BODY, chunk).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].name.as_str(), parts[0].length), ("note", 0));
        assert_eq!(parts[1].name, "file[]");
        assert_eq!(parts[1].filename.as_deref(), Some("a.txt"));
        assert_eq!(parts[1].length, "hello\r\n--b\r\nthere".len() as u64);
    }

    #[rstest]
    #[case::cut_short(&BODY[..BODY.len() - 6])]
    #[case::no_delimiter("hello")]
    #[case::part_without_a_name("--b0\r\nContent-Type: text/plain\r\n\r\nx\r\n--b0--\r\n")]
    #[case::other_boundary("--b1\r\n\r\n\r\n--b1--\r\n")]
    fn what_is_no_multipart_body_has_no_parts(#[case] body: &str) {
        assert_eq!(count(body, 3), None);
    }
}
