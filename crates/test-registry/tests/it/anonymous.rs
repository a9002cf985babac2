use reqwest::RequestBuilder;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::client::{Answer, anonymous, client};

async fn hidden(persona: Persona) -> TestRegistry {
    let builder = TestRegistry::builder(persona).credentials("user", "secret");
    let registry = builder.start().await;
    registry.image("app", "1.0");
    registry.image("app", "2.0");
    registry
}

/// Asks for a path with the credentials, in the way that `persona` takes them.
async fn known(registry: &TestRegistry, path: &str) -> Answer {
    let request = client().get(registry.url(path));
    let request: RequestBuilder = match registry.persona() {
        Persona::PagedBytes => request.basic_auth("user", Some("secret")),
        _ => request.bearer_auth(registry.issue_token(&["repository:app:pull"])),
    };
    Answer::of(request.header("accept", oci_content::media_type::ACCEPT_MANIFEST)).await
}

#[tokio::test]
async fn what_is_hidden_from_anonymous_users_is_refused_without_a_challenge() {
    for (persona, scheme) in [
        (Persona::SpecFull, "Bearer"),
        (Persona::PagedBytes, "Basic"),
    ] {
        for (status, code) in [
            (404, "NAME_UNKNOWN"),
            (404, "MANIFEST_UNKNOWN"),
            (403, "DENIED"),
        ] {
            let registry = hidden(persona).await;
            let hide = Fault::error(status, code).forever();
            registry.fault(Route::manifests().anonymous(), hide);
            let path = "/v2/app/manifests/1.0";
            let refused = anonymous(&registry, path).await;
            assert_eq!((refused.status, refused.code().as_str()), (status, code));
            assert_eq!(refused.header("www-authenticate"), "");
            assert_eq!(known(&registry, path).await.status, 200);
            let ping = anonymous(&registry, "/v2/").await;
            assert_eq!(ping.status, 401);
            assert!(ping.header("www-authenticate").starts_with(scheme));
        }
    }
}

#[tokio::test]
async fn anonymous_users_see_shorter_lists() {
    for persona in [Persona::SpecFull, Persona::PagedBytes] {
        let registry = hidden(persona).await;
        let image = registry.image("app", "3.0");
        let [one, two] = ["1", "2"].map(|payload| registry.referrer("app", &image, "a/b", payload));
        let shorter = Fault::omit(["2.0"]).without_auth().forever();
        registry.fault(Route::tags().anonymous(), shorter);
        let shorter = Fault::omit([&one.digest]).without_auth().forever();
        registry.fault(Route::referrers().anonymous(), shorter);
        let (tags, referrers) = (
            "/v2/app/tags/list",
            format!("/v2/app/referrers/{}", image.digest),
        );
        assert_eq!(anonymous(&registry, tags).await.tags(), ["1.0", "3.0"]);
        assert_eq!(known(&registry, tags).await.tags(), ["1.0", "2.0", "3.0"]);
        let seen = anonymous(&registry, &referrers).await;
        assert_eq!(seen.digests(), [two.digest.to_string()]);
        assert_eq!(seen.header("content-length"), seen.body.len().to_string());
        assert_eq!(known(&registry, &referrers).await.digests().len(), 2);
    }
}

#[tokio::test]
async fn the_ping_can_be_open_where_the_rest_is_not() {
    let registry = hidden(Persona::SpecFull).await;
    registry.fault(
        Route::ping().anonymous(),
        Fault::pass().without_auth().forever(),
    );
    assert_eq!(anonymous(&registry, "/v2/").await.status, 200);
    assert_eq!(anonymous(&registry, "/v2/app/tags/list").await.status, 401);
}

#[tokio::test]
async fn a_token_that_was_issued_to_nobody_in_particular_is_anonymous() {
    let builder = TestRegistry::builder(Persona::SpecFull).credentials("user", "secret");
    let registry = builder.anonymous_pull().start().await;
    registry.image("app", "1.0");
    let deny = Fault::error(403, "DENIED").forever();
    registry.fault(Route::tags().anonymous(), deny);
    let token = registry.url("/token?scope=repository:app:pull");
    for (request, status) in [
        (client().get(&token), 403),
        (client().get(&token).basic_auth("user", Some("secret")), 200),
    ] {
        let token = Answer::of(request).await.json();
        let token = token["token"].as_str().unwrap();
        let list = client().get(registry.url("/v2/app/tags/list"));
        assert_eq!(Answer::of(list.bearer_auth(token)).await.status, status);
    }
}
