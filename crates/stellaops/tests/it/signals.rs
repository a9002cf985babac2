//! Commands that are asked to end while they wait for something that does not come.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use test_registry::Persona;

use crate::run::{Site, registry_with_image};

const SIGNALS: [(&str, i32); 2] = [("INT", 130), ("TERM", 143)];

/// Starts a command, waits until it `waits`, and sends it a signal.
async fn ends<T: Send + 'static>(
    site: &Site,
    words: &str,
    (signal, code): (&str, i32),
    waits: impl FnOnce() -> T + Send + 'static,
) {
    let mut command = tokio::process::Command::from(site.command());
    command.args(words.split_whitespace());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn().unwrap();
    let _kept = tokio::task::spawn_blocking(waits).await.unwrap();
    let kill = format!("kill -s {signal} {}", child.id().unwrap());
    site.shell(&kill).await.done();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(code), "{words}: {output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let sentence = "[ERROR] interrupted; run the same command again to continue\n";
    assert!(said.ends_with(sentence), "{words}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_what_waits_for_a_pipe() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output b.tgz", registry.host());
    site.stellaops(&export).await.done();
    site.shell("mkfifo pipe").await.done();
    let beginning = std::fs::read(site.path("b.tgz")).unwrap()[..5000].to_vec();
    for words in [
        "bundle validate --file pipe",
        "bundle validate --file pipe --format json",
        "bundle import --file pipe --to oci:folder",
        "--config pipe registry probe localhost",
        "bundle validate --file b.tgz --policy pipe",
        "bundle validate --file b.tgz --key pipe",
    ] {
        for bytes in [&[][..], &beginning] {
            for signal in SIGNALS {
                let (path, bytes) = (site.path("pipe"), bytes.to_vec());
                ends(&site, words, signal, move || -> File {
                    // Waits until the other end is open.
                    let mut pipe = OpenOptions::new().write(true).open(path).unwrap();
                    pipe.write_all(&bytes).unwrap();
                    pipe
                })
                .await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_what_waits_for_a_registry() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output b.tgz", registry.host());
    site.stellaops(&export).await.done();
    for words in [
        "registry probe HOST",
        "registry diagnose HOST/app:1.0",
        "referrers discover HOST/app:1.0",
        "bundle export HOST/app:1.0 --output other.tgz",
        "bundle import --file b.tgz --to HOST/mirror",
    ] {
        for signal in SIGNALS {
            let silent = TcpListener::bind("127.0.0.1:0").unwrap();
            let words = words.replace("HOST", &silent.local_addr().unwrap().to_string());
            ends(&site, &words, signal, move || {
                let accepted = silent.accept().unwrap();
                (silent, accepted)
            })
            .await;
        }
    }
    assert!(!site.path("other.tgz").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_what_nobody_reads() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    for stream in ["stdout", "stderr"] {
        for (signal, code) in SIGNALS {
            let (_reader, writer) = std::io::pipe().unwrap();
            fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
            let mut full = writer.try_clone().unwrap();
            while full.write(&[b'\n'; 4096]).is_ok() {}
            while full.write(b"\n").is_ok() {}
            fcntl_setfl(&writer, OFlags::empty()).unwrap();
            let mut command = tokio::process::Command::from(site.command());
            command.args(["referrers", "discover", "--log-level", "debug"]);
            command.arg(format!("{}/app:1.0", registry.host()));
            match stream {
                "stdout" => command.stdout(writer).stderr(Stdio::null()),
                _ => command.stdout(Stdio::null()).stderr(writer),
            };
            registry.clear_requests();
            let mut child = command.kill_on_drop(true).spawn().unwrap();
            while stream == "stdout" && registry.requests().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            let kill = format!("kill -s {signal} {}", child.id().unwrap());
            site.shell(&kill).await.done();
            let status = child.wait().await.unwrap();
            assert_eq!(status.code(), Some(code), "{stream}");
        }
    }
}
