//! The content of a node: the entries of a list, the keys of a mapping, one form of several.

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::StrDeserializer,
    },
};

use super::{
    super::{ReadError, default::DefaultDeserializer},
    Reader,
    absent::Absent,
};
use crate::yaml::{Key, Node};

pub(super) struct List<'de, 'r> {
    pub(super) reader: Reader<'de, 'r>,
    pub(super) items: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for List<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        self.items
            .next()
            .map(|item| seed.deserialize(self.reader.below(None, item)))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// First the entries that are present, then the keys that are absent.
pub(super) struct Map<'de, 'r, E, A> {
    reader: Reader<'de, 'r>,
    entries: E,
    absent: A,
    value: MapValue<'de>,
}

/// The value of the key that was read last.
enum MapValue<'de> {
    There(&'de Key, &'de Node),
    Absent(&'static str),
}

impl<'de, 'r, E, A> Map<'de, 'r, E, A> {
    pub(super) fn new(reader: Reader<'de, 'r>, entries: E, absent: A) -> Self {
        Self {
            reader,
            entries,
            absent,
            value: MapValue::Absent(""),
        }
    }
}

impl<'de, E, A> MapAccess<'de> for Map<'de, '_, E, A>
where
    E: Iterator<Item = &'de (Key, Node)>,
    A: Iterator<Item = &'static str>,
{
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let key = if let Some((key, node)) = self.entries.next() {
            self.value = MapValue::There(key, node);
            &*key.text
        } else if let Some(absent) = self.absent.next() {
            self.value = MapValue::Absent(absent);
            absent
        } else {
            return Ok(None);
        };
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.value {
            MapValue::There(key, node) => seed.deserialize(self.reader.below(Some(key), node)),
            MapValue::Absent(key) => seed.deserialize(Absent {
                reader: self.reader,
                key,
            }),
        }
    }
}

/// One of several forms: a name alone, or a name with a value.
pub(super) struct Choice<'de, 'r> {
    /// For the name and its value together.
    pub(super) reader: Reader<'de, 'r>,
    pub(super) name: &'de str,
    pub(super) value: Option<&'de (Key, Node)>,
}

impl<'de, 'r> Choice<'de, 'r> {
    /// The reader of the value; its absence is reported.
    fn value(&self) -> Option<Reader<'de, 'r>> {
        let reader = self
            .value
            .map(|(key, node)| self.reader.below(Some(key), node));
        if reader.is_none() {
            self.reader.report(ReadError::Wrong {
                code: "wrong-type",
                message: format!("`{}` needs a value", self.name),
                remedy: format!("write `{}: ...`", self.name),
            });
        }
        reader
    }
}

impl<'de> EnumAccess<'de> for Choice<'de, '_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        Ok((seed.deserialize(StrDeserializer::new(self.name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de, '_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        if self.value.is_some() {
            let message = format_args!("`{}` cannot have a value", self.name);
            self.reader.report(ReadError::custom(message));
        }
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        match self.value() {
            Some(value) => seed.deserialize(value),
            None => seed.deserialize(DefaultDeserializer),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value() {
            Some(value) => value.deserialize_seq(visitor),
            None => DefaultDeserializer.deserialize_seq(visitor),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value() {
            Some(value) => value.deserialize_struct("", fields, visitor),
            None => DefaultDeserializer.deserialize_struct("", fields, visitor),
        }
    }
}
