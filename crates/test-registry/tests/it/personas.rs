//! One test for each row of the table of personas, over plain HTTP.

use std::collections::BTreeSet;
use std::time::Duration;

use oci_content::{Descriptor, Digest, media_type, referrers_tag};
use reqwest::Method;
use serde_json::{Value, json};
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry, Variant};

use crate::client::{
    Answer, anonymous, client, get, push_referrer, referrers, request, unknown_subject,
};

const INDEX: &str = media_type::IMAGE_INDEX;
const SBOM: &str = "application/spdx+json";
const VEX: &str = "application/vex+json";
const NO_ROUTE: &str = "404 page not found\n";

/// A registry with the image `team/app:1.0`, and two referrers of different types on it.
async fn with_referrers(persona: Persona) -> (TestRegistry, Descriptor, Descriptor, Descriptor) {
    filled(TestRegistry::start(persona).await)
}

fn filled(registry: TestRegistry) -> (TestRegistry, Descriptor, Descriptor, Descriptor) {
    let image = registry.image("team/app", "1.0");
    let sbom = Referrer::new(&image, SBOM, "s").annotation("by", "test");
    let sbom = registry.put_referrer("team/app", sbom);
    let vex = registry.referrer("team/app", &image, VEX, "v");
    (registry, image, sbom, vex)
}

fn sorted(digests: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    digests.into_iter().collect()
}

fn both(a: &Descriptor, b: &Descriptor) -> BTreeSet<String> {
    sorted([a.digest.to_string(), b.digest.to_string()])
}

async fn tag_index(registry: &TestRegistry, subject: &Digest) -> Answer {
    let path = format!("manifests/{}", referrers_tag(subject));
    get(registry, "team/app", &path).await
}

/// Follows next links from `path` to their end, at most so many times.
async fn walk(registry: &TestRegistry, path: &str, most: usize) -> Vec<Answer> {
    let mut pages = vec![get(registry, "team/app", path).await];
    while pages.len() < most {
        let Some((target, _)) = pages[pages.len() - 1].link() else {
            break;
        };
        let own = registry.url("");
        let target = target.strip_prefix(&own).unwrap_or(&target).to_owned();
        pages.push(get(registry, "team/app", &target).await);
    }
    pages
}

fn all_digests(pages: &[Answer]) -> Vec<String> {
    pages.iter().flat_map(Answer::digests).collect()
}

fn all_tags(pages: &[Answer]) -> Vec<String> {
    pages.iter().flat_map(Answer::tags).collect()
}

fn tagged(registry: &TestRegistry, image: &Descriptor, count: usize) {
    for number in 0..count {
        registry.tag("team/app", &format!("t{number:03}"), &image.digest);
    }
}

/// The four questions of the table: a subject without referrers, an unknown subject, an unknown
/// repository, and no credentials.
async fn rows(registry: &TestRegistry) -> [Answer; 4] {
    let bare = registry.image("team/app", "bare");
    [
        referrers(registry, "team/app", &bare.digest).await,
        referrers(registry, "team/app", &unknown_subject().digest).await,
        referrers(registry, "no/such", &bare.digest).await,
        anonymous(registry, &format!("/v2/team/app/referrers/{}", bare.digest)).await,
    ]
}

fn statuses(rows: &[Answer; 4]) -> [u16; 4] {
    [0, 1, 2, 3].map(|at| rows[at].status)
}

fn assert_empty_index(answer: &Answer) {
    assert_eq!((answer.status, answer.header("content-type")), (200, INDEX));
    assert_eq!(answer.json()["manifests"], json!([]));
}

async fn acknowledged(registry: &TestRegistry, subject: &Descriptor) -> (u16, String) {
    let pushed = push_referrer(registry, "team/app", subject, media_type::EMPTY).await;
    (pushed.status, pushed.header("oci-subject").to_owned())
}

#[tokio::test]
async fn every_persona_answers_pings_with_the_version_header_and_serves_what_it_was_given() {
    for persona in Persona::ALL {
        let registry = TestRegistry::start(persona).await;
        let image = registry.image("team/app", "1.0");
        let ping = get(&registry, "team/app", "/v2/").await;
        assert_eq!(ping.status, 200, "{persona}");
        let version = ping.header("docker-distribution-api-version");
        assert_eq!(version, "registry/2.0", "{persona}");
        if persona != Persona::EdgeProxy {
            for reference in ["1.0", &image.digest.to_string()] {
                let manifest = get(&registry, "team/app", &format!("manifests/{reference}")).await;
                assert_eq!(Digest::of(&manifest.body), image.digest, "{persona}");
            }
        }
    }
}

