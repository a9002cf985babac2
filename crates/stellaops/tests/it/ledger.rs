//! The memory of what was imported, outside of the bundles.

use serde_json::Value;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Ran, Site, registry_with_image};

const KEY: &str = include_str!("signature/key.pem");
const PUBLIC: &str = include_str!("signature/key.pub");

/// A site with three signed bundles of the stream `prod`: `4.tgz`, `5.tgz`, and `fork.tgz`, which is another 5.
async fn site() -> Site {
    let registry = registry_with_image(Persona::SpecFull).await;
    registry.image("more", "1.0");
    let site = Site::new();
    for (name, text) in [("key.pem", KEY), ("key.pub", PUBLIC)] {
        std::fs::write(site.path(name), text).unwrap();
    }
    let host = registry.host();
    for (file, images, sequence) in [
        ("4.tgz", format!("{host}/app:1.0"), 4),
        ("5.tgz", format!("{host}/app:1.0"), 5),
        ("fork.tgz", format!("{host}/app:1.0 {host}/more:1.0"), 5),
        ("0.tgz", format!("{host}/app:1.0"), 0),
    ] {
        let line = format!(
            "bundle export {images} --output {file} --stream prod --sequence {sequence} --sign-key key.pem"
        );
        site.stellaops(&line).await.done();
    }
    site
}

async fn import(site: &Site, file: &str, more: &str) -> Ran {
    let line =
        format!("bundle import --file {file}.tgz --key key.pub --receipt receipt.json {more}");
    site.stellaops(&line).await
}

fn records(site: &Site) -> Vec<Value> {
    let Ok(folder) = std::fs::read_dir(site.path("state/stellaops/ledger")) else {
        return Vec::new();
    };
    folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        .collect()
}

