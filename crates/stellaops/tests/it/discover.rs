use std::time::Duration;

use serde_json::json;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Site, registry_with_image};

#[tokio::test(flavor = "multi_thread")]
async fn the_json_document_has_the_documented_form_on_either_kind_of_registry() {
    for (persona, method, capability) in [
        (Persona::SpecFull, "native", "supported"),
        (Persona::Dist2, "fallback-tag", "unsupported"),
    ] {
        let registry = registry_with_image(persona).await;
        let site = Site::new();
        let host = registry.host();
        let ran = site
            .stellaops(&format!(
                "referrers discover {host}/app:1.0 --platforms --format json"
            ))
            .await
            .done();
        let document = ran.json();
        assert_eq!(document["schemaVersion"], 1);
        assert_eq!(document["reference"], format!("{host}/app:1.0"));
        assert_eq!(document["status"], "complete");
        assert_eq!(
            (&document["method"], &document["capability"]),
            (&json!(method), &json!(capability))
        );
        assert_eq!(
            (&document["warnings"], &document["errors"]),
            (&json!([]), &json!([]))
        );
        assert_eq!(document["requests"], registry.requests().len());
        let referrers = document["referrers"].as_array().unwrap();
        assert_eq!(referrers.len(), 8, "{document:#}");
        let keys: Vec<_> = referrers[0].as_object().unwrap().keys().collect();
        let expected = [
            "annotations",
            "artifactType",
            "category",
            "depth",
            "digest",
            "mediaType",
            "size",
            "sources",
            "subject",
            "tag",
        ];
        assert_eq!(keys, expected);
        let order: Vec<_> = referrers
            .iter()
            .map(|r| (r["depth"].as_u64().unwrap(), r["digest"].as_str().unwrap()))
            .collect();
        assert!(order.is_sorted(), "{order:?}");
        let legacy: Vec<_> = referrers.iter().filter(|r| !r["tag"].is_null()).collect();
        assert_eq!(legacy.len(), 2);
        assert!(legacy.iter().all(|r| r["sources"] == json!(["legacy-tag"])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_limits_what_is_printed_and_not_the_walk() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let line = format!(
        "referrers discover {}/app:1.0 --artifact-type application/vnd.cncf.notary.signature --format json",
        registry.host()
    );
    let document = site.stellaops(&line).await.done().json();
    let depths: Vec<_> = document["referrers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["depth"].clone())
        .collect();
    assert_eq!(depths, [1, 2]);
    assert_eq!(document["warnings"][0]["code"], "children-not-walked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_before_a_failure_is_printed_with_exit_code_11() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let site = Site::new();
    let line = format!(
        "referrers discover {}/app:1.0 --format json --legacy-tags known",
        registry.host()
    );
    registry.fault(
        Route::path_prefix("/v2/app/manifests/sha256-"),
        Fault::statuses([418]).forever(),
    );
    let ran = site.stellaops(&line).await.failed(11, &["incomplete"]);
    let document = ran.json();
    assert_eq!(document["status"], "incomplete");
    assert_eq!(document["referrers"].as_array().unwrap().len(), 4);
    assert!(!document["errors"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_time_is_said_in_the_words_that_the_runbook_greps_for() {
    let registry = registry_with_image(Persona::SpecFull).await;
    registry.fault(Route::referrers(), Fault::stall().forever());
    let site = Site::new();
    let line = format!(
        "referrers discover {}/app:1.0 --timeout 1 --metrics-file m.prom",
        registry.host()
    );
    let started = std::time::Instant::now();
    let ran = site.stellaops(&line).await.failed(11, &["incomplete"]);
    assert!(started.elapsed() < Duration::from_secs(20));
    let expected = format!(
        "[WARN] Referrer discovery timed out for image {}/app:1.0 after 1 s",
        registry.host()
    );
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    let metrics = std::fs::read_to_string(site.path("m.prom")).unwrap();
    let failures = format!(
        "export_referrer_discovery_failures_total{{registry=\"{}\",error=\"timeout\"}}",
        registry.host()
    );
    assert!(metrics.contains(&failures), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_referrers_is_complete_and_a_warning() {
    let registry = TestRegistry::start(Persona::Dist2).await;
    registry.image("bare", "1.0");
    let site = Site::new();
    let ran = site
        .stellaops(&format!("referrers discover {}/bare:1.0", registry.host()))
        .await
        .done();
    let expected = format!(
        "[WARN] No referrers found for image {}/bare:1.0",
        registry.host()
    );
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    assert!(
        ran.stdout.contains("complete: 0 referrers"),
        "{}",
        ran.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_for_and_said() {
    let registry = registry_with_image(Persona::SpecFull).await;
    registry.fault(
        Route::referrers(),
        Fault::statuses([429]).header("Retry-After", "1"),
    );
    let site = Site::new();
    let ran = site
        .stellaops(&format!("referrers discover {}/app:1.0", registry.host()))
        .await
        .done();
    let expected = format!(
        "[WARN] Rate limited by registry {}, waiting 1 s",
        registry.host()
    );
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_problem_of_many_subjects_is_one_line_that_names_the_way_out() {
    let registry = TestRegistry::builder(Persona::Harbor27).without_auth();
    let registry = registry.start().await;
    let platforms = ["amd64", "arm64", "s390x", "ppc64le"].map(|name| format!("linux/{name}"));
    let platforms: Vec<_> = platforms.iter().map(String::as_str).collect();
    registry.index("app", "1.0", &platforms);
    let site = Site::new();
    let host = registry.host();
    let way_out = format!("registries.{host}.referrers_api: unsupported");

    let line = format!("referrers discover {host}/app:1.0 --platforms");
    let ran = site
        .stellaops(&line)
        .await
        .failed(11, &["5 lookups failed", &way_out]);
    let errors: Vec<_> = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with("error "))
        .collect();
    assert_eq!(errors.len(), 1, "{}", ran.stdout);
    for part in ["(5 subjects: sha256:", "and 2 more)", &way_out] {
        assert!(errors[0].contains(part), "{}", errors[0]);
    }

    let document = site
        .stellaops(&format!("{line} --format json"))
        .await
        .json();
    let errors = document["errors"].as_array().unwrap();
    let subjects: std::collections::BTreeSet<_> = errors
        .iter()
        .map(|error| error["subject"].as_str().unwrap())
        .collect();
    assert_eq!((errors.len(), subjects.len()), (5, 5), "{document:#}");
    assert!(errors[0]["message"].as_str().unwrap().contains(&way_out));

    let line = format!("bundle export {host}/app:1.0 --output b.tgz");
    let ran = site
        .stellaops(&line)
        .await
        .failed(11, &["(5 subjects: ", &way_out]);
    let said = ran
        .stderr
        .matches("although the subject may be read")
        .count();
    assert_eq!(said, 1, "{}", ran.stderr);

    let config = format!("registries:\n  {host}: {{referrers_api: unsupported}}\n");
    std::fs::write(site.path("c.yaml"), config).unwrap();
    let line = format!("referrers discover {host}/app:1.0 --platforms --config c.yaml");
    site.stellaops(&line).await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_manifest_says_at_any_length_is_cut_for_people_and_whole_for_programs() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let image = registry.index("app", "1.0", &["linux/amd64"]).descriptor;
    let types = [70_000, 7 << 19].map(|length| format!("a/{}", "x".repeat(length)));
    for artifact_type in &types {
        registry.referrer("app", &image, artifact_type, "payload");
    }
    let site = Site::new();
    let host = registry.host();
    let run = async |line: String| {
        let ran = site.stellaops(&line).await.done();
        assert!(ran.stderr.len() < 10_000, "{line}");
        ran.stdout
    };
    run(format!(
        "bundle export {host}/app:1.0 --output {}",
        site.path("b.tgz").display()
    ))
    .await;
    registry.referrer("app", &image, "c/d", "more");
    run(format!(
        "bundle export {host}/app:1.0 --output {}",
        site.path("c.tgz").display()
    ))
    .await;
    let (b, c) = (site.path("b.tgz"), site.path("c.tgz"));
    for line in [
        format!("referrers discover {host}/app:1.0 --platforms --format tree"),
        format!("referrers discover {host}/app:1.0 --platforms --format table"),
        format!("referrers discover {host}/app:1.0 --platforms --explain"),
        format!("bundle inspect --file {}", b.display()),
        format!("bundle inspect --format html --file {}", b.display()),
        format!("bundle diff {} {}", b.display(), c.display()),
        format!("registry diagnose {host}/app:1.0"),
        format!("registry probe {host}/app"),
    ] {
        let text = run(line.clone()).await;
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest < Some(600), "{line}: {longest:?}");
    }
    let text = run(format!("referrers discover {host}/app:1.0 --format json")).await;
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    for artifact_type in &types {
        let whole =
            |referrer: &serde_json::Value| referrer["artifactType"] == *artifact_type.as_str();
        assert!(document["referrers"].as_array().unwrap().iter().any(whole));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_says_never_becomes_a_line_of_its_own() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let image = registry.image("app", "1.0");
    let site = Site::new();
    let host = registry.host();
    site.stellaops(&format!("bundle export {host}/app:1.0 --output a.tgz"))
        .await
        .done();
    let forged = "complete: 3 referrers";
    for (number, end) in ["\n", "\r", "\u{85}", "\u{2028}"].iter().enumerate() {
        let artifact_type = format!("application/x{end}{forged}\u{1b}[2J\u{202e}");
        registry.referrer("app", &image, &artifact_type, number.to_string());
    }
    for line in [
        format!("referrers discover {host}/app:1.0 --format tree"),
        format!("referrers discover {host}/app:1.0 --format table"),
        format!("referrers discover {host}/app:1.0 --format json"),
        format!("referrers discover {host}/app:1.0 --explain"),
        format!("bundle export {host}/app:1.0 --output b.tgz"),
        "bundle inspect --file b.tgz".to_owned(),
        "bundle inspect --file b.tgz --format json".to_owned(),
        "bundle validate --file b.tgz --check-referrers".to_owned(),
        "bundle diff a.tgz b.tgz".to_owned(),
    ] {
        let ran = site.stellaops(&line).await.done();
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let begins = |text: &str| text.trim_start().starts_with(forged);
        assert!(
            !said.split(['\n', '\r', '\u{85}', '\u{2028}']).any(begins),
            "{line}: {said}"
        );
        assert!(
            !said.contains(['\u{1b}', '\u{202e}', '\u{85}', '\u{2028}']),
            "{line}: {said:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_a_refusal_never_begin_a_line() {
    let registry = registry_with_image(Persona::SpecFull).await;
    let body = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\
        \"no\\n[WARN] No referrers found for image x\\r[INFO] all good\\u200b\\u009b31m\"}]}";
    let refused = Fault::body(403, "application/json", body).forever();
    registry.fault(Route::referrers(), refused);
    let site = Site::new();
    let host = registry.host();
    for command in [
        format!("referrers discover {host}/app:1.0"),
        format!("referrers discover {host}/app:1.0 --explain"),
        format!("registry probe {host}/app --no-cache"),
        format!("registry diagnose {host}/app:1.0"),
        format!("bundle export {host}/app:1.0 --output b.tgz"),
    ] {
        let ran = site.stellaops(&command).await;
        for line in ran.stdout.lines().chain(ran.stderr.lines()) {
            let own = line.split_once("] ").map_or(line, |(_, rest)| rest);
            assert!(!line.contains(['\u{200b}', '\u{9b}', '\r']), "{line}");
            assert!(!line.starts_with("[INFO] all good"), "{line}");
            assert!(!own.starts_with("No referrers found"), "{line}");
        }
    }
}
