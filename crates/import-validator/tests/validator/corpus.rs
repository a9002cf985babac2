//! The hostile corpus: one table of everything that a bundle can be made to do, and what is said of it.
//!
//! `docs/corpus.md` lists the rows; `cargo test -p import-validator --test validator corpus -- --nocapture` prints them with
//! what was found.

mod blocks;
mod claims;
mod container;
mod content;
mod paths;
mod signatures;
mod spelling;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

use import_validator::{FindingKind, ImportValidator, Report};

/// One input, and what has to come of it.
struct Row {
    name: &'static str,
    input: Input,
    validator: ImportValidator,
    /// What decides: the first error, or the first warning of a bundle that is accepted.
    kind: Option<FindingKind>,
    exit_code: u8,
}

enum Input {
    Bytes(Vec<u8>),
    /// What is too large to be kept; it has to be refused within so many bytes.
    Stream(fn() -> Box<dyn Read>, u64),
}

/// Rows by the number of what they try.
#[derive(Default)]
struct Corpus(Vec<(u32, Row)>);

impl Corpus {
    fn add(
        &mut self,
        number: u32,
        name: &'static str,
        bytes: Vec<u8>,
        kind: FindingKind,
        exit_code: u8,
    ) -> &mut Row {
        self.row(number, name, Input::Bytes(bytes), Some(kind), exit_code)
    }

    fn accepted(&mut self, number: u32, name: &'static str, bytes: Vec<u8>) -> &mut Row {
        self.row(number, name, Input::Bytes(bytes), None, 0)
    }

    fn row(
        &mut self,
        number: u32,
        name: &'static str,
        input: Input,
        kind: Option<FindingKind>,
        exit_code: u8,
    ) -> &mut Row {
        let validator = ImportValidator::new().check_referrers(true);
        let row = Row {
            name,
            input,
            validator,
            kind,
            exit_code,
        };
        self.0.push((number, row));
        &mut self.0.last_mut().unwrap().1
    }
}

#[test]
fn corpus() {
    let mut corpus = Corpus::default();
    container::rows(&mut corpus);
    blocks::rows(&mut corpus);
    paths::rows(&mut corpus);
    content::rows(&mut corpus);
    signatures::rows(&mut corpus);
    spelling::rows(&mut corpus);
    claims::rows(&mut corpus);
    corpus.0.sort_by_key(|(number, _)| *number);

    let mut lines = Vec::new();
    let mut failed = Vec::new();
    let mut by_exit = BTreeMap::<u8, usize>::new();
    let mut confirmed = 0;
    for (number, row) in &corpus.0 {
        let report = run(row);
        let decisive = report.first_error().or(report.findings.first());
        let kind = decisive.map(|finding| finding.kind);
        let found = kind.map_or("none".to_owned(), |kind| format!("`{kind}`"));
        let line = format!(
            "| {number} | {} | {found} | {} |",
            row.name,
            report.exit_code()
        );
        println!("{line}");
        if (kind, report.exit_code()) != (row.kind, row.exit_code) {
            failed.push(format!(
                "{line} instead of {:?}: {:#?}",
                row.kind, report.findings
            ));
        }
        if report.ok && confirmed_by_tar(row) {
            confirmed += 1;
        }
        *by_exit.entry(report.exit_code()).or_default() += 1;
        lines.push(line);
    }
    println!(
        "\n{} rows; by exit code: {by_exit:?}; confirmed by tar and sha256sum: {confirmed}",
        lines.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let names: std::collections::BTreeSet<_> = corpus.0.iter().map(|(_, row)| row.name).collect();
    assert_eq!(names.len(), corpus.0.len(), "two rows have one name");
    documented(&lines);
}

/// Validates; asserts that nothing is written, that what the report says can be printed, and that an input without an
/// end is not read to its end.
fn run(row: &Row) -> Report {
    let report = match &row.input {
        Input::Bytes(bytes) => from_folder(row, bytes),
        Input::Stream(open, max_bytes) => {
            let mut input = Counted {
                inner: open(),
                bytes: 0,
            };
            let report = row.validator.validate("stream", &mut input);
            assert!(
                input.bytes <= *max_bytes,
                "{}: {} bytes were read",
                row.name,
                input.bytes
            );
            report
        }
    };
    for threads in [1, 2, 8] {
        let other = on_threads(row, threads);
        assert_eq!(other.findings, report.findings, "{}, {threads}", row.name);
        assert_eq!(other.counts, report.counts, "{}, {threads}", row.name);
        assert_eq!(other.ok, report.ok, "{}, {threads}", row.name);
    }
    let json = serde_json::to_string(&report).unwrap();
    let text: String = report
        .findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect();
    for c in json.chars().chain(text.replace('\n', "").chars()) {
        assert!(
            !c.is_control() && c != '\u{202e}',
            "{}: {c:?} in {json}",
            row.name
        );
    }
    report
}

fn on_threads(row: &Row, threads: usize) -> Report {
    let threads = NonZeroUsize::new(threads).unwrap();
    let validator = row.validator.clone().threads(threads);
    match &row.input {
        Input::Bytes(bytes) => validator.validate("stream", &**bytes),
        Input::Stream(open, _) => validator.validate("stream", open()),
    }
}

fn from_folder(row: &Row, bytes: &[u8]) -> Report {
    let place = tempfile::tempdir().unwrap();
    // What a path out of the bundle could hit: beside it, above it, and a link that a second step could go through.
    let inside = place.path().join("a/b");
    fs::create_dir_all(&inside).unwrap();
    for path in ["canary", "a/canary", "a/b/canary"] {
        fs::write(place.path().join(path), "canary").unwrap();
    }
    let bundle = inside.join("bundle.tgz");
    fs::write(&bundle, bytes).unwrap();
    let before = tree(place.path());
    let validation = row.validator.validate_path(&bundle);
    assert_eq!(
        tree(place.path()),
        before,
        "{}: something was written",
        row.name
    );
    assert_eq!(
        validation.bundle.is_some(),
        validation.report.ok,
        "{}",
        row.name
    );
    // Wherever the bytes come from, the same is found.
    let stream = row.validator.validate("stream", bytes);
    assert_eq!(stream.findings, validation.report.findings, "{}", row.name);
    validation.report
}

/// Every path below a folder with its content.
fn tree(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path))
        } else {
            drop(found.insert(path.clone(), fs::read(&path).unwrap()))
        }
    }
    found
}

