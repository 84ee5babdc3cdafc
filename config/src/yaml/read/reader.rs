//! The deserializer of one node: checks its form, reports what is wrong, marks what was reported.

use std::collections::HashSet;

use serde::{Deserializer, de::Visitor};

use super::{
    ReadError,
    access::{Choice, Entries, List, Map},
    did_you_mean, listed,
};
use crate::{
    resource::SECRET_REFERENCE,
    yaml::{Findings, Key, Node, Source, Spot, Value, blank::Blank},
};

/// The place of a node's key, where there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    pub(super) fn of_key(key: &Key) -> Self {
        Self {
            line: key.line,
            column: key.column,
        }
    }
}

/// Reads one node.
#[derive(Clone, Copy)]
pub(super) struct Reader<'de, 'r> {
    pub(super) source: &'r Source,
    /// `None` for list entries and the document itself.
    pub(super) key: Option<Place>,
    pub(super) node: &'de Node,
    pub(super) findings: &'r Findings,
}

impl<'de> Reader<'de, '_> {
    pub(super) fn below(self, key: Option<&Key>, node: &'de Node) -> Self {
        Self {
            key: key.map(Place::of_key),
            node,
            ..self
        }
    }

    /// Reports what came out of this node, unless something beneath did so, and marks the node.
    fn settle<T>(self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        let (code, message, remedy) = match result {
            Ok(value) => return Ok(value),
            Err(ReadError::Reported) => return Err(ReadError::Reported),
            Err(ReadError::Missing(key)) => {
                self.node.missing.borrow_mut().push(key);
                let message = format!("the key `{key}` is missing");
                ("missing-key", message, format!("add `{key}:` here"))
            }
            Err(ReadError::Wrong {
                code,
                message,
                remedy,
            }) => {
                self.node.broken.set(true);
                (code, message, remedy)
            }
        };
        let (line, column) = match self.key {
            Some(key) if !self.node.is_scalar() => (key.line, key.column),
            _ => (self.node.line, self.node.column),
        };
        let spot = Spot::position(self.source, line, column);
        self.findings.error(&spot, code, message, remedy);
        Err(ReadError::Reported)
    }

    fn wrong<T>(self, expected: &str, remedy: &str) -> Result<T, ReadError> {
        self.settle(Err(ReadError::form(expected, self.node.kind(), remedy)))
    }

    fn is_broken(self) -> bool {
        self.node.broken.get()
    }

    fn unknown_key(self, key: &Key, known: &[&str]) {
        self.findings.error(
            &self.at(key),
            "unknown-key",
            format!("unknown key `{}`", key.text),
            did_you_mean(&key.text, known.iter().copied()),
        );
    }

    fn at(&self, key: &Key) -> Spot<'_> {
        Spot {
            width: key.width,
            ..Spot::position(self.source, key.line, key.column)
        }
    }

    /// The entries to read: duplicates are reported and passed over, and so are keys that are not
    /// among `known`.
    fn entries(self, known: Option<&[&str]>) -> Option<Entries<'de>> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let mut seen = HashSet::with_capacity(entries.len());
        for (key, _) in entries {
            let repeats = !seen.insert(key.text.as_str());
            if key.skip.get() {
                continue;
            }
            if repeats {
                key.skip.set(true);
                self.findings.error(
                    &self.at(key),
                    "duplicate-key",
                    format!("the key `{}` stands here a second time", key.text),
                    "keep one of them; if both are meant, they belong in a list",
                );
            } else if let Some(known) = known
                && !known.contains(&key.text.as_str())
            {
                key.skip.set(true);
                self.unknown_key(key, known);
            }
        }
        Some(entries.iter())
    }
}

