mod creds;

use oci_content::Tag;

use super::converted::{Converted, ImageEntry, JobKey, Schedule, Selects, TagRule, platforms};
use super::names::{self, ImageName};
use super::node::{Node, Value};
use super::note::{Members, Note};
use super::{patterns, schedule, versions};

/// Keys of `sync` and `defaults` that have no counterpart, and why they need none or what does it instead.
const OPTIONS: [(&str, &str); 10] = [
    (
        "backup",
        "no copy is made of a tag before it moves; the receipt of a run records where it was",
    ),
    (
        "ratelimit",
        "limits that a registry announces are obeyed; requests_per_second of a registry sets a lower one",
    ),
    (
        "parallel",
        "max_in_flight of a registry bounds the requests at a time",
    ),
    ("fastCheck", "referrers are looked up every time"),
    (
        "forceRecursive",
        "everything that an image consists of is looked up at the target every time",
    ),
    (
        "includeExternal",
        "layers with URLs are taken from the registry, and the URLs are not asked",
    ),
    (
        "mediaTypes",
        "images of every type except Docker schema 1 are mirrored",
    ),
    ("referrerFilters", "all referrers are mirrored"),
    ("referrerSlow", "all referrers are mirrored"),
    ("hooks", "no command is run"),
];

/// Keys of `defaults` that are about regsync itself.
const PROGRAM: [&str; 5] = [
    "blobLimit",
    "cacheCount",
    "cacheTime",
    "skipDockerConfig",
    "userAgent",
];

/// Converts a configuration of regsync, version 1.
pub(super) fn convert(root: &Node, converted: &mut Converted) {
    let mut notes = Vec::new();
    let mut file = Members::new(root, "the file", &mut notes);
    if let Some((key, node)) = file.take_keyed("version")
        && node.text() != Some("1")
    {
        let text = "version is not 1, and the file was read as if it were";
        notes.push(Note::left_out(key.line, text));
    }
    for node in file.take("creds").map(Node::items).unwrap_or_default() {
        creds::convert(node, converted, &mut notes);
    }
    let nothing = Node {
        line: root.line,
        value: Value::Null,
    };
    let defaults = file.take("defaults").unwrap_or(&nothing);
    let mut defaults = Members::new(defaults, "defaults", &mut notes);
    for name in PROGRAM {
        defaults.note(name, "it is about regsync itself", &mut notes);
    }
    let common = Common::take(&mut defaults, &mut notes);
    defaults.finish(&mut notes);
    for node in file.take("sync").map(Node::items).unwrap_or_default() {
        entry(node, &common, converted, &mut notes);
    }
    file.finish(&mut notes);
    converted.notes.append(&mut notes);
}

/// What `defaults` and an entry of `sync` can both set.
#[derive(Clone, Default)]
struct Common {
    schedule: Option<Schedule>,
    /// The key that gives referrers a repository of their own.
    elsewhere: Option<&'static str>,
}

impl Common {
    fn take(members: &mut Members<'_>, notes: &mut Vec<Note>) -> Self {
        for (name, why) in OPTIONS {
            members.note(name, why, notes);
        }
        for name in ["referrers", "digestTags"] {
            if let Some((key, node)) = members.take_keyed(name)
                && node.boolean() != Some(true)
            {
                let text = format!("{name}: what refers to an image is always mirrored with it");
                notes.push(Note::setting(key.line, text));
            }
        }
        let elsewhere = ["referrerSource", "referrerTarget"]
            .into_iter()
            .filter(|name| members.take(name).is_some())
            .last();
        let times = [
            ("schedule", schedule::cron as fn(&str) -> _),
            ("interval", schedule::interval),
        ];
        let mut read = None;
        for (name, parse) in times {
            let Some((key, node)) = members.take_keyed(name) else {
                continue;
            };
            match parse(node.text().unwrap_or_default()) {
                Ok(schedule) => read = read.or(Some(schedule)),
                Err(why) => notes.push(Note::setting(key.line, format!("{name}: {why}"))),
            }
        }
        Self {
            schedule: read,
            elsewhere,
        }
    }

