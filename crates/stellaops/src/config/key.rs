//! How a key of the configuration is described.

/// The keys of a mapping.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) keys: &'static [Key],
    /// The keys of which exactly one is given; empty if there is no such rule.
    pub(crate) one_of: &'static [&'static str],
}

/// A key and its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) presence: Presence,
    pub(crate) unit: &'static str,
    /// What it is, in a sentence.
    pub(crate) about: &'static str,
    /// A value, in YAML on one line; empty for sections, whose keys have examples.
    pub(crate) example: &'static str,
    /// The keys of the same section of which one has to be given as well.
    pub(crate) with: &'static [&'static str],
}

/// What holds if a key is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    /// The same as if this value, in YAML, were given.
    Default(&'static str),
    /// What no value says, in words.
    Otherwise(&'static str),
}

/// How a value is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Section(&'static Section),
    /// A mapping whose keys are names.
    Named(&'static str, &'static Section),
    /// A list, with its least number of items.
    List(u64, &'static Self),
    Boolean,
    /// A whole number, with its least and its greatest value.
    Integer(u64, Option<u64>),
    /// A number above 0.
    Number,
    /// A number of bytes, which may have a unit.
    Bytes,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Text that is written like this, and a regular expression for it if one can say more.
    Text(&'static str, Option<&'static str>),
    Path,
    /// The place of a secret.
    Secret,
    /// The place of a key, which may also be the path of its file.
    SecretKey,
}

impl Key {
    pub(super) const fn new(name: &'static str, form: Form, about: &'static str) -> Self {
        Self {
            name,
            form,
            presence: Presence::Required,
            unit: "",
            about,
            example: "",
            with: &[],
        }
    }

    pub(super) const fn default(self, yaml: &'static str) -> Self {
        Self {
            presence: Presence::Default(yaml),
            ..self
        }
    }

    pub(super) const fn otherwise(self, words: &'static str) -> Self {
        Self {
            presence: Presence::Otherwise(words),
            ..self
        }
    }

    pub(super) const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    pub(super) const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    pub(super) const fn with(self, with: &'static [&'static str]) -> Self {
        Self { with, ..self }
    }
}
