//! Finds out which keys a type accepts, by deserializing it from nothing.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// A step from a value to a value in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(&'static str),
    /// The value of any name of a mapping.
    Name,
    /// Any item of a list.
    Item,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => f.write_str(name),
            Self::Name => f.write_str("*"),
            Self::Item => f.write_str("[]"),
        }
    }
}

/// What a type asks of a deserializer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Traced {
    Section,
    Named,
    List,
    Boolean,
    Integer,
    Text,
    Word(&'static [&'static str]),
}

/// Returns everything that a type asks for, by path.
pub(crate) fn trace(
    type_of: impl Fn(Tracer<'_>) -> Result<(), de::value::Error>,
) -> BTreeMap<Vec<Step>, Traced> {
    let mut found = BTreeMap::new();
    let mut open = VecDeque::from([Vec::new()]);
    while let Some(path) = open.pop_front() {
        let mut seen = None;
        // It always fails, because the tracer has no values.
        type_of(Tracer {
            rest: &path,
            seen: &mut seen,
        })
        .ok();
        let Some((traced, below)) = seen else {
            panic!("the type asks for nothing at {path:?}");
        };
        open.extend(
            below
                .into_iter()
                .map(|step| path.iter().cloned().chain([step]).collect()),
        );
        found.insert(path, traced);
    }
    found
}

/// A deserializer that follows a path, and records what the type asks for at its end.
pub(crate) struct Tracer<'a> {
    rest: &'a [Step],
    seen: &'a mut Option<(Traced, Vec<Step>)>,
}

impl Tracer<'_> {
    fn end<T>(self, traced: Traced, below: Vec<Step>) -> Result<T, de::value::Error> {
        if self.rest.is_empty() {
            *self.seen = Some((traced, below));
        }
        Err(de::Error::custom("the tracer has no values"))
    }
}

macro_rules! ends {
    ($($method:ident: $traced:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            self.end(Traced::$traced, Vec::new())
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = de::value::Error;

    ends!(
        deserialize_any: Text, deserialize_bool: Boolean, deserialize_i8: Integer, deserialize_i16: Integer,
        deserialize_i32: Integer, deserialize_i64: Integer, deserialize_u8: Integer, deserialize_u16: Integer,
        deserialize_u32: Integer, deserialize_u64: Integer, deserialize_f32: Text, deserialize_f64: Text,
        deserialize_char: Text, deserialize_str: Text, deserialize_string: Text, deserialize_bytes: Text,
        deserialize_byte_buf: Text, deserialize_unit: Text, deserialize_identifier: Text,
        deserialize_ignored_any: Text
    );

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.end(Traced::Text, Vec::new())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.rest.split_first() {
            Some((Step::Item, _)) => visitor.visit_seq(self),
            _ => self.end(Traced::List, vec![Step::Item]),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.rest.split_first() {
            Some((Step::Name, _)) => visitor.visit_map(self),
            _ => self.end(Traced::Named, vec![Step::Name]),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.rest.split_first() {
            Some((Step::Key(_), _)) => visitor.visit_map(self),
            _ => {
                let below = fields.iter().map(|field| Step::Key(field)).collect();
                self.end(Traced::Section, below)
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.end(Traced::Word(variants), Vec::new())
    }
}

impl<'de> SeqAccess<'de> for Tracer<'_> {
    type Error = de::value::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        let rest = self.rest.get(1..).unwrap_or_default();
        let seen = &mut *self.seen;
        seed.deserialize(Tracer { rest, seen }).map(Some)
    }
}

impl<'de> MapAccess<'de> for Tracer<'_> {
    type Error = de::value::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        let key = match self.rest.first() {
            Some(Step::Key(key)) => key,
            // It is the name of a job and of a registry alike.
            _ => "localhost",
        };
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Self::Error> {
        let rest = self.rest.get(1..).unwrap_or_default();
        let seen = &mut *self.seen;
        seed.deserialize(Tracer { rest, seen })
    }
}