    fn or(self, defaults: &Self) -> Self {
        Self {
            schedule: self.schedule.or_else(|| defaults.schedule.clone()),
            elsewhere: self.elsewhere.or(defaults.elsewhere),
        }
    }
}

/// An entry of `sync`.
struct Sync<'a> {
    source: &'a str,
    target: &'a str,
    key: JobKey,
    /// What to say about each entry that comes of it.
    notes: Vec<Note>,
}

fn entry(node: &Node, defaults: &Common, converted: &mut Converted, notes: &mut Vec<Note>) {
    let line = node.line;
    let mut members = Members::new(node, "sync", notes);
    let [source, target, kind] = ["source", "target", "type"].map(|name| members.text(name, notes));
    let (Some(source), Some(target), Some(kind)) = (source, target, kind) else {
        let text = "an entry of sync without source, target and type was not converted";
        notes.push(Note::left_out(line, text));
        return;
    };
    let added = settings(&mut members, defaults, notes).and_then(|(key, own)| {
        let rules = rules(&mut members, notes)?;
        let repositories = members.take("repos");
        let sync = Sync {
            source,
            target,
            key,
            notes: own,
        };
        match kind {
            "image" => image(sync, converted),
            "repository" => repository(sync, rules, converted),
            "registry" => registry(sync, rules, repositories, converted, notes),
            other => Err(format!(
                "its type {other:?} is not image, repository or registry"
            )),
        }
    });
    match added {
        Ok(()) => members.finish(notes),
        Err(why) => {
            let (source, target) = (names::shown(source), names::shown(target));
            let text = format!("sync of {source} to {target} was not converted: {why}");
            notes.push(Note::left_out(line, text));
        }
    }
}

/// Reads what does not depend on the type of an entry.
fn settings(
    members: &mut Members<'_>,
    defaults: &Common,
    notes: &mut Vec<Note>,
) -> Result<(JobKey, Vec<Note>), String> {
    let common = Common::take(members, notes).or(defaults);
    if let Some(name) = common.elsewhere {
        return Err(format!(
            "{name} gives referrers a repository of their own, which has no counterpart"
        ));
    }
    let mut own = Vec::new();
    let mut wanted = members.texts("platforms", notes);
    if let Some(node) = members.take("platform")
        && let Some(platform) = node.text()
    {
        let text = format!(
            "platform {platform}: regsync tags the image of the platform; here the tag keeps its index, and the other \
             platforms are left out"
        );
        own.push(Note::differs(node.line, text));
        wanted.push((node.line, platform));
    }
    let key = JobKey {
        platforms: platforms(&wanted)?,
        schedule: common.schedule,
        ..JobKey::default()
    };
    Ok((key, own))
}

/// A rule for tags, with what is to be said about it.
type Rule = (TagRule, Vec<Note>);

/// Reads `tags` and `tagSets`, which select what any of them selects.
fn rules(members: &mut Members<'_>, notes: &mut Vec<Note>) -> Result<Vec<Rule>, String> {
    let sets = members.take("tagSets").map(Node::items).unwrap_or_default();
    let sets = sets.iter().chain(members.take("tags"));
    let mut all = Vec::new();
    for set in sets {
        all.extend(rules_of(set, notes)?);
    }
    if all.is_empty() {
        all.push(Rule::default());
    }
    Ok(all)
}

fn rules_of(set: &Node, notes: &mut Vec<Note>) -> Result<Vec<Rule>, String> {
    let mut members = Members::new(set, "tags", notes);
    let [allow, deny, ranges] =
        ["allow", "deny", "semverRange"].map(|name| members.texts(name, notes));
    members.finish(notes);
    let one = |patterns: Vec<(usize, &str)>| {
        let patterns: Vec<&str> = patterns.into_iter().map(|(_, pattern)| pattern).collect();
        match patterns.as_slice() {
            [] => Ok(None),
            patterns => patterns::anchored(patterns).map(Some),
        }
    };
    let base = TagRule {
        regex: one(allow)?,
        exclude: one(deny)?,
        semver: None,
    };
    let ranges: Vec<_> = ranges.iter().filter(|(_, text)| !text.is_empty()).collect();
    if ranges.is_empty() {
        let is_empty = base == TagRule::default();
        return Ok(if is_empty {
            Vec::new()
        } else {
            vec![(base, Vec::new())]
        });
    }
    let rule = |(line, range): &&(usize, &str)| {
        let requirement = versions::regsync(range)
            .map_err(|why| format!("semverRange {range:?} of line {line}: {why}"))?;
        let text = format!(
            "semverRange {range:?}: regsync also selects pre-releases and variants such as 1.2.3-alpine, and versions of \
             four parts"
        );
        let rule = TagRule {
            semver: Some(requirement.text),
            ..base.clone()
        };
        Ok((rule, vec![Note::differs(*line, text)]))
    };
    ranges.iter().map(rule).collect()
}

