//! `registry login` and `registry logout`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::run::{Ran, Site};

const PASSWORD: &str = "correct horse: battery";

async fn guarded(persona: Persona) -> TestRegistry {
    let registry = TestRegistry::builder(persona)
        .credentials("robot", PASSWORD)
        .private_repository("team/app")
        .start()
        .await;
    registry.image("team/app", "1.0");
    registry
}

/// Logs in with a password and more words.
async fn login(site: &Site, variables: &str, words: &str, password: &str) -> Ran {
    std::fs::write(site.path("password"), password).unwrap();
    let line = format!("{variables} stellaops registry login {words} --password-stdin < password");
    let ran = site.shell(&line).await;
    let said = format!("{}{}", ran.stdout, ran.stderr);
    let secrets = [
        password.trim(),
        &STANDARD.encode(format!("robot:{}", password.trim())),
    ];
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        assert!(!said.contains(secret), "{said}");
    }
    ran
}

fn read(site: &Site, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(site.path(name)).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_checked_kept_for_its_owner_and_found_by_the_next_command() {
    for persona in [Persona::HubNow, Persona::Ecr, Persona::Quay] {
        let registry = guarded(persona).await;
        let host = registry.host();
        let site = Site::new();
        let discover =
            |more: &str| format!("{more} stellaops referrers discover {host}/team/app:1.0");
        for (variables, option, file) in [
            ("XDG_RUNTIME_DIR=$PWD/run", "", "run/containers/auth.json"),
            ("REGISTRY_AUTH_FILE=$PWD/named.json", "", "named.json"),
            ("", "--registry-config new/own.json", "new/own.json"),
        ] {
            let ran = site.shell(&discover(variables)).await;
            ran.failed(10, &["logins were looked for in"]);
            let words = format!("{host} -u robot {option}");
            let ran = login(&site, variables, &words, &format!("{PASSWORD}\n"))
                .await
                .done();
            assert!(
                ran.stdout.starts_with(&format!("Logged in to {host}; ")),
                "{ran:?}"
            );
            assert!(ran.stdout.trim_end().ends_with(file), "{ran:?}");
            let metadata = site.path(file).metadata().unwrap();
            assert_eq!(metadata.mode() & 0o777, 0o600);
            let auth = STANDARD.encode(format!("robot:{PASSWORD}"));
            assert_eq!(read(&site, file), json!({"auths": {&host: {"auth": auth}}}));
            site.shell(&format!("{} {option}", discover(variables)))
                .await
                .done();

            let logout = format!("{variables} stellaops registry logout {host} {option}");
            let ran = site.shell(&logout).await.done();
            assert!(ran.stdout.starts_with("Removed the login of "), "{ran:?}");
            assert_eq!(read(&site, file), json!({"auths": {}}));
            let again = site.shell(&logout).await.done();
            assert!(
                again.stdout.starts_with("There was no login of "),
                "{again:?}"
            );
            let ran = site
                .shell(&format!("{} {option}", discover(variables)))
                .await;
            ran.failed(10, &[]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_registry_does_not_confirm_is_not_written() {
    let site = Site::new();
    let file = "REGISTRY_AUTH_FILE=$PWD/auth.json";
    for persona in [Persona::HubNow, Persona::Ecr, Persona::Quay] {
        let registry = guarded(persona).await;
        let words = format!("{} -u robot", registry.host());
        let ran = login(&site, file, &words, "wrong password").await;
        let ran = ran.failed(10, &["refuses the login of robot", "nothing was written"]);
        assert!(!ran.stderr.contains("logins were looked for"), "{ran:?}");
        registry.fault(Route::ping(), Fault::error(500, "UNKNOWN").forever());
        let ran = login(&site, file, &words, PASSWORD).await;
        ran.failed(9, &["nothing was written"]);
        registry.allow_unused_faults();
    }
    let ran = login(&site, file, "127.0.0.1:1 -u robot", PASSWORD).await;
    ran.failed(9, &["127.0.0.1:1"]);
    for (words, password, part) in [
        ("r.test -u robot", "", "there is no password"),
        ("r.test -u robot", "\n", "there is no password"),
        ("r.test -u robot", "two\nlines\n", "one line"),
        ("r.test -u ro:bot", "hunter22", "no colon"),
        ("https://r.test -u robot", "hunter22", "without a scheme"),
        ("docker://r.test -u robot", "hunter22", "without a scheme"),
    ] {
        login(&site, file, words, password).await.failed(2, &[part]);
    }
    let ran = site.shell("stellaops registry login r.test -u robot").await;
    ran.failed(2, &["--password-stdin"]);
    let ran = site
        .stellaops("registry login r.test --password-stdin --password p")
        .await;
    ran.failed(2, &[]);
    assert_eq!(site.files(), ["password"], "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_nobody_for_a_login_gets_one_with_a_warning() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .start()
        .await;
    let site = Site::new();
    let words = format!("{} -u robot --registry-config auth.json", registry.host());
    let ran = login(&site, "", &words, PASSWORD).await.done();
    assert!(ran.stderr.contains("[WARN] registry"), "{ran:?}");
    assert!(ran.stderr.contains("could not be checked"), "{ran:?}");
    let requests = registry.requests();
    let sent = requests
        .iter()
        .any(|request| request.header("authorization").is_some());
    assert!(!sent && requests.len() == 1, "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_its_link_its_other_logins_and_nobody_else_can_read_it() {
    let registry = guarded(Persona::Ecr).await;
    let host = registry.host();
    let site = Site::new();
    std::fs::create_dir(site.path("kept")).unwrap();
    let before = json!({
        "auths": {"other.test": {"auth": "eDp5"}, format!("http://{host}/v1/"): {"auth": "b2xkOm9sZA=="}},
        "psFormat": "table",
    });
    std::fs::write(site.path("kept/auth.json"), before.to_string()).unwrap();
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(site.path("kept/auth.json"), mode).unwrap();
    symlink("kept/auth.json", site.path("auth.json")).unwrap();
    let words = format!("{host}/team -u robot --registry-config auth.json");
    let ran = login(&site, "", &words, PASSWORD).await.done();
    assert!(
        ran.stderr
            .contains("could read the logins in it (mode 0644)"),
        "{ran:?}"
    );
    let words = format!("{host} -u robot --registry-config auth.json");
    let ran = login(&site, "", &words, PASSWORD).await.done();
    assert!(!ran.stderr.contains("[WARN]"), "{ran:?}");
    assert!(
        site.path("auth.json")
            .symlink_metadata()
            .unwrap()
            .is_symlink()
    );
    let metadata = site.path("kept/auth.json").metadata().unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    let auth = STANDARD.encode(format!("robot:{PASSWORD}"));
    let after = json!({
        "auths": {
            "other.test": {"auth": "eDp5"},
            format!("{host}/team"): {"auth": auth},
            &host: {"auth": auth},
        },
        "psFormat": "table",
    });
    assert_eq!(read(&site, "kept/auth.json"), after);
    assert_eq!(std::fs::read_dir(site.path("kept")).unwrap().count(), 1);

    // Another file that is read after this one has a login as well.
    let other = json!({"auths": {&host: {"auth": auth}}});
    std::fs::create_dir_all(site.path("home/.docker")).unwrap();
    std::fs::write(site.path("home/.docker/config.json"), other.to_string()).unwrap();
    let line = format!("REGISTRY_AUTH_FILE=$PWD/auth.json stellaops registry logout {host}");
    let ran = site.shell(&line).await.done();
    assert!(
        ran.stderr
            .contains(".docker/config.json: this file still has a login"),
        "{ran:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_changed_is_named_and_left_alone() {
    let registry = guarded(Persona::Ecr).await;
    let host = registry.host();
    let site = Site::new();
    let words = format!("{host} -u robot --registry-config auth.json");
    for (content, code, part) in [
        (
            "{\"credsStore\": \"desktop\"}",
            2,
            "docker-credential-desktop",
        ),
        (
            "{\"auths\": {\"other.test\": {\"auth\": \"c2VjcmV0\"}",
            2,
            "line 1 column",
        ),
    ] {
        std::fs::write(site.path("auth.json"), content).unwrap();
        let ran = login(&site, "", &words, PASSWORD).await;
        let ran = ran.failed(code, &["auth.json: ", part]);
        assert!(!ran.stderr.contains("c2VjcmV0"), "{ran:?}");
        let left = std::fs::read_to_string(site.path("auth.json")).unwrap();
        assert_eq!(left, content);
    }
    std::fs::remove_file(site.path("auth.json")).unwrap();
    symlink("nowhere/auth.json", site.path("auth.json")).unwrap();
    login(&site, "", &words, PASSWORD)
        .await
        .failed(8, &["auth.json: "]);
    std::fs::remove_file(site.path("auth.json")).unwrap();
    std::fs::create_dir(site.path("auth.json")).unwrap();
    login(&site, "", &words, PASSWORD)
        .await
        .failed(8, &["it is not a file"]);
    std::fs::write(site.path("file"), "").unwrap();
    let words = format!("{host} -u robot --registry-config file/auth.json");
    let ran = login(&site, "", &words, PASSWORD).await;
    ran.failed(
        8,
        &[
            "file/auth.json",
            "--registry-config FILE names another file",
        ],
    );
    let words = format!("{host} -u robot --registry-config .dockercfg");
    let ran = login(&site, "", &words, PASSWORD).await;
    ran.failed(2, &["docker's first format"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logins_at_once_are_all_kept() {
    let site = Site::new();
    let mut hosts = Vec::new();
    let mut registries = Vec::new();
    for _ in 0..8 {
        let registry = guarded(Persona::Ecr).await;
        hosts.push(registry.host());
        registries.push(registry);
    }
    std::fs::write(site.path("password"), PASSWORD).unwrap();
    let lines = hosts.iter().map(|host| {
        format!("stellaops registry login {host} -u robot --password-stdin --registry-config a/b/auth.json < password")
    });
    let lines: Vec<_> = lines.collect();
    let runs = lines.iter().map(|line| site.shell(line));
    for ran in futures::future::join_all(runs).await {
        ran.done();
    }
    let file = read(&site, "a/b/auth.json");
    assert_eq!(file["auths"].as_object().unwrap().len(), hosts.len());
}
