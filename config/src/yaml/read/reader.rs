//! The deserializer of one node: checks that it has the requested form, and reports it if not.

mod absent;
mod access;

use std::collections::HashSet;

use serde::{
    Deserializer,
    de::{Error as _, Unexpected, Visitor},
};
use smallvec::SmallVec;

use self::access::{Choice, List, Map};
use super::{ReadError, default::DefaultDeserializer, did_you_mean, listed};
use crate::{
    resource::{CLUSTER, IN_CLUSTER, ONE_OR_MANY, SECRET_REFERENCE},
    yaml::{Findings, Key, Location, Node, Source, Value, node::FEW_KEYS},
};

/// The place of a node's key, if it has one.
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

/// The entries of a mapping that are read.
type Entries<'de> = SmallVec<[&'de (Key, Node); 8]>;

impl<'de> Reader<'de, '_> {
    pub(super) fn below(self, key: Option<&Key>, node: &'de Node) -> Self {
        Self {
            key: key.map(Place::of_key),
            node,
            ..self
        }
    }

    /// Reports what is wrong with this node, unless something below it was reported.
    pub(super) fn report(&self, error: ReadError) {
        let (code, message, remedy) = match error {
            ReadError::Reported => return,
            ReadError::Missing(key) => (
                "missing-key",
                format!("the key `{key}` is missing"),
                format!("add `{key}:` here"),
            ),
            ReadError::Wrong {
                code,
                message,
                remedy,
            } => (code, message, remedy),
        };
        let (line, column) = match self.key {
            Some(key) if !self.node.is_scalar() => (key.line, key.column),
            _ => (self.node.line, self.node.column),
        };
        let location = Location::position(self.source, line, column);
        self.findings.error(&location, code, message, remedy);
    }

    /// Reports an error of the type itself, which could not be checked beforehand. Its siblings are then
    /// not read.
    fn settle<T>(self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        result.map_err(|error| {
            self.report(error);
            ReadError::Reported
        })
    }

    /// Reports an unexpected form and supplies a default.
    fn wrong(self, expected: &str, remedy: &str) -> DefaultDeserializer {
        self.report(ReadError::form(expected, self.node.kind(), remedy));
        DefaultDeserializer
    }

    fn unknown_key(self, key: &Key, known: &[&str]) {
        self.findings.error(
            &self.at(key),
            "unknown-key",
            format!("unknown key `{}`", key.text),
            did_you_mean(&key.text, known.iter().copied()),
        );
    }

    fn duplicate_key(self, key: &Key) {
        self.findings.error(
            &self.at(key),
            "duplicate-key",
            format!("duplicate key `{}`", key.text),
            "keep one of them; if you need both, write them as a list",
        );
    }

    fn at(&self, key: &Key) -> Location<'_> {
        Location {
            width: key.width,
            ..Location::position(self.source, key.line, key.column)
        }
    }

    /// The entries of a mapping with arbitrary keys; of duplicates the first.
    fn entries(self, entries: &'de [(Key, Node)]) -> Entries<'de> {
        let mut seen = HashSet::new();
        let mut repeats = |at: usize| {
            let (key, _) = &entries[at];
            if entries.len() > FEW_KEYS {
                !seen.insert(&*key.text)
            } else {
                entries[..at].iter().any(|(one, _)| one.text == key.text)
            }
        };
        let mut read = Entries::new();
        for (at, entry) in entries.iter().enumerate() {
            if repeats(at) {
                self.duplicate_key(&entry.0);
            } else {
                read.push(entry);
            }
        }
        read
    }

    /// The entries whose keys are known, and the known keys that are absent.
    fn fields(
        self,
        entries: &'de [(Key, Node)],
        known: &'static [&'static str],
    ) -> (Entries<'de>, impl Iterator<Item = &'static str> + use<>) {
        let mut there: SmallVec<[bool; 32]> = SmallVec::from_elem(false, known.len());
        let mut unknown = HashSet::new();
        let mut read = Entries::new();
        for entry in entries {
            let (key, _) = entry;
            let field = known.iter().position(|name| *name == key.text);
            let repeats = match field {
                Some(field) => std::mem::replace(&mut there[field], true),
                None => !unknown.insert(&*key.text),
            };
            match field {
                _ if repeats => self.duplicate_key(key),
                Some(_) => read.push(entry),
                None => self.unknown_key(key, known),
            }
        }
        let absent = known.iter().zip(there).filter(|(_, there)| !there);
        (read, absent.map(|(name, _)| *name))
    }

    /// A struct that can be written as one word instead. If it is neither, it is unknown which was
    /// intended, so missing keys are not reported.
    fn word_or_struct<V: Visitor<'de>>(
        self,
        word: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Map(entries) => {
                let (read, absent) = self.fields(entries, fields);
                if read.len() == entries.len() {
                    let map = Map::new(self, read.into_iter(), absent);
                    return self.settle(visitor.visit_map(map));
                }
            }
            Value::Text(text) if text == word => return self.settle(visitor.visit_str(word)),
            Value::Text(text) => self.report(ReadError::unknown_variant(text, &[IN_CLUSTER])),
            Value::Null => {}
            _ => {
                let expected = format!("`{word}` or a mapping with {}", listed(fields));
                self.wrong(&expected, "write it in the expected form");
            }
        }
        self.settle(visitor.visit_unit())
    }
}

