//! Finds out which commit is built.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=STELLAOPS_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // A build without the repository, as from a source package, can set the commit.
    let commit = std::env::var("STELLAOPS_COMMIT")
        .ok()
        .or_else(of_repository);
    let is_one =
        |commit: &String| commit.len() >= 7 && commit.chars().all(|c| c.is_ascii_hexdigit());
    let commit = commit.filter(is_one).unwrap_or_default();
    println!("cargo::rustc-env=STELLAOPS_COMMIT={commit}");
    let version = env!("CARGO_PKG_VERSION");
    if commit.is_empty() {
        println!("cargo::rustc-env=STELLAOPS_VERSION={version}")
    } else {
        println!("cargo::rustc-env=STELLAOPS_VERSION={version} ({commit})")
    }
}

/// Returns the commit of the repository that tracks this file; a copy may lie in another repository.
fn of_repository() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
