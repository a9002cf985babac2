//! The files in `deploy/`, as far as they can be checked without the systems that they are for.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::Site;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

/// Runs a tool in a folder of `deploy/`, and returns what it printed; `None` if the machine does not have it.
fn tool(folder: &str, line: &[&str]) -> Option<String> {
    let (program, arguments) = line.split_first().unwrap();
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(deploy(folder)).output();
    let output = output.ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{line:?}: {text}");
    Some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_configuration_names_nothing_but_folders_that_are_not_there_yet() {
    let site = Site::new();
    let line = format!(
        "config check --format json --config {}",
        deploy("export-center.yaml").display()
    );
    let document = site.stellaops(&line).await.json();
    for finding in document["findings"].as_array().unwrap() {
        let message = finding["message"].as_str().unwrap();
        assert_eq!(message, "there is no folder /srv/mirror", "{finding}");
    }
}

#[test]
fn the_unit_is_hardened() {
    let line = [
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold=30",
        "./export-center.service",
    ];
    // The threshold is the exposure times ten: the command fails above it.
    if let Some(text) = tool("systemd", &line) {
        assert!(text.contains("Overall exposure level"), "{text}");
    }
}

#[test]
fn the_alert_rules_are_right_and_fire_when_they_should() {
    tool("prometheus", &["promtool", "check", "rules", "alerts.yaml"]);
    tool(
        "prometheus",
        &["promtool", "test", "rules", "alerts.test.yaml"],
    );
}

#[test]
fn every_alert_has_a_section_in_the_documentation() {
    let operating = std::fs::read_to_string(deploy("../docs/operating.md")).unwrap();
    let rules = read("prometheus/alerts.yaml");
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for alert in alerts {
        assert!(operating.contains(&format!("\n### {alert}\n")), "{alert}");
        let runbook = format!("runbook: docs/operating.md#{}", alert.to_lowercase());
        assert!(rules.contains(&runbook), "{runbook}");
    }
}

#[test]
fn units_and_documentation_speak_of_the_same_paths() {
    let unit = read("systemd/export-center.service");
    let operating = std::fs::read_to_string(deploy("../docs/operating.md")).unwrap();
    for path in [
        "/etc/stellaops/export-center.yaml",
        "/etc/stellaops/auth.json",
    ] {
        assert!(unit.contains(path) && operating.contains(path), "{path}");
    }
    let log = "/var/log/stellaops/export-center.log";
    for text in [&read("systemd/logrotate.conf"), &operating] {
        assert!(text.contains(log), "{log}");
    }
}
