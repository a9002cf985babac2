//! Where each value is in the file.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser};

/// A path to a value: keys, and the places of items in their lists, counted from 0.
pub(crate) type Path = Vec<String>;

/// The values of a file, by path.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<Path, (u64, u64)>);

enum Open {
    List(usize),
    /// The key whose value comes next; `None` if a key comes next.
    Map(Option<String>),
}

impl Places {
    /// Finds the values of the first document of a file, which another reader has accepted.
    pub(crate) fn of(yaml: &str) -> Self {
        let mut places = BTreeMap::new();
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(yaml) {
            let Ok((event, span)) = event else {
                break;
            };
            let place = (span.start.line() as u64, span.start.col() as u64 + 1);
            match event {
                Event::Scalar(text, ..) => match open.last_mut() {
                    Some(Open::Map(key @ None)) => *key = Some(text.into_owned()),
                    _ => {
                        places.insert(path(&open), place);
                        next(&mut open);
                    }
                },
                Event::Alias(_) => {
                    places.insert(path(&open), place);
                    next(&mut open);
                }
                Event::SequenceStart(..) => {
                    places.insert(path(&open), place);
                    open.push(Open::List(0));
                }
                Event::MappingStart(..) => {
                    places.insert(path(&open), place);
                    open.push(Open::Map(None));
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    next(&mut open);
                }
                Event::DocumentEnd => break,
                _ => {}
            }
        }
        Self(places)
    }

    /// Returns the line and the column of a value, or of what it would be in, each counted from 1.
    pub(crate) fn of_path(&self, path: &[String]) -> Option<(u64, u64)> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.0.get(&path[..length]).copied())
    }
}

fn path(open: &[Open]) -> Path {
    let step = |open: &Open| match open {
        Open::List(at) => at.to_string(),
        Open::Map(key) => key.clone().unwrap_or_default(),
    };
    open.iter().map(step).collect()
}

/// Goes on to the next item or key.
fn next(open: &mut [Open]) {
    match open.last_mut() {
        Some(Open::List(at)) => *at += 1,
        Some(Open::Map(key)) => *key = None,
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_path() {
        let places = Places::of(
            "registries:\n  r.test:5000: {ca_file: ca.pem}\njobs:\n  j:\n    notify:\n    - {url: x, on: [a, b]}\n    - url: y\n",
        );
        let place = |path: &[&str]| {
            let path: Vec<_> = path.iter().map(ToString::to_string).collect();
            places.of_path(&path)
        };
        for (path, wanted) in [
            (&["registries", "r.test:5000", "ca_file"][..], Some((2, 26))),
            (&["jobs", "j", "notify", "0", "on", "1"], Some((6, 24))),
            (&["jobs", "j", "notify", "1", "url"], Some((7, 12))),
            // What is absent would be here.
            (&["jobs", "j", "notify", "1", "secret"], Some((7, 7))),
            (&["center", "tls"], None),
        ] {
            assert_eq!(place(path), wanted, "{path:?}");
        }
    }
}
