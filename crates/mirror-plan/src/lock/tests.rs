use oci_content::{Digest, Reference};
use proptest::prelude::*;

use super::{JobLock, LockDifference, LockFile};
use crate::selection::{ImageRule, TagRule};

fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

fn image(text: &str) -> Reference {
    text.parse().unwrap()
}

fn rule(repository: &str, regex: &str) -> ImageRule {
    let regex = (!regex.is_empty()).then(|| regex.parse().unwrap());
    let tags = TagRule {
        regex,
        ..TagRule::default()
    };
    ImageRule::Repository(repository.parse().unwrap(), tags)
}

fn sample() -> LockFile {
    let mut nightly = JobLock::new();
    let app = ImageRule::Image(image("r.test/app:1.0"));
    nightly.pin(&app, &image("r.test/app:1.0"), digest("app"));
    let db = rule("r.test/db", "it's [\\d\"]");
    nightly.pin(&db, &image("r.test/db:2"), digest("db 2"));
    nightly.pin(&db, &image("r.test/db:1"), digest("db 1"));
    let exact = image(&format!("[::1]:5000/x@{}", digest("x")));
    nightly.pin(&ImageRule::Image(exact.clone()), &exact, digest("x"));
    nightly.add_rule(&rule("r.test/none", ""));
    let mut file = LockFile::new();
    file.set("nightly".parse().unwrap(), nightly);
    file.set("empty".parse().unwrap(), JobLock::new());
    file
}

#[test]
fn the_file_is_sorted_and_has_one_line_for_each_image() {
    let (app, one, two, x) = (digest("app"), digest("db 1"), digest("db 2"), digest("x"));
    let expected = format!(
        "format: stellaops-mirror-lock/v1\n\
         jobs:\n  \
           'empty': []\n  \
           'nightly':\n  \
           - rule: '[::1]:5000/x@{x}'\n    \
             pins:\n    \
             - '[::1]:5000/x@{x}'\n  \
           - rule: 'r.test/app:1.0'\n    \
             pins:\n    \
             - 'r.test/app:1.0@{app}'\n  \
           - rule: 'r.test/db {{regex: \"it''s [\\\\d\\\"]\"}}'\n    \
             pins:\n    \
             - 'r.test/db:1@{one}'\n    \
             - 'r.test/db:2@{two}'\n  \
           - rule: 'r.test/none {{}}'\n    \
             pins: []\n"
    );
    let file = sample();
    assert_eq!(file.to_yaml(), expected);
    assert_eq!(LockFile::parse(expected.as_bytes()), Ok(file));
    let empty = LockFile::new();
    assert_eq!(LockFile::parse(empty.to_yaml().as_bytes()), Ok(empty));
}

