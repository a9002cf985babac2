use reqwest::{Client, Method, Response};
use test_registry::TestRegistry;

/// A client without any manners of its own: it follows nothing and retries nothing.
pub(crate) fn client() -> Client {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// Sends a request with a token that may do everything in `repository`.
pub(crate) async fn send(
    registry: &TestRegistry,
    method: Method,
    repository: &str,
    path: &str,
) -> Response {
    let scope = format!("repository:{repository}:pull,push,delete");
    let token = registry.issue_token(&[&scope]);
    let url = registry.url(&format!("/v2/{repository}/{path}"));
    let request = client().request(method, url).bearer_auth(token);
    request.send().await.unwrap()
}

pub(crate) async fn get(registry: &TestRegistry, repository: &str, path: &str) -> Response {
    send(registry, Method::GET, repository, path).await
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}
