use std::sync::OnceLock;

use base64::engine::general_purpose::STANDARD;

use super::*;

fn basic(username: &str, password: &str) -> Option<Credentials> {
    Some(Credentials::Basic {
        username: username.into(),
        password: password.into(),
    })
}

fn write(json: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json).unwrap();
    file
}

/// Fake helpers. They are written once, before the first of them is started: a file that is open
/// for writing in a forking process cannot be executed.
fn helpers() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in [
            (
                "echo",
                r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"$1 $server\",\"Secret\":\"s\"}""#,
            ),
            (
                "token",
                r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"refresh"}'"#,
            ),
            ("none", "echo 'credentials not found in native keychain'; exit 1"),
            ("broken", "echo 'secret-in-output'; exit 3"),
            ("junk", "echo 'secret-in-output'"),
            ("array", r#"echo '["user", "secret-in-output"]'"#),
            ("mute", "exit 0"),
            ("object", "echo '{}'"),
            ("empty", r#"echo '{"ServerURL":"r.test","Username":"","Secret":""}'"#),
            ("no-token", r#"echo '{"Username":"<token>","Secret":""}'"#),
            ("secret", r#"echo '{"Secret":"s"}'"#),
            (
                "hanging",
                r#"read server; sleep 600 & echo $$ $! > "$0.pids"; wait"#,
            ),
            // The helper is gone, but its child keeps its output open.
            (
                "leaving",
                r#"read server; sleep 600 & echo $$ $! > "$0.pids""#,
            ),
        ] {
            let path = folder.path().join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, mode).unwrap();
        }
        folder
    });
    folder.path()
}

async fn look_up(
    json: &str,
    registry: &str,
    repository: &str,
) -> Result<Option<Credentials>, String> {
    let file = write(json);
    let source = DockerConfig::from_files(vec![file.path().to_owned()])
        .with_helper_folder(helpers().to_owned());
    let repository = (!repository.is_empty()).then(|| repository.parse().unwrap());
    source
        .credentials(&registry.parse().unwrap(), repository.as_ref())
        .await
        .map_err(|error| {
            let text = error.to_string();
            let name = file.path().display().to_string();
            assert!(text.contains(&name), "{text} names the file");
            assert!(!format!("{error:?}").contains("secret-in"), "{error:?}");
            text.replace(&name, "FILE")
        })
}

#[tokio::test]
async fn the_longest_key_wins_and_host_and_port_are_exact() {
    let auth = |user: &str| STANDARD.encode(format!("{user}:p"));
    let json = format!(
        r#"{{"auths": {{
            "r.test": {{"auth": "{}"}},
            "r.test/team": {{"auth": "{}"}},
            "r.test/team/app": {{"username": "app", "password": "p"}},
            "r.test/empty": {{}},
            "r.test/null": null,
            "r.test:5000": {{"auth": "{}"}},
            "https://old.test/v1/": {{"auth": "{}"}},
            "id.test": {{"auth": "{}", "identitytoken": "refresh"}},
            "bearer.test": {{"registrytoken": "bearer"}}
        }}, "unknown": 7}}"#,
        auth("all"),
        auth("team"),
        auth("port"),
        auth("old"),
        auth("id"),
    );
    for (registry, repository, expected) in [
        ("r.test", "", basic("all", "p")),
        ("r.test", "other", basic("all", "p")),
        ("r.test", "team/x", basic("team", "p")),
        ("r.test", "team", basic("team", "p")),
        ("r.test", "team/app", basic("app", "p")),
        ("r.test", "team/app/x", basic("app", "p")),
        ("r.test", "team/apple", basic("team", "p")),
        ("r.test", "empty/x", basic("all", "p")),
        ("r.test", "null", basic("all", "p")),
        ("r.test:5000", "team/app", basic("port", "p")),
        ("r.test:443", "team/app", None),
        ("test", "team/app", None),
        ("sub.r.test", "team/app", None),
        ("old.test", "x", basic("old", "p")),
        (
            "id.test",
            "x",
            Some(Credentials::IdentityToken("refresh".into())),
        ),
        (
            "bearer.test",
            "x",
            Some(Credentials::Bearer("bearer".into())),
        ),
        ("docker.io", "library/x", None),
    ] {
        let found = look_up(&json, registry, repository).await.unwrap();
        assert_eq!(found, expected, "{registry}/{repository}");
    }
}