struct Counted {
    inner: Box<dyn Read>,
    bytes: u64,
}

impl Read for &mut Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Extracts an accepted bundle with tar and lets sha256sum compare every file with `manifest.yaml`: a reader that shares
/// nothing with this one has to agree, also that there is nothing else. Returns whether the tools are there.
fn confirmed_by_tar(row: &Row) -> bool {
    const SCRIPT: &str = r#"
        mkdir x && tar -xf bundle.tgz -C x && cd x
        awk '/^- path: /{p=$3} /^  sha256: /{print $2 "  " p} /^  - digest: sha256:/{d=substr($3,8)} /^    path: /{print d "  " $2}' \
            manifest.yaml > ../sums
        sha256sum --quiet -c ../sums
        sed 's/^.*  //' ../sums | sort > ../listed
        find . -type f ! -name 'manifest.yaml*' | sed 's|^\./||' | sort > ../there
        cmp ../listed ../there
        test -z "$(find . ! -type f ! -type d)"
    "#;
    let Input::Bytes(bytes) = &row.input else {
        return false;
    };
    let has = |tool: &str| {
        let ran = Command::new(tool).arg("--version").output();
        ran.is_ok_and(|output| output.status.success())
    };
    if !(has("tar") && has("sha256sum")) {
        return false;
    }
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("bundle.tgz"), bytes).unwrap();
    let shell = Command::new("sh")
        .args(["-e", "-c", SCRIPT])
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(shell.status.success(), "{}: {shell:?}", row.name);
    true
}

/// The document lists exactly these rows.
fn documented(lines: &[String]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/corpus.md");
    let document = fs::read_to_string(path).unwrap();
    let rows = document
        .lines()
        .skip_while(|line| !line.starts_with("| # |"));
    let rows: Vec<_> = rows
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    for (row, line) in rows.iter().zip(lines) {
        assert_eq!(row, line, "docs/corpus.md");
    }
    assert_eq!(rows.len(), lines.len(), "rows of docs/corpus.md");
}
