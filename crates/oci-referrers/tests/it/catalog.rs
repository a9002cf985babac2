//! The list of a registry's repositories.

use oci_content::ErrorCode;
use oci_referrers::{Problem, list_repositories};
use registry_client::Client;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{open, options};

async fn list(registry: &TestRegistry, max: usize) -> Result<Vec<String>, Problem> {
    let client = Client::new(options()).unwrap();
    list_repositories(&client, &registry.registry(), max).await
}

fn catalog() -> Route {
    Route::path_prefix("/v2/_catalog")
}

async fn with_repositories(count: usize) -> TestRegistry {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .page_size(3)
        .start()
        .await;
    for number in 0..count {
        registry.image(&format!("team/app{number}"), "1.0");
    }
    registry
}

#[tokio::test]
async fn all_pages_of_the_catalog_are_read() {
    let registry = with_repositories(10).await;
    let listed = list(&registry, 10).await.unwrap();
    let expected: Vec<_> = (0..10).map(|number| format!("team/app{number}")).collect();
    assert_eq!(listed, expected);
    let pages = registry.requests();
    assert!(pages.len() >= 4, "{pages:?}");
}

#[tokio::test]
async fn more_repositories_than_the_limit_are_an_error() {
    let registry = with_repositories(10).await;
    let error = list(&registry, 9).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Limit);
    assert_eq!(error.message, "there are more than 9 repositories");
}

#[tokio::test]
async fn a_registry_without_repositories_says_so() {
    let registry = open(Persona::SpecFull).await;
    assert_eq!(list(&registry, 10).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_registry_without_a_catalog_denies_it_and_has_no_empty_one() {
    for fault in [
        Fault::statuses([401]),
        Fault::statuses([403]),
        Fault::statuses([404]),
        Fault::statuses([405]),
        Fault::error(404, "NAME_UNKNOWN"),
    ] {
        let registry = with_repositories(1).await;
        registry.fault(catalog(), fault);
        let error = list(&registry, 10).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Denied);
        let message = "the registry does not list its repositories";
        assert_eq!(error.message, message);
    }
}

#[tokio::test]
async fn a_catalog_that_breaks_half_way_is_an_error_and_never_a_part_of_the_list() {
    for (fault, code) in [
        (Fault::statuses([500]).forever(), ErrorCode::ServerError),
        (Fault::statuses([404]), ErrorCode::ServerError),
        (Fault::statuses([403]), ErrorCode::Denied),
        (Fault::reset().forever(), ErrorCode::Network),
        (
            Fault::body(200, "application/json", "{}"),
            ErrorCode::TagListFailed,
        ),
        (
            Fault::body(200, "text/html", "<html></html>"),
            ErrorCode::TagListFailed,
        ),
    ] {
        let registry = with_repositories(10).await;
        registry.fault(catalog(), fault.skip(1));
        assert_eq!(list(&registry, 100).await.unwrap_err().code, code);
    }
}

#[tokio::test]
async fn a_catalog_that_loops_ends() {
    let registry = with_repositories(10).await;
    let first = r#"{"repositories":["a"]}"#;
    let link = "</v2/_catalog?last=a>; rel=\"next\"";
    let page = Fault::body(200, "application/json", first).header("link", link);
    registry.fault(catalog(), page.forever());
    let error = list(&registry, 100).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ServerError, "{}", error.message);
    assert!(error.message.contains("links to itself"), "{error}");
}

#[tokio::test]
async fn a_next_page_at_another_host_is_not_asked_for() {
    let registry = with_repositories(1).await;
    let link = format!("<http://{}/v2/_catalog>; rel=next", registry.foreign_host());
    let page = Fault::body(200, "application/json", r#"{"repositories":["a"]}"#);
    registry.fault(catalog(), page.header("link", link));
    let error = list(&registry, 100).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::UntrustedLink);
    assert!(registry.foreign_requests().is_empty());
}