#[tokio::test]
async fn p1_spec_full() {
    let (registry, image, sbom, vex) = with_referrers(Persona::SpecFull).await;
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [200, 200, 200, 401]);
    rows[..3].iter().for_each(assert_empty_index);
    let host = registry.host();
    let challenge = format!(
        "Bearer realm=\"http://{host}/token\",service=\"{host}\",scope=\"repository:team/app:pull\""
    );
    assert_eq!(rows[3].header("www-authenticate"), challenge);
    let token = anonymous(&registry, "/token?scope=repository:team/app:pull")
        .await
        .json();
    assert_eq!(token["expires_in"], 3600);

    let listed = referrers(&registry, "team/app", &image.digest).await;
    assert_eq!(sorted(listed.digests()), both(&sbom, &vex));
    assert_eq!(
        (listed.header("oci-filters-applied"), listed.link()),
        ("", None)
    );
    let path = format!(
        "referrers/{}?artifactType=application/spdx%2Bjson",
        image.digest
    );
    let filtered = get(&registry, "team/app", &path).await;
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(filtered.json()["manifests"], json!([sbom]));

    let missing = unknown_subject();
    let acknowledged = acknowledged(&registry, &missing).await;
    assert_eq!(acknowledged, (201, missing.digest.to_string()));
    let listed = referrers(&registry, "team/app", &missing.digest).await;
    assert_eq!(listed.digests().len(), 1);
    assert_eq!(registry.tags("team/app"), ["1.0", "bare"]);
}

#[tokio::test]
async fn p1_spec_full_obeys_conditions_and_refuses_what_is_too_large() {
    let (registry, ..) = with_referrers(Persona::SpecFull).await;
    let put = |body: String| {
        request(&registry, Method::PUT, "team/app", "manifests/x")
            .header("content-type", INDEX)
            .body(body)
    };
    let empty = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).to_string();
    let only_new = || put(empty.clone()).header("if-none-match", "*");
    assert_eq!(Answer::of(only_new()).await.status, 201);
    assert_eq!(Answer::of(only_new()).await.status, 412);
    let tag = format!("\"{}\"", Digest::of(empty.as_bytes()));
    assert_eq!(
        Answer::of(put(empty.clone()).header("if-match", tag))
            .await
            .status,
        201
    );
    assert_eq!(
        Answer::of(put(empty.clone()).header("if-match", "\"no\""))
            .await
            .status,
        412
    );
    assert_eq!(
        Answer::of(put(" ".repeat(4 << 20) + &empty)).await.status,
        413
    );
}

#[tokio::test]
async fn p1_variants_acr_and_zot() {
    let builder = TestRegistry::builder(Persona::SpecFull).variant(Variant::Acr);
    let (registry, image, ..) = filled(builder.page_size(2).start().await);
    assert_eq!(statuses(&rows(&registry).await), [200, 200, 404, 401]);
    let ping = get(&registry, "team/app", "/v2/").await;
    assert_eq!(ping.header("server"), "AzureContainerRegistry");
    tagged(&registry, &image, 3);
    let tags = get(&registry, "team/app", "tags/list?n=5000").await;
    assert_eq!(tags.tags(), ["1.0", "bare"]);
    let link = "</v2/team/app/tags/list?last=bare&n=2&orderby=>; rel=\"next\"";
    assert_eq!(tags.header("link"), link);

    let builder = TestRegistry::builder(Persona::SpecFull).variant(Variant::Zot);
    let (registry, image, sbom, _) = filled(builder.start().await);
    let page = get(&registry, "team/app", "tags/list?n=1").await;
    assert_eq!(page.tags(), ["1.0"]);
    let stray = get(&registry, "team/app", "tags/list?n=1&last=gone").await;
    assert_eq!((stray.status, stray.text()), (404, ""));
    let bad = get(&registry, "team/app", "referrers/sha256:no").await;
    assert_eq!((bad.status, bad.text()), (400, ""));
    registry.lose("team/app", &sbom.digest);
    let failed = referrers(&registry, "team/app", &image.digest).await;
    assert_eq!((failed.status, failed.text()), (404, ""));
}

