//! The tests that `docs/faults.md` names.

use std::collections::BTreeSet;
use std::path::Path;

/// Collects the names of the functions below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let starts = text
                .lines()
                .filter_map(|line| line.trim().split_once("fn "));
            let names = starts.filter_map(|(_, rest)| rest.split_once('('));
            found.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn every_fault_has_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let document = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let mut found = BTreeSet::new();
    functions(&root.join("crates"), &mut found);
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<_> = rows.filter(|row| !row.starts_with("| fault |")).collect();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names {
            let is_there = found.contains(name) || root.join(name).is_file();
            assert!(
                is_there,
                "{name} is named in docs/faults.md and is not there"
            );
        }
    }
}
