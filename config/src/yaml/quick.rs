//! Parses YAML in the plain style that resources are usually written in, many times faster than the
//! full parser.
//!
//! It knows mappings and lists by indentation or in brackets on one line, and words, numbers and
//! quoted texts on one line. Whatever is not surely one of these, mistakes included, is left to the
//! full parser. What it does take it must read exactly as that one would, places included: the
//! tests compare the two.

use std::borrow::Cow;

use super::{Key, Node, Value};

/// Deeper documents are the full parser's, which bounds them.
const MAX_DEPTH: usize = 16;
/// The same for their nodes.
const MAX_NODES: usize = 20_000;
/// The same for their keys, in bytes.
const MAX_KEY: usize = 128;

/// The document's tree, if it is of the plain style throughout. `lines_before` is the number of
/// lines above it in its file.
pub(super) fn parse(text: &str, lines_before: usize) -> Option<Node<'_>> {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n');
    if !text.as_bytes().iter().all(plain) {
        return None;
    }
    let mut parser = Parser {
        lines: text.split('\n'),
        number: lines_before,
        line: None,
        nodes: 0,
        depth: 0,
    };
    parser.advance();
    if parser
        .line
        .is_some_and(|line| line.text == "---" && line.indent == 0)
    {
        parser.advance();
    }
    let root = parser.block(0)?;
    parser.line.is_none().then_some(root)
}

/// A line with something on it.
#[derive(Clone, Copy)]
struct Line<'t> {
    number: usize,
    /// How many characters stand before `text`.
    indent: usize,
    /// Without spaces at its ends.
    text: &'t str,
}

