use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Site, registry_with_image};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_tag_or_digest_is_access_denied_with_its_name() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let host = registry.host();
    site.stellaops(&format!("referrers discover {host}/app:9.9"))
        .await
        .failed(10, &["app:9.9", "404"]);
    let digest = format!("sha256:{}", "0".repeat(64));
    site.stellaops(&format!("referrers discover {host}/app@{digest}"))
        .await
        .failed(10, &[&digest, "404"]);
    let line = format!("bundle export {host}/app:9.9 --output b.tgz");
    site.stellaops(&line).await.failed(10, &["app:9.9"]);
    assert_eq!(
        site.files(),
        Vec::<String>::new(),
        "nothing is left under any name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_document_is_printed_whatever_goes_wrong() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let ran = site
        .stellaops(&format!(
            "referrers discover {}/app:9.9 --format json",
            registry.host()
        ))
        .await;
    let document = ran.failed(10, &[]).json();
    assert_eq!(
        (
            &document["status"],
            document["referrers"].as_array().unwrap().len()
        ),
        (&"incomplete".into(), 0)
    );
    assert_eq!(document["errors"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_there_is_a_network_failure() {
    let site = Site::new();
    // Nothing listens on the port of a registry that has ended.
    let host = TestRegistry::start(Persona::SpecFull).await.host();
    let config = "registries: {}\n";
    std::fs::write(site.path("config.yaml"), config).unwrap();
    site.stellaops(&format!("referrers discover {host}/app:1.0"))
        .await
        .failed(9, &[&host]);
    site.stellaops("referrers discover no-such-host.invalid/app:1.0")
        .await
        .failed(9, &["no-such-host.invalid"]);
    site.stellaops("registry probe no-such-host.invalid/app")
        .await
        .failed(9, &["1 of 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_needs_a_login_is_access_denied() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .credentials("user", "secret")
        .start()
        .await;
    registry.image("app", "1.0");
    let site = Site::new();
    let line = format!("referrers discover {}/app:1.0", registry.host());
    site.stellaops(&line).await.failed(10, &["app:1.0"]);
    let auth = format!(
        r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#,
        registry.host()
    );
    std::fs::write(site.path("auth.json"), auth).unwrap();
    site.stellaops(&format!("{line} --registry-config auth.json"))
        .await
        .done();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_parse_is_usage() {
    let site = Site::new();
    for (line, part) in [
        ("referrers discover alpine:3", "docker.io/library/alpine:3"),
        ("referrers discover https://a.example/b", "scheme"),
        ("referrers discover a.example/B:1", "upper-case"),
        (
            "bundle export a.example/b:1 --output b.tgz --platform linux",
            "OS/ARCH",
        ),
        ("bundle export a.example/b:1", "--output"),
        ("bundle export --output b.tgz", "no image"),
        ("bundle import --file b.tgz --to oci:", "no folder"),
        (
            "bundle import --file b.tgz --to a.example/b:1",
            "a.example/b:1",
        ),
        ("--config missing.yaml demo", "missing.yaml"),
        ("--registry-config missing.json demo", "missing.json"),
        ("--ca-file missing.pem demo", "missing.pem"),
        ("store serve --listen 0.0.0.0:5000", "loopback"),
    ] {
        let ran = site.stellaops(line).await.failed(2, &[part]);
        assert_eq!(ran.stdout, "", "{line}");
    }
    assert_eq!(site.files(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_bundle_is_refused_and_imports_nothing() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let target = TestRegistry::start(Persona::SpecFull).await;
    let site = Site::new();
    site.stellaops(&format!(
        "bundle export {}/app:1.0 --output good.tgz",
        registry.host()
    ))
    .await
    .done();
    let good = std::fs::read(site.path("good.tgz")).unwrap();
    std::fs::write(site.path("short.tgz"), &good[..good.len() / 2]).unwrap();
    std::fs::write(site.path("text.tgz"), "not a bundle at all").unwrap();
    std::fs::write(site.path("empty.tgz"), "").unwrap();
    site.shell("mkdir x && echo hello > x/file && tar -czf foreign.tgz x")
        .await
        .done();
    for (file, code, part) in [
        ("short.tgz", 3, "short.tgz"),
        ("text.tgz", 3, "text.tgz"),
        ("empty.tgz", 3, "empty.tgz"),
        (
            "foreign.tgz",
            3,
            "stellaops bundle pack FOLDER --output FILE",
        ),
        ("missing.tgz", 8, "missing.tgz"),
    ] {
        site.stellaops(&format!("bundle validate --file {file}"))
            .await
            .failed(code, &[part]);
        let line = format!("bundle import --file {file} --to {}", target.host());
        site.stellaops(&line).await.failed(code, &[part]);
    }
    assert!(target.requests().is_empty(), "{:?}", target.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_exists_or_cannot_be_written_is_refused_before_any_request() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 --output", registry.host());
    std::fs::write(site.path("there.tgz"), "mine").unwrap();
    site.stellaops(&format!("{export} there.tgz"))
        .await
        .failed(2, &["there.tgz", "--overwrite"]);
    assert_eq!(std::fs::read(site.path("there.tgz")).unwrap(), b"mine");
    site.stellaops(&format!("{export} no/such/folder/b.tgz"))
        .await
        .failed(8, &["no/such/folder"]);
    std::fs::create_dir(site.path("locked")).unwrap();
    std::fs::set_permissions(site.path("locked"), std::fs::Permissions::from_mode(0o500)).unwrap();
    // Who may write everywhere cannot be refused a folder.
    if std::fs::write(site.path("locked/probe"), "").is_err() {
        site.stellaops(&format!("{export} locked/b.tgz"))
            .await
            .failed(8, &["locked"]);
    }
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
    site.stellaops(&format!("{export} there.tgz --overwrite"))
        .await
        .done();
    assert_ne!(std::fs::read(site.path("there.tgz")).unwrap(), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_bundle_can_have_is_refused_before_any_request() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0", registry.host());
    for (output, parts) in [
        ("-", ["standard output", "./-"]),
        ("b.zip", ["not a .zip file", "NAME.tgz"]),
        ("b.tar.zst", ["not a .zst file", "NAME.tar"]),
    ] {
        let line = format!("{export} -o {output}");
        site.stellaops(&line).await.failed(2, &parts);
        let line = format!("bundle pack folder -o {output}");
        site.stellaops(&line).await.failed(2, &parts);
    }
    std::fs::write(site.path("c.yaml"), "export:\n  output: b.zip\n").unwrap();
    let line = format!("{export} --config c.yaml");
    site.stellaops(&line).await.failed(2, &["not a .zip file"]);
    let missing = site.stellaops(&format!("{export} -o nodir/b.tgz")).await;
    let missing = missing.failed(8, &["nodir: there is no such folder"]);
    assert!(!missing.stderr.contains("partial"), "{}", missing.stderr);
    let line = format!("{export} -o c.yaml/b.tgz --volume-size 1MiB");
    let file = site.stellaops(&line).await;
    file.failed(8, &["c.yaml: it is not a folder"]);
    assert_eq!(registry.requests().len(), 0);
    assert_eq!(site.files(), ["c.yaml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_without_its_option_gets_the_tip() {
    let site = Site::new();
    for command in ["validate", "inspect", "import --dry-run", "manifest"] {
        let line = format!("bundle {command} b.tgz");
        site.stellaops(&line)
            .await
            .failed(2, &["tip: ", "--file b.tgz"]);
    }
    let other = site.stellaops("bundle validate --flie b.tgz").await;
    let other = other.failed(2, &["--flie", "'--file'"]);
    assert!(
        !other.stderr.contains("give the bundle with an option"),
        "{other:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_as_other_tools_write_it_is_answered_with_what_to_write() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let export = format!("bundle export {}/app:1.0 -o b.tgz", registry.host());
    site.stellaops(&export).await.done();
    for (to, instead) in [
        (
            "http://r.test:5000/a",
            "--to r.test:5000/a --plain-http r.test:5000",
        ),
        ("https://r.test/a", "--to r.test/a"),
        ("HTTPS://u:secret@r.test", "--to r.test"),
        ("docker://r.test/a", "--to r.test/a"),
        ("oci-layout:some/folder", "oci:some/folder"),
        ("ocidir://some/folder", "oci:some/folder"),
        ("dir:/some/folder", "oci:/some/folder"),
        ("./folder", "oci:./folder"),
        ("/folder", "oci:/folder"),
        ("containers-storage:r.test/a", "oci:FOLDER"),
        ("s3://bucket/key", "oci:FOLDER"),
        ("ftp://r.test/a", "oci:FOLDER"),
    ] {
        let line = format!("bundle import --file b.tgz --to {to}");
        let refused = site.stellaops(&line).await.failed(2, &["--to ", instead]);
        assert!(!refused.stderr.contains("secret"), "{refused:?}");
        assert!(!refused.stderr.contains("the port is not"), "{refused:?}");
    }
    for target in ["https://r.test", "docker://r.test/a"] {
        let line = format!("registry probe {target}");
        site.stellaops(&line)
            .await
            .failed(2, &["leave out the scheme"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_type_that_none_has_is_answered_with_those_that_are_there() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let discover = format!("referrers discover {}/app:1.0", registry.host());
    let none = site
        .stellaops(&format!("{discover} --artifact-type sbom"))
        .await;
    let hint = "hint: no referrer has this artifact type; found: ";
    let none = none.done().stdout;
    assert!(
        none.contains(hint) && none.contains("application/vnd.cyclonedx+json ("),
        "{none}"
    );
    let some = format!("{discover} --artifact-type application/vnd.cyclonedx+json");
    for line in [&discover, &some] {
        assert!(!site.stellaops(line).await.done().stdout.contains("hint"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_to_do_about_a_finding_is_said_once() {
    let site = Site::new();
    std::fs::write(site.path("b.tgz"), "no bundle").unwrap();
    for command in ["validate", "import"] {
        let ran = site
            .stellaops(&format!("bundle {command} --file b.tgz"))
            .await;
        let ran = ran.failed(3, &["b.tgz is not valid, 1 error (NotABundle): "]);
        let (_, remedy) = ran.stderr.trim_end().split_once("(NotABundle): ").unwrap();
        assert!(remedy.len() > 20 && !ran.stdout.contains(remedy), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metrics_file_that_cannot_be_written_is_told_before_any_request() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    std::fs::create_dir(site.path("folder")).unwrap();
    let discover = format!("referrers discover {}/app:1.0", registry.host());
    for file in ["nodir/m.prom", "folder", "/proc/m.prom"] {
        let line = format!("{discover} --metrics-file {file}");
        let parts = [&*format!("--metrics-file {file}: ")];
        let ran = site.stellaops(&line).await.failed(8, &parts);
        assert_eq!(ran.stdout, "");
    }
    assert_eq!(registry.requests().len(), 0);
    // It goes while the command runs.
    registry.fault(Route::referrers(), Fault::delay(Duration::from_secs(2)));
    let line =
        format!("(sleep 1; rmdir folder) & stellaops {discover} --metrics-file folder/m.prom");
    let late = site
        .shell(&line)
        .await
        .failed(8, &["--metrics-file folder/m.prom: "]);
    assert!(late.stdout.contains("complete: "), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_yaml_file_shows_the_line_and_a_caret_and_no_secret() {
    let site = Site::new();
    for (file, yaml, line, quoted) in [
        (
            "c.yaml",
            "registries:\n  r.test:\n    pasword: hunter2\n",
            "--config c.yaml demo",
            "configuration c.yaml: line 3 column 5: unknown field `pasword`",
        ),
        (
            "p.yaml",
            "rules:\n- name: a\n  token: hunter2\n",
            "bundle validate --file b.tgz --policy p.yaml",
            "--policy p.yaml: line 3 column 3: unknown field `token`",
        ),
    ] {
        std::fs::write(site.path(file), yaml).unwrap();
        let ran = site.stellaops(line).await.failed(2, &[quoted]);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        let shown: Vec<&str> = ran.stderr.lines().skip(1).collect();
        let [_, line, caret] = shown[..] else {
            panic!("{}", ran.stderr);
        };
        let key = line.find(char::is_alphabetic);
        assert!(
            line.starts_with("  3 | ") && line.ends_with(": ***"),
            "{line}"
        );
        assert_eq!(caret.find('^'), key, "{}", ran.stderr);
    }
    let line = "--config c.yaml --log-format json demo";
    let ran = site.stellaops(line).await;
    let said: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    let quote = said["quote"].as_str().unwrap();
    assert!(quote.contains("3 |     pasword: ***\n"), "{quote}");
}
