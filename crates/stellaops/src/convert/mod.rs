//! Our configuration from the files of other tools.
//!
//! What selects other images than before, or has no counterpart, becomes a [`Note`]. Nothing is fetched, no other
//! file is read, and secrets are not copied.

mod converted;
mod names;
mod node;
mod note;
mod oc_mirror;
mod patterns;
mod regsync;
mod schedule;
mod skopeo;
#[cfg(test)]
mod tests;
mod versions;
mod yaml;

pub(crate) use converted::Converted;
use converted::JobKey;
pub(crate) use names::{Target, target};
use node::{Node, NodeError};
use note::Note;
pub(crate) use note::Weight;

/// The tool that a file was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Regsync,
    Skopeo,
    OcMirror,
}

/// Why a file was not converted at all: the reason, and the line and column.
pub(crate) type Unreadable = (String, (u64, u64));

/// Converts a file; `to` is the target where the tool takes it from its command line.
pub(crate) fn convert(kind: Kind, text: &str, to: Option<Target>) -> Result<Converted, Unreadable> {
    let document = node::parse(text).map_err(|NodeError { reason, place }| (reason, place))?;
    if document.root.get("kind").and_then(Node::text) == Some("ConfigMap") {
        let reason = "it is a ConfigMap; convert the file that its data holds";
        return Err((reason.to_owned(), (document.root.line as u64, 1)));
    }
    let mut converted = Converted::default();
    if let Some(line) = document.second {
        let text = "only the first document of the file was read";
        converted.notes.push(Note::left_out(line, text));
    }
    let key = JobKey {
        prefix: match &to {
            Some((_, Some(prefix))) => prefix.to_string(),
            _ => String::new(),
        },
        registry: to.map(|(registry, _)| registry),
        ..JobKey::default()
    };
    if kind != Kind::Regsync && key.registry.is_none() {
        let text = "the file names no target; put yours in place of target.invalid";
        converted.notes.push(Note::setting(1, text));
    }
    match kind {
        Kind::Regsync => regsync::convert(&document.root, &mut converted),
        Kind::Skopeo => skopeo::convert(&document.root, &key, &mut converted),
        Kind::OcMirror => oc_mirror::convert(&document.root, &key, &mut converted),
    }
    Ok(converted)
}
