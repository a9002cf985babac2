#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use test_registry::{Fault, Persona, Route, TestRegistry};

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

/// Asks for the tags of `team/app` with a token for `scope`.
async fn with_scope(registry: &TestRegistry, scope: &str) -> Answer {
    let token = Answer::of(ask(registry, &format!("/token?scope={scope}"))).await;
    assert_eq!(token.status, 200, "{}", token.text());
    let token = token.json()["token"].as_str().unwrap().to_owned();
    let list = client().get(registry.url("/v2/team/app/tags/list"));
    Answer::of(list.bearer_auth(token)).await
}

#[tokio::test]
async fn a_front_that_renames_wants_its_own_name_in_the_scope() {
    for status in [401, 403] {
        let registry = TestRegistry::builder(Persona::SpecFull)
            .scope_prefix("mirror/")
            .insufficient_scope_status(status)
            .start()
            .await;
        registry.image("team/app", "1.0");
        let scope = "scope=\"repository:mirror/team/app:pull\"";
        let refused = Answer::of(ask(&registry, "/v2/team/app/tags/list")).await;
        assert_eq!(refused.status, 401);
        assert!(refused.header("www-authenticate").ends_with(scope));
        let refused = with_scope(&registry, "repository:team/app:pull").await;
        let challenge = refused.header("www-authenticate");
        let expected = format!("{scope},error=\"insufficient_scope\"");
        assert_eq!(refused.status, status);
        assert!(challenge.ends_with(&expected), "{challenge}");
        let read = with_scope(&registry, "repository:mirror/team/app:pull").await;
        assert_eq!(read.status, 200);
    }
}

#[tokio::test]
async fn several_scopes_are_refused_or_only_the_first_is_granted() {
    let one = "repository:team/app:pull";
    let both = "repository:team/other:pull&scope=repository:team/app:pull";
    for status in [400, 403] {
        let builder = TestRegistry::builder(Persona::SpecFull).refuse_several_scopes(status);
        let registry = builder.start().await;
        registry.image("team/app", "1.0");
        for both in [
            both,
            "repository:team/other:pull%20repository:team/app:pull",
        ] {
            let refused = Answer::of(ask(&registry, &format!("/token?scope={both}"))).await;
            assert_eq!(refused.status, status);
        }
        assert_eq!(with_scope(&registry, one).await.status, 200);
    }
    let builder = TestRegistry::builder(Persona::SpecFull).grant_first_scope();
    let registry = builder.start().await;
    registry.image("team/app", "1.0");
    assert_eq!(with_scope(&registry, both).await.status, 401);
    assert_eq!(with_scope(&registry, one).await.status, 200);
}

#[tokio::test]
async fn a_token_service_grants_less_than_was_asked() {
    let builder = TestRegistry::builder(Persona::SpecFull).grant_actions(["pull"]);
    let registry = builder.start().await;
    registry.image("team/app", "1.0");
    for (method, status) in [(Method::GET, 200), (Method::POST, 401)] {
        let asked = ask(&registry, PUSH);
        assert_eq!(with_token(&registry, asked, method).await, status);
    }
}

#[tokio::test]
async fn a_refresh_token_that_rotates_is_good_once() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .credentials("user", "secret")
        .refresh_token("first")
        .rotate_refresh_tokens()
        .start()
        .await;
    let refresh = async |token: &str| {
        let form = format!("grant_type=refresh_token&refresh_token={token}");
        Answer::of(client().post(registry.url("/token")).body(form)).await
    };
    let second = refresh("first").await.json()["refresh_token"].clone();
    assert_eq!(refresh("first").await.status, 401);
    let third = refresh(second.as_str().unwrap()).await;
    assert_eq!(third.status, 200);
    assert_ne!(third.json()["refresh_token"], second);

    let form = "grant_type=password&username=user&password=secret";
    let log_in =
        async |form: String| Answer::of(client().post(registry.url("/token")).body(form)).await;
    let online = log_in(form.to_owned()).await.json();
    assert!(online.get("refresh_token").is_none());
    let offline = log_in(format!("{form}&access_type=offline")).await.json();
    let token = offline["refresh_token"].as_str().unwrap();
    assert_eq!(refresh(token).await.status, 200);
}

#[tokio::test]
async fn a_tokens_answer_can_be_cut_and_empty() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    registry.fault(Route::token(), Fault::shorten(10));
    registry.fault(Route::token(), Fault::body(200, "application/json", ""));
    let whole = Answer::of(ask(&registry, PULL)).await;
    let empty = Answer::of(ask(&registry, PULL)).await;
    assert_eq!((whole.status, whole.body.len()), (200, 10));
    assert_eq!((empty.status, empty.body.len()), (200, 0));
    assert_eq!(Answer::of(ask(&registry, PULL)).await.status, 200);
}
