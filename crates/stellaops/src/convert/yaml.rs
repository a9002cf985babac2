use std::fmt::Write as _;

use super::converted::{Converted, Job, JobKey, RegistryEntry, Selects, TagRule};
use super::note::Note;
use crate::render;

/// Where images go if the file names no target. The name is reserved and never resolves, so nothing is sent before it is
/// replaced.
const NO_TARGET: &str = "target.invalid";

impl Converted {
    /// Writes the configuration, with the notes as comments: those of an entry above it, the others at the top.
    pub(crate) fn yaml(&self, file: &str) -> String {
        let mut out = String::new();
        comment(
            &mut out,
            0,
            &format!("Converted from {file} by stellaops mirror convert."),
        );
        comment(
            &mut out,
            0,
            "Whatever refers to an image is mirrored with it.",
        );
        let mut notes: Vec<&Note> = self.notes.iter().collect();
        notes.sort_by_key(|note| note.line);
        for note in notes {
            comment(&mut out, 0, &line(note));
        }
        if !self.registries.is_empty() {
            out.push_str("registries:\n");
        }
        for (registry, entry) in &self.registries {
            put(
                &mut out,
                2,
                &format!("{}: {}", quoted(registry.as_str()), settings(entry)),
            );
        }
        if !self.jobs.is_empty() {
            out.push_str("jobs:\n");
        }
        for job in &self.jobs {
            write_job(&mut out, job);
        }
        out
    }

    /// Returns every note, by line.
    pub(crate) fn all_notes(&self) -> Vec<&Note> {
        let images = self.jobs.iter().flat_map(|job| &job.images);
        let of_images = images.flat_map(|image| &image.notes);
        let mut notes: Vec<&Note> = self.notes.iter().chain(of_images).collect();
        notes.sort_by_key(|note| note.line);
        notes
    }

    /// Returns how many jobs were written.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.len()
    }
}

fn write_job(out: &mut String, job: &Job) {
    put(out, 2, &format!("{}:", quoted(&job.name)));
    put(out, 4, "images:");
    for image in &job.images {
        for note in &image.notes {
            comment(out, 4, &line(note));
        }
        let (key, name) = match &image.selects {
            Selects::Reference(name) => ("reference", name),
            Selects::Repository(name) => ("repository", name),
            Selects::Repositories(name) => ("repositories", name),
        };
        put(out, 4, &format!("- {key}: {}", quoted(name)));
        if let Some(tags) = tags(&image.tags) {
            put(out, 6, &format!("tags: {tags}"));
        }
    }
    if !job.key.platforms.is_empty() {
        let platforms: Vec<String> = job.key.platforms.iter().map(|p| quoted(p)).collect();
        put(out, 4, &format!("platforms: [{}]", platforms.join(", ")));
    }
    put(out, 4, "to:");
    put(out, 6, &format!("registry: {}", quoted(&target(&job.key))));
    if !job.map.is_empty() {
        put(out, 6, "map:");
    }
    for (from, to) in &job.map {
        put(out, 6, &format!("- {}", quoted(&format!("{from}={to}"))));
    }
    if let Some(schedule) = &job.key.schedule {
        put(out, 4, "schedule:");
        put(out, 6, &format!("cron: {}", quoted(&schedule.cron)));
        if let Some(zone) = &schedule.time_zone {
            put(out, 6, &format!("time_zone: {}", quoted(zone)));
        }
    }
}

fn target(key: &JobKey) -> String {
    let registry = key.registry.as_ref().map_or(NO_TARGET, |r| r.as_str());
    format!("{registry}/{}", key.prefix)
        .trim_end_matches('/')
        .to_owned()
}

fn settings(entry: &RegistryEntry) -> String {
    let number = |n: u64| n.to_string();
    let (cert, key) = entry.client.clone().unzip();
    let truth = |is: bool| is.then(|| "true".to_owned());
    mapping([
        ("plain_http", truth(entry.plain_http)),
        ("insecure_skip_verify", truth(entry.insecure_skip_verify)),
        ("max_in_flight", entry.max_in_flight.map(number)),
        ("requests_per_second", entry.requests_per_second.map(number)),
        ("ca_file", entry.ca_file.as_deref().map(quoted)),
        ("client_cert", cert.as_deref().map(quoted)),
        ("client_key", key.as_deref().map(quoted)),
    ])
}

fn tags(rule: &TagRule) -> Option<String> {
    let value = |text: &Option<String>| text.as_deref().map(quoted);
    (*rule != TagRule::default()).then(|| {
        mapping([
            ("semver", value(&rule.semver)),
            ("regex", value(&rule.regex)),
            ("exclude", value(&rule.exclude)),
        ])
    })
}

fn mapping<const N: usize>(members: [(&str, Option<String>); N]) -> String {
    let members = members.into_iter();
    let set = members.filter_map(|(key, value)| Some(format!("{key}: {}", value?)));
    format!("{{{}}}", set.collect::<Vec<_>>().join(", "))
}

fn line(note: &Note) -> String {
    format!("line {}: {}", note.line, note.text)
}

fn put(out: &mut String, indent: usize, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{:indent$}{text}", "");
}

/// Writes a comment; what would end it is escaped.
fn comment(out: &mut String, indent: usize, text: &str) {
    put(out, indent, &format!("# {}", render::foreign(text)));
}

/// Writes a scalar: as it is if no reader can take it for anything but text, otherwise in quotes.
fn quoted(text: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    // The words that mean something else are short, and a colon is the end of a key only where a space follows.
    let is_bare = text.starts_with(|c: char| c.is_ascii_lowercase())
        && (text.len() > 5 || text.contains(['/', '-', '.', ':']))
        && text
            .chars()
            .all(|c| is_name(c) || matches!(c, ':' | '@' | '='))
        && !text.ends_with(':');
    if is_bare {
        return text.to_owned();
    }
    if text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            c if c == ' ' || c.is_ascii_graphic() => c.to_string(),
            c => format!("\\U{:08x}", u32::from(c)),
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn every_text_is_read_back_as_it_was() {
        for text in [
            "registry.example.com/team/app:1.0",
            "localhost:5000",
            "registry:5000",
            "^1\\.\\d+$",
            "it's",
            "true",
            "null",
            "1.10",
            "-",
            "a: b",
            "x #y",
            "0 2 * * *",
            "a\nb\u{1b}\"\\",
            "\u{85}\u{2028}",
            "{x}",
            "é",
            "",
        ] {
            for yaml in [
                format!("a: {}\n", quoted(text)),
                format!("{{a: {}, b: x}}\n", quoted(text)),
                format!("{}: x\n", quoted(text)),
            ] {
                let read: std::collections::BTreeMap<String, String> =
                    serde_saphyr::from_str(&yaml).unwrap();
                let found = read.contains_key(text) || read.get("a").is_some_and(|a| a == text);
                assert!(found, "{yaml} is {read:?}");
            }
        }
    }
}