#[tokio::test]
async fn p2_paged_bytes() {
    let builder = TestRegistry::builder(Persona::PagedBytes).page_bytes(400);
    let registry = builder.credentials("user", "secret").start().await;
    let (registry, image, sbom, vex) = filled(registry);
    let huge = Referrer::new(&image, VEX, "h").annotation("filler", "x".repeat(600));
    let huge = registry.put_referrer("team/app", huge);
    let refused = anonymous(&registry, "/v2/").await;
    let challenge = (refused.status, refused.header("www-authenticate"));
    assert_eq!(challenge, (401, "Basic realm=\"olareg\""));

    let ask = async |path: &str| {
        let url = registry.url(path);
        Answer::of(client().get(url).basic_auth("user", Some("secret"))).await
    };
    let path = format!("/v2/team/app/referrers/{}", image.digest);
    let first = ask(&path).await;
    let (next, parameters) = first.link().unwrap();
    assert_eq!(parameters, "; rel=next");
    assert!(
        next.starts_with(&format!("{path}?cache=sha256%3A")),
        "{next}"
    );
    let second = ask(&next).await;
    assert_eq!(second.link(), None);
    let found = sorted([first.digests(), second.digests()].concat());
    // What is larger than a page is nowhere.
    assert_eq!(found, both(&sbom, &vex));
    assert!(!found.contains(&huge.digest.to_string()));

    let filtered = format!("{path}?artifactType=application/vex%2Bjson");
    for admitted in ["artifactType", ""] {
        let listed = ask(&filtered).await;
        assert_eq!(listed.header("oci-filters-applied"), admitted);
        assert_eq!(listed.digests(), [vex.digest.to_string()]);
    }
    // The list changes in the middle of the walk: it begins again.
    registry.referrer("team/app", &image, SBOM, "new");
    let restarted = ask(&next).await;
    assert!(restarted.link().unwrap().0.ends_with("page=1"));

    for path in [
        "referrers/sha256:no",
        &format!("referrers/{}", unknown_subject().digest),
    ] {
        assert_empty_index(&ask(&format!("/v2/team/app/{path}")).await);
        assert_empty_index(&ask(&format!("/v2/no/such/{path}")).await);
    }
    tagged(&registry, &image, 2);
    let tags = ask("/v2/team/app/tags/list?n=1").await;
    assert_eq!(
        tags.header("link"),
        "</v2/team/app/tags/list?last=1.0&n=1>; rel=next"
    );
    assert_eq!(ask("/v2/no/such/tags/list").await.tags(), [""; 0]);
}

#[tokio::test]
async fn p3_minimal() {
    let (registry, image, sbom, vex) = with_referrers(Persona::Minimal).await;
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [200, 200, 404, 200]);
    assert_eq!(rows[2].code(), "NAME_UNKNOWN");
    let path = format!(
        "referrers/{}?artifactType=application/spdx%2Bjson",
        image.digest
    );
    let listed = get(&registry, "team/app", &path).await;
    assert_eq!(listed.header("oci-filters-applied"), "");
    assert_eq!(sorted(listed.digests()), both(&sbom, &vex));
    for entry in listed.json()["manifests"].as_array().unwrap() {
        assert_eq!(
            (&entry["artifactType"], &entry["annotations"]),
            (&json!(media_type::EMPTY), &Value::Null)
        );
    }
    let bad = get(&registry, "team/app", "referrers/sha256:no").await;
    assert_eq!((bad.status, bad.code().as_str()), (400, "UNSUPPORTED"));
    assert_eq!(acknowledged(&registry, &image).await, (201, String::new()));

    tagged(&registry, &image, 1);
    let tags = get(&registry, "team/app", "tags/list?n=2").await;
    assert_eq!(
        (tags.tags(), tags.link()),
        (vec!["1.0".into(), "bare".into()], None)
    );
    assert_eq!(tags.header("content-type"), "text/plain; charset=utf-8");
    let again = get(&registry, "team/app", "tags/list?last=zzz").await;
    assert_eq!(again.tags(), ["1.0", "bare", "t000"]);
    let bad = get(&registry, "team/app", "tags/list?n=x").await;
    assert_eq!((bad.status, bad.code().as_str()), (400, "BAD_REQUEST"));

    // Nothing is checked on a push: not the digest, not what the manifest names.
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_MANIFEST,
        "config": unknown_subject(),
        "layers": [],
    })
    .to_string();
    let path = format!("manifests/{}", image.digest);
    let put = request(&registry, Method::PUT, "team/app", &path)
        .header("content-type", media_type::IMAGE_MANIFEST)
        .body(manifest.clone());
    let put = Answer::of(put).await;
    let digest = Digest::of(manifest.as_bytes()).to_string();
    assert_eq!(
        (put.status, put.header("docker-content-digest")),
        (201, digest.as_str())
    );
    assert_eq!(put.header("etag"), "");
}

