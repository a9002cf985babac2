//! What the operators' runbook shows, run as it stands there. Only what it leaves open is filled in: the path of the
//! log file, and the digests of its example.

use std::path::Path;

use test_registry::{Fault, Persona, Route};

use crate::run::{Site, registry_with_image};

const LOG: &str = "/var/log/stellaops/export-center.log";
const GREP_PROBING: &str =
    r#"grep "Probing.*registries for OCI referrer" /var/log/stellaops/export-center.log"#;
const GREP_RESULTS: &str = r#"grep "Registry.*OCI 1" /var/log/stellaops/export-center.log"#;
const LIST: &str = r#"tar -tzf bundle.tgz | grep "^referrers/""#;
const COUNTS: &str = r#"tar -xzf bundle.tgz -O manifest.yaml | grep -A5 "referrers:""#;
const CHECKSUM: &str =
    "tar -xzf bundle.tgz -O referrers/sha256-abc123/sha256-def456.json | sha256sum";
const VALIDATE: &str = "stellaops bundle validate --file bundle.tgz --check-referrers";
const IMPORT: &str = "stellaops bundle import --file bundle.tgz --strict-referrer-validation";
const VERIFY: &str = "sha256sum bundle.tgz";

#[test]
fn the_commands_here_are_the_ones_of_the_runbook() {
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/runbook.md");
    let Ok(text) = std::fs::read_to_string(runbook) else {
        eprintln!("skipped: the runbook is not beside this checkout");
        return;
    };
    for line in [
        GREP_PROBING,
        GREP_RESULTS,
        LIST,
        COUNTS,
        CHECKSUM,
        VALIDATE,
        IMPORT,
        VERIFY,
    ] {
        assert!(text.contains(line), "the runbook has no {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_validation_commands_and_greps_work_on_a_bundle_of_this_program() {
    let (native, fallback) = (
        registry_with_image(Persona::SpecFull).await,
        registry_with_image(Persona::Dist2).await,
    );
    let site = Site::new();
    let export = format!(
        "bundle export {}/app:1.0 {}/app:1.0 --output bundle.tgz --log-file export.log --metrics-file m.prom",
        native.host(),
        fallback.host()
    );
    site.stellaops(&export).await.done();

    let probing = site
        .shell(&GREP_PROBING.replace(LOG, "export.log"))
        .await
        .done()
        .stdout;
    let expected = "[INFO] Probing 2 registries for OCI referrer capabilities before export";
    assert!(probing.trim_end().ends_with(expected), "{probing}");
    let results = site
        .shell(&GREP_RESULTS.replace(LOG, "export.log"))
        .await
        .done()
        .stdout;
    let (native_host, fallback_host) = (native.host(), fallback.host());
    for expected in [
        format!(
            "[INFO] Registry {native_host}: OCI 1.1 (referrers API supported, version=registry/2.0, probe_ms="
        ),
        format!(
            "[WARN] Registry {fallback_host}: OCI 1.0 (using fallback tag discovery, version=registry/2.0, probe_ms="
        ),
    ] {
        assert!(
            results.contains(&expected),
            "{expected} is not in\n{results}"
        );
    }

    let list = site.shell(LIST).await.done().stdout;
    assert_eq!(list.lines().count(), 8, "{list}");
    let counts = site.shell(COUNTS).await.done().stdout;
    assert_eq!(counts.matches("referrers:").count(), 1, "{counts}");
    for expected in [
        "total: 8",
        "subjects: 4",
        "bare_images: 0",
        "status: complete",
    ] {
        assert!(counts.contains(expected), "{counts}");
    }
    let path = list.lines().next().unwrap();
    let (folder, name) = path
        .strip_prefix("referrers/")
        .unwrap()
        .split_once('/')
        .unwrap();
    let command = CHECKSUM
        .replace("sha256-abc123", folder)
        .replace("sha256-def456.json", name);
    let sum = site.shell(&command).await.done().stdout;
    assert_eq!(
        name,
        format!("sha256-{}.json", sum.split_whitespace().next().unwrap())
    );

    let whole = site.shell(VERIFY).await.done().stdout;
    assert_eq!(
        whole,
        std::fs::read_to_string(site.path("bundle.tgz.sha256")).unwrap()
    );
    let validated = site.shell(VALIDATE).await.done().stdout;
    assert!(validated.contains("bundle.tgz: valid"), "{validated}");

    let metrics = std::fs::read_to_string(site.path("m.prom")).unwrap();
    for expected in [
        format!(
            "export_registry_capabilities_probed_total{{registry=\"{native_host}\",api_supported=\"true\"}} 1"
        ),
        format!(
            "export_registry_capabilities_probed_total{{registry=\"{fallback_host}\",api_supported=\"false\"}} 1"
        ),
        format!(
            "export_referrer_discovery_method_total{{registry=\"{native_host}\",method=\"native\"}} 1"
        ),
        format!(
            "export_referrer_discovery_method_total{{registry=\"{fallback_host}\",method=\"fallback-tag\"}} 1"
        ),
    ] {
        assert!(
            metrics.contains(&expected),
            "{expected} is not in\n{metrics}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_import_line_works_as_it_stands() {
    let registry = registry_with_image(Persona::Dist2).await;
    let site = Site::new();
    site.stellaops(&format!(
        "bundle export {}/app:1.0 --output bundle.tgz",
        registry.host()
    ))
    .await
    .done();
    let imported = site.shell(IMPORT).await.done().stdout;
    assert!(
        imported.contains("8 of 8 referrers found on the target"),
        "{imported}"
    );
    assert!(site.path("data/stellaops/store/oci-layout").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_fails_is_said_in_the_words_that_it_greps_for() {
    let registry = registry_with_image(Persona::SpecFull).await;
    registry.fault(Route::referrers(), Fault::statuses([418]).forever());
    let site = Site::new();
    let line = format!(
        "bundle export {}/app:1.0 --output bundle.tgz --log-file export.log",
        registry.host()
    );
    site.stellaops(&line)
        .await
        .failed(11, &["--allow-incomplete"]);
    let log = std::fs::read_to_string(site.path("export.log")).unwrap();
    let expected = format!(
        "[WARN] Failed to probe capabilities for registry {}: ",
        registry.host()
    );
    assert!(log.contains(&expected), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_two_configuration_keys_are_read() {
    let registry = registry_with_image(Persona::SpecFull).await;
    registry.fault(Route::referrers(), Fault::stall().forever());
    let site = Site::new();
    let config = "export:\n  referrer_discovery:\n    timeout_seconds: 1\n    max_concurrent_discoveries: 4\n";
    std::fs::write(site.path("config.yaml"), config).unwrap();
    let ran = site
        .stellaops(&format!(
            "--config config.yaml referrers discover {}/app:1.0",
            registry.host()
        ))
        .await;
    assert!(ran.stderr.contains("after 1 s"), "{}", ran.stderr);
    std::fs::write(
        site.path("config.yaml"),
        config.replace("timeout_seconds", "timeout"),
    )
    .unwrap();
    let line = format!(
        "--config config.yaml referrers discover {}/app:1.0",
        registry.host()
    );
    site.stellaops(&line)
        .await
        .failed(2, &["config.yaml", "timeout", "3"]);
}