#[tokio::test]
async fn docker_hub_is_found_under_all_its_names() {
    for key in [
        "https://index.docker.io/v1/",
        "index.docker.io/v1/",
        "docker.io",
        "registry-1.docker.io",
        "docker.io/library",
    ] {
        let json = format!(r#"{{"auths": {{"{key}": {{"username": "u", "password": "p"}}}}}}"#);
        let found = look_up(&json, "docker.io", "library/alpine").await.unwrap();
        assert_eq!(found, basic("u", "p"), "{key}");
    }
    let json = r#"{"credsStore": "echo"}"#;
    let found = look_up(json, "docker.io", "library/alpine").await.unwrap();
    assert_eq!(found, basic("get https://index.docker.io/v1/", "s"));
}

#[tokio::test]
async fn a_helper_of_the_registry_comes_first_then_the_store_then_the_entries() {
    let inline = r#""auths": {"r.test": {"username": "inline", "password": "p"}}"#;
    for (json, expected) in [
        (
            format!(r#"{{"credHelpers": {{"r.test": "echo"}}, "credsStore": "token", {inline}}}"#),
            basic("get r.test", "s"),
        ),
        (
            format!(
                r#"{{"credHelpers": {{"other.test": "echo"}}, "credsStore": "token", {inline}}}"#
            ),
            Some(Credentials::IdentityToken("refresh".into())),
        ),
        (
            format!(r#"{{"credsStore": "none", {inline}}}"#),
            basic("inline", "p"),
        ),
        (
            format!(r#"{{"credsStore": "not-installed", {inline}}}"#),
            basic("inline", "p"),
        ),
        (r#"{"credHelpers": {"r.test": "none"}}"#.into(), None),
        (
            r#"{"credsStore": "", "auths": null, "credHelpers": null}"#.into(),
            None,
        ),
        ("{}".into(), None),
    ] {
        let found = look_up(&json, "r.test", "team/app").await.unwrap();
        assert_eq!(found, expected, "{json}");
    }
}

#[tokio::test]
async fn what_fails_names_the_file_and_repeats_no_secret() {
    for (json, message) in [
        (
            r#"{"credsStore": "broken"}"#,
            "FILE: docker-credential-broken fails for r.test",
        ),
        (
            r#"{"credHelpers": {"r.test": "junk"}}"#,
            "FILE: docker-credential-junk returns no credentials for r.test",
        ),
        (
            r#"{"credsStore": "not-installed"}"#,
            "FILE: docker-credential-not-installed cannot be run",
        ),
        (
            r#"{"credsStore": "../../bin/sh"}"#,
            "FILE: \"../../bin/sh\" is not the name of a helper",
        ),
        (
            r#"{"auths": {"r.test": {"auth": "secret-in-file"}}}"#,
            "FILE: the entry \"r.test\" has an auth that is not base64 of text",
        ),
        (
            r#"{"auths": {"r.test": {"auth": "bm9jb2xvbg=="}}}"#,
            "FILE: the entry \"r.test\" has an auth without a colon",
        ),
        (
            "{\"auths\":\n\"secret-in-file\"}",
            "FILE: its auths is not an object",
        ),
        (
            "{\"auths\":\n{\"secret-in-file",
            "FILE: is not a Docker configuration: line 2 column 16",
        ),
        (
            "[null, null, null]",
            "FILE: is not a Docker configuration: line 1 column 0",
        ),
        (
            r#"{"auths": {"r.test": "secret-in-file"}}"#,
            "FILE: the entry \"r.test\" is not an entry of credentials",
        ),
        (
            r#"{"auths": {"r.test": ["secret-in-file", null, null, null, null]}}"#,
            "FILE: the entry \"r.test\" is not an entry of credentials",
        ),
        (
            r#"{"auths": {"https://r.test/v1/": {"auth": 7}}}"#,
            "FILE: the entry \"https://r.test/v1/\" is not an entry of credentials",
        ),
        (
            r#"{"credHelpers": {"r.test": {"secret-in-file": 1}}}"#,
            "FILE: the helper of \"r.test\" is not a name",
        ),
        (
            r#"{"credHelpers": ["r.test"]}"#,
            "FILE: its credHelpers is not an object",
        ),
        (r#"{"credsStore": 7}"#, "FILE: its credsStore is not a name"),
        (
            r#"{"credHelpers": {"r.test": "array"}}"#,
            "FILE: docker-credential-array returns no credentials for r.test",
        ),
        (
            r#"{"credHelpers": {"r.test": "mute"}}"#,
            "FILE: docker-credential-mute returns no credentials for r.test",
        ),
        ("", "FILE: is not a Docker configuration: line 1 column 0"),
    ] {
        assert_eq!(look_up(json, "r.test", "x").await.unwrap_err(), message);
    }
}

#[tokio::test]
async fn files_are_asked_in_their_order_and_may_be_missing() {
    let first = write(r#"{"auths": {"a.test": {"username": "first", "password": "p"}}}"#);
    let second = write(
        r#"{"auths": {"a.test": {"username": "second", "password": "p"},
            "b.test": {"username": "second", "password": "p"}}}"#,
    );
    let missing = first.path().with_extension("missing");
    let files = vec![missing, first.path().to_owned(), second.path().to_owned()];
    let source = DockerConfig::from_files(files);
    for (registry, expected) in [
        ("a.test", basic("first", "p")),
        ("b.test", basic("second", "p")),
        ("c.test", None),
    ] {
        let found = source.credentials(&registry.parse().unwrap(), None).await;
        assert_eq!(found.unwrap(), expected, "{registry}");
    }
}

#[tokio::test]
async fn an_empty_user_with_an_empty_password_is_nobody() {
    for json in [
        r#"{"auths": {"r.test": {"auth": "Og=="}}}"#,
        r#"{"auths": {"r.test": {"auth": "Og"}}}"#,
        r#"{"auths": {"r.test": {"auth": "OgAA"}}}"#,
        r#"{"auths": {"r.test": {"auth": ""}}}"#,
        r#"{"auths": {"r.test": {"username": "", "password": ""}}}"#,
        r#"{"auths": {"r.test": {"identitytoken": "", "registrytoken": ""}}}"#,
        r#"{"auths": {"r.test": {}}}"#,
        r#"{"auths": {"r.test": null}}"#,
        r#"{"credHelpers": {"r.test": "object"}}"#,
        r#"{"credHelpers": {"r.test": "empty"}}"#,
        r#"{"credsStore": "no-token"}"#,
    ] {
        let found = look_up(json, "r.test", "team/app").await;
        assert_eq!(found, Ok(None), "{json}");
    }
    let json = r#"{"auths": {"r.test/team": {"auth": "Og=="}, "r.test": {"auth": "dTpw"}}}"#;
    let found = look_up(json, "r.test", "team/app").await.unwrap();
    assert_eq!(found, basic("u", "p"), "the next entry has some");
    let json = r#"{"credsStore": "empty", "auths": {"r.test": {"auth": "dTpw"}}}"#;
    let found = look_up(json, "r.test", "team/app").await.unwrap();
    assert_eq!(found, basic("u", "p"));
    for (json, expected) in [
        (r#"{"auths": {"r.test": {"auth": "OnA="}}}"#, basic("", "p")),
        (r#"{"auths": {"r.test": {"auth": "dTo="}}}"#, basic("u", "")),
        (r#"{"credHelpers": {"r.test": "secret"}}"#, basic("", "s")),
    ] {
        assert_eq!(
            look_up(json, "r.test", "x").await.unwrap(),
            expected,
            "{json}"
        );
    }
}

#[tokio::test]
async fn base64_is_read_as_people_and_tools_write_it() {
    // Its two alphabets differ for this one.
    let secret = "user:a>>b??c~~~\u{ff}";
    let plain = STANDARD.encode(secret);
    let (first, second) = plain.split_at(10);
    for auth in [
        plain.clone(),
        plain.trim_end_matches('=').to_owned(),
        plain.replace('+', "-").replace('/', "_"),
        format!("{first}\\n{second}\\n"),
        format!("{first}\\r\\n {second}\\t"),
    ] {
        let json = format!(r#"{{"auths": {{"r.test": {{"auth": "{auth}"}}}}}}"#);
        let found = look_up(&json, "r.test", "x").await.unwrap();
        assert_eq!(found, basic("user", &secret[5..]), "{auth}");
    }
    let marked = "\u{feff}{\"auths\": {\"r.test\": {\"auth\": \"dTpw\"}}}";
    assert_eq!(
        look_up(marked, "r.test", "x").await.unwrap(),
        basic("u", "p")
    );
}

#[tokio::test]
async fn what_is_wrong_with_another_registry_does_not_matter() {
    let json = r#"{
        "auths": {"other.test": 7, "another.test": {"auth": "%"}, "r.test": {"auth": "dTpw"}},
        "credHelpers": {"other.test": null}
    }"#;
    assert_eq!(look_up(json, "r.test", "x").await.unwrap(), basic("u", "p"));
}

#[tokio::test]
async fn what_a_hanging_helper_has_started_ends_with_it() {
    for name in ["hanging", "leaving"] {
        let folder = helpers();
        let pids = folder.join(format!("docker-credential-{name}.pids"));
        let file = write(&format!(r#"{{"credsStore": "{name}"}}"#));
        let source = DockerConfig::from_files(vec![file.path().to_owned()])
            .with_helper_folder(folder.to_owned());
        let registry: Registry = "r.test".parse().unwrap();
        let asked = source.credentials(&registry, None);
        let started = async {
            loop {
                let text = std::fs::read_to_string(&pids).unwrap_or_default();
                if text.ends_with('\n') {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Cancelled, as when the time limit of the image is reached.
        let started = tokio::select! {
            found = asked => panic!("{found:?}"),
            started = started => started,
        };
        for pid in started.split_whitespace() {
            let alive = || {
                let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                status.is_ok_and(|status| !status.contains(") Z "))
            };
            let mut waited = 0;
            while alive() {
                assert!(waited < 1000, "{name}: {pid} is still there");
                waited += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test]
async fn the_first_file_with_credentials_for_the_registry_wins_and_the_old_form_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let auth = |user: &str| STANDARD.encode(format!("{user}:p"));
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = vec![
        folder.path().join("not-there/auth.json"),
        file("none.json", "{}".to_owned()),
        folder.path().join("none.json/below-a-file.json"),
        file(
            "auth.json",
            format!(r#"{{"auths":{{"a.test":{{"auth":"{}"}}}}}}"#, auth("first")),
        ),
        file(
            "config.json",
            format!(
                r#"{{"auths":{{"a.test/team":{{"auth":"{0}"}},"b.test":{{"auth":"{0}"}}}}}}"#,
                auth("second")
            ),
        ),
        file(
            ".dockercfg",
            format!(
                r#"{{"https://c.test":{{"auth":"{}","email":""}}}}"#,
                auth("old")
            ),
        ),
    ];
    let source = DockerConfig::from_files(files.clone());
    let repository = "team/app".parse().unwrap();
    for (registry, expected) in [
        ("a.test", basic("first", "p")),
        ("b.test", basic("second", "p")),
        ("c.test", basic("old", "p")),
        ("d.test", None),
    ] {
        let found = source
            .credentials(&registry.parse().unwrap(), Some(&repository))
            .await;
        assert_eq!(found.unwrap(), expected, "{registry}");
    }
    for broken in ["", "{\"auths\":", "[]", "null"] {
        let path = file("config.json", broken.to_owned());
        let error = source
            .credentials(&"b.test".parse().unwrap(), None)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
    // It exists but cannot be read, as may happen to users other than root.
    let folder_as_file = DockerConfig::from_files(vec![folder.path().to_owned()]);
    let error = folder_as_file
        .credentials(&"b.test".parse().unwrap(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[test]
fn a_key_is_the_one_that_is_found_again_and_other_forms_of_it_are_known() {
    for (registry, folder, key, others) in [
        (
            "r.test:5000",
            "",
            "r.test:5000",
            ["https://r.test:5000/v2/", "R.test:5000"],
        ),
        (
            "r.test",
            "team/a",
            "r.test/team/a",
            ["r.test/team/a/", "R.TEST/team/a"],
        ),
        (
            "docker.io",
            "",
            "https://index.docker.io/v1/",
            ["docker.io", "registry-1.docker.io/v2"],
        ),
        (
            "index.docker.io",
            "team",
            "docker.io/team",
            ["index.docker.io/team", "registry-1.docker.io/team"],
        ),
    ] {
        let registry = registry.parse().unwrap();
        let folder: Option<RepositoryName> = folder.parse().ok();
        assert_eq!(DockerConfig::key(&registry, folder.as_ref()), key);
        for key in others.into_iter().chain([key]) {
            assert!(
                DockerConfig::is_key(key, &registry, folder.as_ref()),
                "{key}"
            );
            let other = "r.test:5001".parse().unwrap();
            assert!(!DockerConfig::is_key(key, &other, folder.as_ref()), "{key}");
            let deeper = "team/b".parse().unwrap();
            assert!(
                !DockerConfig::is_key(key, &registry, Some(&deeper)),
                "{key}"
            );
        }
    }
}
