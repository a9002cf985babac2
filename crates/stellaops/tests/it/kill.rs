//! SIGKILL at moments spread over a run. `KILL_ROUNDS` sets how many; the tables are printed with `--nocapture`.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use oci_content::Digest;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Site, registry_with_image};

/// As many moments as `KILL_ROUNDS` says, or few enough for every run of the tests.
fn rounds() -> u32 {
    const FEW: u32 = 10;
    match std::env::var("KILL_ROUNDS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => FEW,
    }
}

/// Draws one point from each of as many equal parts of `whole`; the same ones in each run.
fn points(whole: u64, seed: u64) -> impl Iterator<Item = u64> {
    let count = u64::from(rounds());
    let mut state = seed;
    (0..count).map(move |part| {
        // xorshift64: https://www.jstatsoft.org/article/view/v008i14
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let within = state >> 40;
        whole * ((part << 24) + within) / (count << 24)
    })
}

/// Draws moments of a run that takes as long as `whole`.
fn moments(whole: Duration, seed: u64) -> impl Iterator<Item = Duration> {
    let whole = u64::try_from(whole.as_micros()).unwrap();
    points(whole, seed).map(Duration::from_micros)
}

/// What was found after the kills.
#[derive(Default)]
struct Tally {
    moments: u32,
    /// The run had ended before it was to be killed.
    ended: u32,
    nothing: u32,
    partial: u32,
    whole: u32,
    second_run: u32,
    equal: u32,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "moments | ended before | nothing | partial only | whole | second run finished | equal to the clean run"
        )?;
        write!(
            f,
            "{:7} | {:12} | {:7} | {:12} | {:5} | {:19} | {:22}",
            self.moments,
            self.ended,
            self.nothing,
            self.partial,
            self.whole,
            self.second_run,
            self.equal
        )
    }
}

/// Runs a command and kills it after `moment`; tells whether it was still running.
async fn kill_after(site: &Site, words: &str, moment: Duration) -> bool {
    kill_when(site, words, tokio::time::sleep(moment)).await
}

/// Runs a command and kills it once `due` is there; tells whether it was still running.
async fn kill_when(site: &Site, words: &str, due: impl Future<Output = ()>) -> bool {
    let mut command = tokio::process::Command::from(site.command());
    command
        .args(words.split_whitespace())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    tokio::select! {
        status = child.wait() => {
            assert!(status.unwrap().success(), "{words}");
            return false;
        }
        () = due => {}
    }
    child.kill().await.unwrap();
    true
}

