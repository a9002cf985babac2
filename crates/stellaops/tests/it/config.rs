//! `stellaops config`: what is wrong with a configuration, and what it may contain.

use rcgen::{CertificateParams, KeyPair};

use crate::run::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_everything_that_it_names_has_no_errors() {
    let site = Site::new();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(site.path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(site.path("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(
        site.path("c.yaml"),
        "registries:\n  r.test: {ca_file: cert.pem, client_cert: cert.pem, client_key: env:CLIENT_KEY}\njobs:\n  nightly:\n    \
         images:\n    - reference: r.test/a\n    to: {bundle: \"nightly-{sequence}.tgz\", sign_key: file:key.pem}\n    \
         schedule: {cron: \"0 2 * * *\", time_zone: UTC}\n  by-hand:\n    images:\n    - reference: r.test/a\n    to: {oci: folder}\n\
         center:\n  tls: {cert: cert.pem, key: key.pem}\n",
    )
    .unwrap();
    let check = "CLIENT_KEY=\"$(cat key.pem)\" stellaops config check --config c.yaml";
    let ran = site.shell(check).await.done();
    assert!(
        ran.stdout
            .contains("c.yaml: no errors; 1 registry, 2 jobs\n"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("T02:00:00+00:00[UTC]"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.stderr, "");
    let document = site
        .shell(&format!("{check} --format json"))
        .await
        .done()
        .json();
    assert_eq!(document["ok"], true);
    assert_eq!(document["jobs"][1]["kind"], "bundle");
    assert_eq!(document["jobs"][0]["next"], serde_json::Value::Null);
    let next = document["jobs"][1]["next"].as_str().unwrap();
    assert!(
        next.starts_with('2') && next.ends_with("T02:00:00+00:00[UTC]"),
        "{next}"
    );

    // A variable of the service need not be set for the one who checks.
    let ran = site.stellaops("config check --config c.yaml").await.done();
    assert!(
        ran.stderr.contains("[WARN] configuration c.yaml: line 2 column 66: registries.r.test.client_key: there is no variable CLIENT_KEY"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_has_its_line_and_caret_and_no_secret_is_shown() {
    let site = Site::new();
    std::fs::write(site.path("junk.pem"), "junk").unwrap();
    std::fs::write(
        site.path("c.yaml"),
        "registries:\n  r.test: {ca_file: none.pem}\njobs:\n  j:\n    images:\n    - reference: r.test/a\n    \
         to: {bundle: \"b-{sequence}.tgz\", sign_key: junk.pem}\n    schedule: {cron: \"0 0 30 2 *\"}\n    notify:\n    \
         - {url: \"https://hooks.test/T0/hunter2\", on: [failed], secret: file:none}\n",
    )
    .unwrap();
    let ran = site.stellaops("config check --config c.yaml").await;
    assert_eq!(ran.code, 2);
    for part in [
        "line 2 column 21: registries.r.test.ca_file: none.pem: No such file",
        "2 |   r.test: {ca_file: none.pem}\n",
        "  |                     ^\n",
        "line 7 column 48: jobs.j.to.sign_key: ***: ",
        "line 8 column 22: jobs.j.schedule.cron: \"0 0 30 2 *\" never comes",
        "line 10 column 68: jobs.j.notify.0.secret: none: No such file",
        "[ERROR] configuration c.yaml: 4 errors",
    ] {
        assert!(ran.stderr.contains(part), "{part} is not in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let ran = site
        .stellaops("config check --config c.yaml --format json")
        .await;
    assert_eq!(ran.code, 2);
    let findings = ran.json()["findings"].as_array().unwrap().clone();
    assert_eq!(findings.len(), 4);
    assert_eq!(findings[0]["key"], "registries.r.test.ca_file");
    assert_eq!(
        (&findings[0]["line"], &findings[0]["column"]),
        (&2.into(), &21.into())
    );

    for (yaml, said) in [
        (
            "center:\n  tenant: a\n  secrt: hunter2\n",
            "line 3 column 3: unknown field `secrt`",
        ),
        (
            "jobs:\n  j:\n    images: [{reference: r.test/a}]\n    to: {oci: f}\n    notify:\n    - {url: \"https://a.test\", on: [failed], secret: hunter2}\n",
            "a secret cannot stand in the configuration: write env:VAR or file:PATH",
        ),
        (
            "jobs:\n  j:\n    images: [{reference: r.test/a}]\n    to: {oci: f}\n    notify:\n    - {url: \"http://a.test/hunter2\", on: [failed]}\n",
            "must be https",
        ),
    ] {
        std::fs::write(site.path("wrong.yaml"), yaml).unwrap();
        let ran = site.stellaops("config check --config wrong.yaml").await;
        let ran = ran.failed(2, &[said, "^"]);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        let line = "config check --config wrong.yaml --format json";
        let ran = site.stellaops(line).await;
        assert_eq!(ran.json()["ok"], false);
        assert!(!ran.stdout.contains("hunter2"), "{}", ran.stdout);
    }
    site.stellaops("config check --config none.yaml")
        .await
        .failed(2, &["none.yaml: No such file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_printed_as_json_and_in_words() {
    let site = Site::new();
    let schema = site.stellaops("config schema").await.done().json();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let words = site
        .stellaops("config schema --format markdown")
        .await
        .done();
    assert!(words.stdout.starts_with("# Configuration\n"));
}
