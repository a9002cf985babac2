//! Compares the tables of `docs/registry-compatibility.md` with the code, cell by cell.

use std::collections::BTreeSet;

use oci_content::{Capability, media_type};
use registry_client::{AnswerParts, MAX_LIST_ENTRIES, ReferrersAnswer, ReferrersTagAnswer};

const CODES: [&str; 6] = [
    "TOOMANYREQUESTS",
    "NAME_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "DIGEST_INVALID",
    "DENIED",
];

/// A row: the answers that it covers, and a cell for each kind of body.
struct Row {
    /// `None`: any that no other row of the host covers.
    statuses: Option<BTreeSet<u16>>,
    codes: BTreeSet<String>,
    foreign: bool,
    cells: Vec<String>,
}

fn table(heading: &str) -> Vec<Row> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/registry-compatibility.md"
    );
    let text = std::fs::read_to_string(path).expect("the document is part of the repository");
    let section = text
        .split(&format!("### {heading}\n"))
        .nth(1)
        .expect("the heading");
    let lines = section.lines().skip_while(|line| !line.starts_with("| "));
    let lines = lines.take_while(|line| line.starts_with('|')).skip(2);
    lines.map(Row::parse).collect()
}

impl Row {
    fn parse(line: &str) -> Self {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let words: Vec<&str> = cells[0].split([' ', ',', '`']).collect();
        let codes = words.iter().filter(|word| {
            word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        });
        let statuses = words.iter().filter_map(|word| word.parse().ok());
        let bodies = cells[2..].iter().map(|cell| cell.replace('`', ""));
        Self {
            statuses: (cells[0] != "any other").then(|| statuses.collect()),
            codes: codes.map(ToString::to_string).collect(),
            foreign: match cells[1] {
                "the registry" => false,
                "another host" => true,
                other => panic!("{other:?} answered"),
            },
            cells: bodies.collect(),
        }
    }

    /// How well it fits an answer: by status and code, by status, or as the row for the rest.
    fn fits(&self, status: u16, code: &str, foreign: bool) -> Option<u8> {
        if self.foreign != foreign {
            return None;
        }
        match &self.statuses {
            None => Some(0),
            Some(statuses) if !statuses.contains(&status) => None,
            Some(_) if self.codes.is_empty() => Some(1),
            Some(_) => self.codes.contains(code).then_some(2),
        }
    }
}

/// Each kind of body, with examples, in the order of the columns.
fn bodies() -> [Vec<(&'static str, String)>; 5] {
    let index = media_type::IMAGE_INDEX;
    let list = format!(r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[]}}"#);
    let manifest = r#"{"schemaVersion":2,"config":{},"layers":[]}"#.to_owned();
    let cut = list[..list.len() / 2].to_owned();
    [
        vec![
            (index, list.clone()),
            ("text/html", list.clone()),
            ("", format!("  {list}")),
        ],
        vec![
            (index, "{}".into()),
            (index, "null".into()),
            ("application/json", "[]".into()),
            (index, manifest),
        ],
        vec![
            ("text/html", "<html>".into()),
            (index, "<!doctype html>".into()),
            ("text/plain", "404 page not found".into()),
            ("", "gone".into()),
        ],
        vec![
            (index, cut.clone()),
            ("text/html", cut),
            (index, format!("\u{feff}{list}")),
            ("application/json", "not found".into()),
            ("application/octet-stream", "\0\0".into()),
        ],
        vec![
            (index, String::new()),
            ("text/html", String::new()),
            (index, "\n".into()),
        ],
    ]
}