#[test]
fn a_yaml_reader_gets_the_same_values() {
    let file = sample();
    let value: serde_json::Value = serde_saphyr::from_str(&file.to_yaml()).unwrap();
    assert_eq!(value["format"], LockFile::FORMAT);
    let rules = value["jobs"]["nightly"].as_array().unwrap();
    let texts: Vec<_> = rules
        .iter()
        .map(|rule| rule["rule"].as_str().unwrap())
        .collect();
    let nightly = file.job(&"nightly".parse().unwrap()).unwrap();
    let expected: Vec<_> = nightly.rules.keys().map(String::as_str).collect();
    assert_eq!(texts, expected);
    assert_eq!(rules[2]["pins"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_not_written_is_refused_with_its_line() {
    let good = sample().to_yaml();
    let app = digest("app").to_string();
    let line = format!("    - 'r.test/app:1.0@{app}'\n");
    for (text, place, reason) in [
        (
            String::new(),
            1,
            "\"format: stellaops-mirror-lock/v1\" is missing",
        ),
        (
            good.replace("/v1", "/v2"),
            1,
            "the file is of version \"stellaops-mirror-lock/v2\"",
        ),
        (
            good.replace("format: ", "# format: "),
            1,
            "is expected, not",
        ),
        (format!("\u{feff}{good}"), 1, "is expected, not"),
        (good.replace('\n', "\r\n"), 1, "the order or the spelling"),
        (
            good.replace("jobs:", "created: 1\njobs:"),
            2,
            "\"jobs:\" is expected, not \"created: 1\"",
        ),
        (
            good.replace("'empty': []", "'Empty': []"),
            3,
            "not the name of a job",
        ),
        (
            good.replace("'empty': []", "empty: []"),
            3,
            "a job, a rule, a pin or the end of the file is expected",
        ),
        (
            good.replace("'empty'", "'nightly'"),
            4,
            "the job nightly is there twice",
        ),
        (
            good.replace("    pins: []\n", ""),
            15,
            "\"pins:\" is missing",
        ),
        (
            good.replace("    pins: []\n", "    pins: []\n    note: x\n"),
            17,
            "not \"note: x\"",
        ),
        (
            good.replace(&line, &line.replace('\'', "\"")),
            10,
            "not in single quotes",
        ),
        (
            good.replace(&line, &line.replace(&format!("@{app}"), "")),
            10,
            "has no digest",
        ),
        (
            good.replace(&line, &line.replace("sha256:", "sha256:0")),
            10,
            "is not a",
        ),
        (
            good.replace(&line, &format!("{line}{line}")),
            11,
            "is pinned twice by the rule",
        ),
        (
            good.replace(&line, &format!("<<<<<<< HEAD\n{line}")),
            10,
            "it is what a merge leaves",
        ),
        (
            good.replace(&line, &format!("# why\n{line}")),
            10,
            "not \"# why\"",
        ),
        (good.trim_end().to_owned(), 16, "the order or the spelling"),
        (format!("{good}\n"), 17, "not \"\""),
        (
            good.replace("db:1", "db:3"),
            13,
            "the order or the spelling",
        ),
    ] {
        let error = LockFile::parse(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}\n{text}");
        assert_eq!(error.line(), place, "{error}\n{text}");
    }
    let error = LockFile::parse(b"format: \xff").unwrap_err();
    assert_eq!(error.to_string(), "line 1: it is not UTF-8 text");
}

#[test]
fn an_image_with_two_digests_in_a_job_is_refused() {
    let mut job = JobLock::new();
    job.pin(&rule("r.test/a", "x"), &image("r.test/a:x"), digest("1"));
    job.pin(&rule("r.test/a", "y"), &image("r.test/a:x"), digest("2"));
    let mut file = LockFile::new();
    file.set("job".parse().unwrap(), job);
    let error = LockFile::parse(file.to_yaml().as_bytes()).unwrap_err();
    assert_eq!(error.line(), 9);
    assert!(error.reason().contains("another digest by another rule"));
}

#[test]
fn rules_that_only_one_side_has_are_named() {
    let job = sample().job(&"nightly".parse().unwrap()).unwrap().clone();
    let rules = [rule("r.test/db", "it's [\\d\"]"), rule("r.test/db", "new")];
    let names = |difference: &LockDifference| match difference {
        LockDifference::NotLocked(rule) => format!("+{rule}"),
        LockDifference::NotConfigured(rule) => format!("-{rule}"),
    };
    let differences: Vec<_> = job.differences(&rules).iter().map(names).collect();
    let x = digest("x");
    assert_eq!(
        differences,
        [
            "+r.test/db {regex: \"new\"}".to_owned(),
            format!("-[::1]:5000/x@{x}"),
            "-r.test/app:1.0".to_owned(),
            "-r.test/none {}".to_owned(),
        ]
    );
    let pins = job.pins(&rules[0]).unwrap();
    assert_eq!(
        pins[0].to_string(),
        format!("r.test/db:1@{}", digest("db 1"))
    );
    assert_eq!(job.pins(&rules[1]), None);
    assert_eq!(job.digest(&image("r.test/db:2")), Some(&digest("db 2")));
}

/// A rule of a job: its repository, its pattern, and the tags that it selects.
type Pins = (String, String, Vec<String>);

fn rules() -> impl Strategy<Value = Vec<Pins>> {
    let pins = prop::collection::vec("[a-z0-9][a-z.-]{0,5}", 0..4);
    prop::collection::vec(("[a-z]{1,3}", "[ -~äß]{0,6}", pins), 0..5)
}

fn locked(jobs: &[(String, Vec<Pins>)], backwards: bool) -> LockFile {
    let mut file = LockFile::new();
    for (name, rules) in jobs {
        let mut job = JobLock::new();
        let mut rules = rules.clone();
        if backwards {
            rules.reverse();
        }
        for (repository, pattern, pins) in rules {
            let repository = format!("r.test/{repository}");
            let tags = TagRule {
                regex: pattern.parse().ok(),
                ..TagRule::default()
            };
            let rule = ImageRule::Repository(repository.parse().unwrap(), tags);
            job.add_rule(&rule);
            for tag in pins {
                // An image has one digest, whichever rule selects it.
                let image = image(&format!("{repository}:{tag}"));
                job.pin(&rule, &image, digest(&image.to_string()));
            }
        }
        file.set(name.parse().unwrap(), job);
    }
    file
}

proptest! {
    #[test]
    fn a_file_is_read_as_it_was_written_whatever_the_order_of_the_configuration(
        jobs in prop::collection::btree_map("[a-z][a-z0-9._-]{0,8}", rules(), 0..4)
    ) {
        let mut jobs: Vec<_> = jobs.into_iter().collect();
        let file = locked(&jobs, false);
        let text = file.to_yaml();
        prop_assert_eq!(LockFile::parse(text.as_bytes()), Ok(file));
        jobs.reverse();
        prop_assert_eq!(locked(&jobs, true).to_yaml(), text);
    }

    #[test]
    fn no_other_text_is_accepted(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let good = sample().to_yaml().into_bytes();
        let mut text = good.clone();
        let at = place.index(text.len());
        text[at] = byte;
        if let Ok(file) = LockFile::parse(&text) {
            prop_assert_eq!(file.to_yaml().into_bytes(), text);
        }
        let cut = &good[..at];
        prop_assert!(LockFile::parse(cut).is_err() || cut.ends_with(b"\n"));
    }
}
