//! Files in the forms that the documentation of each tool describes.

mod oc_mirror;
mod regsync;
mod skopeo;

use super::*;
use crate::config::Config;

/// A file that was converted: the configuration without comments, and the notes as `line weight text`.
struct Outcome {
    yaml: String,
    comments: String,
    notes: Vec<String>,
}

fn outcome(kind: Kind, text: &str, to: Option<&str>) -> Outcome {
    let to = to.map(|to| target(to).unwrap());
    let converted = convert(kind, text, to).unwrap();
    let whole = converted.yaml("file.yaml");
    let (comments, yaml): (Vec<&str>, Vec<&str>) = whole
        .lines()
        .partition(|line| line.trim_start().starts_with('#'));
    let notes: Vec<String> = converted
        .all_notes()
        .iter()
        .map(|note| format!("{} {:?} {}", note.line, note.weight, note.text))
        .collect();
    for note in converted.all_notes() {
        assert!(
            comments.iter().any(|c| c.contains(&note.text)),
            "{}",
            note.text
        );
    }
    is_read_back(&whole, converted.jobs());
    Outcome {
        yaml: yaml.join("\n"),
        comments: comments.join("\n"),
        notes,
    }
}

/// Requires that our own reader, which refuses what it does not know, takes the configuration.
#[track_caller]
fn is_read_back(yaml: &str, jobs: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mirror.yaml");
    std::fs::write(&path, yaml).unwrap();
    let config = Config::read(&path).unwrap_or_else(|failure| panic!("{failure}\n{yaml}"));
    assert_eq!(config.jobs.len(), jobs, "{yaml}");
}

impl Outcome {
    /// Requires the configuration, and one note for each entry of `notes`, which has its line, weight and a part.
    #[track_caller]
    fn is(&self, yaml: &str, notes: &[(usize, Weight, &str)]) {
        assert_eq!(self.yaml, yaml.trim_matches('\n'));
        for (line, weight, part) in notes {
            let start = format!("{line} {weight:?} ");
            let found = self
                .notes
                .iter()
                .any(|note| note.starts_with(&start) && note.contains(part));
            assert!(found, "{line} {weight:?} {part} in {:#?}", self.notes);
        }
        assert_eq!(self.notes.len(), notes.len(), "{:#?}", self.notes);
    }
}

use Weight::{Differs, LeftOut, Setting};

const NO_TARGET: (usize, Weight, &str) = (1, Setting, "names no target");

#[test]
fn a_file_that_is_not_yaml_says_where() {
    for (text, reason, line) in [
        ("sync: [\n", "bracket", 1),
        ("sync: a\nsync: b\n", "\"sync\" is there twice", 2),
        ("a: &a [*a]\n", "contains it", 1),
        ("? [x]\n: y\n", "a key is a list", 1),
        ("a: {<<: 5}\n", "only mappings", 1),
        ("kind: ConfigMap\ndata: {}\n", "ConfigMap", 1),
    ] {
        let (found, place) = convert(Kind::Regsync, text, None).unwrap_err();
        assert!(found.contains(reason), "{text}: {found}");
        assert_eq!(place.0, line, "{text}: {found}");
    }
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    let (reason, _) = convert(Kind::Regsync, &bomb, None).unwrap_err();
    assert!(reason.contains("200000 values"), "{reason}");
    for empty in ["", "# nothing\n", "~\n"] {
        let converted = convert(Kind::Regsync, empty, None).unwrap();
        assert!(converted.all_notes().is_empty() && converted.jobs() == 0);
    }
}

#[test]
fn text_of_the_file_cannot_leave_its_comment_or_scalar() {
    let text = "version: 1\n\"a\\njobs: {}\\n#\": 1\nsync:\n- {source: \"x\\ny: z\", target: t.test/a, type: image}\n\
                - {source: r.test/a, target: t.test/a, type: repository, tags: {allow: [\"a\u{2028}b'c\"]}}\n";
    let found = outcome_of_hostile(text);
    assert!(
        !found
            .lines()
            .any(|line| line.starts_with("jobs: {}") || line.starts_with("y: z"))
    );
    let read: serde_json::Value = serde_saphyr::from_str(&found).unwrap();
    assert_eq!(
        read["jobs"]["t-test"]["images"][0]["tags"]["regex"],
        "^a\u{2028}b'c$"
    );
}

fn outcome_of_hostile(text: &str) -> String {
    let converted = convert(Kind::Regsync, text, None).unwrap();
    let yaml = converted.yaml("a\nb.yml");
    is_read_back(&yaml, converted.jobs());
    yaml
}