fn holds(heading: &str, decide: impl Fn(AnswerParts<'_>) -> String) {
    let rows = table(heading);
    let bodies = bodies();
    let mut used = BTreeSet::new();
    for status in 200..600 {
        for code in CODES.into_iter().chain([""]) {
            for foreign in [false, true] {
                let fitting = rows
                    .iter()
                    .enumerate()
                    .filter_map(|(number, row)| Some((row.fits(status, code, foreign)?, number)));
                let (_, number) = fitting
                    .max()
                    .unwrap_or_else(|| panic!("no row for {status} {code:?}, foreign: {foreign}"));
                used.insert(number);
                let row = &rows[number];
                assert_eq!(
                    row.cells.len(),
                    bodies.len(),
                    "{status} {code:?}: a cell is missing"
                );
                for (expected, examples) in row.cells.iter().zip(&bodies) {
                    for (content_type, body) in examples {
                        let codes: Vec<String> = (!code.is_empty())
                            .then(|| code.into())
                            .into_iter()
                            .collect();
                        let content_type = (!content_type.is_empty()).then_some(*content_type);
                        let mut parts =
                            AnswerParts::new(status, content_type, &codes, body.as_bytes());
                        parts.foreign = foreign;
                        assert_eq!(
                            &decide(parts),
                            expected,
                            "{status} {code:?}, foreign: {foreign}, {content_type:?} {body:?}"
                        );
                    }
                }
            }
        }
    }
    assert_eq!(used.len(), rows.len(), "a row speaks of no answer");
}

#[test]
fn the_table_of_the_referrers_api_is_complete_and_true() {
    holds("The referrers API", |parts| {
        match ReferrersAnswer::decide(parts) {
            ReferrersAnswer::List(_) => "list".into(),
            ReferrersAnswer::SubjectUnknown => "subject unknown, supported".into(),
            ReferrersAnswer::NoAnswer {
                capability,
                false_200,
                ..
            } => {
                let known = match capability {
                    Capability::Unsupported => "unsupported",
                    _ => "unknown",
                };
                let mark = if false_200 { ", false-200" } else { "" };
                format!("no answer, {known}{mark}")
            }
            ReferrersAnswer::RepositoryUnknown => "the subject decides".into(),
            ReferrersAnswer::Blocked => "blocked".into(),
            ReferrersAnswer::Unreadable(_) => "malformed".into(),
            ReferrersAnswer::Unavailable {
                rate_limited,
                foreign,
                ..
            } => format!(
                "{}{}",
                if rate_limited {
                    "rate-limited"
                } else {
                    "server-error"
                },
                if foreign {
                    " unless the tag answers"
                } else {
                    ""
                },
            ),
            other => panic!("{other:?} is not in the table"),
        }
    });
}

#[test]
fn the_table_of_the_referrers_tag_is_complete_and_true() {
    holds(
        "The referrers tag",
        |parts| match ReferrersTagAnswer::decide(parts) {
            ReferrersTagAnswer::List(_) => "list".into(),
            ReferrersTagAnswer::NotAnIndex(_) => "not-an-index".into(),
            ReferrersTagAnswer::Unreadable(_) => "malformed".into(),
            ReferrersTagAnswer::Absent => "absent".into(),
            ReferrersTagAnswer::Denied => "denied".into(),
            ReferrersTagAnswer::Unavailable {
                rate_limited: true, ..
            } => "rate-limited".into(),
            ReferrersTagAnswer::Unavailable {
                rate_limited: false,
                ..
            } => "server-error".into(),
            other => panic!("{other:?} is not in the table"),
        },
    );
}

#[test]
fn entries_are_read_one_by_one() {
    let index = media_type::IMAGE_INDEX;
    let digest = oci_content::Digest::of(b"x");
    let entry = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1}}"#);
    let odd_type = format!("{}; charset=utf-8", index.to_uppercase());
    for (content_type, members, good, bad, other_type) in [
        (
            index,
            format!(r#""mediaType":"{index}","manifests":[{entry}]"#),
            1,
            0,
            false,
        ),
        (
            &odd_type,
            format!(r#""mediaType":"{index}","manifests":[]"#),
            0,
            0,
            false,
        ),
        (index, r#""manifests":null"#.into(), 0, 0, false),
        (
            index,
            format!(r#""manifests":[{entry},{{"digest":"x"}},7]"#),
            1,
            2,
            false,
        ),
        (
            index,
            format!(r#""layers":null,"config":null,"manifests":[{entry}]"#),
            1,
            0,
            false,
        ),
        (
            index,
            r#""schemaVersion":2,"mediaType":"","manifests":null,"layers":null,"config":null"#
                .into(),
            0,
            0,
            false,
        ),
        // Harbor 2.8.0 to 2.9.x.
        (
            "application/json; charset=utf-8",
            format!(r#""mediaType":"{index}","manifests":[]"#),
            0,
            0,
            true,
        ),
        ("", r#""schemaVersion":2,"manifests":[]"#.into(), 0, 0, true),
        (
            "",
            r#""schemaVersion":"2","manifests":[]"#.into(),
            0,
            0,
            true,
        ),
    ] {
        let body = format!("{{{members}}}");
        let content_type = (!content_type.is_empty()).then_some(content_type);
        let parts = AnswerParts::new(200, content_type, &[], body.as_bytes());
        let ReferrersAnswer::List(list) = ReferrersAnswer::decide(parts) else {
            panic!("{body} is a list");
        };
        assert_eq!(
            list.entries.iter().filter(|entry| entry.is_ok()).count(),
            good,
            "{body}"
        );
        assert_eq!(
            list.entries.iter().filter(|entry| entry.is_err()).count(),
            bad,
            "{body}"
        );
        assert_eq!(list.other_content_type, other_type, "{body}");
    }
}

#[test]
fn of_a_page_of_empty_entries_no_more_than_the_limit_are_read() {
    let count = 1_000_000;
    let body = format!(r#"{{"manifests":[{}{{}}]}}"#, "{},".repeat(count - 1));
    let parts = AnswerParts::new(200, Some(media_type::IMAGE_INDEX), &[], body.as_bytes());
    let ReferrersAnswer::List(list) = ReferrersAnswer::decide(parts) else {
        panic!("it is a list");
    };
    assert_eq!(list.entries.len(), MAX_LIST_ENTRIES);
    assert_eq!(list.unread, count - MAX_LIST_ENTRIES);
}