macro_rules! scalar {
    ($method:ident, $type:ident, $expected:literal, $remedy:literal) => {
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            let number = match self.node.value {
                Value::Integer(value) => {
                    $type::try_from(value).map_err(|_| Unexpected::Signed(value))
                }
                Value::Unsigned(value) => {
                    $type::try_from(value).map_err(|_| Unexpected::Unsigned(value))
                }
                _ => return self.wrong($expected, $remedy).$method(visitor),
            };
            match number {
                Ok(number) => self.settle(visitor.visit_u64(number.into())),
                Err(found) => {
                    self.report(ReadError::invalid_value(found, &stringify!($type)));
                    DefaultDeserializer.$method(visitor)
                }
            }
        }
    };
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
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
        u16,
        "a whole number from 0 to 65535",
        "write the number without quotes"
    );
    scalar!(
        deserialize_u64,
        u64,
        "a whole number",
        "write the number without quotes"
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.value {
            Value::Bool(value) => self.settle(visitor.visit_bool(value)),
            _ => self
                .wrong("true or false", "write `true` or `false`, without quotes")
                .deserialize_bool(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let remedy = match &self.node.value {
            Value::Text(text) => return self.settle(visitor.visit_str(text)),
            Value::Bool(_) | Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => {
                "put it in quotes"
            }
            Value::Null => "write the text, or remove the key",
            Value::List(_) | Value::Map(_) => "write a single text here",
        };
        self.wrong("a text", remedy).deserialize_str(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.value {
            Value::Null => self.settle(visitor.visit_none()),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == ONE_OR_MANY && matches!(self.node.value, Value::List(_)) {
            return self.deserialize_seq(visitor);
        }
        self.settle(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let remedy = match &self.node.value {
            Value::List(items) => {
                return self.settle(visitor.visit_seq(List {
                    reader: self,
                    items: items.iter(),
                }));
            }
            Value::Null => "write `[]` for an empty list, or remove the key",
            _ => "write it as a list: `[...]`, or lines that begin with `-`",
        };
        self.wrong("a list", remedy).deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Value::Map(entries) = &self.node.value else {
            return self
                .wrong("a mapping", "write `key: value` pairs here")
                .deserialize_map(visitor);
        };
        let entries = self.entries(entries).into_iter();
        self.settle(visitor.visit_map(Map::new(self, entries, std::iter::empty())))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == CLUSTER {
            return self.word_or_struct(IN_CLUSTER, fields, visitor);
        }
        let Value::Map(entries) = &self.node.value else {
            let remedy = format!("write a mapping with {}", listed(fields));
            return self
                .wrong("a mapping", &remedy)
                .deserialize_struct(name, fields, visitor);
        };
        let (entries, absent) = self.fields(entries, fields);
        self.settle(visitor.visit_map(Map::new(self, entries.into_iter(), absent)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let known = |name: &str| variants.contains(&name);
        let choice = |name: &'de str, value| Choice {
            reader: self,
            name,
            value,
        };
        match &self.node.value {
            Value::Text(_) if name == SECRET_REFERENCE => self.report(ReadError::Wrong {
                code: "inline-secret",
                message: "never write the secret here, only where it is stored".to_owned(),
                remedy: "write a reference, such as `{ file: /run/secrets/app/token }`; and because the secret was written here, replace it"
                        .to_owned(),
            }),
            Value::Text(text) if known(text) => {
                return self.settle(visitor.visit_enum(choice(text, None)));
            }
            Value::Text(text) => self.report(ReadError::unknown_variant(text, variants)),
            Value::Map(entries) => match entries.as_slice() {
                [entry] if known(&entry.0.text) => {
                    return self.settle(visitor.visit_enum(choice(&entry.0.text, Some(entry))));
                }
                [(key, _)] => self.unknown_key(key, variants),
                _ => {
                    self.wrong(
                        "exactly one key",
                        &format!("keep exactly one of {}", listed(variants)),
                    );
                }
            },
            _ => {
                self.wrong(
                    "one of several forms",
                    &format!("write one of {}", listed(variants)),
                );
            }
        }
        DefaultDeserializer.deserialize_enum(name, variants, visitor)
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
