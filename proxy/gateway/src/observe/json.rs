//! Writing JSON objects straight into a line of the log.
//!
//! A record has some forty members with constant keys. A general serialiser checks each byte of each key
//! for characters to escape; this one checks values only, and most of them once.

use std::{
    fmt::{self, Display, Write as _},
    io::Write as _,
    net::SocketAddr,
};

use super::CUT;
use countersign_core::redact::needs_escape;

/// A member's name as it is written: quoted, with a comma before it and a colon after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key(&'static str);

impl Key {
    /// For [`key!`] alone.
    pub(super) const fn written(text: &'static str) -> Self {
        Self(text)
    }
}

/// The [`Key`] of a name, put together by the compiler.
macro_rules! key {
    ($name:literal) => {
        $crate::observe::json::Key::written(concat!(",\"", $name, "\":"))
    };
}
pub(super) use key;

/// An object that is being written; its end is written by [`Object::close`].
pub(super) struct Object<'l> {
    line: &'l mut Vec<u8>,
    empty: bool,
    /// The longest text, in bytes of the line.
    most: usize,
}

impl<'l> Object<'l> {
    /// Begins an object at the end of `line`.
    pub(super) fn open(line: &'l mut Vec<u8>) -> Self {
        Self::open_within(line, usize::MAX)
    }

    /// The same, with texts that are cut where they would take more than `most` bytes.
    pub(super) fn open_within(line: &'l mut Vec<u8>, most: usize) -> Self {
        line.push(b'{');
        Self {
            line,
            empty: true,
            most,
        }
    }

    /// The bytes that a text may take.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Ends the object.
    pub(super) fn close(self) {
        self.line.push(b'}');
    }

    /// A text, or null.
    pub(super) fn text<'t>(&mut self, key: Key, value: impl Into<Option<&'t str>>) {
        self.text_within(key, value, self.most);
    }

    /// A text, or null, with a bound of its own.
    pub(super) fn text_within<'t>(
        &mut self,
        key: Key,
        value: impl Into<Option<&'t str>>,
        most: usize,
    ) {
        let line = self.key(key);
        match value.into() {
            Some(text) => write_text(text, most, line),
            None => line.extend_from_slice(b"null"),
        }
    }

    /// A text that is cut amid where it would take more than `most` bytes: a sentence ends with what to do.
    pub(super) fn sentence(&mut self, key: Key, text: &str, most: usize) {
        let line = self.key(key);
        line.push(b'"');
        let start = line.len();
        escape(text, line);
        if line.len() - start > most {
            line.truncate(start);
            cut_amid(text, most, line);
        }
        line.push(b'"');
    }

    /// A value that implements `Display`, or null.
    pub(super) fn shown(&mut self, key: Key, value: Option<impl Display>) {
        let line = self.key(key);
        match value {
            Some(value) => {
                line.push(b'"');
                write!(Escaping(line), "{value}").expect("memory takes everything");
                line.push(b'"');
            }
            None => line.extend_from_slice(b"null"),
        }
    }

    /// An address with its port, or null.
    pub(super) fn address(&mut self, key: Key, value: Option<SocketAddr>) {
        let Some(SocketAddr::V4(address)) = value else {
            return self.shown(key, value);
        };
        // Most addresses are IPv4, for which `Display` is slow: it pads each number.
        let line = self.key(key);
        let mut before = b'"';
        for octet in address.ip().octets() {
            line.push(before);
            write_number(octet.into(), line);
            before = b'.';
        }
        line.push(b':');
        write_number(address.port().into(), line);
        line.push(b'"');
    }

    /// A number, or null.
    pub(super) fn number(&mut self, key: Key, value: impl Into<Option<u64>>) {
        let line = self.key(key);
        match value.into() {
            Some(number) => write_number(number, line),
            None => line.extend_from_slice(b"null"),
        }
    }

    /// A boolean.
    pub(super) fn flag(&mut self, key: Key, value: bool) {
        let text: &[u8] = if value { b"true" } else { b"false" };
        self.key(key).extend_from_slice(text);
    }

    /// A nested object, which `fill` writes from `value`; or null.
    pub(super) fn object<T>(
        &mut self,
        key: Key,
        value: Option<T>,
        fill: impl FnOnce(&mut Object<'_>, T),
    ) {
        let most = self.most;
        let line = self.key(key);
        let Some(value) = value else {
            line.extend_from_slice(b"null");
            return;
        };
        let mut object = Object::open_within(line, most);
        fill(&mut object, value);
        object.close();
    }

    /// A list of objects, each of which `fill` writes.
    pub(super) fn list<T>(
        &mut self,
        key: Key,
        items: impl IntoIterator<Item = T>,
        fill: impl Fn(&mut Object<'_>, T),
    ) {
        let most = self.most;
        let line = self.key(key);
        line.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                line.push(b',');
            }
            let mut object = Object::open_within(line, most);
            fill(&mut object, item);
            object.close();
        }
        line.push(b']');
    }

    /// A list of texts.
    pub(super) fn texts<'t>(&mut self, key: Key, items: impl IntoIterator<Item = &'t str>) {
        let most = self.most;
        let line = self.key(key);
        line.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                line.push(b',');
            }
            write_text(item, most, line);
        }
        line.push(b']');
    }

    fn key(&mut self, key: Key) -> &mut Vec<u8> {
        // The first has no comma before it.
        let from = usize::from(std::mem::take(&mut self.empty));
        self.line.extend_from_slice(&key.0.as_bytes()[from..]);
        self.line
    }
}

