//! Documents without anything unusual, put together from the parser's own events.
//!
//! serde finds a place for every value at three times the cost of parsing. So what has no tags, anchors,
//! directives or merge keys, and nothing wrong, becomes a tree directly. Everything else is left to
//! serde-saphyr, which has the same parser, and which also says what a scalar is where its text could be
//! more than a text.

use std::borrow::Cow;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput};

use super::{
    Key, Node, Value,
    library::{MAX_DEPTH, options},
};

/// Longer documents are left to serde-saphyr, which bounds what they may hold.
const LONGEST: usize = 64 * 1024;

/// Deeper ones too.
const DEEPEST: usize = MAX_DEPTH / 2;

/// Words that are not plainly texts, in any case.
const WORDS: &[&str] = &[
    "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "infinity", "nan",
];

/// The tree of a document that begins after so many lines; nothing if it has something unusual.
pub(super) fn document(text: &str, lines_before: usize) -> Option<Node> {
    if text.len() > LONGEST {
        return None;
    }
    let mut parser_options = Options::default();
    parser_options.emit_comments = false;
    let mut composer = Composer {
        parser: Parser::new_from_str_with_options(text, parser_options),
        lines_before,
    };
    let (Event::StreamStart, _) = composer.next()? else {
        return None;
    };
    let (Event::DocumentStart(_, None), _) = composer.next()? else {
        return None;
    };
    let first = composer.next()?;
    let root = composer.node(first, 0)?;
    match (composer.next()?.0, composer.next()?.0) {
        (Event::DocumentEnd, Event::StreamEnd) => Some(root),
        _ => None,
    }
}

struct Composer<'t> {
    parser: Parser<'t, StrInput<'t>>,
    lines_before: usize,
}

impl<'t> Composer<'t> {
    fn next(&mut self) -> Option<(Event<'t>, Span)> {
        self.parser.next()?.ok()
    }

    fn node(&mut self, (event, span): (Event<'t>, Span), depth: usize) -> Option<Node> {
        if depth > DEEPEST {
            return None;
        }
        let (value, width) = match event {
            Event::Scalar(text, style, 0, None) => (scalar(text, style)?, span.len().max(1)),
            Event::SequenceStart(_, 0, None) => (self.list(depth)?, 1),
            Event::MappingStart(_, 0, None) => (self.map(depth)?, 1),
            _ => return None,
        };
        let (line, column) = self.place(&span);
        Some(Node::new(value, line, column, width))
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Some(Value::List(items)),
                first => items.push(self.node(first, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Some(Value::Map(entries)),
                (Event::Scalar(text, style, 0, None), span) => self.key(text, style, &span)?,
                _ => return None,
            };
            let first = self.next()?;
            entries.push((key, self.node(first, depth + 1)?));
        }
    }

    fn key(&self, text: Cow<'_, str>, style: ScalarStyle, span: &Span) -> Option<Key> {
        if text == "<<" || !(is_quoted(style) || is_plainly_text(&text)) {
            return None;
        }
        let (line, column) = self.place(span);
        Some(Key {
            width: text.chars().count().max(1),
            text: text.into_owned(),
            line,
            column,
        })
    }

    fn place(&self, span: &Span) -> (usize, usize) {
        let line = span.start.line().max(1) + self.lines_before;
        (line, span.start.col() + 1)
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Option<Value> {
    if is_quoted(style) || is_plainly_text(&text) {
        return Some(Value::Text(text.into_owned()));
    }
    if style == ScalarStyle::Plain
        && let Some(value) = plain(&text)
    {
        return Some(value);
    }
    // Alone, these would be something else than within a document.
    if style != ScalarStyle::Plain
        || text.contains('\n')
        || ["--", "...", "%"]
            .iter()
            .any(|start| text.starts_with(start))
    {
        return None;
    }
    serde_saphyr::from_str_with_options(&text, options()).ok()
}

/// What the most usual plain scalars are: truth values, small whole numbers, and texts such as `60/m` and `45m`. To ask the
/// library costs as much as the rest of a small document.
fn plain(text: &str) -> Option<Value> {
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    let first = text.bytes().next()?;
    if !first.is_ascii_digit() {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A zero before other digits may mean another base.
        let decimal = first != b'0' || text.len() == 1;
        return text.parse().ok().filter(|_| decimal).map(Value::Unsigned);
    }
    let no_number = |byte: u8| matches!(byte, b'/' | b'm' | b's' | b'h' | b'%' | b'@' | b'*');
    let word = |byte: u8| byte.is_ascii_alphanumeric() || no_number(byte);
    (text.bytes().all(word) && text.bytes().any(no_number)).then(|| Value::Text(text.to_owned()))
}

fn is_quoted(style: ScalarStyle) -> bool {
    matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted)
}

/// Whether no reader of YAML takes it for a number, nothing, or a truth value.
fn is_plainly_text(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests;
