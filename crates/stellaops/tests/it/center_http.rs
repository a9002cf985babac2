//! `export-center` refuses to answer strangers.

use std::process::{Command, Output};

use crate::run::Site;

fn center(site: &Site, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_export-center"))
        .args(arguments.split_whitespace())
        .current_dir(site.path("."))
        .output()
        .unwrap()
}

fn config(site: &Site, center: &str) {
    let text = format!("center: {{state: state, log_file: center.log, {center}}}\n");
    std::fs::write(site.path("c.yaml"), text).unwrap();
}

#[track_caller]
fn refused(site: &Site, arguments: &str, code: i32, words: &[&str]) {
    let output = center(site, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn beyond_loopback_it_starts_with_tls_and_tokens_only() {
    let site = Site::new();
    config(&site, "listen: \"0.0.0.0:0\", tokens: tokens");
    refused(
        &site,
        "--config c.yaml",
        2,
        &["0.0.0.0:0", "center.tls", "127.0.0.1"],
    );
}

#[test]
fn a_token_is_printed_once_and_its_file_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    config(&site, "listen: \"127.0.0.1:0\", tokens: tokens");
    let add = "--config c.yaml token add ci --scope export:read,export:run";
    let added = center(&site, add);
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    let token = String::from_utf8(added.stdout).unwrap();
    assert_eq!(token.trim_end().len(), 43, "{token}");
    let file = std::fs::read_to_string(site.path("tokens")).unwrap();
    assert!(file.starts_with("ci export:read,export:run ") && !file.contains(token.trim_end()));
    refused(&site, add, 2, &["there is a token ci already"]);
    refused(
        &site,
        "--config c.yaml token add x --scope export:all",
        2,
        &["export:all"],
    );
    let open = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(site.path("tokens"), open).unwrap();
    refused(&site, "--config c.yaml", 2, &["tokens", "chmod go-w"]);
}