#[tokio::test]
async fn p4_ecr() {
    let registry = TestRegistry::builder(Persona::Ecr).credentials("AWS", "secret");
    let (registry, image, ..) = filled(registry.start().await);
    let refused = anonymous(&registry, "/v2/").await;
    assert_eq!(refused.status, 401);
    assert!(
        refused
            .header("www-authenticate")
            .starts_with("Basic realm=")
    );

    let (registry, _, sbom, vex) = with_referrers(Persona::Ecr).await;
    for number in 0..58 {
        registry.referrer("team/app", &image, VEX, format!("{number}"));
    }
    assert_eq!(statuses(&rows(&registry).await)[..3], [200, 200, 404]);
    let path = format!("referrers/{}", image.digest);
    let pages = walk(&registry, &path, 9).await;
    let counts: Vec<_> = pages.iter().map(|page| page.digests().len()).collect();
    assert_eq!(counts, [50, 10]);
    let (target, parameters) = pages[0].link().unwrap();
    assert!(
        target.starts_with(&registry.url("/v2/team/app/referrers/")),
        "{target}"
    );
    assert_eq!(parameters, "; rel=\"next\"");
    registry.hide_referrer("team/app", &sbom.digest);
    let left = all_digests(&walk(&registry, &path, 9).await);
    assert!(!left.contains(&sbom.digest.to_string()) && left.contains(&vex.digest.to_string()));

    tagged(&registry, &image, 150);
    let pages = walk(&registry, "tags/list", 9).await;
    assert_eq!(pages[0].header("content-type"), "text/plain; charset=utf-8");
    let tags = all_tags(&pages);
    assert_eq!((pages.len(), tags.len()), (2, 152));
    assert!(!tags.is_sorted());
    assert!(!pages[0].link().unwrap().0.contains("last=t"));

    let mut pushed = Vec::new();
    for _ in 0..12 {
        pushed.push(acknowledged(&registry, &image).await.0);
    }
    assert_eq!(pushed[..10], [201; 10]);
    assert!(pushed[10..].contains(&429), "{pushed:?}");
    let builder = TestRegistry::builder(Persona::Ecr).variant(Variant::EcrBeforeArtifacts);
    assert_eq!(acknowledged(&builder.start().await, &image).await.0, 405);
}

#[tokio::test]
async fn p5_hub_now() {
    let builder = TestRegistry::builder(Persona::HubNow).pull_limit(3);
    let (registry, image, sbom, vex) = filled(builder.start().await);
    let older = Referrer::new(&image, VEX, "old").only_in_tag_index();
    let older = registry.put_referrer("team/app", older);
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [200, 200, 401, 401]);
    assert!(
        rows[2]
            .header("www-authenticate")
            .ends_with("error=\"insufficient_scope\"")
    );
    let foreign = registry.foreign_host();
    let realm = format!("Bearer realm=\"http://{foreign}/token\"");
    assert!(rows[3].header("www-authenticate").starts_with(&realm));
    let token = format!("http://{foreign}/token?scope=repository:no/such:pull");
    let token = Answer::of(client().get(token)).await;
    assert_eq!(
        (token.status, &token.json()["expires_in"]),
        (200, &json!(300))
    );
    assert_eq!(registry.foreign_requests().len(), 1);

    let listed = referrers(&registry, "team/app", &image.digest).await;
    assert_eq!(sorted(listed.digests()), both(&sbom, &vex));
    let tagged = tag_index(&registry, &image.digest).await;
    assert_eq!(tagged.digests(), [older.digest.to_string()]);
    assert_eq!(tagged.header("ratelimit-limit"), "3;w=21600");
    assert_eq!(tagged.header("ratelimit-remaining"), "2;w=21600");
    for (status, left) in [(200, "1;w=21600"), (200, "0;w=21600"), (429, "0;w=21600")] {
        let pulled = get(&registry, "team/app", "manifests/1.0").await;
        assert_eq!(
            (pulled.status, pulled.header("ratelimit-remaining")),
            (status, left)
        );
        assert_eq!(pulled.header("retry-after"), "");
    }
    registry.reset_pull_limit();
    assert_eq!(
        get(&registry, "team/app", "manifests/1.0").await.status,
        200
    );
    assert_eq!(
        acknowledged(&registry, &image).await,
        (201, image.digest.to_string())
    );
}

#[tokio::test]
async fn p6_hub_liar() {
    let (registry, image, ..) = with_referrers(Persona::HubLiar).await;
    assert_eq!(statuses(&rows(&registry).await), [404, 404, 401, 401]);
    assert_eq!(
        acknowledged(&registry, &image).await,
        (201, image.digest.to_string())
    );
    assert_eq!(
        referrers(&registry, "team/app", &image.digest).await.status,
        404
    );
    assert_eq!(acknowledged(&registry, &unknown_subject()).await.0, 404);
    assert_eq!(tag_index(&registry, &image.digest).await.digests().len(), 2);
}

