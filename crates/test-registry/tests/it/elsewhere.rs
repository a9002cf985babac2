use oci_content::media_type;
use reqwest::Method;
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::client::{Answer, client, get};

async fn asked(method: Method, url: &str) -> Answer {
    let request = client()
        .request(method, url)
        .header("accept", media_type::ACCEPT_MANIFEST);
    Answer::of(request).await
}

#[tokio::test]
async fn every_persona_can_send_every_path_to_another_host_that_has_the_content() {
    for persona in Persona::ALL {
        let registry = TestRegistry::start(persona).await;
        let image = registry.image("app", "1.0");
        let blob = registry.put_blob("app", "content");
        registry.referrer("app", &image, "a/b", "x");
        registry.fault(Route::any(), Fault::redirect_elsewhere(307).forever());
        for path in [
            "manifests/1.0".to_owned(),
            format!("manifests/{}", image.digest),
            format!("blobs/{}", blob.digest),
            "tags/list?n=1".to_owned(),
        ] {
            let moved = get(&registry, "app", &path).await;
            let location = format!("http://{}/v2/app/{path}", registry.foreign_host());
            let seen = (moved.status, moved.header("location"));
            assert_eq!(seen, (307, location.as_str()), "{persona}");
            let found = asked(Method::GET, &location).await;
            assert_eq!(found.status, 200, "{persona} {path}");
            assert!(!found.body.is_empty(), "{persona} {path}");
        }
        let pushed = format!("http://{}/v2/app/blobs/uploads/", registry.foreign_host());
        assert_eq!(asked(Method::POST, &pushed).await.status, 405, "{persona}");
    }
}

#[tokio::test]
async fn the_other_host_has_the_referrers_too() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let image = registry.image("app", "1.0");
    let referrer = registry.referrer("app", &image, "a/b", "x");
    registry.fault(Route::referrers(), Fault::redirect_elsewhere(307));
    let moved = get(&registry, "app", &format!("referrers/{}", image.digest)).await;
    let list = asked(Method::GET, moved.header("location")).await;
    assert_eq!(list.digests(), [referrer.digest.to_string()]);
    assert_eq!(registry.foreign_requests().len(), 1);
}

#[tokio::test]
async fn the_other_host_has_faults_of_its_own_once_for_each_path_or_for_ever() {
    let registry = TestRegistry::start(Persona::SpecFull).await;
    let blobs = ["a", "b"].map(|content| registry.put_blob("app", content).digest);
    let [first, second] =
        blobs.map(|digest| format!("http://{}/v2/app/blobs/{digest}", registry.foreign_host()));
    let refuse = Fault::statuses([429]).header("Retry-After", "1").per_path();
    registry.fault(Route::blobs().elsewhere(), refuse);
    let mut seen = Vec::new();
    for url in [&first, &second, &first, &second] {
        let answer = asked(Method::GET, url).await;
        seen.push((answer.status, answer.header("retry-after").to_owned()));
    }
    let expected = [(429, "1"), (429, "1"), (200, ""), (200, "")];
    assert_eq!(
        seen,
        expected.map(|(status, after)| (status, after.to_owned()))
    );
    let page = Fault::body(503, "text/html", "<html>").forever();
    registry.fault(Route::blobs().elsewhere(), page);
    for _ in 0..3 {
        let answer = asked(Method::GET, &first).await;
        assert_eq!((answer.status, answer.text()), (503, "<html>"));
    }
    let own = get(&registry, "app", first.split_once("/app/").unwrap().1).await;
    assert_eq!(own.status, 200);
}

#[tokio::test]
async fn a_fault_for_each_path_skips_on_each_path() {
    let registry = TestRegistry::start(Persona::Minimal).await;
    for tag in ["a", "b"] {
        registry.image("app", tag);
    }
    let refuse = Fault::statuses([500, 502]).skip(1).per_path();
    registry.fault(Route::manifests(), refuse);
    for tag in ["a", "b"] {
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(
                get(&registry, "app", &format!("manifests/{tag}"))
                    .await
                    .status,
            );
        }
        assert_eq!(seen, [200, 500, 502, 200], "{tag}");
    }
}