/// Escapes whatever is written to it.
struct Escaping<'l>(&'l mut Vec<u8>);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(text, self.0);
        Ok(())
    }
}

fn write_text(text: &str, most: usize, line: &mut Vec<u8>) {
    line.push(b'"');
    let start = line.len();
    escape(text, line);
    if line.len() - start > most {
        line.truncate(start);
        cut(text, most, line);
    }
    line.push(b'"');
}

/// The beginning of a text that takes at most `most` bytes, with the mark that it was cut.
#[cold]
fn cut(text: &str, most: usize, line: &mut Vec<u8>) {
    beginning(text, most.saturating_sub(CUT.len()), line);
    line.extend_from_slice(CUT.as_bytes());
}

/// The beginning and the end of a text, which take at most `most` bytes, and between them the mark that it
/// was cut.
#[cold]
fn cut_amid(text: &str, most: usize, line: &mut Vec<u8>) {
    let half = most.saturating_sub(CUT.len()) / 2;
    beginning(text, half, line);
    line.extend_from_slice(CUT.as_bytes());
    let (mut one, mut left) = (Vec::new(), half);
    let mut from = text.len();
    for (at, character) in text.char_indices().rev() {
        one.clear();
        escape(character.encode_utf8(&mut [0; 4]), &mut one);
        let Some(rest) = left.checked_sub(one.len()) else {
            break;
        };
        (from, left) = (at, rest);
    }
    escape(&text[from..], line);
}

/// As much of the beginning of a text as takes at most `most` bytes.
fn beginning(text: &str, most: usize, line: &mut Vec<u8>) {
    let end = line.len() + most;
    for character in text.chars() {
        let before = line.len();
        escape(character.encode_utf8(&mut [0; 4]), line);
        if line.len() > end {
            line.truncate(before);
            break;
        }
    }
}

fn write_number(number: u64, line: &mut Vec<u8>) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Whether all bytes are printable ASCII that JSON does not escape; checks eight at a time.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut odd = 0;
    for word in words.iter().chain([&last]) {
        let word = u64::from_ne_bytes(*word);
        // The top bit of each byte is set if it is above DEL, DEL, a control character, `"` or `\`.
        odd |= word
            | word.wrapping_add(EACH)
            | below(word, b' ')
            | below(word ^ (EACH * u64::from(b'"')), 1)
            | below(word ^ (EACH * u64::from(b'\\')), 1);
    }
    odd & (EACH * 0x80) == 0
}

/// One in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

/// Sets the top bit of the lowest byte that is below `least`; bytes above it may be wrong. All bytes must
/// be below 0x80.
const fn below(word: u64, least: u8) -> u64 {
    word.wrapping_sub(EACH * least as u64)
}

