//! `stellaops support collect`: what it collects, and that no secret is in it.

use test_registry::{Persona, TestRegistry};

use crate::run::Site;

const PASSWORD: &str = "hunter2-password";
const HOOK_SECRET: &str = "sesame-open";

/// A site with a login, a webhook, a log and a registry that demands the login.
async fn site() -> (Site, TestRegistry) {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .credentials("robot", PASSWORD)
        .start()
        .await;
    registry.image("team/app", "1.0");
    let site = Site::new();
    let host = registry.host();
    let folder = site.path("home/.config/containers");
    std::fs::create_dir_all(&folder).unwrap();
    // robot:hunter2-password
    let auths =
        format!(r#"{{"auths":{{"{host}":{{"auth":"cm9ib3Q6aHVudGVyMi1wYXNzd29yZA=="}}}}}}"#);
    std::fs::write(folder.join("auth.json"), auths).unwrap();
    std::fs::write(site.path("hook"), HOOK_SECRET).unwrap();
    std::fs::write(
        site.path("c.yaml"),
        format!(
            "# remember: {HOOK_SECRET}\njobs:\n  nightly:\n    images:\n    - reference: {host}/team/app:1.0\n    \
             to: {{oci: folder}}\n    notify:\n    - {{url: \"https://hooks.test/services/T0WEBHOOKPATH\", on: [failed], secret: file:hook}}\n\
             center: {{listen: \"127.0.0.1:1\", log_file: center.log}}\n"
        ),
    )
    .unwrap();
    let log = format!(
        "2020-01-01T00:00:00.000Z [INFO] long ago\n2100-01-01T00:00:00.000Z run=1 [WARN] robot said {PASSWORD} and {HOOK_SECRET} about \
         {host}/team/app:1.0\n"
    );
    std::fs::write(site.path("center.log"), log).unwrap();
    (site, registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_collected_has_no_secret_and_all_that_a_ticket_needs() {
    let (site, registry) = site().await;
    let host = registry.host();
    let line = format!(
        "support collect --config c.yaml --output s.tgz --reference {host}/team/app:1.0 --yes"
    );
    let ran = site.stellaops(&line).await.done();
    for part in [
        "s.tgz will contain:",
        "trace.jsonl",
        "Look at it before you send it",
    ] {
        assert!(ran.stdout.contains(part), "{}", ran.stdout);
    }
    site.shell("tar -xzf s.tgz").await.done();
    let read = |name: &str| std::fs::read_to_string(site.path(&format!("support/{name}"))).unwrap();
    let mut all = String::new();
    for entry in std::fs::read_dir(site.path("support")).unwrap() {
        all.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    for secret in [PASSWORD, HOOK_SECRET, "cm9ib3Q6", "T0WEBHOOKPATH"] {
        assert!(!all.contains(secret), "{secret} is in what is collected");
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret));
    }
    for (name, part) in [
        ("README.txt", "without secrets"),
        ("version.json", "\"version\""),
        ("platform.txt", "system: Linux"),
        ("config.yaml", "url: ***"),
        ("log.txt", "run=1 [WARN] robot said *** and ***"),
        ("metrics.txt", "not collected: "),
        ("registries.json", "\"referrersApi\": \"supported\""),
        ("probes.json", "\"evidence\""),
        ("discovery.json", "\"status\": \"complete\""),
        ("trace.jsonl", "\"docker-content-digest\":\"sha256:"),
        ("metrics-of-collect.txt", "registry_requests_total"),
    ] {
        let text = read(name);
        assert!(text.contains(part), "{name}: {part} is not in {text}");
    }
    assert!(!read("log.txt").contains("long ago"));
    assert_eq!(read("config-check.txt"), "");
    let line = "stat -c %a s.tgz";
    assert_eq!(site.shell(line).await.done().stdout, "600\n");
    let again = "support collect --config c.yaml --output s.tgz --yes";
    site.stellaops(again).await.failed(2, &["s.tgz: it exists"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_or_asked_without_a_yes() {
    let (site, registry) = site().await;
    let before = registry.requests().len();
    let ran = site
        .stellaops("support collect --config c.yaml --output s.tgz")
        .await;
    let ran = ran.failed(2, &["there is nobody to ask", "--yes"]);
    assert!(
        ran.stdout.contains("log.txt: center.log since"),
        "{}",
        ran.stdout
    );
    assert!(!site.path("s.tgz").exists());
    assert_eq!(registry.requests().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_replaced_by_the_same_words_everywhere() {
    let (site, registry) = site().await;
    let line = format!(
        "support collect --config c.yaml --output s.tgz --reference {}/team/app:1.0 --since 2000-01-01T00:00:00Z --redact-names --yes",
        registry.host()
    );
    site.stellaops(&line).await.done();
    site.shell("tar -xzf s.tgz").await.done();
    let read = |name: &str| std::fs::read_to_string(site.path(&format!("support/{name}"))).unwrap();
    for name in [
        "README.txt",
        "config.yaml",
        "log.txt",
        "discovery.json",
        "trace.jsonl",
        "probes.json",
    ] {
        let text = read(name);
        assert!(!text.contains("team/app"), "{name}: {text}");
    }
    let log = read("log.txt");
    assert!(log.contains("long ago") && !log.contains("robot"), "{log}");
    assert!(log.contains("/repository-1:1.0"), "{log}");
    assert!(read("trace.jsonl").contains("/v2/repository-1/manifests/1.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_collected_without_its_values() {
    let site = Site::new();
    std::fs::write(
        site.path("c.yaml"),
        "center:\n  secret: hunter2-wrong\n  state: hunter2-wrong\n",
    )
    .unwrap();
    site.stellaops("support collect --config c.yaml --output s.tgz --yes")
        .await
        .done();
    site.shell("tar -xzf s.tgz").await.done();
    let read = |name: &str| std::fs::read_to_string(site.path(&format!("support/{name}"))).unwrap();
    assert_eq!(
        read("config.yaml"),
        "center:\n  secret: ***\n  state: ***\n"
    );
    assert!(read("config-check.txt").contains("unknown field `secret`"));
    let grep = "grep -r hunter2 support";
    assert_eq!(site.shell(grep).await.code, 1);
}
