//! Runs every program, and checks that it is short.

#[path = "../examples/client_on_personas.rs"]
mod client_on_personas;
#[path = "../examples/export_to_own_sink.rs"]
mod export_to_own_sink;
#[path = "../examples/import_into_own_target.rs"]
mod import_into_own_target;
#[path = "../examples/mirror_copy.rs"]
mod mirror_copy;
#[path = "../examples/own_source.rs"]
mod own_source;
#[path = "../examples/service_with_deadline.rs"]
mod service_with_deadline;
#[path = "../examples/validate_http_body.rs"]
mod validate_http_body;

type Program = fn() -> Result<(), Box<dyn std::error::Error>>;

const PROGRAMS: [(&str, Program); 7] = [
    ("client_on_personas.rs", client_on_personas::main),
    ("export_to_own_sink.rs", export_to_own_sink::main),
    ("import_into_own_target.rs", import_into_own_target::main),
    ("mirror_copy.rs", mirror_copy::main),
    ("own_source.rs", own_source::main),
    ("service_with_deadline.rs", service_with_deadline::main),
    ("validate_http_body.rs", validate_http_body::main),
];

#[test]
fn every_program_runs_without_arguments() {
    for (name, main) in PROGRAMS {
        if let Err(error) = main() {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn every_program_is_run_and_has_at_most_60_lines() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 60, "{} has {lines} lines", path.display());
        found.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    found.sort();
    assert_eq!(found, PROGRAMS.map(|(name, _)| name));
}
