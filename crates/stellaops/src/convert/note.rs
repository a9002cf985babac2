use oci_content::Registry;

use super::node::{Key, Node};

/// What a note says about the file that was converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// Images that the file selects, or may select, are not in the output.
    LeftOut,
    /// A rule is in the output and may select other tags than before.
    Differs,
    /// A setting has no counterpart, or is set elsewhere.
    Setting,
}

/// Something in a peer's file that the output does not say in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) line: usize,
    pub(crate) weight: Weight,
    pub(crate) text: String,
}

impl Note {
    pub(super) fn left_out(line: usize, text: impl Into<String>) -> Self {
        Self::new(line, Weight::LeftOut, text)
    }

    pub(super) fn differs(line: usize, text: impl Into<String>) -> Self {
        Self::new(line, Weight::Differs, text)
    }

    pub(super) fn setting(line: usize, text: impl Into<String>) -> Self {
        Self::new(line, Weight::Setting, text)
    }

    /// Says how to log in, since passwords are not copied.
    pub(super) fn login(line: usize, registry: &Registry, user: Option<&str>) -> Self {
        // A template, or something that a shell would take apart, is left to the reader.
        let is_plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
        let user = user
            .filter(|user| user.chars().all(is_plain))
            .unwrap_or("USER");
        let text = format!(
            "{registry}: the password was not copied; log in with stellaops registry login {registry} -u {user} --password-stdin"
        );
        Self::setting(line, text)
    }

    fn new(line: usize, weight: Weight, text: impl Into<String>) -> Self {
        Self {
            line,
            weight,
            text: text.into(),
        }
    }
}

/// The members of a mapping, each to be asked for by name. A key that was never asked for is unknown.
#[derive(Debug)]
pub(super) struct Members<'a> {
    of: String,
    members: Vec<&'a (Key, Node)>,
}

impl<'a> Members<'a> {
    /// Reads a mapping, described as `of`; anything else is noted as left out, and has no members.
    pub(super) fn new(node: &'a Node, of: impl Into<String>, notes: &mut Vec<Note>) -> Self {
        let of = of.into();
        let members = node.members().unwrap_or_else(|| {
            let text = format!("{of} is not a mapping, and was not converted");
            notes.push(Note::left_out(node.line, text));
            &[]
        });
        Self {
            of,
            members: members.iter().collect(),
        }
    }

    /// Takes the value of a key; `None` if the key is not there or has no value.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a Node> {
        self.take_keyed(name).map(|(_, node)| node)
    }

    /// Takes a member with its key.
    pub(super) fn take_keyed(&mut self, name: &str) -> Option<(&'a Key, &'a Node)> {
        let at = self
            .members
            .iter()
            .position(|(key, _)| *key.name == *name)?;
        let (key, node) = self.members.remove(at);
        (!node.is_null()).then_some((key, node))
    }

    /// Takes the text of a key; a value that is not text is noted as left out.
    pub(super) fn text(&mut self, name: &str, notes: &mut Vec<Note>) -> Option<&'a str> {
        let node = self.take(name)?;
        if node.text().is_none() {
            let text = format!("{name} of {} is not text, and was not converted", self.of);
            notes.push(Note::left_out(node.line, text));
        }
        node.text()
    }

    /// Takes a boolean; another value is noted.
    pub(super) fn boolean(&mut self, name: &str, notes: &mut Vec<Note>) -> Option<bool> {
        let node = self.take(name)?;
        let read = node.boolean();
        if read.is_none() {
            let text = format!("{name} of {} is neither true nor false", self.of);
            notes.push(Note::left_out(node.line, text));
        }
        read
    }

    /// Takes a list of texts; items that are not text are noted as left out.
    pub(super) fn texts(&mut self, name: &str, notes: &mut Vec<Note>) -> Vec<(usize, &'a str)> {
        let items = self.take(name).map(Node::items).unwrap_or_default();
        let text = |item: &'a Node| {
            let text = item.text();
            if text.is_none() {
                let text = format!("an item of {name} of {} is not text", self.of);
                notes.push(Note::left_out(item.line, text));
            }
            Some((item.line, text?))
        };
        items.iter().filter_map(text).collect()
    }

    /// Notes a key as a setting without counterpart, if it is there.
    pub(super) fn note(&mut self, name: &str, why: &str, notes: &mut Vec<Note>) {
        if let Some((key, _)) = self.take_keyed(name) {
            let text = format!("{name} of {}: {why}", self.of);
            notes.push(Note::setting(key.line, text));
        }
    }

    /// Notes the keys that are left as unknown. Keys that begin with `x-` are those of the file's author.
    pub(super) fn finish(self, notes: &mut Vec<Note>) {
        for (key, _) in self.members {
            let name = &*key.name;
            notes.push(if name.starts_with("x-") {
                let text = format!("{name} of {} was not converted", self.of);
                Note::setting(key.line, text)
            } else {
                let text = format!("unknown key {name:?} of {} was not converted", self.of);
                Note::left_out(key.line, text)
            });
        }
    }
}
