use serde_json::{Value, json};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Site, registry_with_image};

async fn graph(site: &Site, host: &str, repository: &str) -> Vec<(String, String, Value)> {
    let line = format!("referrers discover {host}/{repository}:1.0 --platforms --format json");
    let document = site.stellaops(&line).await.done().json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let referrers = document["referrers"].as_array().unwrap();
    referrers
        .iter()
        .map(|r| (text(&r["subject"]), text(&r["digest"]), r["tag"].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_graph_arrives_whole_on_either_kind_of_registry_and_a_second_import_sends_nothing() {
    for (from, to) in [
        (Persona::SpecFull, Persona::SpecFull),
        (Persona::SpecFull, Persona::Dist2),
        (Persona::Dist2, Persona::SpecFull),
        (Persona::Dist2, Persona::Dist2),
    ] {
        let (source, target) = (
            registry_with_image(from).await,
            TestRegistry::builder(to).without_auth().start().await,
        );
        let site = Site::new();
        let export = format!("bundle export {}/app:1.0 --output b.tgz", source.host());
        site.stellaops(&export).await.done();
        let import = format!(
            "bundle import --file b.tgz --to {}/mirror --receipt r.json",
            target.host()
        );
        let ran = site.stellaops(&import).await.done();
        assert!(
            ran.stdout.contains("8 of 8 referrers found on the target"),
            "{}",
            ran.stdout
        );
        let before = graph(&site, &source.host(), "app").await;
        assert_eq!(
            before,
            graph(&site, &target.host(), "mirror/app").await,
            "{from} to {to}"
        );
        assert_eq!(before.len(), 8);

        let receipt: Value =
            serde_json::from_slice(&std::fs::read(site.path("r.json")).unwrap()).unwrap();
        assert_eq!(
            (&receipt["referrersFound"], &receipt["missing"]),
            (&8.into(), &Value::Array(vec![]))
        );
        target.clear_requests();
        site.stellaops(&import).await.done();
        let writes: Vec<_> = target
            .requests()
            .into_iter()
            .filter(|request| !["GET", "HEAD"].contains(&request.method.as_str()))
            .collect();
        assert!(writes.is_empty(), "{writes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_holds_something_else_is_not_moved_without_leave() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let other = target.image("app", "1.0");
    let site = Site::new();
    site.stellaops(&format!(
        "bundle export {}/app:1.0 --output b.tgz",
        source.host()
    ))
    .await
    .done();
    let import = format!("bundle import --file b.tgz --to {}", target.host());
    site.stellaops(&import)
        .await
        .failed(10, &["app:1.0", "--overwrite-tags", "nothing was sent"]);
    assert_eq!(target.resolve("app", "1.0"), Some(other.digest.clone()));
    let sent = target
        .requests()
        .into_iter()
        .any(|request| !["GET", "HEAD"].contains(&request.method.as_str()));
    assert!(!sent);
    site.stellaops(&format!("{import} --overwrite-tags"))
        .await
        .done();
    assert_ne!(target.resolve("app", "1.0"), Some(other.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_could_not_settle_is_said_at_import_and_stands_in_the_receipt() {
    let source = registry_with_image(Persona::SpecFull).await;
    let subject = source.resolve("app", "1.0").unwrap();
    let image = source.manifest("app", &subject).unwrap();
    let image = oci_content::Descriptor::of("application/vnd.oci.image.index.v1+json", &image);
    let lost = source.referrer("app", &image, "application/spdx+json", "lost");
    let path = format!("/v2/app/manifests/{}", lost.digest);
    source.fault(Route::path_prefix(path), Fault::statuses([500]).forever());
    let site = Site::new();
    let export = format!(
        "bundle export {}/app:1.0 --output b.tgz --allow-incomplete",
        source.host()
    );
    site.stellaops(&export).await.failed(11, &[]);
    let gap = format!("DiscoveryGap {}/app@{subject}", source.host());
    let lost = lost.digest.to_string();
    let import = "bundle import --file b.tgz --to oci:folder --receipt r.json";
    let ran = site.stellaops(import).await.done();
    let last = ran.stdout.lines().last().unwrap();
    for part in ["8 of 8 referrers found", "incomplete", &gap, &lost] {
        assert!(last.contains(part), "{part}: {last}");
    }
    assert!(
        ran.stderr.contains("[WARN] BundleIncomplete")
            && ran.stderr.contains("[WARN] DiscoveryGap"),
        "{}",
        ran.stderr
    );
    let receipt = std::fs::read(site.path("r.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    let dry_run = format!("{import} --dry-run --format json");
    for document in [receipt, site.stellaops(&dry_run).await.done().json()] {
        assert_eq!(document["sourceStatus"], "incomplete");
        let warnings = document["warnings"].as_array().unwrap();
        let names_it = |warning: &Value| {
            warning["kind"] == "DiscoveryGap" && warning["found"].to_string().contains(&lost)
        };
        assert!(warnings.iter().any(names_it), "{document}");
    }
    // Whoever packs it again is told as well.
    site.shell("mkdir extracted && tar -xzf b.tgz -C extracted")
        .await
        .done();
    let ran = site
        .stellaops("bundle pack extracted --output c.tgz")
        .await
        .done();
    assert!(ran.stderr.contains("[WARN] DiscoveryGap"), "{}", ran.stderr);
    // A bundle that is complete gives no warning.
    source.clear_faults();
    let export = format!("bundle export {}/app:1.0 --output d.tgz", source.host());
    site.stellaops(&export).await.done();
    let ran = site
        .stellaops("bundle import --file d.tgz --to oci:other")
        .await
        .done();
    assert!(
        ran.stdout
            .ends_with("9 of 9 referrers found on the target\n"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stderr.contains("[WARN]"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let site = Site::new();
    site.stellaops(&format!(
        "bundle export {}/app:1.0 --output b.tgz",
        source.host()
    ))
    .await
    .done();
    let ran = site
        .stellaops(&format!(
            "bundle import --file b.tgz --to {} --dry-run",
            target.host()
        ))
        .await
        .done();
    assert!(
        ran.stdout
            .contains("nothing was sent; 8 referrers would be sent"),
        "{}",
        ran.stdout
    );
    assert_eq!(target.resolve("app", "1.0"), None);
    site.stellaops("bundle import --file b.tgz --to oci:folder --dry-run")
        .await
        .done();
    assert!(!site.path("folder").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_folder_and_an_extracted_bundle_work_as_ends_of_the_way() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = TestRegistry::builder(Persona::Dist2)
        .without_auth()
        .start()
        .await;
    let site = Site::new();
    site.stellaops(&format!(
        "bundle export {}/app:1.0 --output b.tgz",
        source.host()
    ))
    .await
    .done();
    let ran = site
        .stellaops("bundle import --file b.tgz --to oci:folder")
        .await
        .done();
    assert!(
        ran.stdout.contains("8 of 8 referrers found on the target"),
        "{}",
        ran.stdout
    );
    site.shell("mkdir extracted && tar -xzf b.tgz -C extracted")
        .await
        .done();
    site.stellaops("bundle validate --file extracted --check-referrers")
        .await
        .done();
    site.stellaops(&format!(
        "bundle import --file extracted --to {}",
        target.host()
    ))
    .await
    .done();
    assert_eq!(
        graph(&site, &source.host(), "app").await,
        graph(&site, &target.host(), "app").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn packing_an_extracted_bundle_gives_the_file_that_was_exported() {
    let source = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    site.stellaops(&format!(
        "bundle export {}/app:1.0 --output b.tgz",
        source.host()
    ))
    .await
    .done();
    site.shell(
        "mkdir extracted && tar -xzf b.tgz -C extracted && tar -czf foreign.tgz -C extracted .",
    )
    .await
    .done();
    site.stellaops("bundle validate --file foreign.tgz")
        .await
        .failed(3, &["stellaops bundle pack"]);
    site.stellaops("bundle pack extracted --output packed.tgz")
        .await
        .done();
    site.shell("cmp b.tgz packed.tgz && sha256sum -c packed.tgz.sha256")
        .await
        .done();
    site.stellaops("bundle pack extracted --output packed.tgz")
        .await
        .failed(2, &["--overwrite"]);
    std::fs::remove_file(site.path("extracted/oci-layout")).unwrap();
    site.stellaops("bundle pack extracted --output other.tgz")
        .await
        .failed(4, &["not valid"]);
    assert!(!site.path("other.tgz").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_byte_is_named_and_nothing_is_imported() {
    let source = registry_with_image(Persona::SpecFull).await;
    let target = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let site = Site::new();
    site.stellaops(&format!(
        "bundle export {}/app:1.0 --output b.tgz",
        source.host()
    ))
    .await
    .done();
    let list = site
        .shell(r#"tar -tzf b.tgz | grep "^referrers/""#)
        .await
        .done()
        .stdout;
    let path = list.lines().next().unwrap();
    let referrer = site
        .shell(&format!("tar -xzf b.tgz -O {path}"))
        .await
        .done()
        .stdout;
    let mut bytes = std::fs::read(site.path("b.tgz")).unwrap();
    // Stored blocks hold it as it is, and the copy under `referrers/` comes before the one under `blobs/`.
    let place = bytes
        .windows(referrer.len())
        .position(|window| window == referrer.as_bytes())
        .unwrap();
    bytes[place + referrer.len() / 2] ^= 1;
    std::fs::write(site.path("b.tgz"), bytes).unwrap();
    let ran = site
        .stellaops("bundle validate --file b.tgz --check-referrers")
        .await;
    let ran = ran.failed(4, &["not valid"]);
    assert!(
        ran.stdout
            .contains("ReferrerChecksumMismatch referrers/sha256-"),
        "{}",
        ran.stdout
    );
    let json = site
        .stellaops("bundle validate --file b.tgz --check-referrers --format json")
        .await
        .json();
    assert_eq!(json["ok"], false);
    let kinds: Vec<_> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["kind"].clone())
        .collect();
    assert!(
        kinds.contains(&"ReferrerChecksumMismatch".into()),
        "{kinds:?}"
    );
    let import = format!("bundle import --file b.tgz --to {}", target.host());
    site.stellaops(&import).await.failed(4, &["not valid"]);
    assert!(target.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_that_would_meet_in_one_repository_are_kept_apart() {
    let (one, two) = (
        registry_with_image(Persona::SpecFull).await,
        registry_with_image(Persona::Dist2).await,
    );
    let target = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let site = Site::new();
    let export = format!(
        "bundle export {}/app:1.0 {}/app:1.0 --output b.tgz",
        one.host(),
        two.host()
    );
    site.stellaops(&export).await.done();
    let import = format!("bundle import --file b.tgz --to {}", target.host());
    site.stellaops(&import)
        .await
        .failed(2, &["--keep-host", "--map"]);
    site.stellaops(&format!("{import} --keep-host"))
        .await
        .done();
    let name = format!("{}/app", one.host().replace(':', "-"));
    assert!(target.resolve(&name, "1.0").is_some());
    site.stellaops(&format!("{import} --map {}/app=renamed", one.host()))
        .await
        .done();
    assert!(target.resolve("renamed", "1.0").is_some() && target.resolve("app", "1.0").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refers_to_the_children_of_a_referrer_arrives_too() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let open = |persona| TestRegistry::builder(persona).without_auth().start();
        let (source, target) = (open(Persona::SpecFull).await, open(persona).await);
        let image = source.image("app", "1.0");
        let one = source.image("app", "one");
        let set = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "artifactType": "application/vnd.example.set", "manifests": [one],
            "subject": { "mediaType": image.media_type, "digest": image.digest, "size": image.size },
        });
        source.put_manifest(
            "app",
            "application/vnd.oci.image.index.v1+json",
            set.to_string(),
        );
        let sbom = source.referrer("app", &one, "application/spdx+json", "sbom");
        source.referrer(
            "app",
            &sbom,
            "application/vnd.cncf.notary.signature",
            "signature",
        );
        let site = Site::new();
        let line = format!("referrers discover {}/app:1.0", source.host());
        let tree = site.stellaops(&line).await.done().stdout;
        assert!(
            tree.contains("children-not-walked") && tree.contains("--platforms"),
            "{tree}"
        );
        let tree = site
            .stellaops(&format!("{line} --platforms"))
            .await
            .done()
            .stdout;
        assert!(
            !tree.contains("children-not-walked") && tree.contains("3 referrers"),
            "{tree}"
        );
        assert!(
            tree.contains("[linux/amd64]") || tree.contains("[manifest]"),
            "{tree}"
        );

        let export = format!("bundle export {}/app:1.0 --output b.tgz", source.host());
        site.stellaops(&export).await.done();
        let validate = "bundle validate --file b.tgz --strict-referrer-validation";
        site.stellaops(validate).await.done();
        // Before and after it is written, a policy sees the same referrers.
        let policy = "rules:\n- name: none\n  deny: {artifact_type: application/spdx+json}\n";
        std::fs::write(site.path("p.yaml"), format!("version: 1\n{policy}")).unwrap();
        for line in [
            format!("{validate} --policy p.yaml"),
            format!("{export}.2 --policy p.yaml"),
        ] {
            let ran = site.stellaops(&line).await;
            assert_eq!(ran.code, 11, "{ran:?}");
            let digest = sbom.digest.to_string();
            assert!(format!("{ran:?}").contains(&digest), "{ran:?}");
        }
        let import = format!(
            "bundle import --file b.tgz --to {} --strict-referrer-validation",
            target.host()
        );
        let ran = site.stellaops(&import).await.done();
        assert!(
            ran.stdout.contains("3 of 3 referrers found"),
            "{}",
            ran.stdout
        );
        let there = graph(&site, &target.host(), "app").await;
        assert_eq!(there, graph(&site, &source.host(), "app").await);
    }
}
