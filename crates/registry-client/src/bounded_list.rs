use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The first entries of a JSON list and the number of the others: a page of 32 MiB has room for ten
/// million empty ones.
#[derive(Debug)]
pub(crate) struct BoundedList<T> {
    pub(crate) read: Vec<T>,
    pub(crate) unread: usize,
}

impl<T> Default for BoundedList<T> {
    fn default() -> Self {
        Self {
            read: Vec::new(),
            unread: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>> BoundedList<T> {
    /// Reads a list and keeps at most `max` entries.
    pub(crate) fn read(json: &'de str, max: usize) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let list = Entries(max, PhantomData).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(list)
    }
}

struct Entries<T>(usize, PhantomData<T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Entries<T> {
    type Value = BoundedList<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = BoundedList<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut list = BoundedList::default();
        while list.read.len() < self.0 {
            match entries.next_element()? {
                Some(entry) => list.read.push(entry),
                None => return Ok(list),
            }
        }
        while entries.next_element::<IgnoredAny>()?.is_some() {
            list.unread += 1;
        }
        Ok(list)
    }
}