#[tokio::test]
async fn p7_ghcr() {
    let builder = TestRegistry::builder(Persona::Ghcr).private_repository("team/secret");
    let (registry, image, sbom, vex) = filled(builder.start().await);
    registry.image("team/secret", "1.0");
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [404, 404, 404, 401]);
    assert_eq!(rows[0].code(), "MANIFEST_UNKNOWN");
    assert!(
        rows[3]
            .header("www-authenticate")
            .contains("scope=\"repository:user/image:pull\"")
    );
    for (name, status) in [("no/such", 403), ("team/secret", 403), ("team/app", 200)] {
        let path = format!("/token?scope=repository:{name}:pull");
        assert_eq!(anonymous(&registry, &path).await.status, status, "{name}");
    }
    assert_ne!(rows[0].header("x-github-request-id"), "");

    let tagged_index = tag_index(&registry, &image.digest).await;
    assert_eq!(sorted(tagged_index.digests()), both(&sbom, &vex));
    for entry in tagged_index.json()["manifests"].as_array().unwrap() {
        assert_eq!(
            (&entry["artifactType"], &entry["annotations"]),
            (&json!(media_type::EMPTY), &Value::Null)
        );
    }
    tagged(&registry, &image, 120);
    let counts: Vec<_> = walk(&registry, "tags/list", 9)
        .await
        .iter()
        .map(|page| page.tags().len())
        .collect();
    assert_eq!(counts, [100, 23]);
    let all = get(&registry, "team/app", "tags/list?n=10000").await;
    assert_eq!((all.tags().len(), all.link()), (123, None));
    assert_eq!(acknowledged(&registry, &image).await, (201, String::new()));
    registry.fault(Route::manifests(), Fault::rate_limited());
    let limited = get(&registry, "team/app", "manifests/1.0").await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, ""));
    assert!(limited.text().contains("retry-after: "));
}

#[tokio::test]
async fn p8_ghcr_303() {
    for (variant, status) in [
        (None, 404),
        (Some(Variant::Ghcr303TooManyRequests), 429),
        (Some(Variant::Ghcr303Html), 200),
    ] {
        let builder = TestRegistry::builder(Persona::Ghcr303);
        let builder = match variant {
            Some(variant) => builder.variant(variant),
            None => builder,
        };
        let (registry, image, sbom, vex) = filled(builder.start().await);
        let rows = rows(&registry).await;
        assert_eq!(statuses(&rows), [303, 303, 303, 303]);
        let foreign = registry.foreign_host();
        let location = format!(
            "http://{foreign}/-/v2/packages/container/package/team%2Fapp%2Freferrers%2Fsha256"
        );
        assert_eq!(rows[3].header("location"), location);
        let page = Answer::of(client().get(&location)).await;
        assert_eq!(page.status, status);
        let tagged = tag_index(&registry, &image.digest).await;
        assert_eq!(sorted(tagged.digests()), both(&sbom, &vex));
    }
}

#[tokio::test]
async fn p9_html_200() {
    let (registry, image, sbom, vex) = with_referrers(Persona::Html200).await;
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [302, 302, 302, 401]);
    let page = Answer::of(client().get(rows[0].header("location"))).await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let tagged = tag_index(&registry, &image.digest).await;
    assert_eq!(sorted(tagged.digests()), both(&sbom, &vex));
    assert_eq!(acknowledged(&registry, &image).await, (201, String::new()));
}

