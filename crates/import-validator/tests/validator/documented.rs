//! The findings as `docs/bundle-format.md` lists them.

use std::path::Path;

use bundle_format::Limits;
use import_validator::{FindingKind, ValidationLimits};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bundle-format.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_document_lists_every_kind_with_its_stage_and_exit_code() {
    let document = document();
    let rows = document
        .lines()
        .skip_while(|line| !line.starts_with("| kind |"))
        .skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let rows: Vec<_> = rows
        .map(|row| {
            row.split('|')
                .skip(1)
                .take(3)
                .map(str::trim)
                .collect::<Vec<_>>()
        })
        .collect();
    let expected: Vec<_> = FindingKind::ALL
        .iter()
        .map(|kind| {
            let stage = serde_json::to_value(kind.stage()).unwrap();
            let name = format!("`{kind}`");
            [
                name,
                stage.as_str().unwrap().to_owned(),
                kind.exit_code().to_string(),
            ]
            .to_vec()
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_document_gives_the_default_limits() {
    let document = document();
    let bundle = Limits::default();
    let limits = ValidationLimits::default();
    let binary = |bytes: u64| match bytes.trailing_zeros() {
        40.. => format!("{} TiB", bytes >> 40),
        20.. => format!("{} MiB", bytes >> 20),
        _ => format!("{} KiB", bytes >> 10),
    };
    for (what, limit) in [
        ("`manifest.yaml`", binary(bundle.max_manifest_bytes)),
        ("the signature", binary(bundle.max_signature_bytes)),
        ("number of files", "1,000,000".to_owned()),
        ("one file", binary(bundle.max_entry_bytes)),
        ("all files", binary(bundle.max_total_bytes)),
        ("`index.json`", binary(limits.max_index_bytes)),
        ("a manifest", binary(oci_content::MAX_MANIFEST_BYTES)),
        ("all manifests together", binary(limits.max_graph_bytes)),
        (
            "referrers of one subject in one repository",
            "10,000".to_owned(),
        ),
        (
            "files that `manifest.yaml` does not list",
            "10,000".to_owned(),
        ),
        ("indexes within indexes", limits.max_index_depth.to_string()),
    ] {
        let row = format!("| {what} | {limit} |");
        assert!(document.contains(&row), "{row}");
    }
    assert_eq!(
        (
            bundle.max_entries,
            limits.max_referrers_per_subject,
            limits.max_unlisted_entries
        ),
        (1_000_000, 10_000, 10_000)
    );
}