struct Parser<'t> {
    lines: std::str::Split<'t, char>,
    /// That of the line which was taken last.
    number: usize,
    /// The next line to parse; `None` at the end.
    line: Option<Line<'t>>,
    nodes: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    /// Goes to the next line that is not empty or a comment.
    fn advance(&mut self) {
        self.line = None;
        for line in self.lines.by_ref() {
            self.number += 1;
            let text = line.trim_start_matches(' ');
            if !text.is_empty() && !text.starts_with('#') {
                self.line = Some(Line {
                    number: self.number,
                    indent: line.len() - text.len(),
                    text: text.trim_end_matches(' '),
                });
                return;
            }
        }
    }

    /// The mapping or list whose first line is the next one.
    fn block(&mut self, indent: usize) -> Option<Node<'t>> {
        let line = self.line.filter(|line| line.indent == indent)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if is_item(line.text) {
            self.list(indent)?
        } else {
            self.mapping(indent)?
        };
        self.depth -= 1;
        // What is deeper goes on with a value in a way that is not known here.
        if self.line.is_some_and(|line| line.indent > indent) {
            return None;
        }
        self.node(value, line.number, indent, 1)
    }

    /// A list that stands right below its key. The full parser has its place at its first item.
    fn list_below_key(&mut self, line: Line<'t>) -> Option<Node<'t>> {
        let spaces = line.text[1..].bytes().take_while(|byte| *byte == b' ');
        let column = line.indent + 2 + spaces.count();
        let mut list = self.block(line.indent)?;
        list.column = column;
        Some(list)
    }

    fn mapping(&mut self, indent: usize) -> Option<Value<'t>> {
        let mut entries = Vec::with_capacity(4);
        while let Some(line) = self.line
            && line.indent == indent
            && !is_item(line.text)
        {
            let mut cursor = Cursor::new(line);
            let key = cursor.key()?;
            cursor.skip_spaces();
            let value = if cursor.is_at_end() {
                self.advance();
                let next = self.line?;
                if next.indent > indent {
                    self.block(next.indent)?
                } else if next.indent == indent && is_item(next.text) {
                    self.list_below_key(next)?
                } else {
                    return None;
                }
            } else {
                self.rest_of_line(cursor, indent)?
            };
            entries.push((key, value));
        }
        Some(Value::Map(entries))
    }

    fn list(&mut self, indent: usize) -> Option<Value<'t>> {
        let mut items = Vec::with_capacity(4);
        while let Some(line) = self.line
            && line.indent == indent
            && is_item(line.text)
        {
            let mut cursor = Cursor::new(line);
            cursor.at += 1;
            cursor.skip_spaces();
            let item = Line {
                number: line.number,
                indent: indent + cursor.at,
                text: &line.text[cursor.at..],
            };
            if is_item(item.text) {
                return None;
            }
            let item = if Cursor::new(item).key().is_some() {
                self.line = Some(item);
                self.block(item.indent)?
            } else {
                self.rest_of_line(cursor, indent)?
            };
            items.push(item);
        }
        Some(Value::List(items))
    }

    /// The value on the rest of a line, which must not go on in the next one.
    fn rest_of_line(&mut self, mut cursor: Cursor<'t>, indent: usize) -> Option<Node<'t>> {
        let value = self.value(&mut cursor, false)?;
        let rest = &cursor.line.text[cursor.at..];
        cursor.skip_spaces();
        if !cursor.is_at_end() || rest.starts_with('#') {
            return None;
        }
        self.advance();
        match self.line {
            Some(next) if next.indent > indent => None,
            _ => Some(value),
        }
    }

    fn value(&mut self, cursor: &mut Cursor<'t>, in_brackets: bool) -> Option<Node<'t>> {
        let start = cursor.at;
        let (value, width) = match cursor.peek()? {
            b'[' => (self.bracketed(cursor, Self::items)?, 1),
            b'{' => (self.bracketed(cursor, Self::entries)?, 1),
            quote @ (b'"' | b'\'') => {
                let text = cursor.quoted(quote)?;
                (Value::Text(Cow::Borrowed(text)), cursor.at - start)
            }
            _ => {
                let text = cursor.word(in_brackets)?;
                (resolve(text)?, text.len())
            }
        };
        let line = cursor.line;
        self.node(value, line.number, line.indent + start, width)
    }

    fn bracketed(
        &mut self,
        cursor: &mut Cursor<'t>,
        within: fn(&mut Self, &mut Cursor<'t>) -> Option<Value<'t>>,
    ) -> Option<Value<'t>> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        cursor.at += 1;
        cursor.skip_spaces();
        let value = within(self, cursor);
        self.depth -= 1;
        value
    }

    fn items(&mut self, cursor: &mut Cursor<'t>) -> Option<Value<'t>> {
        let mut items = Vec::new();
        if cursor.take(b']') {
            return Some(Value::List(items));
        }
        loop {
            items.push(self.value(cursor, true)?);
            if cursor.ends(b']')? {
                return Some(Value::List(items));
            }
        }
    }

    fn entries(&mut self, cursor: &mut Cursor<'t>) -> Option<Value<'t>> {
        let mut entries = Vec::new();
        if cursor.take(b'}') {
            return Some(Value::Map(entries));
        }
        loop {
            let key = cursor.key()?;
            cursor.skip_spaces();
            entries.push((key, self.value(cursor, true)?));
            if cursor.ends(b'}')? {
                return Some(Value::Map(entries));
            }
        }
    }

    fn node(
        &mut self,
        value: Value<'t>,
        line: usize,
        before: usize,
        width: usize,
    ) -> Option<Node<'t>> {
        self.nodes += 1;
        (self.nodes <= MAX_NODES).then(|| Node::new(value, line, before + 1, width))
    }
}

/// A position in a line.
struct Cursor<'t> {
    line: Line<'t>,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn new(line: Line<'t>) -> Self {
        Self { line, at: 0 }
    }

    fn rest(&self) -> &'t str {
        &self.line.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn skip_spaces(&mut self) {
        while self.take(b' ') {}
    }

    /// Whether nothing follows but perhaps a comment, which must stand behind a space.
    fn is_at_end(&self) -> bool {
        self.peek().is_none_or(|byte| byte == b'#')
    }

    /// Behind an entry in brackets: whether it was the last one.
    fn ends(&mut self, bracket: u8) -> Option<bool> {
        self.skip_spaces();
        if self.take(bracket) {
            return Some(true);
        }
        let more = self.take(b',');
        self.skip_spaces();
        more.then_some(false)
    }

    /// A key and its colon, behind which there is a space or the line's end.
    fn key(&mut self) -> Option<Key<'t>> {
        let rest = self.rest();
        let length = rest.bytes().position(|byte| byte == b':')?;
        let text = &rest[..length];
        let sound = length <= MAX_KEY
            && text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.bytes().all(is_word)
            && !has_meaning(text)
            && matches!(rest.as_bytes().get(length + 1), None | Some(b' '));
        if !sound {
            return None;
        }
        let column = self.line.indent + self.at + 1;
        self.at += length + 1;
        Some(Key {
            text: Cow::Borrowed(text),
            line: self.line.number,
            column,
            width: length,
        })
    }

    /// A quoted text without escapes.
    fn quoted(&mut self, quote: u8) -> Option<&'t str> {
        let rest = &self.rest()[1..];
        let length = rest.bytes().position(|byte| byte == quote)?;
        let text = &rest[..length];
        self.at += length + 2;
        let escapes = match quote {
            b'"' => text.contains('\\'),
            _ => self.peek() == Some(quote),
        };
        (!escapes).then_some(text)
    }

    /// A text without quotes.
    fn word(&mut self, in_brackets: bool) -> Option<&'t str> {
        let rest = self.rest();
        let text = if in_brackets {
            let is_end = |byte| matches!(byte, b' ' | b',' | b']' | b'}');
            let length = rest.bytes().position(is_end)?;
            let text = &rest[..length];
            text.bytes()
                .all(|byte| is_word(byte) || b"*@=+:".contains(&byte))
                .then_some(text)?
        } else {
            let length = rest.find(" #").unwrap_or(rest.len());
            rest[..length].trim_end_matches(' ')
        };
        let first = *text.as_bytes().first()?;
        let colon = text.ends_with(':') || text.contains(": ");
        if colon || !(first.is_ascii_alphanumeric() || matches!(first, b'/' | b'_')) {
            return None;
        }
        self.at += text.len();
        Some(text)
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/')
}