#[tokio::test]
async fn p10_quay() {
    let (registry, image, sbom, vex) = with_referrers(Persona::Quay).await;
    let by_config = Referrer::new(&image, VEX, "c").typed_by_config();
    let by_config = registry.put_referrer("team/app", by_config);
    let tagged_only = Referrer::new(&image, VEX, "t").only_in_tag_index();
    let tagged_only = registry.put_referrer("team/app", tagged_only);
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [200, 400, 404, 401]);
    let codes = [rows[1].code(), rows[2].code()];
    assert_eq!(codes, ["MANIFEST_INVALID", "NAME_UNKNOWN"]);
    let token = anonymous(&registry, "/v2/auth?scope=repository:team/app:pull")
        .await
        .json();
    assert_eq!(
        token.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["token"]
    );

    let listed = get(
        &registry,
        "team/app",
        &format!("referrers/{}?artifactType=", image.digest),
    )
    .await;
    assert_eq!(listed.header("oci-filters-applied"), "artifactType");
    let expected = [&sbom, &vex, &by_config, &tagged_only].map(|d| d.digest.to_string());
    assert_eq!(sorted(listed.digests()), sorted(expected));
    let entries = listed.json();
    let entries = entries["manifests"].as_array().unwrap();
    let digest = json!(by_config.digest);
    let entry = entries
        .iter()
        .find(|entry| entry["digest"] == digest)
        .unwrap();
    assert_eq!(entry["artifactType"], Value::Null);
    assert_eq!(acknowledged(&registry, &image).await, (201, String::new()));

    tagged(&registry, &image, 120);
    let tags = get(&registry, "team/app", "tags/list?n=500").await;
    assert_eq!(tags.tags().len(), 100);
    assert!(
        tags.link()
            .unwrap()
            .0
            .starts_with(&registry.url("/v2/team/app/tags/list"))
    );
    registry.fault(Route::tags(), Fault::rate_limited());
    let limited = get(&registry, "team/app", "tags/list").await;
    assert_eq!(
        (limited.status, limited.header("content-type")),
        (429, "text/html")
    );

    let builder = TestRegistry::builder(Persona::Quay).variant(Variant::QuayBefore312);
    let builder = builder.cache_ttl(Duration::from_secs(60));
    let (registry, image, ..) = filled(builder.start().await);
    let unknown = referrers(&registry, "team/app", &unknown_subject().digest).await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    for _ in 0..2 {
        // The second answer is stale.
        assert_eq!(
            referrers(&registry, "team/app", &image.digest)
                .await
                .digests()
                .len(),
            2
        );
        registry.referrer("team/app", &image, SBOM, "later");
    }
}

#[tokio::test]
async fn p11_harbor_27() {
    let (registry, image, sbom, vex) = with_referrers(Persona::Harbor27).await;
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [401, 401, 401, 401]);
    for row in &rows {
        assert_eq!(row.header("www-authenticate"), "");
    }
    assert_eq!(rows[0].header("server"), "nginx");
    assert!(rows[0].header("set-cookie").starts_with("sid="));
    let token = anonymous(&registry, "/service/token?scope=repository:team/app:pull").await;
    assert_eq!(token.json()["expires_in"], 1800);
    let tagged = tag_index(&registry, &image.digest).await;
    assert_eq!(sorted(tagged.digests()), both(&sbom, &vex));
    assert_eq!(get(&registry, "team/app", "tags/list").await.link(), None);
    assert!(
        get(&registry, "team/app", "tags/list?n=1")
            .await
            .link()
            .is_some()
    );
    assert_eq!(acknowledged(&registry, &image).await, (201, String::new()));
}

#[tokio::test]
async fn p12_harbor_28() {
    let (registry, image, sbom, _) = with_referrers(Persona::Harbor28).await;
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [200, 200, 404, 401]);
    let content_type = "application/json; charset=utf-8";
    assert_eq!(rows[0].header("content-type"), content_type);
    assert_eq!(
        (rows[1].header("content-type"), rows[1].text()),
        (content_type, "{}")
    );
    let path = format!(
        "referrers/{}?artifactType={}",
        image.digest,
        media_type::EMPTY.replace('+', "%2B")
    );
    let filtered = get(&registry, "team/app", &path).await;
    assert_eq!(
        (
            filtered.header("oci-filters-applied"),
            filtered.digests().len()
        ),
        ("artifactType", 2)
    );
    let by_own_type = format!(
        "referrers/{}?artifactType=application/spdx%2Bjson",
        image.digest
    );
    let none = get(&registry, "team/app", &by_own_type).await;
    assert_eq!(
        (none.digests().len(), none.header("x-total-count")),
        (0, "2")
    );
    let entries = filtered.json();
    let entries = entries["manifests"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["digest"] == json!(sbom.digest))
        .unwrap();
    // The manifest, its config of two bytes and its layer of one.
    assert_eq!(
        (&entry["size"], &entry["artifactType"]),
        (&json!(sbom.size + 3), &json!(media_type::EMPTY))
    );
    assert_eq!(
        acknowledged(&registry, &image).await,
        (201, image.digest.to_string())
    );
    registry.lose("team/app", &sbom.digest);
    assert_eq!(
        referrers(&registry, "team/app", &image.digest).await.status,
        404
    );
}

