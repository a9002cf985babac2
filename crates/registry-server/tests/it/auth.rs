use registry_server::Htpasswd;
use reqwest::Method;

use crate::server::{Server, memory};

/// `htpasswd -nbBC 4 anna secret` and `htpasswd -nbBC 4 bob other`
const USERS: &str = "anna:$2y$04$UL.8oFmyyDI/nesAdXAo9eTAB/NU0geMPKok9PN625U3Jj4CwB7y.\nbob:$2y$04$ikpAGn4U849nBRzTD3iFgeT6WRFO9jKKBrL82edBRQzm3qV0shPdy\n";

async fn closed() -> Server {
    let users: Htpasswd = USERS.parse().expect("two users");
    memory(|builder| builder.users(users)).await
}

async fn status(server: &Server, path: &str, user: &str, password: &str) -> u16 {
    let request = server.request(Method::GET, path);
    server
        .send(request.basic_auth(user, Some(password)))
        .await
        .status
}

#[tokio::test]
async fn nothing_is_answered_without_a_user() {
    let server = closed().await;
    for path in [
        "/v2/",
        "/v2/app/tags/list",
        "/v2/app/manifests/1",
        "/",
        "/other",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.error(), (401, "UNAUTHORIZED".to_owned()), "{path}");
        assert!(
            answer
                .header("www-authenticate")
                .starts_with("Basic realm=")
        );
    }
    let push = server.request(Method::POST, "/v2/app/blobs/uploads/");
    assert_eq!(server.send(push).await.status, 401);
    let bearer = server.request(Method::GET, "/v2/").bearer_auth("secret");
    assert_eq!(server.send(bearer).await.status, 401);
}

#[tokio::test]
async fn each_user_has_one_password_also_after_it_was_right_once() {
    let server = closed().await;
    for _ in 0..2 {
        for (user, password, expected) in [
            ("anna", "secret", 200),
            ("bob", "other", 200),
            ("anna", "other", 401),
            ("bob", "secret", 401),
            ("anna", "", 401),
            ("Anna", "secret", 401),
            ("nobody", "secret", 401),
            ("", "", 401),
        ] {
            let found = status(&server, "/v2/", user, password).await;
            assert_eq!(found, expected, "{user}:{password}");
        }
    }
}

async fn begin(server: &Server, user: &str, password: &str) -> String {
    let request = server.request(Method::POST, "/v2/app/blobs/uploads/");
    let request = request.basic_auth(user, Some(password));
    let answer = server.send(request).await;
    assert_eq!(answer.status, 202);
    answer.header("location").to_owned()
}

#[tokio::test]
async fn a_user_who_opens_sessions_without_end_loses_only_own_ones() {
    let users: Htpasswd = USERS.parse().expect("two users");
    let server = memory(|builder| builder.users(users).max_upload_sessions(4)).await;
    let of_bob = begin(&server, "bob", "other").await;
    let mut of_anna = Vec::new();
    for _ in 0..20 {
        of_anna.push(begin(&server, "anna", "secret").await);
    }
    assert_eq!(status(&server, &of_bob, "bob", "other").await, 204);
    let (last, first) = of_anna.split_last().expect("20");
    assert_eq!(status(&server, last, "anna", "secret").await, 204);
    assert_eq!(status(&server, &first[0], "anna", "secret").await, 404);
    // It is a session of hers.
    assert_eq!(status(&server, last, "bob", "other").await, 404);
}
