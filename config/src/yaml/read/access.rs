//! What is within a node: the entries of a list, the keys of a mapping, one form of several.

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
        VariantAccess, Visitor,
        value::{StrDeserializer, StringDeserializer},
    },
};

use super::{ReadError, reader::Reader};
use crate::yaml::{Key, Node, blank::Blank};

/// The entries of a mapping, in the order of the text.
pub(super) type Entries<'de> = std::slice::Iter<'de, (Key, Node)>;

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
}

pub(super) struct Map<'de, 'r> {
    pub(super) reader: Reader<'de, 'r>,
    entries: Entries<'de>,
    value: Option<&'de (Key, Node)>,
    /// Keys that were reported missing, to be read as blanks.
    missing: Vec<&'static str>,
}

impl<'de, 'r> Map<'de, 'r> {
    pub(super) fn new(reader: Reader<'de, 'r>, entries: Entries<'de>) -> Self {
        Self {
            reader,
            entries,
            value: None,
            missing: reader.node.missing.borrow().clone(),
        }
    }
}

impl<'de> MapAccess<'de> for Map<'de, '_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        self.value = self.entries.find(|(key, _)| !key.skip.get());
        let key = match self.value {
            Some((key, _)) => key.text.as_str(),
            None => match self.missing.pop() {
                Some(missing) => missing,
                None => return Ok(None),
            },
        };
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.value.take() {
            Some((key, node)) => seed.deserialize(self.reader.below(Some(key), node)),
            None => seed.deserialize(Blank.into_deserializer()),
        }
    }
}

/// One of several forms: a name alone, or a name with a value.
pub(super) struct Choice<'de, 'r> {
    pub(super) reader: Reader<'de, 'r>,
    pub(super) name: &'de str,
    pub(super) value: Option<&'de Node>,
}

impl<'de> EnumAccess<'de> for Choice<'de, '_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let name = StringDeserializer::new(self.name.to_owned());
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de, '_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(ReadError::custom(format_args!(
                "`{}` takes no value",
                self.name
            ))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        match self.value {
            Some(_) => seed.deserialize(self.reader),
            None => Err(ReadError::Wrong {
                code: "wrong-type",
                message: format!("`{}` needs a value", self.name),
                remedy: format!("write `{}: ...`", self.name),
            }),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.reader.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.reader.deserialize_struct("", fields, visitor)
    }
}
