//! `stellaops mirror`, from registry to registry.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Ran, Site, registry_with_image};

async fn open(persona: Persona) -> TestRegistry {
    TestRegistry::builder(persona).without_auth().start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_brings_every_referrer_and_says_so() {
    let source = registry_with_image(Persona::Dist2).await;
    let target = open(Persona::SpecFull).await;
    let site = Site::new();
    let copy = format!(
        "mirror copy {}/app:1.0 --to {}/mirror --receipt r.json",
        source.host(),
        target.host()
    );
    let ran = site.stellaops(&copy).await.done();
    let found = "8 of 8 referrers found on the target";
    assert!(ran.stdout.contains(found), "{}", ran.stdout);
    let probing = "[INFO] Probing 1 registries for OCI referrer capabilities before mirror";
    assert!(ran.stderr.contains(probing), "{}", ran.stderr);
    let read = || -> Value {
        serde_json::from_slice(&std::fs::read(site.path("r.json")).unwrap()).unwrap()
    };
    let receipt = read();
    assert_eq!(receipt["referrersFound"], 8);
    assert!(
        receipt["tags"]
            .as_array()
            .unwrap()
            .iter()
            .any(|tag| tag["action"] == "made")
    );

    let again = format!("{copy} --format json");
    let document = site.stellaops(&again).await.done().json();
    assert_eq!(document["schemaVersion"], 1);
    assert_eq!(document["blobs"]["sent"], 0);
    assert!(
        read()["tags"]
            .as_array()
            .unwrap()
            .iter()
            .all(|tag| tag["action"] == "present")
    );
    assert_eq!(site.files(), ["r.json"], "nothing else is on disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_into_a_folder_is_one_that_an_import_writes() {
    let source = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let host = source.host();
    site.stellaops(&format!("mirror copy {host}/app:1.0 --to oci:copied"))
        .await
        .done();
    site.stellaops(&format!("bundle export {host}/app:1.0 --output b.tgz"))
        .await
        .done();
    site.stellaops("bundle import --file b.tgz --to oci:imported")
        .await
        .done();
    let index = |folder: &str| std::fs::read_to_string(site.path(folder).join("index.json"));
    assert_eq!(index("copied").unwrap(), index("imported").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_incomplete_is_copied_only_if_that_is_allowed() {
    let source = registry_with_image(Persona::SpecFull).await;
    source.fault(
        Route::referrers(),
        Fault::error(503, "UNAVAILABLE").forever(),
    );
    let target = open(Persona::SpecFull).await;
    let site = Site::new();
    let copy = format!(
        "mirror copy {}/app:1.0 --to {}",
        source.host(),
        target.host()
    );
    let ran = site.stellaops(&copy).await;
    assert_eq!(ran.code, 11, "{}", ran.stderr);
    assert!(ran.stderr.contains("--allow-incomplete"), "{}", ran.stderr);
    assert_eq!(target.resolve("app", "1.0"), None);
    let ran = site
        .stellaops(&format!("{copy} --allow-incomplete --receipt r.json"))
        .await;
    assert_eq!(ran.code, 11, "{}", ran.stderr);
    assert!(
        ran.stdout
            .contains("there may be referrers that were not found"),
        "{}",
        ran.stdout
    );
    assert!(target.resolve("app", "1.0").is_some());
    assert!(site.path("r.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_request_has_its_sentence_and_code_and_sends_nothing() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = open(Persona::SpecFull).await;
    let site = Site::new();
    let (from, to) = (source.host(), target.host());
    for (words, code, said) in [
        (format!("{from}/app:1.0 --to {from}"), 2, "onto itself"),
        (format!("{from}/app:2.0 --to {to}"), 10, "is not there"),
        (
            format!("{from}/app:1.0 --to https://{to}"),
            2,
            "leave out the scheme",
        ),
        (
            format!("{from}/app:1.0 --to {to} --platform windows/arm"),
            10,
            "none of the platforms",
        ),
        (
            format!("{from}/app:1.0 --to {to} --map x"),
            2,
            "is not a mapping",
        ),
        (
            format!("{from}/app:1.0 --to {to} --policy none.yaml"),
            2,
            "none.yaml",
        ),
        (format!("app:1.0 --to {to}"), 2, "names no registry"),
        (format!("--to {to}"), 2, "REFERENCE"),
        (format!("{from}/app:1.0 --to 127.0.0.1:1"), 9, "127.0.0.1:1"),
        (format!("127.0.0.1:1/app:1.0 --to {to}"), 9, "127.0.0.1:1"),
    ] {
        let ran = site.stellaops(&format!("mirror copy {words}")).await;
        assert_eq!(ran.code, code, "{words}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{words}: {}", ran.stderr);
    }
    let wrote = |request: &test_registry::RecordedRequest| {
        !["GET", "HEAD"].contains(&request.method.as_str())
    };
    assert!(!target.requests().iter().any(wrote));
    assert!(site.files().is_empty(), "{:?}", site.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_at_the_target_is_left_unless_it_may_be_moved() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = open(Persona::Dist2).await;
    let other = target.image("app", "1.0");
    let site = Site::new();
    let copy = format!(
        "mirror copy {}/app:1.0 --to {}",
        source.host(),
        target.host()
    );
    let ran = site.stellaops(&copy).await;
    assert_eq!(ran.code, 10, "{}", ran.stderr);
    assert!(ran.stderr.contains("--overwrite-tags"), "{}", ran.stderr);
    assert_eq!(target.resolve("app", "1.0"), Some(other.digest.clone()));
    site.stellaops(&format!("{copy} --overwrite-tags"))
        .await
        .done();
    assert_ne!(target.resolve("app", "1.0"), Some(other.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_forbids_a_copy_and_says_what_is_not_met() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = open(Persona::SpecFull).await;
    let site = Site::new();
    let policy = "version: 1\nrules:\n- name: vex\n  images: ['**']\n  require: {artifact_type: application/vnd.example.absent}\n";
    std::fs::write(site.path("p.yaml"), policy).unwrap();
    let (from, to) = (source.host(), target.host());
    let ran = site
        .stellaops(&format!(
            "mirror copy {from}/app:1.0 --to {to} --policy p.yaml"
        ))
        .await;
    assert_eq!(ran.code, 11, "{}", ran.stderr);
    assert!(ran.stdout.contains("vnd.example.absent"), "{}", ran.stdout);
    assert_eq!(target.resolve("app", "1.0"), None);
}

/// Counts the manifests that were read by digest.
fn read(registry: &TestRegistry) -> usize {
    let requests = registry.requests().into_iter();
    let manifests = requests.filter(|request| request.path.contains("/manifests/sha256:"));
    manifests.filter(|request| request.method == "GET").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_night_reads_lists_and_no_manifest_and_nothing_depends_on_the_cache() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = open(Persona::SpecFull).await;
    let site = Site::new();
    let (from, to) = (source.host(), target.host());
    let copy = format!("mirror copy {from}/app:1.0 --to {to}/mirror");
    let first = site.stellaops(&copy).await.done();
    let folder = site.path("cache/stellaops/manifests");
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    source.clear_requests();
    target.clear_requests();
    let second = site.stellaops(&copy).await.done();
    assert_eq!((read(&source), read(&target)), (0, 0));
    let line = |ran: &Ran| {
        let mut lines = ran.stdout.lines();
        lines
            .find(|line| line.contains("referrers found"))
            .map(str::to_owned)
    };
    assert_eq!(line(&first), line(&second));

    // A bundle does not depend on it either.
    let export = format!("bundle export {from}/app:1.0 --overwrite --output");
    site.stellaops(&format!("{export} warm.tgz")).await.done();
    std::fs::remove_dir_all(site.path("cache")).unwrap();
    source.clear_requests();
    site.stellaops(&format!("{export} cold.tgz")).await.done();
    assert!(read(&source) > 0);
    let bytes = |name: &str| std::fs::read(site.path(name)).unwrap();
    assert!(bytes("warm.tgz") == bytes("cold.tgz"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_where_nothing_can_be_kept_is_one_warning() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = open(Persona::SpecFull).await;
    let site = Site::new();
    std::fs::write(site.path("cache"), "in the way").unwrap();
    let (from, to) = (source.host(), target.host());
    let copy = format!("mirror copy {from}/app:1.0 --to {to}/mirror");
    for _ in 0..2 {
        let ran = site.stellaops(&copy).await.done();
        let warnings: Vec<_> = ran
            .stderr
            .lines()
            .filter(|line| line.contains("not kept"))
            .collect();
        assert_eq!(warnings.len(), 1, "{}", ran.stderr);
        assert!(warnings[0].contains("[WARN]") && warnings[0].contains("/stellaops/manifests"));
    }
}
