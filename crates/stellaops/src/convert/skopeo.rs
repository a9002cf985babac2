use oci_content::{Digest, Registry};

use super::converted::{Converted, ImageEntry, JobKey, Selects, TagRule};
use super::names::{self, ImageName};
use super::node::{Node, Value};
use super::note::{Members, Note};
use super::{patterns, versions};

/// Converts a file of `skopeo sync --src yaml`, whose target is on the command line.
pub(super) fn convert(root: &Node, to: &JobKey, converted: &mut Converted) {
    let mut notes = Vec::new();
    let Some(members) = root.members() else {
        converted.notes.push(Note::left_out(
            root.line,
            "the file is not a mapping of registries",
        ));
        return;
    };
    notes.push(Note::setting(
        root.line,
        "skopeo sync without --scoped drops all but the last part of a repository's name; here the whole name is kept \
         below the target",
    ));
    notes.push(Note::setting(
        root.line,
        "skopeo sync without --all copies one platform of an index; here all are mirrored unless the job has platforms",
    ));
    for (key, node) in members {
        match names::registry(&key.name) {
            Ok(name) => registry(&name, node, to, converted, &mut notes),
            Err(why) => {
                let text = format!("{:?} was not converted: {why}", names::shown(&key.name));
                notes.push(Note::left_out(key.line, text));
            }
        }
    }
    converted.notes.append(&mut notes);
}

fn registry(
    name: &Registry,
    node: &Node,
    to: &JobKey,
    converted: &mut Converted,
    notes: &mut Vec<Note>,
) {
    let mut members = Members::new(node, name.as_str(), notes);
    if let Some(node) = members.take("credentials") {
        let mut login = Members::new(node, "credentials", notes);
        let user = login.text("username", notes);
        let line = node.line;
        let secret = ["password", "identityToken", "identitytoken"].map(|key| login.take(key));
        if user.is_some() || secret.iter().any(Option::is_some) {
            notes.push(Note::login(line, name, user));
        }
        login.finish(notes);
    }
    if members.boolean("tls-verify", notes) == Some(false) {
        converted.registry(name.clone()).insecure_skip_verify = true;
    }
    members.note(
        "cert-dir",
        "name the files as ca_file, client_cert and client_key of the registry, or put them where docker and podman look",
        notes,
    );
    type Read = fn(&Node) -> Found;
    let kinds: [(&str, Read); 3] = [
        ("images", listed),
        ("images-by-tag-regex", by_regex),
        ("images-by-semver", by_semver),
    ];
    for (kind, read) in kinds {
        let Some(node) = members.take(kind) else {
            continue;
        };
        let Some(images) = node.members() else {
            let text = format!("{kind} of {name} is not a mapping, and was not converted");
            notes.push(Note::left_out(node.line, text));
            continue;
        };
        for (key, node) in images {
            let image = ImageName::parse_repository(&format!("{name}/{}", key.name));
            let found = image.and_then(|image| Ok((read(node)?, image)));
            match found {
                Ok((rules, image)) => {
                    for (wanted, own) in rules {
                        add(&image, wanted, own, to, converted);
                    }
                }
                Err(why) => {
                    let text = format!("{kind}: {name}/{} was not converted: {why}", key.name);
                    notes.push(Note::left_out(key.line, text));
                }
            }
        }
    }
    members.finish(notes);
}

/// What of a repository is wanted, each with what is to be said about it.
type Found = Result<Vec<(Wanted, Vec<Note>)>, String>;

enum Wanted {
    Rule(TagRule),
    Tag(oci_content::Tag),
    Digest(Digest),
}

fn add(
    image: &ImageName,
    wanted: Wanted,
    notes: Vec<Note>,
    to: &JobKey,
    converted: &mut Converted,
) {
    let mut named = image.clone();
    let (selects, tags) = match wanted {
        Wanted::Rule(rule) => (Selects::Repository(image.source()), rule),
        Wanted::Tag(tag) => {
            named.tag = Some(tag);
            (Selects::Reference(named.reference()), TagRule::default())
        }
        Wanted::Digest(digest) => {
            named.digest = Some(digest);
            (Selects::Reference(named.reference()), TagRule::default())
        }
    };
    let entry = ImageEntry {
        selects,
        tags,
        notes,
    };
    let target = to.below(image.repository.as_str()).ok();
    converted.add(
        to.clone(),
        target.as_ref().map(|target| (image, target)),
        entry,
    );
}

/// Reads a list of tags and digests; an empty one stands for all tags.
fn listed(node: &Node) -> Found {
    let items = node.items();
    if items.is_empty() {
        return Ok(vec![(Wanted::Rule(TagRule::default()), Vec::new())]);
    }
    let read = |item: &Node| {
        let text = item.text().ok_or("an item of its list is not text")?;
        let wanted = match text.parse::<Digest>() {
            Ok(digest) => Wanted::Digest(digest),
            Err(_) => {
                let tag = text.parse();
                Wanted::Tag(tag.map_err(|e: oci_content::ReferenceError| e.to_string())?)
            }
        };
        Ok((wanted, Vec::new()))
    };
    items.iter().map(read).collect()
}

/// Reads a regular expression, which skopeo looks for anywhere in a tag, as is done here.
fn by_regex(node: &Node) -> Found {
    let pattern = node.text().ok_or("its pattern is not text")?;
    if pattern.is_empty() {
        return Ok(vec![(Wanted::Rule(TagRule::default()), Vec::new())]);
    }
    patterns::same_here(pattern)?;
    let rule = TagRule {
        regex: Some(pattern.to_owned()),
        ..TagRule::default()
    };
    Ok(vec![(Wanted::Rule(rule), Vec::new())])
}

/// Reads a constraint, or a list of them as releases before 1.15 took it.
fn by_semver(node: &Node) -> Found {
    if let Value::Null = node.value {
        return Err("it has no constraint".into());
    }
    let mut rules = Vec::new();
    for item in node.items() {
        let constraint = item.text().ok_or("its constraint is not text")?;
        let requirements =
            versions::masterminds(constraint).map_err(|why| format!("{constraint:?}: {why}"))?;
        for requirement in requirements {
            let differs = requirement.has_prerelease.then(|| {
                let text =
                    format!("{constraint:?}: skopeo also selects pre-releases of later versions");
                Note::differs(item.line, text)
            });
            let rule = TagRule {
                semver: Some(requirement.text),
                ..TagRule::default()
            };
            rules.push((Wanted::Rule(rule), differs.into_iter().collect()));
        }
    }
    Ok(rules)
}
