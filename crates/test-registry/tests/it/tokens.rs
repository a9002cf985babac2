use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use test_registry::{Persona, TestRegistry};

use crate::client::{Answer, client};

const PULL: &str = "/token?scope=repository:team/app:pull";
const PUSH: &str = "/token?scope=repository:team/app:pull,push";

/// Asks for a token, and with it does something that needs `method`.
async fn with_token(registry: &TestRegistry, token: RequestBuilder, method: Method) -> u16 {
    let token = Answer::of(token).await;
    if token.status != 200 {
        return token.status;
    }
    let token = token.json()["token"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let path = match method {
        Method::POST => "/v2/team/app/blobs/uploads/",
        _ => "/v2/team/app/tags/list",
    };
    let request = client()
        .request(method, registry.url(path))
        .bearer_auth(token);
    Answer::of(request).await.status
}

fn ask(registry: &TestRegistry, path: &str) -> RequestBuilder {
    client().get(registry.url(path))
}

#[tokio::test]
async fn anybody_has_a_token_for_everything_unless_there_are_credentials() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    registry.image("team/app", "1.0");
    let begin = ask(&registry, PUSH);
    assert_eq!(with_token(&registry, begin, Method::POST).await, 202);
    let reads_only = ask(&registry, PULL);
    assert_eq!(with_token(&registry, reads_only, Method::POST).await, 401);

    let builder = TestRegistry::builder(Persona::SpecFull).credentials("user", "secret");
    let registry = builder.start().await;
    registry.image("team/app", "1.0");
    for (user, password, status) in [("user", "secret", 202), ("user", "wrong", 401)] {
        let token = ask(&registry, PUSH).basic_auth(user, Some(password));
        assert_eq!(with_token(&registry, token, Method::POST).await, status);
    }
    assert_eq!(
        with_token(&registry, ask(&registry, PULL), Method::GET).await,
        401
    );
}

#[tokio::test]
async fn with_anonymous_pull_a_token_without_credentials_only_reads() {
    let builder = TestRegistry::builder(Persona::SpecFull).credentials("user", "secret");
    let builder = builder.anonymous_pull().private_repository("team/secret");
    let registry = builder.start().await;
    registry.image("team/app", "1.0");
    registry.image("team/secret", "1.0");
    assert_eq!(
        with_token(&registry, ask(&registry, PULL), Method::GET).await,
        200
    );
    assert_eq!(
        with_token(&registry, ask(&registry, PUSH), Method::POST).await,
        401
    );
    let wrong = ask(&registry, PULL).basic_auth("user", Some("wrong"));
    assert_eq!(with_token(&registry, wrong, Method::GET).await, 401);

    let private = "/token?scope=repository:team/secret:pull";
    for (request, status) in [
        (ask(&registry, private), 401),
        (
            ask(&registry, private).basic_auth("user", Some("secret")),
            200,
        ),
    ] {
        let token = Answer::of(request).await.json();
        let list = registry.url("/v2/team/secret/tags/list");
        let list = client()
            .get(list)
            .bearer_auth(token["token"].as_str().unwrap());
        assert_eq!(Answer::of(list).await.status, status);
    }
}

#[tokio::test]
async fn a_refresh_token_is_taken_by_post() {
    let builder = TestRegistry::builder(Persona::SpecFull).refresh_token("r3fresh");
    let registry = builder.start().await;
    registry.image("team/app", "1.0");
    for (given, status) in [("r3fresh", 200), ("other", 401)] {
        let form = format!(
            "grant_type=refresh_token&refresh_token={given}&scope=repository:team/app:pull"
        );
        let request = client()
            .post(registry.url("/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        assert_eq!(with_token(&registry, request, Method::GET).await, status);
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_when_all_are_expired() {
    let builder = TestRegistry::builder(Persona::SpecFull).token_ttl(Duration::from_secs(1));
    let registry = builder.start().await;
    registry.image("team/app", "1.0");
    let answer = Answer::of(ask(&registry, PULL)).await.json();
    assert_eq!(answer["expires_in"], 1);
    let list = async || {
        let list = client().get(registry.url("/v2/team/app/tags/list"));
        Answer::of(list.bearer_auth(answer["token"].as_str().unwrap()))
            .await
            .status
    };
    assert_eq!(list().await, 200);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(list().await, 401);

    let token = registry.issue_token(&["repository:team/app:pull"]);
    let list = || {
        client()
            .get(registry.url("/v2/team/app/tags/list"))
            .bearer_auth(&token)
    };
    assert_eq!(Answer::of(list()).await.status, 200);
    registry.expire_tokens();
    assert_eq!(Answer::of(list()).await.status, 401);
}

#[tokio::test]
async fn without_auth_nobody_is_asked() {
    for persona in Persona::ALL {
        let builder = TestRegistry::builder(persona).credentials("user", "secret");
        let registry = builder.without_auth().start().await;
        assert_eq!(
            Answer::of(ask(&registry, "/v2/")).await.status,
            200,
            "{persona}"
        );
    }
}

#[test]
fn a_test_that_is_not_async_has_its_registry_too() {
    let registry = TestRegistry::builder(Persona::Minimal).start_blocking();
    let image = registry.image("team/app", "1.0");
    assert_eq!(registry.resolve("team/app", "1.0"), Some(image.digest));
}

#[tokio::test]
#[should_panic(expected = "is no variant of it")]
async fn a_variant_of_another_persona_is_a_mistake() {
    let builder = TestRegistry::builder(Persona::Ghcr);
    builder.variant(test_registry::Variant::Acr).start().await;
}