fn verdict(site: &Site) -> Value {
    let receipt = std::fs::read(site.path("receipt.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    receipt["ledger"]["verdict"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_bundle_and_a_fork_are_refused_before_any_effect() {
    let site = site().await;
    let target = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let to = format!("--to {}/mirror", target.host());
    let ran = import(&site, "5", &to).await.done();
    assert!(
        ran.stdout
            .contains("ledger: sequence 5 of stream prod, the first "),
        "{ran:?}"
    );
    assert_eq!(verdict(&site), "first");
    assert_eq!(records(&site)[0]["sequence"], 5);
    let before = records(&site);

    target.clear_requests();
    for dry_run in ["", " --dry-run"] {
        let more = format!("{to}{dry_run}");
        import(&site, "4", &more).await.failed(
            5,
            &[
                "sequence 4 of stream prod",
                "sequence 5",
                "--allow-rollback",
            ],
        );
        import(&site, "fork", &more).await.failed(
            5,
            &[
                "sequence 5 of stream prod",
                "another one",
                "--allow-rollback",
            ],
        );
    }
    assert!(target.requests().is_empty(), "{:?}", target.requests());

    let allowed = format!("{to} --allow-rollback");
    let ran = import(&site, "4", &allowed).await.done();
    assert!(
        ran.stdout.contains("older than 5, and allowed; 5 stays"),
        "{ran:?}"
    );
    assert_eq!(verdict(&site), "rollback");
    import(&site, "fork", &allowed).await.done();
    assert_eq!(verdict(&site), "fork");
    assert_eq!(records(&site), before);
    import(&site, "5", &to).await.done();
    assert_eq!(verdict(&site), "same");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_target_has_its_own_series_and_a_folder_is_known_by_any_path() {
    let site = site().await;
    import(&site, "5", "").await.done();
    import(&site, "4", "--to oci:folder").await.done();
    assert_eq!(records(&site).len(), 2);
    import(&site, "5", "--to oci:./folder").await.done();
    site.shell("ln -s folder link").await.done();
    for folder in ["folder", "link", "./folder"] {
        import(&site, "4", &format!("--to oci:{folder}"))
            .await
            .failed(5, &["/folder has had sequence 5"]);
    }
    assert_eq!(records(&site).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_key_verified_or_has_no_sequence_is_not_recorded() {
    let site = site().await;
    let line = "bundle import --file 5.tgz --receipt receipt.json --log-level debug";
    let ran = site.stellaops(line).await.done();
    assert!(ran.stderr.contains("no ledger: no key"), "{ran:?}");
    assert_eq!(verdict(&site), "unverified");
    import(&site, "0", "").await.done();
    assert_eq!(verdict(&site), "unnumbered");
    import(&site, "5", "--dry-run").await.done();
    assert_eq!(verdict(&site), "first");
    assert!(!site.path("state").exists());
    site.stellaops("bundle import --file 5.tgz --allow-rollback")
        .await
        .failed(2, &["--key"]);
    let homeless = "env -u HOME -u XDG_STATE_HOME stellaops bundle import --file 5.tgz --key key.pub --to oci:x";
    site.shell(homeless).await.failed(2, &["XDG_STATE_HOME"]);
    assert!(!site.path("x").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_not_proved_is_not_recorded() {
    let site = site().await;
    let target = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let to = format!("--to {}", target.host());
    // Answers with an empty list whatever was pushed, and has no tag that could stand in for it.
    let empty = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let lie = Fault::body(200, "application/vnd.oci.image.index.v1+json", empty).forever();
    target.fault(Route::referrers(), lie);
    let referrers_tags = Route::path_prefix("/v2/app/manifests/sha256-".to_owned());
    target.fault(referrers_tags, Fault::statuses([404]).forever());
    let ran = import(&site, "5", &to).await;
    assert!([10, 11].contains(&ran.code), "{ran:?}");
    assert!(
        target
            .requests()
            .iter()
            .any(|request| request.method == "PUT")
    );
    assert_eq!(records(&site), Vec::<Value>::new());
    target.clear_faults();
    import(&site, "4", &to).await.done();
    assert_eq!(verdict(&site), "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_relied_on_stops_the_import_before_any_effect() {
    let site = site().await;
    import(&site, "4", "--to oci:folder").await.done();
    site.shell("for record in state/stellaops/ledger/*.json; do echo '{' > $record; done")
        .await
        .done();
    for more in ["", " --allow-rollback", " --dry-run"] {
        import(&site, "5", &format!("--to oci:folder{more}"))
            .await
            .failed(
                8,
                &["the ledger cannot be relied on", "stream prod", ".json"],
            );
    }
    site.shell("rm -r state && echo > state").await.done();
    import(&site, "5", "--to oci:new")
        .await
        .failed(8, &["ledger", "nothing was sent"]);
    assert!(!site.path("new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_delta_it_is_said_whether_its_base_was_the_last_bundle() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    for (name, text) in [("key.pem", KEY), ("key.pub", PUBLIC)] {
        std::fs::write(site.path(name), text).unwrap();
    }
    let export = format!(
        "bundle export {}/app:1.0 --sign-key key.pem",
        registry.host()
    );
    for words in [
        "--output 1.tgz --sequence 1",
        "--output 2.tgz --sequence 2 --base 1.tgz",
        "--output 3.tgz --sequence 3 --base 1.tgz",
    ] {
        site.stellaops(&format!("{export} {words}")).await.done();
    }
    for (file, said) in [
        ("1", "the first from this key into this target\n"),
        ("2", "after 1; its base is the bundle before\n"),
        ("3", "after 2; its base is not the bundle before"),
    ] {
        let ran = import(&site, file, "").await.done();
        assert!(ran.stdout.contains(said), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_no_record_is_held_against_is_warned_of_or_refused() {
    let site = site().await;
    let to = "--to oci:folder --overwrite-tags";
    import(&site, "5", to).await.done();
    let without_key = format!("bundle import --file 4.tgz {to}");
    for (ran, words) in [
        (import(&site, "0", to).await, "this bundle has no sequence"),
        (site.stellaops(&without_key).await, "no key was given"),
    ] {
        let ran = ran.done();
        let warning = "[WARN] oci:folder has had sequence 5 of stream prod";
        assert!(
            ran.stderr.contains(warning) && ran.stderr.contains(words),
            "{ran:?}"
        );
    }
    for (file, more, words) in [
        ("0", "--require-sequence", "has no sequence"),
        ("5", "--stream other", "of stream prod"),
        ("4", "--stream prod --require-sequence", "already"),
    ] {
        let ran = import(&site, file, &format!("{to} {more}")).await;
        ran.failed(5, &[words, "nothing was sent"]);
    }
    let ran = import(
        &site,
        "5",
        &format!("{to} --stream prod --require-sequence"),
    )
    .await
    .done();
    assert!(!ran.stderr.contains("[WARN]"), "{ran:?}");
    std::fs::write(
        site.path("c.yaml"),
        "import: {stream: other, require_sequence: true}\n",
    )
    .unwrap();
    let configured = "bundle import --file 5.tgz --to oci:folder --config c.yaml";
    site.stellaops(configured)
        .await
        .failed(5, &["stream other is wanted"]);
}
