use reqwest::Method;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::client::{Answer, get, request};

#[tokio::test]
async fn a_number_of_tags_is_refused_above_a_limit_or_at_all() {
    for status in [400, 413, 422] {
        let registry = TestRegistry::start(Persona::Dist3).await;
        registry.image("app", "1.0");
        let refuse = Fault::error(status, "PAGINATION_NUMBER_INVALID");
        registry.fault(Route::tags().n_above(100), refuse.clone().forever());
        for (query, expected) in [
            ("", 200),
            ("?n=100", 200),
            ("?n=101", status),
            ("?last=0&n=1000", status),
        ] {
            let answer = get(&registry, "app", &format!("tags/list{query}")).await;
            assert_eq!(answer.status, expected, "{query}");
            if expected != 200 {
                assert_eq!(answer.code(), "PAGINATION_NUMBER_INVALID");
            }
        }
        registry.clear_faults();
        registry.fault(Route::tags().n_above(0), refuse.forever());
        assert_eq!(get(&registry, "app", "tags/list?n=1").await.status, status);
        assert_eq!(get(&registry, "app", "tags/list").await.status, 200);
    }
}

#[tokio::test]
async fn head_is_refused_where_get_is_not() {
    for status in [403, 404, 405, 501] {
        let registry = TestRegistry::start(Persona::SpecFull).await;
        let image = registry.image("app", "1.0");
        let blob = registry.put_blob("app", "content");
        for (route, path) in [
            (Route::manifests(), "manifests/1.0".to_owned()),
            (Route::manifests(), format!("manifests/{}", image.digest)),
            (Route::blobs(), format!("blobs/{}", blob.digest)),
        ] {
            registry.fault(route.method("HEAD"), Fault::statuses([status]));
            let head = Answer::of(request(&registry, Method::HEAD, "app", &path)).await;
            assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
            let got = get(&registry, "app", &path).await;
            assert_eq!(got.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn a_rate_limit_tells_its_reset_in_any_unit() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    for reset in ["1800000000000", "1800000000", "60", "-1", "soon"] {
        let refuse = Fault::statuses([429]).header("X-RateLimit-Reset", reset);
        registry.fault(Route::tags(), refuse);
        let refused = get(&registry, "app", "tags/list").await;
        let seen = (refused.status, refused.header("x-ratelimit-reset"));
        assert_eq!(seen, (429, reset));
    }
}
