//! `--policy` at export, validation and import, with the example of docs/policy.md.

use std::path::Path;
use std::time::{Duration, SystemTime};

use test_registry::{Persona, TestIndex, TestRegistry};

use crate::run::{Ran, Site};

const SBOM: &str = "application/vnd.cyclonedx+json";
const ATTESTATION: &str = "application/vnd.in-toto+json";
const SIGNATURE: &str = "application/vnd.cncf.notary.signature";
const REPOSITORY: &str = "team/app";

/// The example of the documentation, for the registry of a test.
fn example(registry: &TestRegistry) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```\n").unwrap();
    example.replace("registry.example.com", &registry.host().to_string())
}

/// A scan result that was made so many days ago.
fn scan(days: u64) -> String {
    let time = SystemTime::now() - Duration::from_secs(days * 86_400);
    let date = humantime::format_rfc3339_seconds(time);
    format!(r#"{{"_type":"x","predicate":{{"metadata":{{"scanFinishedOn":"{date}"}}}}}}"#)
}

/// An image of two platforms with all that the example demands but the SBOM of the second platform and a scan.
async fn start() -> (TestRegistry, TestIndex) {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let image = registry.index(REPOSITORY, "1.0", &["linux/amd64", "linux/arm64"]);
    registry.referrer(REPOSITORY, &image.descriptor, SIGNATURE, "of the image");
    signed_sbom(&registry, &image, 0);
    (registry, image)
}

fn signed_sbom(registry: &TestRegistry, image: &TestIndex, platform: usize) {
    let payload = format!("sbom {platform}");
    let sbom = registry.referrer(REPOSITORY, &image.children[platform], SBOM, payload);
    let of = format!("of sbom {platform}");
    registry.referrer(REPOSITORY, &sbom, SIGNATURE, of);
}

/// Returns kind and image of each finding; all of them are of the policy.
fn findings(ran: &Ran) -> Vec<(String, String)> {
    let document = ran.json();
    let findings = document["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| {
            assert_eq!(finding["stage"], "policy", "{finding}");
            assert!(
                finding["expected"]
                    .as_str()
                    .unwrap()
                    .contains("the rule \""),
                "{finding}"
            );
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            (text("kind"), text("path"))
        })
        .collect()
}

/// Runs the three commands; asserts that they agree, and returns what they found.
async fn judged(site: &Site, registry: &TestRegistry, code: i32) -> Vec<(String, String)> {
    let image = format!("{}/{REPOSITORY}:1.0", registry.host());
    let export = format!("bundle export {image} --overwrite --format json");
    site.stellaops(&format!("{export} --output b.tgz"))
        .await
        .done();
    let validate = "bundle validate --file b.tgz --policy policy.yaml --format json";
    let validated = site.stellaops(validate).await;
    let found = findings(&validated);
    assert_eq!(validated.code, code, "{validated:?}");
    let before = registry.requests().len();
    let exported = site
        .stellaops(&format!("{export} --output p.tgz --policy policy.yaml"))
        .await;
    assert_eq!(exported.code, code, "{exported:?}");
    let import = "bundle import --file b.tgz --to oci:out --policy policy.yaml";
    if code == 0 {
        site.shell("cmp b.tgz p.tgz && rm p.tgz").await.done();
        site.stellaops(import).await.done();
        site.shell("rm -r out").await.done();
    } else {
        assert_eq!(findings(&exported), found);
        exported.failed(code, &["the policy forbids it"]);
        assert!(!site.path("p.tgz").exists());
        assert!(
            site.files().iter().all(|name| !name.contains("partial")),
            "{:?}",
            site.files()
        );
        site.stellaops(import).await.failed(code, &["not valid"]);
        assert!(!site.path("out").exists());
    }
    assert!(registry.requests().len() > before);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_documentation_is_judged_alike_at_export_validation_and_import() {
    let (registry, image) = start().await;
    let site = Site::new();
    std::fs::write(site.path("policy.yaml"), example(&registry)).unwrap();
    let reference = format!("{}/{REPOSITORY}:1.0", registry.host());
    let about = |kind: &str| (kind.to_owned(), reference.clone());

    let missing = about("RequiredReferrerMissing");
    assert_eq!(
        judged(&site, &registry, 11).await,
        [missing.clone(), missing.clone()]
    );
    signed_sbom(&registry, &image, 1);
    registry.referrer(REPOSITORY, &image.descriptor, ATTESTATION, scan(31));
    assert_eq!(
        judged(&site, &registry, 11).await,
        [about("ReferrerTooOld")]
    );
    registry.referrer(REPOSITORY, &image.descriptor, ATTESTATION, scan(2));
    assert_eq!(judged(&site, &registry, 0).await, []);

    let unsigned = registry.referrer(REPOSITORY, &image.descriptor, SBOM, "unsigned");
    let retired = "application/vnd.example.oldscan.v2";
    registry.referrer(REPOSITORY, &unsigned, retired, "on a referrer");
    let found = judged(&site, &registry, 11).await;
    assert_eq!(
        found,
        [about("DeniedReferrer"), about("RequiredSignatureMissing")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_finding_names_rule_platform_and_what_is_there_instead() {
    let (registry, image) = start().await;
    registry.referrer(REPOSITORY, &image.descriptor, ATTESTATION, scan(1));
    let site = Site::new();
    std::fs::write(site.path("policy.yaml"), example(&registry)).unwrap();
    let line = format!(
        "bundle export {}/{REPOSITORY}:1.0 --output b.tgz --policy policy.yaml",
        registry.host()
    );
    let ran = site
        .stellaops(&line)
        .await
        .failed(11, &["1 of its demands"]);
    for part in [
        "error RequiredReferrerMissing ",
        "on the platform linux/arm64 (sha256:",
        "as the rule \"an SBOM for each platform\" demands",
        "  found     none\n",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_about_no_image_is_a_warning_and_refused_at_an_import() {
    let (registry, _) = start().await;
    let site = Site::new();
    let policy = "version: 1\nrules:\n- name: elsewhere\n  images: [\"other.example.com/**\"]\n  signed: [image]\n";
    std::fs::write(site.path("policy.yaml"), policy).unwrap();
    let line = format!(
        "bundle export {}/{REPOSITORY}:1.0 --output b.tgz --policy policy.yaml",
        registry.host()
    );
    let ran = site.stellaops(&line).await.done();
    assert!(
        ran.stderr
            .contains("[WARN] the policy expects an image of other.example.com/**"),
        "{ran:?}"
    );
    let ran = site
        .stellaops("bundle validate --file b.tgz --policy policy.yaml")
        .await
        .done();
    assert!(ran.stdout.contains("warning PolicyRuleUnused\n"), "{ran:?}");
    assert!(ran.stdout.contains("0 errors, 1 warning\n"), "{ran:?}");
    let import = "bundle import --file b.tgz --to oci:folder --policy policy.yaml";
    let ran = site
        .stellaops(import)
        .await
        .failed(11, &["PolicyRuleUnused", "unused: allow"]);
    assert!(!site.path("folder").exists(), "{ran:?}");
    std::fs::write(site.path("policy.yaml"), format!("unused: allow\n{policy}")).unwrap();
    site.stellaops(import).await.done();
    // By where images go, whatever host they come from.
    let target = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let inside = format!(
        "version: 1\nrules:\n- name: inside\n  target: [\"{}/mirror/**\"]\n  require: {{category: vex}}\n",
        target.host()
    );
    std::fs::write(site.path("policy.yaml"), inside).unwrap();
    let import = format!(
        "bundle import --file b.tgz --policy policy.yaml --to {}",
        target.host()
    );
    let ran = site.stellaops(&format!("{import}/mirror")).await;
    ran.failed(11, &["RequiredReferrerMissing"]);
    site.stellaops(&import)
        .await
        .failed(11, &["PolicyRuleUnused"]);
    assert!(target.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_has_to_be_signed_is_by_the_key_of_each_side() {
    let (registry, _) = start().await;
    let site = Site::new();
    for (name, text) in [
        (
            "policy.yaml",
            "version: 1\nrules:\n- name: ours\n  signed: [bundle]\n",
        ),
        ("key.pem", include_str!("signature/key.pem")),
        ("key.pub", include_str!("signature/key.pub")),
    ] {
        std::fs::write(site.path(name), text).unwrap();
    }
    let export = format!(
        "bundle export {}/{REPOSITORY}:1.0 --output b.tgz --policy policy.yaml",
        registry.host()
    );
    let ran = site.stellaops(&export).await.failed(11, &["policy"]);
    assert!(
        ran.stdout.contains("error RequiredSignatureMissing\n"),
        "{ran:?}"
    );
    site.stellaops(&format!("{export} --sign-key key.pem"))
        .await
        .done();
    let validate = "bundle validate --file b.tgz --policy policy.yaml";
    let ran = site.stellaops(validate).await.failed(11, &["--key"]);
    assert!(ran.stdout.contains("RequiredSignatureMissing"), "{ran:?}");
    site.stellaops(&format!("{validate} --key key.pub"))
        .await
        .done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_cannot_be_read_is_named_with_its_line_before_anything_is_asked() {
    let (registry, _) = start().await;
    let site = Site::new();
    let wrong = "version: 1\nrules:\n- name: x\n  requires: {category: sbom}\n";
    std::fs::write(site.path("wrong.yaml"), wrong).unwrap();
    std::fs::write(site.path("binary.yaml"), b"\xff\xfe").unwrap();
    let before = registry.requests().len();
    let export = format!(
        "bundle export {}/{REPOSITORY}:1.0 --output b.tgz",
        registry.host()
    );
    for command in [
        &*export,
        "bundle validate --file b.tgz",
        "bundle import --file b.tgz",
    ] {
        for (file, parts) in [
            (
                "wrong.yaml",
                ["--policy wrong.yaml: line 4 column 3", "`requires`"],
            ),
            ("missing.yaml", ["--policy missing.yaml: ", "No such file"]),
            ("binary.yaml", ["--policy binary.yaml: ", "UTF-8"]),
            (
                "/dev/zero",
                ["--policy /dev/zero: ", "larger than 1048576 bytes"],
            ),
        ] {
            site.stellaops(&format!("{command} --policy {file}"))
                .await
                .failed(2, &parts);
        }
    }
    assert_eq!(registry.requests().len(), before);
}
