//! `oci:FOLDER[:TAG|@DIGEST]` in place of a registry's reference.

use std::fs;

use serde_json::Value;
use test_registry::{Persona, TestRegistry};

use crate::run::{Site, registry_with_image};

/// A folder `mirror` with `app:1.0` of a registry, as an import leaves it.
async fn folder(site: &Site) -> TestRegistry {
    let registry = registry_with_image(Persona::SpecFull).await;
    let image = format!("{}/app:1.0", registry.host());
    let copied = site
        .stellaops(&format!("mirror copy {image} --to oci:mirror"))
        .await;
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    registry
}

/// The digest and depth of each referrer in a discovery.
fn referrers(document: &Value) -> Vec<(String, u64)> {
    let referrers = document["referrers"].as_array().unwrap().iter();
    referrers
        .map(|one| {
            (
                one["digest"].as_str().unwrap().to_owned(),
                one["depth"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn remove(site: &Site, digest: &str) {
    let (algorithm, encoded) = digest.split_once(':').unwrap();
    fs::remove_file(site.path(&format!("mirror/blobs/{algorithm}/{encoded}"))).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_the_referrers_of_the_registry_that_it_was_filled_from() {
    let site = Site::new();
    let registry = folder(&site).await;
    let host = registry.host();
    let discover = |what: String| {
        let words = format!("referrers discover {what} --platforms --format json");
        let site = &site;
        async move { site.stellaops(&words).await }
    };
    let there = discover(format!("docker://{host}/app:1.0")).await.json();
    registry.clear_requests();
    let expected = referrers(&there);
    assert!(expected.len() > 3, "{expected:?}");
    let digest = there["subject"]["digest"].as_str().unwrap();
    for what in [
        "mirror",
        "mirror:1.0",
        "mirror/",
        &format!("mirror@{digest}"),
        "./mirror:1.0",
    ] {
        let ran = discover(format!("oci:{what}")).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let document = ran.json();
        assert_eq!(referrers(&document), expected, "{what}");
        assert_eq!(document["reference"], format!("oci:{what}"));
        assert_eq!(
            (&document["status"], &document["requests"]),
            (&"complete".into(), &0.into())
        );
    }
    let tree = site.stellaops("referrers discover oci:mirror:1.0").await;
    assert!(
        tree.stdout.contains(&format!("named {host}/app:1.0")),
        "{}",
        tree.stdout
    );
    let explained = site
        .stellaops("referrers discover oci:mirror:1.0 --explain")
        .await;
    assert!(
        explained.stdout.contains("in index.json -> "),
        "{}",
        explained.stdout
    );

    // The bundle is the same in substance, and names the image alike.
    let exported = site
        .stellaops("bundle export oci:mirror --output b.tgz --format json")
        .await;
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert!(!exported.stderr.contains("Probing"), "{}", exported.stderr);
    let document = exported.json();
    assert_eq!(
        document["images"][0]["reference"],
        format!("{host}/app:1.0")
    );
    assert_eq!(document["referrers"]["total"], expected.len());
    let valid = site
        .stellaops("bundle validate --file b.tgz --check-referrers")
        .await;
    assert_eq!(valid.code, 0, "{}", valid.stdout);
    let again = site
        .stellaops("bundle export oci:mirror:1.0 --output again.tgz")
        .await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(
        fs::read(site.path("b.tgz")).unwrap(),
        fs::read(site.path("again.tgz")).unwrap()
    );
    let diagnosed = site
        .stellaops("registry diagnose oci:mirror:1.0 --format json")
        .await;
    assert_eq!(diagnosed.code, 0, "{}", diagnosed.stdout);
    assert!(registry.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_and_a_bundle_know_an_image_by_the_name_of_its_folder() {
    let site = Site::new();
    let _registry = folder(&site).await;
    // A folder that says nothing about registries.
    let index = site.path("mirror/index.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    for entry in document["manifests"].as_array_mut().unwrap() {
        if let Some(annotations) = entry["annotations"].as_object_mut() {
            annotations.remove("io.containerd.image.name");
        }
    }
    fs::write(&index, document.to_string()).unwrap();
    let policy = |pattern: &str| {
        format!(
            "version: 1\nrules:\n- name: r\n  images: [\"{pattern}\"]\n  require: {{artifact_type: app/none}}\n"
        )
    };
    for (pattern, code) in [("oci/mirror", 11), ("oci/**", 11), ("oci/other", 0)] {
        fs::write(site.path("p.yaml"), policy(pattern)).unwrap();
        let words = "bundle export oci:mirror:1.0 --policy p.yaml --overwrite --output b.tgz";
        let ran = site.stellaops(words).await;
        assert_eq!(ran.code, code, "{pattern}: {}{}", ran.stdout, ran.stderr);
    }
    let inspected = site
        .stellaops("bundle inspect --file b.tgz --format json")
        .await;
    assert!(
        inspected.stdout.contains("oci/mirror:1.0"),
        "{}",
        inspected.stdout
    );
    let imported = site
        .stellaops("bundle import --file b.tgz --to oci:next")
        .await;
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    let next = site
        .stellaops("bundle export oci:next --output next.tgz --format json")
        .await;
    assert_eq!(next.json()["images"][0]["reference"], "oci/mirror:1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_folder_is_one_sentence_and_never_no_referrers() {
    let site = Site::new();
    let _registry = folder(&site).await;
    fs::create_dir(site.path("plain")).unwrap();
    fs::create_dir(site.path("with:colon")).unwrap();
    fs::write(site.path("file"), "x").unwrap();
    let missing = format!("oci:mirror@sha256:{}", "a".repeat(64));
    let commands = [
        "referrers discover",
        "registry diagnose",
        "bundle export --output b.tgz",
    ];
    for (what, code, said) in [
        ("oci:nowhere", 10, "there is no folder nowhere"),
        (
            "oci:with:colon",
            10,
            "the folder with:colon is written oci:with:colon/",
        ),
        ("oci:with:colon/", 2, "it has no oci-layout file"),
        ("oci:plain:1.0", 2, "it has no oci-layout file"),
        (
            "oci:file",
            2,
            "file is a file, not the folder of an image layout",
        ),
        (
            "oci:mirror:2.0",
            10,
            "mirror has no image that is named \"2.0\"; it has :1.0",
        ),
        (&missing, 10, "mirror does not have sha256:aaaa"),
        ("oci:", 2, "it names no folder"),
        (
            "./mirror:1.0",
            2,
            "an image of a layout folder is written oci:./mirror:1.0",
        ),
        (
            "oci/mirror:1.0",
            2,
            "oci/ is how images from folders are named",
        ),
    ] {
        for command in commands {
            let ran = site.stellaops(&format!("{command} {what}")).await;
            assert_eq!(ran.code, code, "{command} {what}: {}", ran.stderr);
            assert!(
                ran.stderr.contains(said),
                "{command} {what}: {}",
                ran.stderr
            );
            assert!(!ran.stderr.contains("No referrers found"), "{}", ran.stderr);
        }
    }
    assert!(!site.path("b.tgz").exists());
    fs::write(site.path("mirror/index.json"), "{").unwrap();
    for command in commands {
        let ran = site.stellaops(&format!("{command} oci:mirror:1.0")).await;
        assert_eq!(ran.code, 11, "{command}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("index.json: malformed"),
            "{}",
            ran.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_a_folder_lacks_is_named() {
    let site = Site::new();
    let _registry = folder(&site).await;
    let whole = site
        .stellaops("referrers discover oci:mirror --format json")
        .await
        .json();
    let lost = whole["referrers"][0]["digest"].as_str().unwrap();
    remove(&site, lost);
    let ran = site
        .stellaops("referrers discover oci:mirror --format json")
        .await;
    assert_eq!(ran.code, 11);
    let document = ran.json();
    assert_eq!(document["status"], "incomplete");
    let errors = document["errors"].as_array().unwrap();
    assert!(
        errors.iter().any(|error| error["digest"] == lost),
        "{errors:?}"
    );
    let exported = site
        .stellaops("bundle export oci:mirror --output b.tgz")
        .await;
    assert_eq!(exported.code, 11, "{}", exported.stderr);
    assert!(exported.stderr.contains(lost), "{}", exported.stderr);
    let diagnosed = site
        .stellaops("registry diagnose oci:mirror --format json")
        .await;
    assert_eq!(diagnosed.code, 11);
    let checks = diagnosed.json()["checks"].as_array().unwrap().clone();
    let failed = checks
        .iter()
        .find(|check| check["outcome"] == "failed")
        .unwrap();
    assert_eq!(failed["check"], "referrers");
    assert!(
        failed["details"][0].as_str().unwrap().contains(&lost[..19]),
        "{failed}"
    );

    // The image itself.
    let image = whole["subject"]["digest"].as_str().unwrap();
    remove(&site, image);
    for command in [
        "referrers discover",
        "registry diagnose",
        "bundle export --output b.tgz",
    ] {
        let ran = site.stellaops(&format!("{command} oci:mirror:1.0")).await;
        assert_eq!(ran.code, 11, "{command}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("it is not there"),
            "{command}: {}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("No referrers found"), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_several_images_is_exported_whole_and_asked_about_one_by_one() {
    let site = Site::new();
    let registry = folder(&site).await;
    registry.image("other", "2.0");
    let other = format!("{}/other:2.0", registry.host());
    let copied = site
        .stellaops(&format!("mirror copy {other} --to oci:mirror"))
        .await;
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    for command in ["referrers discover", "registry diagnose"] {
        let ran = site.stellaops(&format!("{command} oci:mirror")).await;
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr
                .contains("oci:mirror holds 2 images; choose one: :1.0, :2.0"),
            "{}",
            ran.stderr
        );
    }
    let exported = site
        .stellaops("bundle export oci:mirror --output b.tgz --format json")
        .await;
    assert_eq!(exported.json()["images"].as_array().unwrap().len(), 2);
    let copied = site.stellaops("mirror copy oci:mirror --to oci:next").await;
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    let one = site
        .stellaops(&format!("referrers discover oci:next:{other}"))
        .await;
    assert_eq!(one.code, 0, "{}", one.stderr);
}
