use std::fs;
use std::path::Path;

use jiff::Timestamp;
use mirror_plan::JobName;

use super::*;
use crate::center::model::{RunKind, RunStatus, Trigger};
use crate::center::view::{RunEventKind, RunQuery};
use crate::receipts::ReceiptStore;

fn open(folder: &Path) -> Result<State, Failure> {
    State::open(folder, &FileSystemGaps::default())
}

fn job(name: &str) -> JobName {
    name.parse().unwrap()
}

fn new(name: &str, at: &str) -> NewRun {
    NewRun {
        job: job(name),
        kind: RunKind::Mirror,
        trigger: Trigger::Schedule,
        at: at.parse().unwrap(),
    }
}

const NOW: &str = "2026-11-30T02:00:00Z";

fn added(state: &State, name: &str, at: &str) -> crate::center::model::Run {
    match state.add_run(&new(name, at), None).unwrap() {
        Asked::New(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_is_there_after_the_service_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let mut run = added(&state, "nightly", NOW);
    assert_eq!(run.id.as_str(), "20261130-000001");
    run.status = RunStatus::Running;
    run.sequence = Some(7);
    let started = NewEvent {
        kind: RunEventKind::Started,
        at: NOW.parse().unwrap(),
        output: None,
    };
    assert_eq!(state.save_run(&run, &[started]).unwrap(), 1);
    drop(state);
    let state = open(folder.path()).unwrap();
    assert_eq!(state.unfinished().unwrap(), std::slice::from_ref(&run));
    let events = state.events(&run.id, 0).unwrap();
    assert_eq!((events.len(), events[0].number), (1, 1));
    assert!(state.events(&run.id, 1).unwrap().is_empty());
}

#[test]
fn a_job_has_one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let mut first = added(&state, "nightly", NOW);
    let busy = state.add_run(&new("nightly", NOW), None).unwrap();
    assert!(matches!(busy, Asked::Busy(id) if id == first.id));
    added(&state, "weekly", NOW);
    first.status = RunStatus::Succeeded;
    state.save_run(&first, &[]).unwrap();
    let again = added(&state, "nightly", NOW);
    assert_eq!(again.id.as_str(), "20261130-000003");
}

#[test]
fn a_key_gives_the_first_run_again_for_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let ask = |name: &str, at: &str, caller: &str| {
        state
            .add_run(&new(name, at), Some((caller, "key")))
            .unwrap()
    };
    let Asked::New(mut first) = ask("nightly", NOW, "a") else {
        panic!("it is the first");
    };
    assert!(matches!(ask("nightly", NOW, "a"), Asked::Again(run) if run.id == first.id));
    assert!(matches!(ask("weekly", NOW, "a"), Asked::KeyReused));
    assert!(matches!(ask("nightly", NOW, "b"), Asked::Busy(_)));
    first.status = RunStatus::Failed;
    state.save_run(&first, &[]).unwrap();
    let late = "2026-12-01T01:59:59Z";
    assert!(
        matches!(ask("nightly", late, "a"), Asked::Again(run) if run.status == RunStatus::Failed)
    );
    assert!(matches!(
        ask("nightly", "2026-12-01T02:00:00Z", "a"),
        Asked::New(_)
    ));
}

#[test]
fn later_runs_sort_after_earlier_ones_even_if_the_clock_was_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let first = added(&state, "a", NOW);
    let second = added(&state, "b", "2026-11-28T00:00:00Z");
    assert!(second.id > first.id, "{} {}", second.id, first.id);
    let mut query = RunQuery {
        limit: 10,
        ..RunQuery::default()
    };
    let ids = |query: &RunQuery| -> Vec<String> {
        let runs = state.runs(query).unwrap();
        runs.iter().map(|run| run.id.to_string()).collect()
    };
    assert_eq!(ids(&query), ["20261130-000002", "20261130-000001"]);
    query.before = Some(second.id);
    assert_eq!(ids(&query), ["20261130-000001"]);
    query = RunQuery {
        job: Some(job("b")),
        status: Some(RunStatus::Queued),
        before: None,
        limit: 10,
    };
    assert_eq!(ids(&query), ["20261130-000002"]);
    query.status = Some(RunStatus::Failed);
    assert!(ids(&query).is_empty());
}