fn image(mut sync: Sync<'_>, converted: &mut Converted) -> Result<(), String> {
    let source = ImageName::parse(sync.source).map_err(|why| format!("source: {why}"))?;
    let target = ImageName::parse(sync.target).map_err(|why| format!("target: {why}"))?;
    if target.effective_tag() != source.effective_tag() {
        let name = |tag: Option<Tag>| tag.map_or("no tag".to_owned(), |tag| format!("tag {tag}"));
        return Err(format!(
            "it has {} at the source and {} at the target, and tags keep their names here",
            name(source.effective_tag()),
            name(target.effective_tag())
        ));
    }
    sync.key.registry = Some(target.registry.clone());
    let entry = ImageEntry {
        selects: Selects::Reference(source.reference()),
        tags: TagRule::default(),
        notes: sync.notes,
    };
    converted.add(sync.key, Some((&source, &target.repository)), entry);
    Ok(())
}

fn repository(
    mut sync: Sync<'_>,
    rules: Vec<Rule>,
    converted: &mut Converted,
) -> Result<(), String> {
    let source =
        ImageName::parse_repository(sync.source).map_err(|why| format!("source: {why}"))?;
    let target =
        ImageName::parse_repository(sync.target).map_err(|why| format!("target: {why}"))?;
    sync.key.registry = Some(target.registry.clone());
    for (tags, mut notes) in rules {
        notes.extend(sync.notes.iter().cloned());
        let entry = ImageEntry {
            selects: Selects::Repository(source.source()),
            tags,
            notes,
        };
        converted.add(sync.key.clone(), Some((&source, &target.repository)), entry);
    }
    Ok(())
}

fn registry(
    mut sync: Sync<'_>,
    rules: Vec<Rule>,
    repositories: Option<&Node>,
    converted: &mut Converted,
    notes: &mut Vec<Note>,
) -> Result<(), String> {
    let source = names::registry(sync.source).map_err(|why| format!("source: {why}"))?;
    let (target, prefix) = names::target(sync.target).map_err(|why| format!("target: {why}"))?;
    sync.key.registry = Some(target);
    sync.key.prefix = prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
    let nothing = Node {
        line: 0,
        value: Value::Null,
    };
    let mut repos = Members::new(repositories.unwrap_or(&nothing), "repos", notes);
    let [allow, deny] = ["allow", "deny"].map(|name| repos.texts(name, notes));
    repos.finish(notes);
    if let Some((line, pattern)) = deny.first() {
        return Err(format!(
            "repos.deny {pattern:?} of line {line}: repositories cannot be excluded; name those that are wanted"
        ));
    }
    let allow = if allow.is_empty() {
        vec![(0, ".*")]
    } else {
        allow
    };
    let globs = allow.iter().map(|(line, pattern)| {
        patterns::glob(pattern).ok_or_else(|| {
            format!("repos.allow {pattern:?} of line {line} cannot be written as a glob")
        })
    });
    let globs = globs.collect::<Result<Vec<String>, String>>()?;
    for glob in globs {
        for (tags, mut notes) in rules.clone() {
            notes.extend(sync.notes.iter().cloned());
            let name = format!("{source}/{glob}");
            let selects = if glob.contains('*') {
                Selects::Repositories(name)
            } else {
                Selects::Repository(name)
            };
            let entry = ImageEntry {
                selects,
                tags,
                notes,
            };
            converted.add(sync.key.clone(), None, entry);
        }
    }
    Ok(())
}