/// JSON in which no character can disturb a terminal: besides what JSON must escape, DEL, the C1 controls,
/// line separators and bidirectional overrides are written as `\u` escapes. A JSON reader gets the same
/// text back.
fn escape(text: &str, line: &mut Vec<u8>) {
    // The common case.
    if is_plain(text.as_bytes()) {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    for character in text.chars() {
        match character {
            '"' => line.extend_from_slice(br#"\""#),
            '\\' => line.extend_from_slice(br"\\"),
            '\n' => line.extend_from_slice(br"\n"),
            '\r' => line.extend_from_slice(br"\r"),
            '\t' => line.extend_from_slice(br"\t"),
            '\u{8}' => line.extend_from_slice(br"\b"),
            '\u{c}' => line.extend_from_slice(br"\f"),
            disturbing if needs_escape(disturbing) => {
                for unit in disturbing.encode_utf16(&mut [0; 2]) {
                    write!(line, "\\u{unit:04x}").expect("memory takes everything");
                }
            }
            harmless => line.extend_from_slice(harmless.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_is_what_json_takes_as_it_is() {
        for byte in 0..=u8::MAX {
            let expected = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
            // At each place of a word and of what is left of one, beside each kind of neighbour.
            for (place, neighbour) in (0..13).flat_map(|place| [(place, b' '), (place, b'~')]) {
                let mut bytes = [neighbour; 13];
                bytes[place] = byte;
                assert_eq!(is_plain(&bytes), expected, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn addresses_are_written_as_they_display() {
        for text in ["10.0.0.7:51234", "255.255.255.255:0", "[2001:db8::7]:443"] {
            let mut line = Vec::new();
            let mut object = Object::open(&mut line);
            object.address(key!("address"), Some(text.parse().unwrap()));
            object.close();
            assert_eq!(line, format!(r#"{{"address":"{text}"}}"#).into_bytes());
        }
    }

    proptest! {
        /// A text that is cut stays JSON, keeps to its bound, and begins as it did.
        #[test]
        fn a_cut_text_keeps_to_its_bound(text in any::<String>(), most in 8_usize..64) {
            let mut line = Vec::new();
            write_text(&text, most, &mut line);
            prop_assert!(line.len() <= most + 2);
            let read: String = serde_json::from_slice(&line).unwrap();
            let cut = read.strip_suffix(CUT).filter(|_| read != text);
            prop_assert!(text.starts_with(cut.unwrap_or(&read)));
        }

        /// A sentence that is cut keeps its beginning and its end.
        #[test]
        fn a_sentence_keeps_its_end(text in any::<String>(), most in 8_usize..64) {
            let mut line = Vec::new();
            let mut object = Object::open(&mut line);
            object.sentence(key!("s"), &text, most);
            object.close();
            let around = r#"{"s":""}"#.len();
            prop_assert!(line.len() <= most + around);
            let read: serde_json::Value = serde_json::from_slice(&line).unwrap();
            let read = read["s"].as_str().unwrap();
            if read != text {
                let (head, tail) = read.split_once(CUT).unwrap();
                prop_assert!(text.starts_with(head) && text.ends_with(tail));
            }
        }

        /// A JSON reader gets back what was written, and nothing in the line disturbs a terminal.
        #[test]
        fn any_text_comes_back(text in any::<String>(), number in any::<u64>()) {
            let mut line = Vec::new();
            let mut object = Object::open(&mut line);
            object.text(key!("text"), text.as_str());
            object.shown(key!("shown"), Some(&text));
            object.number(key!("number"), number);
            object.list(key!("list"), [&text], |item, text| item.text(key!("text"), text.as_str()));
            object.object(key!("none"), None, |_, ()| {});
            object.close();
            let line = String::from_utf8(line).unwrap();
            prop_assert!(!line.contains(needs_escape));
            let expected = serde_json::json!({
                "text": text,
                "shown": text,
                "number": number,
                "list": [{"text": text}],
                "none": null,
            });
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read, expected);
        }
    }
}
