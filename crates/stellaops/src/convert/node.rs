use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// How many nodes a file may have, copies of anchored ones included.
const MAX_NODES: usize = 200_000;

/// A value of a peer's YAML file as it is written there, with its line: `1.10` stays `1.10`, which typed readers take for a
/// number.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Scalar(Arc<str>),
    List(Arc<[Node]>),
    Map(Arc<[(Key, Node)]>),
}

/// A key of a mapping, with its line.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) name: Arc<str>,
    /// Whether it is a bare `<<`, whose value is merged into the mapping.
    merges: bool,
}

/// Why a file could not be read, and at which line and column.
#[derive(Debug)]
pub(super) struct NodeError {
    pub(super) reason: String,
    pub(super) place: (u64, u64),
}

/// A file: its first document, which is the only one that the peers read, and the line where a second one begins.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Node,
    pub(super) second: Option<usize>,
}

impl Node {
    /// Returns the text of a scalar; `None` for anything else.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the value of a key of a mapping.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let mut members = self.members()?.iter();
        let member = members.find(|(key, _)| *key.name == *name);
        member.map(|(_, node)| node)
    }

    /// Returns the items of a list; of anything else but null, itself as the only item.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::Null => &[],
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// Returns the members of a mapping; none for null.
    pub(super) fn members(&self) -> Option<&[(Key, Self)]> {
        match &self.value {
            Value::Map(members) => Some(members),
            Value::Null => Some(&[]),
            _ => None,
        }
    }

    /// Reads a boolean in any of the spellings of YAML 1.1.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar(_) => 0,
            Value::List(items) => items.iter().map(Self::count).sum(),
            Value::Map(members) => members.iter().map(|(_, node)| 1 + node.count()).sum(),
        }
    }
}

/// A collection whose end was not read yet.
struct Open {
    line: usize,
    anchor: usize,
    kind: Collection,
}

enum Collection {
    List(Vec<Node>),
    Map {
        members: Vec<(Key, Node)>,
        key: Option<Key>,
    },
}

/// Reads the first document of a file.
pub(super) fn parse(text: &str) -> Result<Document, NodeError> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| NodeError {
            reason: error.info().to_owned(),
            place: place_of(error.marker().line(), error.marker().col()),
        })?;
        match event {
            Event::DocumentStart(..) if reader.root.is_some() => {
                reader.second = Some(span.start.line());
                break;
            }
            event => reader.take(event, &span)?,
        }
    }
    let root = reader.root.unwrap_or(Node {
        line: 1,
        value: Value::Null,
    });
    Ok(Document {
        root,
        second: reader.second,
    })
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    /// The anchored nodes by the number of their anchor, with their sizes.
    anchored: Vec<(usize, Node, usize)>,
    nodes: usize,
    root: Option<Node>,
    second: Option<usize>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), NodeError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let merges = plain && text == "<<";
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    text => Value::Scalar(text.into()),
                };
                self.place(Node { line, value }, anchor, merges, span)
            }
            Event::Alias(anchor) => {
                let known = self.anchored.iter().rev().find(|(id, ..)| *id == anchor);
                let Some((_, node, size)) = known.cloned() else {
                    return Err(fail("an alias names a value that contains it", span));
                };
                self.nodes += size;
                self.place(node, 0, false, span)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open {
                    line,
                    anchor,
                    kind: Collection::List(Vec::new()),
                });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.open.push(Open {
                    line,
                    anchor,
                    kind: Collection::Map {
                        members: Vec::new(),
                        key: None,
                    },
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(ended) = self.open.pop() else {
                    return Ok(());
                };
                let value = match ended.kind {
                    Collection::List(items) => Value::List(items.into()),
                    Collection::Map { members, .. } => Value::Map(merged(members, span)?.into()),
                };
                let node = Node {
                    line: ended.line,
                    value,
                };
                self.place(node, ended.anchor, false, span)
            }
            _ => Ok(()),
        }
    }

    /// Puts a node where it belongs: into the collection that is open, or at the root.
    fn place(
        &mut self,
        node: Node,
        anchor: usize,
        merges: bool,
        span: &Span,
    ) -> Result<(), NodeError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let reason = format!("it has more than {MAX_NODES} values");
            return Err(fail(&reason, span));
        }
        if anchor != 0 {
            self.anchored.push((anchor, node.clone(), node.count()));
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        match &mut open.kind {
            Collection::List(items) => items.push(node),
            Collection::Map { members, key } => match key.take() {
                Some(key) => members.push((key, node)),
                None => {
                    let name = match &node.value {
                        Value::Scalar(name) => Arc::clone(name),
                        Value::Null => "null".into(),
                        _ => return Err(fail("a key is a list or a mapping", span)),
                    };
                    *key = Some(Key {
                        line: node.line,
                        name,
                        merges,
                    });
                }
            },
        }
        Ok(())
    }
}

/// Resolves the merge keys of a mapping; its own members go before merged ones.
fn merged(members: Vec<(Key, Node)>, span: &Span) -> Result<Vec<(Key, Node)>, NodeError> {
    let (merges, mut own): (Vec<_>, Vec<_>) = members.into_iter().partition(|(key, _)| key.merges);
    let mut names = std::collections::HashSet::new();
    for (key, _) in &own {
        if !names.insert(Arc::clone(&key.name)) {
            return Err(NodeError {
                reason: format!("key {:?} is there twice in one mapping", key.name),
                place: place_of(key.line, 0),
            });
        }
    }
    for (_, source) in &merges {
        for source in source.items() {
            let members = source
                .members()
                .ok_or_else(|| fail("only mappings can be merged", span))?;
            for (key, node) in members {
                if names.insert(Arc::clone(&key.name)) {
                    own.push((key.clone(), node.clone()));
                }
            }
        }
    }
    Ok(own)
}

fn fail(reason: &str, span: &Span) -> NodeError {
    NodeError {
        reason: reason.to_owned(),
        place: place_of(span.start.line(), span.start.col()),
    }
}

/// Columns are counted from 0 by the parser.
fn place_of(line: usize, column: usize) -> (u64, u64) {
    (line as u64, column as u64 + 1)
}
