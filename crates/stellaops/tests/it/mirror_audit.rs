use oci_content::Digest;
use serde_json::Value;
use test_registry::{Persona, TestRegistry};

use crate::run::{Site, registry_with_image};

struct Mirrored {
    site: Site,
    source: TestRegistry,
    target: TestRegistry,
    /// A referrer at the target.
    referrer: Digest,
}

impl Mirrored {
    async fn new() -> Self {
        let source = registry_with_image(Persona::SpecFull).await;
        let target = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .start()
            .await;
        let site = Site::new();
        let (from, to) = (source.host(), target.host());
        let export = format!("bundle export {from}/app:1.0 --output b.tgz");
        site.stellaops(&export).await.done();
        let import = format!("bundle import --file b.tgz --to {to}/mirror --receipt r.json");
        site.stellaops(&import).await.done();
        let receipt = std::fs::read(site.path("r.json")).unwrap();
        let receipt: Value = serde_json::from_slice(&receipt).unwrap();
        let discovery = receipt["graph"]["discovery"].as_array().unwrap();
        let mut artifacts = discovery
            .iter()
            .flat_map(|record| record["artifacts"].as_array().unwrap());
        let artifact = artifacts
            .find(|artifact| artifact["tag"].is_null())
            .unwrap();
        let referrer = artifact["digest"].as_str().unwrap().parse().unwrap();
        Self {
            site,
            source,
            target,
            referrer,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_that_is_gone_is_named_and_put_back_from_the_bundle_or_the_source() {
    let mirrored = Mirrored::new().await;
    let (site, target) = (&mirrored.site, &mirrored.target);
    let audit = "mirror audit --receipt r.json";
    let clean = site.stellaops(audit).await.done();
    assert!(
        clean.stdout.contains("0 missing, 0 changed, 0 extra"),
        "{clean:?}"
    );
    for repair in ["--repair --file b.tgz", "--repair"] {
        target.delete("mirror/app", &mirrored.referrer);
        let ran = site.stellaops(audit).await;
        assert_eq!(ran.code, 11, "{ran:?}");
        assert!(ran.stdout.contains(&mirrored.referrer.to_string()));
        assert!(
            ran.stdout.contains("pruned by registry retention policy"),
            "{ran:?}"
        );
        let json = site.stellaops(&format!("{audit} --format json")).await;
        assert_eq!(json.code, 11);
        let document = json.json();
        assert_eq!(document["audits"][0]["status"], "drifted");
        let first = &document["audits"][0]["findings"][0];
        assert_eq!(
            (&first["kind"], &first["object"]),
            (&"missing".into(), &"referrer".into())
        );
        let repaired = format!("{audit} {repair} --format json");
        let document = site.stellaops(&repaired).await.done().json();
        assert_eq!(document["audits"][0]["status"], "clean");
        assert_eq!(document["audits"][0]["repaired"], true);
    }
    // What the source does not have any more either stays an error that names it.
    target.delete("mirror/app", &mirrored.referrer);
    mirrored.source.delete("app", &mirrored.referrer);
    let ran = site.stellaops(&format!("{audit} --repair")).await;
    assert_ne!(ran.code, 0, "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_cannot_be_audited_are_refused_by_name() {
    let mirrored = Mirrored::new().await;
    let site = &mirrored.site;
    let import = "bundle import --file b.tgz --to oci:folder --receipt folder.json";
    site.stellaops(import).await.done();
    let text = std::fs::read_to_string(site.path("r.json")).unwrap();
    let mut old: Value = serde_json::from_str(&text).unwrap();
    let members = old.as_object_mut().unwrap();
    members.remove("graph");
    members.remove("targetIdentity");
    std::fs::write(site.path("old.json"), old.to_string()).unwrap();
    std::fs::write(site.path("half.json"), &text[..text.len() / 2]).unwrap();
    let prune = r#"{"schemaVersion":1,"kind":"prune","targetIdentity":"x","dryRun":false,"finished":true,"tags":0,"repositories":[]}"#;
    std::fs::write(site.path("prune.json"), prune).unwrap();
    for (name, code, words) in [
        ("folder.json", 2, "only registries are audited"),
        ("old.json", 2, "older version"),
        (
            "half.json",
            8,
            "half.json cannot be relied on: it is damaged",
        ),
        ("none.json", 8, "none.json"),
        ("prune.json", 2, "the report of a prune"),
    ] {
        let ran = site
            .stellaops(&format!("mirror audit --receipt {name}"))
            .await;
        assert_eq!(ran.code, code, "{name}: {ran:?}");
        assert!(ran.stderr.contains(words), "{name}: {ran:?}");
    }
    for (line, words) in [
        ("mirror audit", "there are no receipts of jobs"),
        ("mirror audit nightly", "job nightly has no receipt"),
        ("mirror audit ../x", "cannot be the name of a job"),
    ] {
        let ran = site.stellaops(line).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_proved_receipt_of_a_job_is_audited_and_counted() {
    let mirrored = Mirrored::new().await;
    let site = &mirrored.site;
    let folder = site.path("state/stellaops/receipts/nightly");
    std::fs::create_dir_all(&folder).unwrap();
    let text = std::fs::read_to_string(site.path("r.json")).unwrap();
    std::fs::write(folder.join("2026-01-01T00_00_00Z.json"), &text).unwrap();
    let failed = text.replace("\"proved\": true", "\"proved\": false");
    assert_ne!(failed, text);
    std::fs::write(folder.join("2026-01-02T00_00_00Z.json"), failed).unwrap();
    mirrored.target.delete("mirror/app", &mirrored.referrer);
    let ran = site.stellaops("mirror audit --metrics-file m.txt").await;
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(ran.stderr.contains("auditing by"), "{ran:?}");
    assert!(ran.stdout.contains("2026-01-01T00_00_00Z.json"), "{ran:?}");
    let metrics = std::fs::read_to_string(site.path("m.txt")).unwrap();
    let drift = metrics.lines().find(|line| {
        line.starts_with("mirror_drift{") && line.contains("missing") && line.contains("nightly")
    });
    assert!(drift.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    std::fs::write(folder.join("2026-01-03T00_00_00Z.json"), "half").unwrap();
    let ran = site.stellaops("mirror audit nightly").await;
    assert_eq!(ran.code, 8, "{ran:?}");
    assert!(ran.stderr.contains("2026-01-03T00_00_00Z.json"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_judges_what_the_target_has_by_the_names_of_the_sources() {
    let mirrored = Mirrored::new().await;
    let (site, target) = (&mirrored.site, &mirrored.target);
    let policy = |host: &str, artifact_type: &str| {
        let rule = format!(
            "version: 1\nrules:\n- name: own\n  images: ['{host}/**']\n  require: {{artifact_type: {artifact_type}}}\n"
        );
        std::fs::write(site.path("p.yaml"), rule).unwrap();
    };
    let audit = "mirror audit --receipt r.json --policy p.yaml";
    let absent = "application/vnd.example.absent";
    policy(&target.host(), absent);
    site.stellaops(audit).await.done();
    policy(&mirrored.source.host(), absent);
    let ran = site.stellaops(audit).await;
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(ran.stdout.contains(absent), "{ran:?}");
    assert!(
        ran.stderr.contains("does not satisfy the policy"),
        "{ran:?}"
    );
    let ran = site.stellaops(&format!("{audit} --format json")).await;
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let audit = &document["audits"][0];
    assert_eq!(audit["status"], "clean");
    assert_eq!(audit["policy"]["findings"].as_array().unwrap().len(), 1);
}