#[tokio::test]
async fn p13_dist2_and_dist3() {
    for persona in [Persona::Dist2, Persona::Dist3] {
        let (registry, image, sbom, vex) = with_referrers(persona).await;
        let rows = rows(&registry).await;
        assert_eq!(statuses(&rows), [404, 404, 404, 401]);
        assert_eq!(rows[0].header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(rows[0].text(), NO_ROUTE);
        let tagged_index = tag_index(&registry, &image.digest).await;
        assert_eq!(sorted(tagged_index.digests()), both(&sbom, &vex));
        assert_eq!(tagged_index.json()["manifests"][0], json!(sbom));
        assert_eq!(acknowledged(&registry, &image).await, (201, String::new()));
        let unknown = get(&registry, "no/such", "manifests/x").await;
        assert_eq!(
            (unknown.status, unknown.code().as_str()),
            (404, "MANIFEST_UNKNOWN")
        );
        let path = format!("manifests/{}", image.digest);
        let delete = request(&registry, Method::DELETE, "team/app", &path);
        let delete = Answer::of(delete).await;
        assert_eq!(
            (delete.status, delete.code().as_str()),
            (405, "UNSUPPORTED")
        );

        // If-Match is not obeyed, whatever the ETag promises.
        assert_ne!(tagged_index.header("etag"), "");
        let path = format!("manifests/{}", referrers_tag(&image.digest));
        let put = request(&registry, Method::PUT, "team/app", &path)
            .header("content-type", INDEX)
            .header("if-match", "\"no\"")
            .body(tagged_index.body);
        assert_eq!(Answer::of(put).await.status, 201);

        tagged(&registry, &image, 120);
        let first = get(&registry, "team/app", "tags/list?n=2").await;
        let without_accept = client()
            .get(registry.url(&format!("/v2/team/app/{path}")))
            .bearer_auth(registry.issue_token(&["repository:team/app:pull"]));
        let without_accept = Answer::of(without_accept).await.status;
        match persona {
            Persona::Dist2 => {
                assert_eq!((first.tags().len(), first.link()), (123, None));
                assert!(!first.tags().is_sorted());
                assert_eq!(without_accept, 404);
            }
            _ => {
                assert_eq!(first.tags(), ["1.0", "bare"]);
                let link = "</v2/team/app/tags/list?last=bare&n=2>; rel=\"next\"";
                assert_eq!(first.header("link"), link);
                let bad = get(&registry, "team/app", "tags/list?n=x").await;
                assert_eq!(
                    (bad.status, bad.code().as_str()),
                    (400, "PAGINATION_NUMBER_INVALID")
                );
                assert_eq!(without_accept, 200);
            }
        }
    }
}

#[tokio::test]
async fn p13_dist2_gives_absolute_locations_and_wants_their_state_back() {
    let registry = TestRegistry::start(Persona::Dist2).await;
    let begun = request(&registry, Method::POST, "team/app", "blobs/uploads/");
    let begun = Answer::of(begun).await;
    let location = begun.header("location");
    let (session, state) = location
        .strip_prefix(&registry.url(""))
        .unwrap()
        .split_once('?')
        .unwrap();
    let digest = Digest::of(b"hello");
    let finish = |query: String| {
        request(
            &registry,
            Method::PUT,
            "team/app",
            &format!("{session}?{query}"),
        )
        .body("hello")
    };
    assert_eq!(
        Answer::of(finish(format!("digest={digest}"))).await.status,
        400
    );
    let finished = Answer::of(finish(format!("{state}&digest={digest}"))).await;
    let blob = registry.url(&format!("/v2/team/app/blobs/{digest}"));
    assert_eq!(
        (finished.status, finished.header("location")),
        (201, blob.as_str())
    );
}

#[tokio::test]
async fn p14_gitlab() {
    let registry = TestRegistry::builder(Persona::GitLab).without_tag_index();
    let (registry, image, ..) = filled(registry.start().await);
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [404, 404, 404, 401]);
    assert_eq!(rows[0].header("content-type"), "application/json");
    let foreign = registry.foreign_host();
    let realm = format!("Bearer realm=\"http://{foreign}/jwt/auth\"");
    assert!(rows[3].header("www-authenticate").starts_with(&realm));
    let token = format!("http://{foreign}/jwt/auth?scope=repository:team/app:pull");
    let token = Answer::of(client().get(token)).await.json();
    assert_eq!(
        token.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["token"]
    );

    let itself = tag_index(&registry, &image.digest).await;
    let digest = image.digest.to_string();
    assert_eq!(
        (itself.status, itself.header("docker-content-digest")),
        (200, digest.as_str())
    );
    assert_eq!(
        tag_index(&registry, &unknown_subject().digest).await.status,
        404
    );
    assert_eq!(acknowledged(&registry, &image).await, (201, String::new()));
    let refused = push_referrer(&registry, "team/app", &image, "application/vnd.example").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "MANIFEST_INVALID")
    );
    let tags = get(&registry, "team/app", "tags/list?n=1").await;
    assert_eq!(
        tags.header("link"),
        "</v2/team/app/tags/list?last=1.0&n=1>; rel=\"next\""
    );
}

