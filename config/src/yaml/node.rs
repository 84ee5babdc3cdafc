//! One value of a document, with its place and the marks that reading leaves on it.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// A value and where it stands; lines and columns count from 1.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// Its length in characters, 1 for mappings and lists.
    pub(crate) width: usize,
    /// Set once it was reported to be of the wrong form; it reads as a blank from then on, so
    /// that what stands beside it can be read.
    pub(crate) broken: Cell<bool>,
    /// Required keys that were reported missing; they read as blanks from then on.
    pub(crate) missing: RefCell<Vec<&'static str>>,
    /// Where the keys of a large mapping are, once one was asked for.
    index: OnceCell<HashMap<String, usize>>,
}

/// Mappings with more keys are looked through once only, however often they are asked.
const FEW_KEYS: usize = 16;

/// What a value is.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text, duplicates included.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) width: usize,
    /// Set once it was reported as unknown or as a duplicate; it is passed over from then on.
    pub(crate) skip: Cell<bool>,
}

impl Node {
    /// The first entry with this key.
    pub(crate) fn entry(&self, name: &str) -> Option<(&Key, &Node)> {
        match &self.value {
            Value::Map(entries) => {
                let at = if entries.len() > FEW_KEYS {
                    *self.index.get_or_init(|| index(entries)).get(name)?
                } else {
                    entries.iter().position(|(key, _)| key.text == name)?
                };
                entries.get(at).map(|(key, node)| (key, node))
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_) => None,
        }
    }

    /// The entry of a list.
    pub(crate) fn item(&self, index: usize) -> Option<&Node> {
        match &self.value {
            Value::List(items) => items.get(index),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Map(_) => None,
        }
    }

    /// The text of a text, below this key.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.entry(name) {
            Some((
                _,
                Node {
                    value: Value::Text(text),
                    ..
                },
            )) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self.value, Value::List(_) | Value::Map(_))
    }

    /// What it is, in the words of a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) | Value::Unsigned(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Moves the node and everything beneath it down, for a document that does not start at
    /// the file's first line.
    pub(crate) fn shift(&mut self, lines: usize) {
        self.line += lines;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Value::Map(entries) => {
                for (key, node) in entries {
                    key.line += lines;
                    node.shift(lines);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_) => {}
        }
    }
}

/// The first place of each key.
fn index(entries: &[(Key, Node)]) -> HashMap<String, usize> {
    let mut index = HashMap::with_capacity(entries.len());
    for (at, (key, _)) in entries.iter().enumerate() {
        index.entry(key.text.clone()).or_insert(at);
    }
    index
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let at = spanned.referenced;
        let width = match &spanned.value {
            Value::List(_) | Value::Map(_) => 1,
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Unsigned(_)
            | Value::Float(_)
            | Value::Text(_) => size(at.span().len()).max(1),
        };
        Ok(Self {
            value: spanned.value,
            line: size(at.line()).max(1),
            column: size(at.column()).max(1),
            width,
            broken: Cell::new(false),
            missing: RefCell::default(),
            index: OnceCell::new(),
        })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        let at = spanned.referenced;
        Ok(Self {
            width: spanned.value.chars().count().max(1),
            text: spanned.value,
            line: size(at.line()).max(1),
            column: size(at.column()).max(1),
            skip: Cell::new(false),
        })
    }
}

/// Positions are bounded by the size of a file, which is far below 2^32.
pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Key>()? {
            if key.text == "<<" {
                return Err(A::Error::custom("merge keys (`<<`) are not supported"));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}