#[test]
fn an_audit_does_not_hide_how_the_last_run_of_its_job_ended() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let ended = |kind, status| {
        let new = NewRun {
            kind,
            ..new("nightly", NOW)
        };
        let Asked::New(mut run) = state.add_run(&new, None).unwrap() else {
            panic!("nothing is under way");
        };
        run.status = status;
        state.save_run(&run, &[]).unwrap();
        run.id
    };
    let failed = ended(RunKind::Bundle, RunStatus::Failed);
    let audit = ended(RunKind::Audit, RunStatus::Succeeded);
    added(&state, "nightly", NOW);
    let last = |is_audit| state.last_ended(&job("nightly"), is_audit).unwrap();
    assert_eq!(last(false).unwrap().id, failed);
    assert_eq!(last(true).unwrap().id, audit);
    assert!(state.last_ended(&job("weekly"), false).unwrap().is_none());
}

#[test]
fn a_second_service_on_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).unwrap();
    let failure = open(folder.path()).unwrap_err();
    assert!(failure.is(Exit::Usage));
    let named = folder.path().display().to_string();
    assert!(failure.to_string().contains(&named), "{failure}");
    drop(first);
    open(folder.path()).unwrap();
}

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    for (damage, said) in [
        (&b""[..], "it is empty"),
        (
            &b"this is not a database, although it is long enough"[..],
            "not a database",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()).unwrap());
        let database = folder.path().join(DATABASE);
        fs::write(&database, damage).unwrap();
        let failure = open(folder.path()).unwrap_err();
        assert!(failure.is(Exit::LocalIo), "{failure}");
        let message = failure.to_string();
        assert!(
            message.contains("center.db is damaged") && message.contains(said),
            "{message}"
        );
        assert_eq!(fs::read(&database).unwrap(), damage);
    }
}

#[test]
fn pages_that_were_overwritten_are_found_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    for number in 0..200 {
        ReceiptStore::write(&state, "nightly", &format!("{number}{}", "x".repeat(500))).unwrap();
    }
    drop(state);
    let database = folder.path().join(DATABASE);
    let mut bytes = fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0x55);
    fs::write(&database, &bytes).unwrap();
    let failure = open(folder.path()).unwrap_err();
    assert!(failure.is(Exit::LocalIo), "{failure}");
    assert!(failure.to_string().contains("is damaged"), "{failure}");
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let database = folder.path().join(DATABASE);
    let connection = Connection::open(&database).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let failure = open(folder.path()).unwrap_err();
    assert!(failure.to_string().contains("version 99"), "{failure}");
}

#[test]
fn a_backup_of_a_state_in_use_opens_as_that_state() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let run = added(&state, "nightly", NOW);
    let copy = other.path().join(DATABASE);
    State::backup(folder.path(), &copy).unwrap();
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
    let again = State::backup(folder.path(), &copy).unwrap_err();
    assert!(again.is(Exit::LocalIo), "{again}");
    added(&state, "later", NOW);
    let restored = open(other.path()).unwrap();
    assert_eq!(restored.unfinished().unwrap(), [run]);
}

#[test]
fn receipts_are_numbered_and_never_changed() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    for text in ["first", "second"] {
        ReceiptStore::write(&state, "nightly", text).unwrap();
    }
    ReceiptStore::write(&state, "other", "third").unwrap();
    assert_eq!(state.jobs().unwrap(), ["nightly", "other"]);
    let names = state.newest_first("nightly").unwrap();
    assert_eq!(names, ["2", "1"]);
    assert_eq!(
        ReceiptStore::read(&state, "nightly", "1").unwrap(),
        b"first"
    );
    assert!(ReceiptStore::read(&state, "other", "1").is_err());
}

#[test]
fn a_time_of_a_schedule_is_used_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = open(folder.path()).unwrap();
    let local = "2026-11-30T03:00".parse().unwrap();
    let at: Timestamp = NOW.parse().unwrap();
    let mark = Mark {
        rule: "0 3 * * *".into(),
        at,
    };
    let firing = Firing {
        run: new("nightly", NOW),
        purpose: "run",
        local,
        mark: mark.clone(),
        expired: None,
    };
    assert_eq!(state.mark("nightly", "run").unwrap(), None);
    assert!(matches!(
        state.fire(&firing, |_| Vec::new()).unwrap(),
        Fired::Run(_)
    ));
    assert!(matches!(
        state.fire(&firing, |_| Vec::new()).unwrap(),
        Fired::Busy(_)
    ));
    assert!(state.has_fired("nightly", "run", local).unwrap());
    assert!(!state.has_fired("nightly", "audit", local).unwrap());
    assert_eq!(state.mark("nightly", "run").unwrap(), Some(mark));
}
