//! The deserializer of an absent key: nothing if the type allows that, otherwise a finding and a
//! default.

use serde::{Deserializer, de::Visitor};

use super::{
    super::{ReadError, default::DefaultDeserializer},
    Reader,
};
use crate::resource::OR_DEFAULT;

pub(super) struct Absent<'de, 'r> {
    /// The reader of the mapping that lacks it.
    pub(super) reader: Reader<'de, 'r>,
    pub(super) key: &'static str,
}

impl Absent<'_, '_> {
    fn missing(&self) -> DefaultDeserializer {
        self.reader.report(ReadError::Missing(self.key));
        DefaultDeserializer
    }
}

macro_rules! required {
    ($($method:ident($($name:ident: $type:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(
            self,
            $($name: $type,)*
            visitor: V,
        ) -> Result<V::Value, ReadError> {
            self.missing().$method($($name,)* visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Absent<'de, '_> {
    type Error = ReadError;

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == OR_DEFAULT {
            return visitor.visit_unit();
        }
        self.missing().deserialize_newtype_struct(name, visitor)
    }

    required! {
        deserialize_any()
        deserialize_bool()
        deserialize_u16()
        deserialize_u64()
        deserialize_str()
        deserialize_string()
        deserialize_seq()
        deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u32 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct identifier ignored_any
    }
}
