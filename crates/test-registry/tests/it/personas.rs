use serde_json::Value;
use test_registry::{Persona, TestRegistry};

use crate::client::{client, get, header};

#[tokio::test]
async fn spec_full_lists_referrers_and_demands_a_token_that_anybody_gets() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("team/app", "1.0");
    let sbom = registry.referrer("team/app", &image, "application/spdx+json", "{}");
    let path = format!("referrers/{}", image.digest);

    let denied = client()
        .get(registry.url(&format!("/v2/team/app/{path}")))
        .send()
        .await
        .unwrap();
    assert_eq!(denied.status(), 401);
    let host = registry.host();
    let challenge = format!(
        "Bearer realm=\"http://{host}/token\",service=\"{host}\",scope=\"repository:team/app:pull\""
    );
    assert_eq!(header(&denied, "www-authenticate"), challenge);

    let granted = client()
        .get(registry.url("/token?scope=repository:team/app:pull"))
        .send()
        .await
        .unwrap();
    let granted: Value = serde_json::from_slice(&granted.bytes().await.unwrap()).unwrap();
    let listed = client()
        .get(registry.url(&format!("/v2/team/app/{path}")))
        .bearer_auth(granted["token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(listed.status(), 200);
    let index: Value = serde_json::from_slice(&listed.bytes().await.unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], sbom.digest.to_string());
    assert_eq!(registry.tags("team/app"), ["1.0"]);
    let schemes: Vec<_> = registry
        .requests()
        .into_iter()
        .map(|r| r.authorization)
        .collect();
    assert_eq!(schemes, [None, None, Some("Bearer".into())]);
}

#[tokio::test]
async fn dist2_has_no_referrers_api_and_a_tag_index_in_its_place() {
    let registry = TestRegistry::start(Persona::Dist2).await;
    let image = registry.image("team/app", "1.0");
    let sbom = registry.referrer("team/app", &image, "application/spdx+json", "{}");
    let absent = get(
        &registry,
        "team/app",
        &format!("referrers/{}", image.digest),
    )
    .await;
    assert_eq!(absent.status(), 404);
    assert_eq!(header(&absent, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(absent.text().await.unwrap(), "404 page not found\n");

    let tag = image.digest.to_string().replace(':', "-");
    let index = get(&registry, "team/app", &format!("manifests/{tag}")).await;
    let index: Value = serde_json::from_slice(&index.bytes().await.unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], sbom.digest.to_string());
    assert_eq!(
        index["manifests"][0]["artifactType"],
        "application/spdx+json"
    );
}
