//! Nodes as serde sees them.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::super::suggest::nearest;
use super::super::tree::{Content, Mark, Node, Scalar, meaning};
use super::error::{self, ReadError};
use super::{Log, address};

/// Reads one node.
#[derive(Clone, Copy)]
pub(super) struct Reader<'n, 'a> {
    pub(super) node: &'n Node<'a>,
    pub(super) log: &'n Log,
}

impl Reader<'_, '_> {
    /// Gives an outcome the place of this node, unless it has one.
    fn place<T>(self, outcome: Result<T, ReadError>) -> Result<T, ReadError> {
        outcome.map_err(|mut error| {
            let own = error.mark.is_none();
            error.mark.get_or_insert(self.node.mark);
            error.culprit.get_or_insert(address(self.node));
            error.consequent |= own && self.explains(&error);
            error
        })
    }

    /// Whether what this node lacks is what was left out of it, or what a slip of a key means.
    fn explains(self, error: &ReadError) -> bool {
        let slip = |key: &Node<'_>| {
            let word = key.text().unwrap_or_default();
            error.missing.is_some_and(|missing| word != missing && nearest(word, [missing]).is_some())
        };
        match &self.node.content {
            Content::Map(entries) => {
                entries.iter().any(|(key, value)| self.log.leaves_out(value) || slip(key))
            }
            Content::List(items) => items.iter().any(|item| self.log.leaves_out(item)),
            Content::Scalar { .. } => false,
        }
    }

    fn map<'de, V: Visitor<'de>>(
        self,
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let Content::Map(entries) = &self.node.content else { return self.scalar(visitor) };
        self.place(visitor.visit_map(Fields { entries: entries.iter(), value: None, known, log: self.log }))
    }

    /// Whatever the node is by itself.
    fn scalar<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let outcome = match &self.node.content {
            Content::Map(_) => return self.map(None, visitor),
            Content::List(items) => visitor.visit_seq(Items { items: items.iter(), log: self.log }),
            Content::Scalar { text, plain } => match meaning(text, *plain) {
                Scalar::Null => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Text(text) => visitor.visit_str(text),
                Scalar::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                    (Some(number), _, _) => visitor.visit_u64(number),
                    (_, Some(number), _) => visitor.visit_i64(number),
                    (_, _, Some(number)) if number.is_finite() => visitor.visit_f64(number),
                    _ => Err(ReadError::plain(
                        "invalid-value",
                        format!("`{text}` is not a number JSON can hold"),
                    )
                    .hint("put it in quotes to make it text")),
                },
            },
        };
        self.place(outcome)
    }
}

impl<'de> Deserializer<'de> for Reader<'_, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.scalar(visitor)
    }

    /// A number or a truth value where text is wanted is the text that was written.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.content {
            Content::Scalar { text, .. } if !self.node.is_null() => self.place(visitor.visit_str(text)),
            _ => self.scalar(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.place(if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.place(visitor.visit_newtype_struct(self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.map(Some(fields), visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.map(None, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let outcome = match &self.node.content {
            Content::Scalar { text, .. } if !self.node.is_null() => {
                visitor.visit_enum(Variant { name: text, value: None, reader: self, variants })
            }
            Content::Map(entries) => {
                let mut left = entries.iter().filter(|(_, value)| !self.log.leaves_out(value));
                match (left.next(), left.next()) {
                    (Some((key, value)), None) => visitor.visit_enum(Variant {
                        name: key.text().unwrap_or_default(),
                        value: Some((key.mark, value)),
                        reader: self,
                        variants,
                    }),
                    (first, _) => Err(one_of(variants, first.is_some())),
                }
            }
            _ => Err(one_of(variants, false)),
        };
        self.place(outcome)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf
        unit unit_struct seq tuple tuple_struct
    }
}

fn one_of(variants: &[&str], several: bool) -> ReadError {
    let message = if several { "only one may be given of" } else { "one must be given of" };
    ReadError::plain("not-exactly-one", format!("{message} {}", error::names(variants))).hint(if several {
        "keep one of them"
    } else {
        "add one of them"
    })
}

/// The entries of a mapping; with `known`, others are faults and are passed over.
struct Fields<'n, 'a> {
    entries: std::slice::Iter<'n, (Node<'a>, Node<'a>)>,
    value: Option<(Mark, &'n Node<'a>)>,
    known: Option<&'static [&'static str]>,
    log: &'n Log,
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        for (key, value) in self.entries.by_ref() {
            if self.log.leaves_out(value) {
                continue;
            }
            let name = key.text().unwrap_or_default();
            if let Some(known) = self.known
                && !known.contains(&name)
            {
                let fault = error::unknown_field(name, known).into_fault(key.mark);
                self.log.faults.borrow_mut().insert(fault);
                continue;
            }
            self.value = Some((key.mark, value));
            let name: StrDeserializer<'_, ReadError> = name.into_deserializer();
            return seed.deserialize(name).map(Some).map_err(|mut error| {
                error.mark.get_or_insert(key.mark);
                error.culprit.get_or_insert(address(value));
                error
            });
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((key, node)) = self.value.take() else {
            return Err(ReadError::custom("a value was read before its key"));
        };
        read_value(seed, key, Reader { node, log: self.log })
    }
}

/// Reads the value of `key`. What a mapping lacks, and values that are nothing, are shown at the key.
fn read_value<'de, V: DeserializeSeed<'de>>(
    seed: V,
    key: Mark,
    reader: Reader<'_, '_>,
) -> Result<V::Value, ReadError> {
    seed.deserialize(reader).map_err(|mut error| {
        let here = error.mark == Some(reader.node.mark) && !error.at_key;
        error.at_key = true;
        if here && (matches!(error.code, "missing-field" | "not-exactly-one") || reader.node.is_null()) {
            error.mark = Some(key);
        }
        error.mark.get_or_insert(if reader.node.is_null() { key } else { reader.node.mark });
        error.culprit.get_or_insert(address(reader.node));
        error
    })
}

struct Items<'n, 'a> {
    items: std::slice::Iter<'n, Node<'a>>,
    log: &'n Log,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let log = self.log;
        let node = self.items.by_ref().find(|node| !log.leaves_out(node));
        node.map(|node| read_value(seed, node.mark, Reader { node, log })).transpose()
    }
}

/// One form of an enum: a word, or a key with its value.
struct Variant<'n, 'a> {
    name: &'n str,
    value: Option<(Mark, &'n Node<'a>)>,
    reader: Reader<'n, 'a>,
    variants: &'static [&'static str],
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        if !self.variants.contains(&self.name) {
            let mut error = if let Some((key, node)) = self.value {
                let mut error = error::unknown_field(self.name, self.variants);
                error.mark = Some(key);
                error.culprit = Some(address(node));
                error
            } else {
                error::unknown_variant(self.name, self.variants)
            };
            error.consequent = false;
            return Err(error);
        }
        let name: StrDeserializer<'_, ReadError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.value {
            None => Ok(()),
            Some((_, node)) if node.is_null() => Ok(()),
            Some(_) => Err(ReadError::invalid_type(Unexpected::Map, &"a word")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        match self.value {
            Some((key, node)) => read_value(seed, key, Reader { node, ..self.reader }),
            None => Err(ReadError::plain("wrong-type", format!("`{}` needs a value", self.name))
                .hint(format!("write `{}: …`", self.name))),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ReadError> {
        Err(ReadError::invalid_type(Unexpected::TupleVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Some((_, node)) => Reader { node, ..self.reader }.map(Some(fields), visitor),
            None => Err(ReadError::invalid_type(Unexpected::UnitVariant, &visitor)),
        }
    }
}