/// What a text without quotes is.
fn resolve(text: &str) -> Option<Value<'_>> {
    let bytes = text.as_bytes();
    let as_text = || Some(Value::Text(Cow::Borrowed(text)));
    if !bytes.first()?.is_ascii_digit() {
        return if has_meaning(text) { None } else { as_text() };
    }
    if bytes.iter().all(u8::is_ascii_digit) {
        let is_number = (text.len() == 1 || bytes[0] != b'0') && text.len() <= 18;
        return is_number.then(|| text.parse().ok().map(Value::Unsigned))?;
    }
    (is_date(bytes) || is_moment(bytes) || is_duration(bytes) || is_rate(bytes)).then(as_text)?
}

/// Whether a YAML parser may take the word for something else than a text.
fn has_meaning(text: &str) -> bool {
    const WORDS: [&str; 12] = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity",
    ];
    let may_be = |first: &u8| b"ntfyoiNTFYOI".contains(first);
    text.len() <= 8
        && text.as_bytes().first().is_some_and(may_be)
        && WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// `2027-06-30`
fn is_date(text: &[u8]) -> bool {
    text.len() == 10
        && text.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// `2027-06-30T00:00:00Z`
fn is_moment(text: &[u8]) -> bool {
    let is_time = |byte: &u8| byte.is_ascii_digit() || *byte == b':';
    match text.split_at_checked(10) {
        Some((date, [b'T', time @ .., b'Z'])) => is_date(date) && time.iter().all(is_time),
        _ => false,
    }
}

/// `1h30m`
fn is_duration(text: &[u8]) -> bool {
    let unit = |byte: &u8| matches!(byte, b's' | b'm' | b'h');
    text.last().is_some_and(unit) && text.iter().all(|byte| unit(byte) || byte.is_ascii_digit())
}

/// `60/m`
fn is_rate(text: &[u8]) -> bool {
    matches!(text, [count @ .., b'/', b's' | b'm' | b'h'] if count.iter().all(u8::is_ascii_digit))
}