/// Waits until a registry has seen so many requests.
async fn has_seen(registry: &TestRegistry, requests: u64) {
    while (registry.requests().len() as u64) < requests {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn sha256(path: &Path) -> Digest {
    Digest::of(&std::fs::read(path).unwrap())
}

async fn timed(site: &Site, words: &str) -> Duration {
    let started = Instant::now();
    site.stellaops(words).await.done();
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_export_leaves_no_file_or_a_whole_one_and_the_second_run_finishes() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .latency(Duration::from_millis(3))
        .start()
        .await;
    let layers: Vec<Vec<u8>> = (1..=6u8)
        .map(|n| vec![n; usize::from(n) * 40_000])
        .collect();
    let image = registry.image_with_layers("app", "1.0", layers);
    let sbom = registry.referrer("app", &image, "application/spdx+json", "sbom");
    registry.referrer(
        "app",
        &sbom,
        "application/vnd.example.signature",
        "signature",
    );
    registry.fault(Route::blobs(), Fault::slow(600_000).forever());

    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output", registry.host());
    let whole = timed(&site, &format!("{export} clean.tgz")).await;
    let clean = sha256(&site.path("clean.tgz"));
    let mut tally = Tally::default();
    for moment in moments(whole, 0x5eed) {
        let (name, partial) = (site.path("b.tgz"), site.path(".b.tgz.partial"));
        let killed = kill_after(&site, &format!("{export} b.tgz"), moment).await;
        tally.moments += 1;
        tally.ended += u32::from(!killed);
        let mut second = format!("{export} b.tgz");
        match (name.exists(), partial.exists()) {
            (true, _) => {
                tally.whole += 1;
                assert_eq!(sha256(&name), clean, "killed after {moment:?}");
                site.shell("sha256sum -c b.tgz.sha256").await.done();
                site.stellaops("bundle validate --file b.tgz --check-referrers")
                    .await
                    .done();
                second.push_str(" --overwrite");
            }
            (false, true) => tally.partial += 1,
            (false, false) => tally.nothing += 1,
        }
        site.stellaops(&second).await.done();
        tally.second_run += 1;
        assert_eq!(sha256(&name), clean, "killed after {moment:?}");
        tally.equal += 1;
        site.shell("sha256sum -c b.tgz.sha256").await.done();
        assert!(!partial.exists());
        for file in ["b.tgz", "b.tgz.sha256", "b.tgz.report.json"] {
            std::fs::remove_file(site.path(file)).unwrap();
        }
    }
    println!("export, {whole:?} when it is left alone\n{tally}");
    assert!(tally.partial > 0, "no kill hit the transfer\n{tally}");
}

/// Lists what a bundle holds.
async fn objects(site: &Site) -> Vec<Digest> {
    let names = site.shell("tar -tzf b.tgz | grep ^blobs/sha256/").await;
    let names = names.done().stdout;
    let digest = |line: &str| {
        let hex = line.rsplit('/').next().unwrap();
        format!("sha256:{hex}").parse().unwrap()
    };
    names.lines().map(digest).collect()
}

/// A registry with two images, one with referrers; `b.tgz` holds what is to arrive of them.
async fn two_images(site: &Site, layers: Vec<Vec<u8>>) -> TestRegistry {
    let source = registry_with_image(Persona::SpecFull).await;
    source.image_with_layers("app", "2.0", layers);
    let host = source.host();
    let export = format!("bundle export {host}/app:1.0 {host}/app:2.0 --output b.tgz");
    site.stellaops(&export).await.done();
    source
}

fn small_layers() -> Vec<Vec<u8>> {
    let layers = (1..=6u8).map(|n| vec![n; usize::from(n) * 40_000]);
    layers.collect()
}

/// Kills what `words` sends to a registry of each kind, at each part of the requests that it answers: how long a run takes
/// to come to its first depends on the machine.
#[expect(clippy::print_stdout, reason = "the lint exempts only test functions")]
async fn kill_at_registries(site: &Site, what: &str, words: impl Fn(&str) -> String) {
    let objects = objects(site).await;
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let open = || {
            TestRegistry::builder(persona)
                .without_auth()
                .latency(Duration::from_millis(8))
                .start()
        };
        let has = |target: &TestRegistry, digest: &Digest| {
            target.has_blob("app", digest) || target.manifest("app", digest).is_some()
        };
        let target = open().await;
        site.stellaops(&words(&target.host())).await.done();
        let whole = target.requests().len() as u64;
        assert!(objects.iter().all(|digest| has(&target, digest)));
        let tags = target.tags("app");
        let mut tally = Tally::default();
        for moment in points(whole, 0xfeed) {
            let target = open().await;
            let words = words(&target.host());
            let killed = kill_when(site, &words, has_seen(&target, moment)).await;
            tally.moments += 1;
            tally.ended += u32::from(!killed);
            let there = objects.iter().filter(|digest| has(&target, digest)).count();
            let named = |tag: &str| target.resolve("app", tag).is_some();
            match (there, named("1.0") || named("2.0")) {
                (0, false) => tally.nothing += 1,
                (_, false) => tally.partial += 1,
                (_, true) => {
                    tally.whole += 1;
                    assert_eq!(there, objects.len(), "killed at request {moment}");
                    let found = discover(site, &target.host()).await;
                    assert_eq!(found, 8, "killed at request {moment}");
                }
            }
            let second = site.stellaops(&words).await.done().stdout;
            tally.second_run += 1;
            assert!(second.contains("8 of 8 referrers"), "{second}");
            assert!(objects.iter().all(|digest| has(&target, digest)));
            assert_eq!(target.tags("app"), tags);
            tally.equal += 1;
        }
        println!("{what} {persona}, {whole} requests when it is left alone\n{tally}");
        assert!(tally.partial > 0, "no kill hit the transfer\n{tally}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_leaves_no_tag_on_anything_incomplete_and_the_second_run_finishes() {
    let site = Site::new();
    two_images(&site, small_layers()).await;
    let import = |target: &str| format!("bundle import --file b.tgz --to {target} --no-progress");
    kill_at_registries(&site, "import into", import).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_copy_leaves_no_tag_on_anything_incomplete_and_the_second_run_finishes() {
    let site = Site::new();
    let source = two_images(&site, small_layers()).await;
    let host = source.host();
    let copy = |target: &str| {
        format!("mirror copy {host}/app:1.0 {host}/app:2.0 --to {target} --no-progress")
    };
    kill_at_registries(&site, "copy into", copy).await;
}

/// Counts the referrers of the image with any, by the digest that its tag is to hold.
async fn discover(site: &Site, host: &str) -> usize {
    let digest = site
        .shell("tar -xzOf b.tgz manifest.yaml | grep -A1 'app:1.0$' | grep -o 'sha256:.*'")
        .await
        .done()
        .stdout;
    let line = format!(
        "referrers discover {host}/app@{} --platforms --format json",
        digest.trim()
    );
    let document = site.stellaops(&line).await.done().json();
    document["referrers"].as_array().unwrap().len()
}

/// Kills what `words` writes into the folder `store`, at each moment.
#[expect(clippy::print_stdout, reason = "the lint exempts only test functions")]
async fn kill_at_folder(site: &Site, what: &str, words: &str) {
    let objects = objects(site).await;
    let whole = timed(site, words).await;
    let store = site.path("store");
    let is_whole = |digest: &Digest| {
        let path = store.join("blobs/sha256").join(digest.encoded());
        std::fs::read(path).is_ok_and(|bytes| digest.matches(&bytes))
    };
    let mut tally = Tally::default();
    for moment in moments(whole, 0xf01d) {
        std::fs::remove_dir_all(&store).unwrap_or_default();
        let killed = kill_after(site, words, moment).await;
        tally.moments += 1;
        tally.ended += u32::from(!killed);
        let index = std::fs::read_to_string(store.join("index.json")).unwrap_or_default();
        if index.contains("org.opencontainers.image.ref.name") {
            tally.whole += 1;
            assert!(objects.iter().all(is_whole), "killed after {moment:?}");
        } else if store.exists() {
            tally.partial += 1;
        } else {
            tally.nothing += 1;
        }
        let second = site.stellaops(words).await.done().stdout;
        tally.second_run += 1;
        assert!(second.contains("8 of 8 referrers"), "{second}");
        assert!(objects.iter().all(is_whole), "killed after {moment:?}");
        tally.equal += 1;
    }
    println!("{what} a folder, {whole:?} when it is left alone\n{tally}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_into_a_folder_names_nothing_incomplete_and_the_second_run_finishes() {
    let site = Site::new();
    let layers = (1..=6u8).map(|n| vec![n; 3_000_000]).collect();
    two_images(&site, layers).await;
    let import = "bundle import --file b.tgz --to oci:store --no-progress";
    kill_at_folder(&site, "import into", import).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_copy_into_a_folder_names_nothing_incomplete_and_the_second_run_finishes() {
    let site = Site::new();
    let layers = (1..=6u8).map(|n| vec![n; 3_000_000]).collect();
    let source = two_images(&site, layers).await;
    let host = source.host();
    let copy = format!("mirror copy {host}/app:1.0 {host}/app:2.0 --to oci:store --no-progress");
    kill_at_folder(&site, "copy into", &copy).await;
}
