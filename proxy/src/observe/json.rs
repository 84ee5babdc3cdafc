//! Writing JSON objects straight into a line of the log.
//!
//! A record has some forty members whose keys are ours. A general serialiser looks at each byte of
//! each key for what must be escaped; this one looks at values alone, and at most of them once.

use std::{
    fmt::{self, Display, Write as _},
    io::Write as _,
};

use super::redact::needs_escape;

/// An object that is being written; its end is written by [`Object::close`].
pub(super) struct Object<'l> {
    line: &'l mut Vec<u8>,
    empty: bool,
}

impl<'l> Object<'l> {
    /// Begins an object at the end of `line`.
    pub(super) fn open(line: &'l mut Vec<u8>) -> Self {
        line.push(b'{');
        Self { line, empty: true }
    }

    /// Ends the object.
    pub(super) fn close(self) {
        self.line.push(b'}');
    }

    /// A text, or null.
    pub(super) fn text<'t>(&mut self, key: &'static str, value: impl Into<Option<&'t str>>) {
        let line = self.key(key);
        match value.into() {
            Some(text) => write_text(text, line),
            None => line.extend_from_slice(b"null"),
        }
    }

    /// What displays as a text, or null.
    pub(super) fn shown(&mut self, key: &'static str, value: Option<impl Display>) {
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

    /// A number, or null.
    pub(super) fn number(&mut self, key: &'static str, value: impl Into<Option<u64>>) {
        let line = self.key(key);
        match value.into() {
            Some(number) => write_number(number, line),
            None => line.extend_from_slice(b"null"),
        }
    }

    /// Whether something is so.
    pub(super) fn flag(&mut self, key: &'static str, value: bool) {
        let text: &[u8] = if value { b"true" } else { b"false" };
        self.key(key).extend_from_slice(text);
    }

    /// An object within, which `fill` writes from `value`; or null.
    pub(super) fn object<T>(
        &mut self,
        key: &'static str,
        value: Option<T>,
        fill: impl FnOnce(&mut Object<'_>, T),
    ) {
        let line = self.key(key);
        let Some(value) = value else {
            line.extend_from_slice(b"null");
            return;
        };
        let mut object = Object::open(line);
        fill(&mut object, value);
        object.close();
    }

    /// A list of objects, each of which `fill` writes.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        items: impl IntoIterator<Item = T>,
        fill: impl Fn(&mut Object<'_>, T),
    ) {
        let line = self.key(key);
        line.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                line.push(b',');
            }
            let mut object = Object::open(line);
            fill(&mut object, item);
            object.close();
        }
        line.push(b']');
    }

    fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.empty) {
            self.line.push(b',');
        }
        self.line.push(b'"');
        self.line.extend_from_slice(key.as_bytes());
        self.line.extend_from_slice(b"\":");
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

fn write_text(text: &str, line: &mut Vec<u8>) {
    line.push(b'"');
    escape(text, line);
    line.push(b'"');
}

fn write_number(number: u64, line: &mut Vec<u8>) {
    if number < 10 {
        line.push(b'0' + u8::try_from(number).unwrap_or_default());
        return;
    }
    write!(line, "{number}").expect("memory takes everything");
}

/// JSON in which no character can disturb a terminal: besides what JSON must escape, DEL, the C1
/// controls, line separators and bidirectional overrides are written as `\u` escapes. Nothing is
/// lost: a JSON reader gets the same text back.
fn escape(text: &str, line: &mut Vec<u8>) {
    let plain = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    // Nearly always.
    if text.bytes().all(plain) {
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

    proptest! {
        /// A JSON reader gets back what was written, and nothing in the line disturbs a terminal.
        #[test]
        fn any_text_comes_back(text in any::<String>(), number in any::<u64>()) {
            let mut line = Vec::new();
            let mut object = Object::open(&mut line);
            object.text("text", text.as_str());
            object.shown("shown", Some(&text));
            object.number("number", number);
            object.list("list", [&text], |item, text| item.text("text", text.as_str()));
            object.object("none", None, |_, ()| {});
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
