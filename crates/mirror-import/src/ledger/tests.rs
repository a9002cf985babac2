use super::*;

fn record(sequence: u64, content: &str) -> Record {
    Record {
        schema_version: SCHEMA_VERSION,
        key: Digest::of(b"key"),
        stream: "prod".to_owned(),
        target: "registry.example/mirror".to_owned(),
        sequence,
        manifest: Digest::of(content.as_bytes()),
    }
}

fn admitted(
    folder: &Path,
    new: Record,
    allow_rollback: bool,
) -> Result<LedgerVerdict, ImportError> {
    let ledger = Ledger::new(folder);
    let claim = Claim {
        ledger: &ledger,
        new,
        base: None,
    };
    let admitted = claim.admit(allow_rollback, false)?;
    let verdict = admitted.report().verdict;
    admitted.record()?;
    Ok(verdict)
}

#[test]
fn a_series_goes_forward_only() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("state/ledger");
    for (sequence, content, verdict) in [
        (4, "four", LedgerVerdict::First),
        (4, "four", LedgerVerdict::Same),
        (6, "six", LedgerVerdict::Newer),
    ] {
        assert_eq!(
            admitted(&ledger, record(sequence, content), false).unwrap(),
            verdict
        );
    }
    for (sequence, content, verdict) in [
        (5, "five", LedgerVerdict::Rollback),
        (6, "another six", LedgerVerdict::Fork),
    ] {
        let error = admitted(&ledger, record(sequence, content), false).unwrap_err();
        assert_eq!(error.kind(), ImportErrorKind::Authenticity);
        assert_eq!(error.remedy(), Some(&ImportRemedy::AllowRollback));
        let text = error.to_string();
        let known = Digest::of(b"six").to_string();
        let new = Digest::of(content.as_bytes()).to_string();
        for part in ["stream prod", &known, &new, "nothing was sent", ".json"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(
            admitted(&ledger, record(sequence, content), true).unwrap(),
            verdict
        );
    }
    // The permission to go back was for those imports only.
    assert_eq!(
        admitted(&ledger, record(6, "six"), false).unwrap(),
        LedgerVerdict::Same
    );
}

#[test]
fn another_key_stream_or_target_is_another_series() {
    let folder = tempfile::tempdir().unwrap();
    admitted(folder.path(), record(9, "nine"), false).unwrap();
    let others: [fn(&mut Record); 3] = [
        |record| record.key = Digest::of(b"another key"),
        |record| record.stream = "test".to_owned(),
        |record| record.target = "registry.example".to_owned(),
    ];
    for change in others {
        let mut other = record(1, "one");
        change(&mut other);
        assert_eq!(
            admitted(folder.path(), other, false).unwrap(),
            LedgerVerdict::First
        );
    }
}

#[test]
fn a_record_that_is_not_whole_is_never_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    admitted(folder.path(), record(3, "three"), false).unwrap();
    let ledger = Ledger::new(folder.path());
    let path = Claim {
        ledger: &ledger,
        new: record(3, "three"),
        base: None,
    }
    .path();
    let good = fs::read_to_string(&path).unwrap();
    for (damaged, reason) in [
        (String::new(), "damaged"),
        (good[..good.len() / 2].to_owned(), "damaged"),
        (
            good.replace("\"sequence\": 3", "\"sequence\": -3"),
            "damaged",
        ),
        (
            good.replace("\"sequence\": 3", "\"sequence\": 0"),
            "no sequence",
        ),
        (
            good.replace("\"sequence\": 3", "\"sequence\": 3, \"more\": 1"),
            "unknown field",
        ),
        (good.replace("\"sequence\": 3,", ""), "missing field"),
        (
            good.replace("\"schemaVersion\": 1", "\"schemaVersion\": 2"),
            "version 2",
        ),
        (good.replace("sha256:", "sha256-"), "damaged"),
        (
            good.replace("\"prod\"", "\"test\""),
            "another key, stream or target",
        ),
        (
            good.replace("mirror", "other"),
            "another key, stream or target",
        ),
        (format!("{good}{}", " ".repeat(70_000)), "larger than 65536"),
    ] {
        assert_ne!(damaged, good, "{reason}");
        fs::write(&path, &damaged).unwrap();
        // Permission to go back is not permission to ignore the ledger.
        for allow_rollback in [false, true] {
            let error = admitted(folder.path(), record(4, "four"), allow_rollback).unwrap_err();
            assert_eq!(error.kind(), ImportErrorKind::LocalIo);
            let text = error.to_string();
            assert!(
                text.contains(reason) && text.contains("nothing was sent"),
                "{text}"
            );
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
}

#[test]
fn of_two_imports_at_once_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path());
    let claim = |sequence| Claim {
        ledger: &ledger,
        new: record(sequence, "content"),
        base: None,
    };
    let first = claim(1).admit(false, false).unwrap();
    let error = claim(2).admit(false, false).unwrap_err();
    assert!(error.to_string().contains("under way"), "{error}");
    // A dry run changes nothing, so it takes no lock.
    claim(2).admit(false, true).unwrap();
    drop(first);
    claim(2).admit(false, false).unwrap();
}

#[test]
fn a_dry_run_judges_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("ledger");
    let ledger = Ledger::new(&inside);
    let claim = |sequence| Claim {
        ledger: &ledger,
        new: record(sequence, "content"),
        base: None,
    };
    let verdict = |sequence| {
        claim(sequence)
            .admit(false, true)
            .map(|a| a.report().verdict)
    };
    assert_eq!(verdict(1).unwrap(), LedgerVerdict::First);
    assert!(!inside.exists());
    claim(7).admit(false, false).unwrap().record().unwrap();
    assert!(verdict(1).is_err());
    assert_eq!(verdict(8).unwrap(), LedgerVerdict::Newer);
    assert_eq!(verdict(8).unwrap(), LedgerVerdict::Newer);
}

#[test]
fn a_folder_that_cannot_be_written_is_found_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    fs::write(&file, "a file").unwrap();
    for ledger in [file.clone(), file.join("ledger")] {
        let error = admitted(&ledger, record(1, "one"), false).unwrap_err();
        assert_eq!(error.kind(), ImportErrorKind::LocalIo);
        assert!(error.to_string().contains("nothing was sent"), "{error}");
    }
}

#[test]
fn a_delta_is_told_whether_its_base_was_the_last_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path());
    let base_recorded = |sequence, base: &str| {
        let claim = Claim {
            ledger: &ledger,
            new: record(sequence, &sequence.to_string()),
            base: Some(Digest::of(base.as_bytes())),
        };
        let admitted = claim.admit(true, false).unwrap();
        let said = admitted.report().base_recorded;
        admitted.record().unwrap();
        said
    };
    assert_eq!(base_recorded(2, "1"), Some(false));
    assert_eq!(base_recorded(3, "2"), Some(true));
    assert_eq!(base_recorded(5, "4"), Some(false));
    // Nothing is said of a bundle that does not go forward.
    assert_eq!(base_recorded(5, "4"), None);
    assert_eq!(base_recorded(4, "3"), None);
}