#[tokio::test]
async fn p15_artifactory_old() {
    let builder = TestRegistry::builder(Persona::ArtifactoryOld).credentials("user", "secret");
    let (registry, image, sbom, vex) = filled(builder.start().await);
    let refused = anonymous(
        &registry,
        &format!("/v2/team/app/referrers/{}", image.digest),
    )
    .await;
    assert_eq!(
        refused.header("www-authenticate"),
        "Basic realm=\"Artifactory Realm\""
    );
    let error = &refused.json()["errors"][0];
    assert_eq!(
        (refused.status, &error["status"], &error["code"]),
        (401, &json!(401), &Value::Null)
    );
    assert_ne!(refused.header("x-jfrog-version"), "");

    let ask = async |method: Method, path: &str| {
        let request = client().request(method, registry.url(&format!("/v2/{path}")));
        Answer::of(request.basic_auth("user", Some("secret"))).await
    };
    for path in ["team/app", "no/such"] {
        for digest in [&image.digest, &unknown_subject().digest] {
            let answer = ask(Method::GET, &format!("{path}/referrers/{digest}")).await;
            assert_eq!(answer.status, 406);
        }
    }
    let tag = referrers_tag(&image.digest);
    let tagged_index = ask(Method::GET, &format!("team/app/manifests/{tag}")).await;
    assert_eq!(sorted(tagged_index.digests()), both(&sbom, &vex));
    assert_eq!(
        ask(Method::GET, "team/app/manifests/absent").await.status,
        403
    );
    tagged(&registry, &image, 3);
    let first = ask(Method::GET, "team/app/tags/list?n=2").await;
    assert_eq!(
        first.header("link"),
        "</v2/app/tags/list?last=2&n=2>; rel=\"next\""
    );
    assert_eq!(
        ask(Method::GET, "app/tags/list?last=2&n=2").await.status,
        404
    );
    let blob = registry.put_blob("team/app", "x");
    let delete = ask(Method::DELETE, &format!("team/app/blobs/{}", blob.digest)).await;
    assert_eq!(
        (delete.status, &delete.json()["errors"][0]["status"]),
        (405, &json!(405))
    );
}

#[tokio::test]
async fn p16_edge_proxy() {
    let (registry, image, ..) = with_referrers(Persona::EdgeProxy).await;
    let ping = anonymous(&registry, "/v2/").await;
    let seen = (
        ping.status,
        ping.header("content-type"),
        ping.text(),
        ping.header("server"),
    );
    assert_eq!(seen, (200, "text/html", "", "Google Frontend"));
    let rows = rows(&registry).await;
    assert_eq!(statuses(&rows), [404, 404, 404, 404]);
    assert!(rows[0].header("content-type").starts_with("text/html"));
    let moved = anonymous(&registry, "/v2/team/app/manifests/1.0").await;
    let foreign = registry.foreign_host();
    let location = format!("http://{foreign}/v2/team/app/manifests/1.0");
    assert_eq!(
        (moved.status, moved.header("location")),
        (307, location.as_str())
    );
    let manifest = Answer::of(client().get(location)).await;
    assert_eq!(Digest::of(&manifest.body), image.digest);
    assert_eq!(registry.foreign_requests().len(), 1);
    assert_eq!(acknowledged(&registry, &image).await.0, 405);
    assert_eq!(
        anonymous(&registry, "/v2/team/app/tags/list?n=1")
            .await
            .tags(),
        ["1.0"]
    );
}

#[tokio::test]
async fn p16_variants() {
    for (variant, status, code) in [
        (Variant::EdgeForbidden, 403, ""),
        (Variant::EdgeFailedDependency, 424, "UNKNOWN"),
        (Variant::EdgeUpstreamNotFound, 404, "MANIFEST_UNKNOWN"),
    ] {
        let builder = TestRegistry::builder(Persona::EdgeProxy).variant(variant);
        let (registry, image, ..) = filled(builder.start().await);
        let answer = referrers(&registry, "team/app", &image.digest).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
    }
    let builder = TestRegistry::builder(Persona::EdgeProxy).variant(Variant::EdgeCachedIndex);
    let (registry, image, ..) = filled(builder.start().await);
    for _ in 0..2 {
        assert_eq!(
            referrers(&registry, "team/app", &image.digest)
                .await
                .digests()
                .len(),
            2
        );
        registry.referrer("team/app", &image, SBOM, "later");
    }
    let builder = TestRegistry::builder(Persona::EdgeProxy).variant(Variant::EdgeUpstreamLink);
    let (registry, image, ..) = filled(builder.page_size(1).start().await);
    let page = referrers(&registry, "team/app", &image.digest).await;
    let upstream = format!("http://{}/v2/team/app/referrers/", registry.foreign_host());
    assert!(page.link().unwrap().0.starts_with(&upstream));
}