macro_rules! scalar {
    ($method:ident, $expected:literal, $remedy:literal) => {
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            if self.is_broken() {
                return Blank.$method(visitor);
            }
            match self.node.value {
                Value::Integer(value) => self.settle(visitor.visit_i64(value)),
                Value::Unsigned(value) => self.settle(visitor.visit_u64(value)),
                _ => self.wrong($expected, $remedy),
            }
        }
    };
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.is_broken() {
            return Blank.deserialize_any(visitor);
        }
        match &self.node.value {
            Value::Null => self.settle(visitor.visit_unit()),
            Value::Bool(value) => self.settle(visitor.visit_bool(*value)),
            Value::Integer(value) => self.settle(visitor.visit_i64(*value)),
            Value::Unsigned(value) => self.settle(visitor.visit_u64(*value)),
            Value::Float(value) => self.settle(visitor.visit_f64(*value)),
            Value::Text(text) => self.settle(visitor.visit_str(text)),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    scalar!(
        deserialize_u16,
        "a whole number from 0 to 65535",
        "write the number without quotes"
    );
    scalar!(
        deserialize_u64,
        "a whole number",
        "write the number without quotes"
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.is_broken() {
            return Blank.deserialize_bool(visitor);
        }
        match self.node.value {
            Value::Bool(value) => self.settle(visitor.visit_bool(value)),
            _ => self.wrong("true or false", "write `true` or `false`, without quotes"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.is_broken() {
            return Blank.deserialize_str(visitor);
        }
        match &self.node.value {
            Value::Text(text) => self.settle(visitor.visit_str(text)),
            Value::Bool(_) | Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => {
                self.wrong("a text", "put it in quotes")
            }
            Value::Null => self.wrong("a text", "write the text, or remove the key"),
            Value::List(_) | Value::Map(_) => self.wrong("a text", "write a single text here"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.is_broken() || matches!(self.node.value, Value::Null) {
            return self.settle(visitor.visit_none());
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.settle(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.is_broken() {
            return Blank.deserialize_seq(visitor);
        }
        match &self.node.value {
            Value::List(items) => self.settle(visitor.visit_seq(List {
                reader: self,
                items: items.iter(),
            })),
            Value::Null => self.wrong("a list", "write `[]` for an empty list, or remove the key"),
            _ => self.wrong(
                "a list",
                "write it as a list: `[...]`, or lines that begin with `-`",
            ),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if self.is_broken() {
            return Blank.deserialize_map(visitor);
        }
        match self.entries(None) {
            Some(entries) => self.settle(visitor.visit_map(Map::new(self, entries))),
            None => self.wrong("a mapping", "write `key: value` pairs here"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if self.is_broken() {
            return Blank.deserialize_struct(name, fields, visitor);
        }
        let Some(entries) = self.entries(Some(fields)) else {
            let remedy = format!("write a mapping with {}", listed(fields));
            return self.wrong("a mapping", &remedy);
        };
        self.settle(visitor.visit_map(Map::new(self, entries)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if self.is_broken() {
            return Blank.deserialize_enum(name, variants, visitor);
        }
        match &self.node.value {
            Value::Text(_) if name == SECRET_REFERENCE => self.settle(Err(ReadError::Wrong {
                code: "inline-secret",
                message: "a secret is never written here, only where it lives".to_owned(),
                remedy: "write a reference, such as `{ file: /run/secrets/app/token }`; and as it was written down here, have it replaced"
                        .to_owned(),
            })),
            Value::Text(text) => self.settle(visitor.visit_enum(Choice {
                reader: self,
                name: text,
                value: None,
            })),
            Value::Map(entries) => match entries.as_slice() {
                [(key, _)] if !variants.contains(&key.text.as_str()) => {
                    self.unknown_key(key, variants);
                    self.node.broken.set(true);
                    Err(ReadError::Reported)
                }
                [(key, node)] => self.settle(visitor.visit_enum(Choice {
                    reader: self.below(Some(key), node),
                    name: &key.text,
                    value: Some(node),
                })),
                _ => self.wrong(
                    "exactly one key",
                    &format!("keep exactly one of {}", listed(variants)),
                ),
            },
            _ => self.wrong(
                "one of several forms",
                &format!("write one of {}", listed(variants)),
            ),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u32 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct
    }
}
