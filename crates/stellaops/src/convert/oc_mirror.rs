use mirror_plan::TagPattern;

use super::converted::{Converted, ImageEntry, JobKey, Selects, TagRule, platforms};
use super::names::{self, ImageName};
use super::node::Node;
use super::note::{Members, Note};
use super::patterns;

const NOT_AN_IMAGE: &str = "only additionalImages are converted";

/// Converts an ImageSetConfiguration of oc-mirror, of which only images that are named have a counterpart.
pub(super) fn convert(root: &Node, to: &JobKey, converted: &mut Converted) {
    let mut notes = Vec::new();
    let mut file = Members::new(root, "the file", &mut notes);
    match (file.take("kind"), file.take("apiVersion")) {
        (Some(kind), Some(version))
            if kind.text() == Some("ImageSetConfiguration")
                && matches!(
                    version.text(),
                    Some("mirror.openshift.io/v1alpha2" | "mirror.openshift.io/v2alpha1")
                ) => {}
        _ => notes.push(Note::left_out(
            root.line,
            "the file is not an ImageSetConfiguration of v1alpha2 or v2alpha1, and was read as if it were",
        )),
    }
    file.note("archiveSize", "nothing is written to archives", &mut notes);
    file.note(
        "storageConfig",
        "what was mirrored is recorded in receipts",
        &mut notes,
    );
    if let Some(node) = file.take("mirror") {
        mirror(node, to, converted, &mut notes);
    }
    file.finish(&mut notes);
    converted.notes.append(&mut notes);
}

fn mirror(node: &Node, to: &JobKey, converted: &mut Converted, notes: &mut Vec<Note>) {
    let mut members = Members::new(node, "mirror", notes);
    if let Some((key, node)) = members.take_keyed("platform") {
        let channels = node.get("channels").map(Node::items).unwrap_or_default();
        let names = channels.iter().map(name_of);
        notes.push(not_images(key.line, "platform", names));
    }
    if let Some((key, node)) = members.take_keyed("operators") {
        let catalogs = node.items().iter().map(|item| text_of(item, "catalog"));
        notes.push(not_images(key.line, "operators", catalogs));
    }
    if let Some((key, node)) = members.take_keyed("helm") {
        let members = node.members().unwrap_or_default().iter();
        let items = members.flat_map(|(_, list)| list.items()).map(name_of);
        notes.push(not_images(key.line, "helm", items));
    }
    if let Some((key, node)) = members.take_keyed("samples") {
        notes.push(not_images(
            key.line,
            "samples",
            node.items().iter().map(name_of),
        ));
    }
    let mut blocked = Vec::new();
    for item in members
        .take("blockedImages")
        .map(Node::items)
        .unwrap_or_default()
    {
        let pattern = text_of(item, "name");
        match patterns::same_here(&pattern) {
            Ok(pattern) => blocked.push((item.line, pattern)),
            Err(why) => notes.push(Note::left_out(
                item.line,
                format!("blockedImages: a pattern was not applied: {why}"),
            )),
        }
    }
    for item in members
        .take("additionalImages")
        .map(Node::items)
        .unwrap_or_default()
    {
        if let Err((name, why)) = image(item, &blocked, to, converted, notes) {
            let name = names::shown(&name);
            let text = format!("additionalImages: {name} was not converted: {why}");
            notes.push(Note::left_out(item.line, text));
        }
    }
    members.finish(notes);
}

/// Notes content that is no image by name; which images it stands for is known to catalogs, charts and release graphs only.
fn not_images(line: usize, key: &str, names: impl Iterator<Item = String>) -> Note {
    let names: Vec<String> = names.collect();
    let of = if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    };
    Note::left_out(line, format!("{key}{of} was not converted: {NOT_AN_IMAGE}"))
}

fn name_of(item: &Node) -> String {
    text_of(item, "name")
}

fn text_of(item: &Node, key: &str) -> String {
    let text = item.get(key).and_then(Node::text);
    text.unwrap_or_default().to_owned()
}

fn image(
    item: &Node,
    blocked: &[(usize, TagPattern)],
    to: &JobKey,
    converted: &mut Converted,
    notes: &mut Vec<Note>,
) -> Result<(), (String, String)> {
    let mut members = Members::new(item, "additionalImages", notes);
    let Some(name) = members.text("name", notes) else {
        return Err(("an entry".into(), "it has no name".into()));
    };
    let fail = |why: String| (name.to_owned(), why);
    let source = ImageName::parse(name).map_err(fail)?;
    let reference = source.reference();
    let at_target = to.below(source.repository.as_str()).ok().map(|repository| {
        let registry = to.registry.as_ref().map(ToString::to_string);
        format!("{}/{repository}", registry.unwrap_or_default())
    });
    let matches = |pattern: &TagPattern| {
        pattern.is_found_in(name)
            || pattern.is_found_in(&reference)
            || at_target
                .as_deref()
                .is_some_and(|text| pattern.is_found_in(text))
    };
    if let Some((line, pattern)) = blocked.iter().find(|(_, pattern)| matches(pattern)) {
        let text = format!("{name} is blocked by {:?} of line {line}", pattern.as_str());
        notes.push(Note::setting(item.line, text));
        return Ok(());
    }
    let wanted = platform_list(&mut members, notes);
    let repository = members.text("targetRepo", notes);
    let tag = members.text("targetTag", notes);
    if let Some(tag) = tag.filter(|tag| source.tag.as_ref().map(|t| t.as_str()) != Some(tag)) {
        return Err(fail(format!("targetTag {tag}: tags keep their names here")));
    }
    let target = match repository {
        Some(text) => Some(to.below(text).map_err(|error| fail(error.to_string()))?),
        None => to.below(source.repository.as_str()).ok(),
    };
    let mut key = to.clone();
    key.platforms = platforms(&wanted).map_err(fail)?;
    let mut own = Vec::new();
    if source.tag.is_none() && source.digest.is_some() {
        own.push(Note::setting(
            item.line,
            "oc-mirror makes a tag from the digest; here an image without a tag has none at the target",
        ));
    }
    let entry = ImageEntry {
        selects: Selects::Reference(reference),
        tags: TagRule::default(),
        notes: own,
    };
    converted.add(key, target.as_ref().map(|target| (&source, target)), entry);
    members.finish(notes);
    Ok(())
}

/// Reads `platforms`, a list of `os` and `architecture`.
fn platform_list(members: &mut Members<'_>, notes: &mut Vec<Note>) -> Vec<(usize, String)> {
    let items = members
        .take("platforms")
        .map(Node::items)
        .unwrap_or_default();
    let read = |item: &Node| {
        let text = match item.text() {
            Some(text) => text.to_owned(),
            None => {
                let mut members = Members::new(item, "platforms", notes);
                let [os, architecture] =
                    ["os", "architecture"].map(|key| members.text(key, notes).unwrap_or_default());
                members.finish(notes);
                format!("{os}/{architecture}")
            }
        };
        (item.line, text)
    };
    items.iter().map(read).collect()
}
