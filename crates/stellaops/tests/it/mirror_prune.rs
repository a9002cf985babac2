use test_registry::{Persona, TestRegistry};

use crate::run::{Ran, Site};

/// A site whose job has mirrored `app:1.0` and `app:2.0`, and selects only `app:2.0` now.
struct Mirrored {
    site: Site,
    source: TestRegistry,
    target: TestRegistry,
}

impl Mirrored {
    async fn new() -> Self {
        let open = async || {
            let builder = TestRegistry::builder(Persona::SpecFull);
            builder.without_auth().start().await
        };
        let (source, target) = (open().await, open().await);
        for tag in ["1.0", "2.0"] {
            let image = source.image("app", tag);
            source.referrer("app", &image, "application/vnd.cyclonedx+json", tag);
        }
        let mirrored = Self {
            site: Site::new(),
            source,
            target,
        };
        mirrored.select(&["1.0", "2.0"]);
        mirrored.mirror("run").await.done();
        mirrored.select(&["2.0"]);
        mirrored
    }

    fn select(&self, tags: &[&str]) {
        let images = tags.iter();
        let images: String = images
            .map(|tag| format!("    - reference: {}/app:{tag}\n", self.source.host()))
            .collect();
        let to = format!("{}/mirror", self.target.host());
        let text = format!("jobs:\n  nightly:\n    images:\n{images}    to: {{registry: {to}}}\n");
        std::fs::write(self.site.path("c.yaml"), text).unwrap();
    }

    async fn mirror(&self, command: &str) -> Ran {
        let line = format!("mirror {command} --config c.yaml");
        self.site.stellaops(&line).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_selects_any_more_is_shown_and_goes_with_yes() {
    let mirrored = Mirrored::new().await;
    let shown = mirrored.mirror("prune").await.done();
    assert!(shown.stdout.contains("- mirror/app:1.0"), "{shown:?}");
    assert!(
        shown
            .stdout
            .contains("1 of 2 tags and 2 manifests would go"),
        "{shown:?}"
    );
    assert_eq!(mirrored.target.tags("mirror/app"), ["1.0", "2.0"]);
    let done = mirrored.mirror("prune nightly --yes --format json").await;
    let document = done.done().json();
    let report = &document["jobs"][0]["report"];
    assert_eq!(
        (&report["kind"], &report["finished"]),
        (&"prune".into(), &true.into())
    );
    assert_eq!(mirrored.target.tags("mirror/app"), ["2.0"]);
    let again = mirrored.mirror("prune --yes").await.done();
    assert!(
        again.stdout.contains("0 of 1 tag and 0 manifests deleted"),
        "{again:?}"
    );
    // What was pruned and is brought back by somebody else is theirs.
    let image = mirrored.target.image("mirror/app", "1.0");
    let other = mirrored.mirror("prune --yes").await.done();
    assert!(other.stdout.contains("0 of 1 tag"), "{other:?}");
    let there = mirrored.target.resolve("mirror/app", "1.0");
    assert_eq!(there, Some(image.digest));
    mirrored.mirror("audit").await.done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_selects_nothing_is_not_pruned_and_a_damaged_receipt_ends_the_prune() {
    let mirrored = Mirrored::new().await;
    let folder = mirrored.site.path("state/stellaops/receipts/nightly");
    std::fs::write(folder.join("2026-01-01T00_00_00Z.json"), "half").unwrap();
    let ran = mirrored.mirror("prune --yes").await;
    assert_eq!(ran.code, 8, "{ran:?}");
    assert!(ran.stderr.contains("2026-01-01T00_00_00Z.json"), "{ran:?}");
    std::fs::remove_file(folder.join("2026-01-01T00_00_00Z.json")).unwrap();
    let text = format!(
        "jobs:\n  nightly:\n    images:\n    - repository: {}/app\n      tags: {{regex: none}}\n    to: {{registry: {}/mirror}}\n",
        mirrored.source.host(),
        mirrored.target.host()
    );
    std::fs::write(mirrored.site.path("c.yaml"), text).unwrap();
    let ran = mirrored.mirror("prune --yes").await;
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(ran.stderr.contains("selects nothing"), "{ran:?}");
    assert_eq!(mirrored.target.tags("mirror/app"), ["1.0", "2.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_of_another_configuration_brought_stays() {
    let mirrored = Mirrored::new().await;
    let all = mirrored.site.path("state/stellaops/receipts");
    let copied = all.join("weekly");
    std::fs::create_dir_all(&copied).unwrap();
    for entry in std::fs::read_dir(all.join("nightly")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            std::fs::copy(&path, copied.join(path.file_name().unwrap())).unwrap();
        }
    }
    let ran = mirrored.mirror("prune --yes").await.done();
    assert!(
        ran.stdout.contains("a receipt of another job has it"),
        "{ran:?}"
    );
    assert_eq!(mirrored.target.tags("mirror/app"), ["1.0", "2.0"]);
}
