//! Disks that refuse, streams that are closed, and signals.

use std::time::Duration;

use oci_content::Digest;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Site, registry_with_image};

fn sha256(site: &Site, name: &str) -> Digest {
    Digest::of(&std::fs::read(site.path(name)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_ends_the_export_and_the_next_one_finishes() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let export = format!("bundle export {}/app:1.0 --output", registry.host());
    let site = Site::new();
    site.stellaops(&format!("{export} clean.tgz")).await.done();
    // As on a file system with a limit for files, or where a quota is used up: EFBIG instead of a signal.
    let limited = format!("trap '' XFSZ; ulimit -f 4; exec stellaops {export} b.tgz");
    site.shell(&limited)
        .await
        .failed(8, &["b.tgz: ", "File too large"]);
    assert!(!site.path("b.tgz").exists() && !site.path("b.tgz.sha256").exists());
    site.stellaops(&format!("{export} b.tgz")).await.done();
    assert_eq!(sha256(&site, "b.tgz"), sha256(&site, "clean.tgz"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_told_before_any_request() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    // Nobody may make files there, root neither.
    let export = format!(
        "bundle export {}/app:1.0 --output /proc/b.tgz",
        registry.host()
    );
    site.stellaops(&export)
        .await
        .failed(8, &["/proc: cannot create a file in this folder"]);
    assert!(registry.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_nobody_takes_change_nothing() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("stellaops bundle export {}/app:1.0", registry.host());
    for (name, stderr) in [
        ("clean", "2>&1"),
        ("closed", "2>&-"),
        ("full", "2>/dev/full"),
    ] {
        let line = format!("{export} --output {name}.tgz {stderr}");
        site.shell(&line).await.done();
        assert_eq!(
            sha256(&site, &format!("{name}.tgz")),
            sha256(&site, "clean.tgz")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_export_with_its_number_and_the_next_one_finishes() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    registry.image_with_layers("app", "1.0", [vec![1; 70_000], vec![2; 90_000]]);
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output", registry.host());
    site.stellaops(&format!("{export} clean.tgz")).await.done();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        registry.clear_requests();
        registry.fault(Route::blobs(), Fault::stall_after(60_000).forever());
        let mut command = tokio::process::Command::from(site.command());
        command.args(format!("{export} b.tgz").split_whitespace());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let is_blob = |request: &test_registry::RecordedRequest| request.path.contains("/blobs/");
        while !registry.requests().iter().any(is_blob) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let kill = format!("kill -{signal} {}", child.id().unwrap());
        site.shell(&kill).await.done();
        assert_eq!(child.wait().await.unwrap().code(), Some(code));
        assert!(!site.path("b.tgz").exists());
        registry.clear_faults();
        site.stellaops(&format!("{export} b.tgz --overwrite"))
            .await
            .done();
        assert_eq!(sha256(&site, "b.tgz"), sha256(&site, "clean.tgz"));
        std::fs::remove_file(site.path("b.tgz")).unwrap();
    }
}
