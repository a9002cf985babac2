//! Signed bundles: by this program and by openssl, checked by both.

use std::path::Path;

use test_registry::{Persona, TestRegistry};

use crate::run::{Site, registry_with_image};

/// Keys as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes them.
const KEY: &str = include_str!("signature/key.pem");
const PUBLIC: &str = include_str!("signature/key.pub");
const OTHER_PUBLIC: &str = include_str!("signature/other.pub");

fn has_openssl() -> bool {
    let ran = std::process::Command::new("openssl")
        .arg("version")
        .output();
    ran.is_ok_and(|output| output.status.success())
}

async fn site(registry: &TestRegistry) -> Site {
    let site = Site::new();
    for (name, text) in [
        ("key.pem", KEY),
        ("key.pub", PUBLIC),
        ("other.pub", OTHER_PUBLIC),
    ] {
        std::fs::write(site.path(name), text).unwrap();
    }
    let export = format!("bundle export {}/app:1.0", registry.host());
    site.stellaops(&format!("{export} --output signed.tgz --sign-key key.pem"))
        .await
        .done();
    site.stellaops(&format!("{export} --output plain.tgz"))
        .await
        .done();
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_bundle_is_accepted_with_its_key_alone() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let target = TestRegistry::start(Persona::SpecFull).await;
    let site = site(&registry).await;
    site.stellaops("bundle validate --file signed.tgz --key key.pub --check-referrers")
        .await
        .done();
    // Without a key nobody has asked.
    site.stellaops("bundle validate --file signed.tgz")
        .await
        .done();
    for (file, kind) in [
        ("signed.tgz --key other.pub", "SignatureInvalid"),
        ("plain.tgz --key key.pub", "SignatureMissing"),
    ] {
        let line = format!("bundle validate --file {file} --format json");
        let ran = site.stellaops(&line).await;
        let findings = ran.json()["findings"].clone();
        assert_eq!(findings.as_array().unwrap().len(), 1, "{findings}");
        assert_eq!(
            (&findings[0]["kind"], &findings[0]["stage"]),
            (&kind.into(), &"signature".into())
        );
        ran.failed(5, &[kind]);
        let line = format!("bundle import --file {file} --to {}", target.host());
        site.stellaops(&line).await.failed(5, &[kind]);
    }
    assert!(target.requests().is_empty(), "{:?}", target.requests());
    let line = format!(
        "bundle import --file signed.tgz --key key.pub --to {}",
        target.host()
    );
    site.stellaops(&line).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_keys_is_enough_and_is_named() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = site(&registry).await;
    let inspect = "bundle inspect --file signed.tgz --format json";
    let key = site.stellaops(inspect).await.done().json()["signature"]["keyHint"].clone();
    let validate = "bundle validate --file signed.tgz --key other.pub";
    let ran = site
        .stellaops(&format!("{validate} --key key.pub --format json"))
        .await
        .done();
    assert_eq!(ran.json()["signedBy"], key);
    let ran = site
        .stellaops(&format!("{validate} --key key.pub"))
        .await
        .done();
    let line = format!("signed by the key {}\n", key.as_str().unwrap());
    assert!(ran.stdout.contains(&line), "{ran:?}");
    let ran = site
        .stellaops(&format!("{validate} --key other.pub --format json"))
        .await;
    let finding = &ran.json()["findings"][0];
    let found = "none of these keys made it over this manifest.yaml";
    assert_eq!(finding["found"], found);
    assert_eq!(ran.json()["signedBy"], serde_json::Value::Null);
    ran.failed(5, &["SignatureInvalid"]);
    let import = "bundle import --file signed.tgz --key other.pub --key key.pub --to oci:out";
    let ran = site
        .stellaops(&format!("{import} --format json"))
        .await
        .done();
    assert_eq!(ran.json()["signedBy"], key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_variable_signs_the_same_bytes_as_one_in_a_file() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = site(&registry).await;
    let line = format!(
        "SIGN_KEY=\"$(cat key.pem)\" stellaops bundle export {}/app:1.0 --output again.tgz \
         --sign-key env:SIGN_KEY && cmp signed.tgz again.tgz",
        registry.host()
    );
    site.shell(&line).await.done();
    let export = format!(
        "bundle export {}/app:1.0 --output b.tgz --sign-key",
        registry.host()
    );
    for (key, part) in [
        ("env:NO_SUCH_KEY", "env:NO_SUCH_KEY"),
        ("missing.pem", "missing.pem"),
        ("key.pub", "openssl pkcs8 -topk8"),
        ("/dev/zero", "larger than 65536 bytes"),
    ] {
        site.stellaops(&format!("{export} {key}"))
            .await
            .failed(2, &[part]);
    }
    assert!(!site.path("b.tgz").exists());
    for (arguments, part) in [
        ("--key key.pem", "-pubout"),
        ("--key missing.pub", "missing.pub"),
        ("--key key.pub --signature missing.sig", "missing.sig"),
        ("--signature key.pub", "--key"),
    ] {
        let line = format!("bundle validate --file signed.tgz {arguments}");
        site.stellaops(&line).await.failed(2, &[part]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extracted_bundle_keeps_its_signature_and_is_packed_with_it() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = site(&registry).await;
    site.shell("mkdir x && tar -xzf signed.tgz -C x")
        .await
        .done();
    site.stellaops("bundle validate --file x --key key.pub")
        .await
        .done();
    site.stellaops("bundle pack x --output packed.tgz")
        .await
        .done();
    site.shell("cmp signed.tgz packed.tgz").await.done();
    // The same statements in another encoding: the manifest is neither the signed one nor one at all.
    site.shell("printf '# nothing\\n' >> x/manifest.yaml")
        .await
        .done();
    site.stellaops("bundle validate --file x --key key.pub")
        .await
        .failed(5, &["SignatureInvalid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_what_this_program_signs_by_the_lines_that_inspect_prints() {
    if !has_openssl() {
        eprintln!("skipped: there is no openssl on the path");
        return;
    }
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = site(&registry).await;
    for file in ["signed.tgz", "odd name: it's.tgz"] {
        if !site.path(file).exists() {
            std::fs::copy(site.path("signed.tgz"), site.path(file)).unwrap();
        }
        let line = format!("stellaops bundle inspect --file \"{file}\" --format json");
        let document = site.shell(&line).await.done().json();
        let signature = &document["signature"];
        let lines = |name: &str| {
            let lines = signature[name].as_array().unwrap().iter();
            lines
                .map(|line| line.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let check = [lines("extract"), lines("openssl")].concat().join(" && ");
        let right = check.replace("KEY.pub", "key.pub");
        let ran = site.shell(&right).await.done();
        assert!(ran.stdout.contains("Verified OK"), "{ran:?}");
        let wrong = site.shell(&check.replace("KEY.pub", "other.pub")).await;
        assert_ne!(wrong.code, 0);
        let text = site.shell(&line.replace(" --format json", "")).await.done();
        let cosign = "cosign verify-blob --key KEY.pub --bundle manifest.yaml.sigstore.json --insecure-ignore-tlog manifest.yaml";
        assert!(text.stdout.contains(cosign), "{text:?}");
        let id = site
            .shell("openssl pkey -pubin -in key.pub -outform DER | sha256sum")
            .await
            .done();
        let id = format!("sha256:{}", id.stdout.split(' ').next().unwrap());
        assert_eq!(signature["keyHint"], id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_by_openssl_over_the_printed_manifest_is_accepted_from_beside_the_bundle() {
    if !has_openssl() {
        eprintln!("skipped: there is no openssl on the path");
        return;
    }
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = site(&registry).await;
    site.shell(
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out own.pem 2>&1 && \
         openssl pkey -in own.pem -pubout -out own.pub && \
         stellaops bundle manifest --file plain.tgz | openssl dgst -sha256 -sign own.pem > m.der && \
         openssl base64 -A -in m.der -out m.b64",
    )
    .await
    .done();
    for signature in ["m.der", "m.b64"] {
        let line = format!("--key own.pub --signature {signature}");
        site.stellaops(&format!("bundle validate --file plain.tgz {line}"))
            .await
            .done();
        // It takes the place of a signature inside, and covers the same manifest there.
        site.stellaops(&format!("bundle validate --file signed.tgz {line}"))
            .await
            .done();
        let line =
            format!("bundle validate --file plain.tgz --key key.pub --signature {signature}");
        site.stellaops(&line).await.failed(5, &["SignatureInvalid"]);
    }
    site.shell("tar -xOf signed.tgz manifest.yaml.sigstore.json > m.sigstore.json")
        .await
        .done();
    site.stellaops("bundle validate --file plain.tgz --key key.pub --signature m.sigstore.json")
        .await
        .done();
    site.stellaops("bundle import --file plain.tgz --key own.pub --signature m.der --to oci:out")
        .await
        .done();
    assert!(Path::new(&site.path("out")).is_dir());
}
