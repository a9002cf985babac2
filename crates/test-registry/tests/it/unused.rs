use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::client::get;

async fn registry() -> TestRegistry {
    let registry = TestRegistry::start(Persona::Minimal).await;
    registry.image("app", "1.0");
    registry
}

async fn ask(registry: &TestRegistry) {
    get(registry, "app", "manifests/1.0").await;
}

#[tokio::test]
async fn a_fault_is_unused_until_it_has_happened_as_often_as_it_says() {
    for (fault, requests) in [
        (Fault::reset(), 0),
        (Fault::statuses([429, 503, 200]), 2),
        (Fault::delay(std::time::Duration::ZERO).times(3), 2),
        (Fault::statuses([404]).forever(), 0),
        (Fault::statuses([404]).skip(1), 1),
        (Fault::statuses([404]).per_path(), 0),
    ] {
        let registry = registry().await;
        registry.fault(Route::manifests(), fault);
        for _ in 0..requests {
            ask(&registry).await;
        }
        assert_eq!(registry.unused_faults().len(), 1);
        let url = registry.url("/v2/app/manifests/1.0");
        // A broken connection is an answer as well here.
        let _answer = crate::client::client().get(url).send().await;
        assert_eq!(registry.unused_faults(), []);
    }
}

#[tokio::test]
async fn an_unused_fault_says_where_it_was_planned_and_what_was_missing() {
    let registry = registry().await;
    let route = Route::tags().method("GET").repository("other").elsewhere();
    registry.fault(route, Fault::statuses([429, 200]).skip(2));
    let unused = registry.unused_faults();
    let [unused] = &unused[..] else {
        panic!("{unused:?}");
    };
    let told = unused.to_string();
    let (place, rest) = told.split_once(": ").unwrap();
    assert!(place.contains("unused.rs:"), "{told}");
    let expected = "Statuses([429, 200]) on Tags method \"GET\" repository \"other\" elsewhere: \
                    0 of 2 times, 0 of 2 skipped";
    assert_eq!(rest, expected);
    registry.allow_unused_faults();
}

#[tokio::test]
#[should_panic(expected = "Statuses([500]) on Tags: 0 of 1 times")]
async fn a_registry_that_is_dropped_with_an_unused_fault_fails_the_test() {
    let registry = registry().await;
    registry.fault(Route::tags(), Fault::statuses([500]));
}

#[tokio::test]
#[should_panic(expected = "Statuses([500]) on Tags: 0 of 1 times")]
async fn faults_cannot_be_cleared_before_they_have_happened() {
    let registry = registry().await;
    registry.fault(Route::tags(), Fault::statuses([500]));
    registry.clear_faults();
}

#[tokio::test]
#[should_panic(expected = "the test's own reason")]
async fn a_test_that_fails_already_keeps_its_own_reason() {
    let registry = registry().await;
    registry.fault(Route::tags(), Fault::statuses([500]));
    panic!("the test's own reason");
}

#[tokio::test]
async fn unused_faults_can_be_allowed() {
    let registry = registry().await;
    registry.allow_unused_faults();
    registry.fault(Route::tags(), Fault::statuses([500]));
    registry.clear_faults();
    registry.fault(Route::tags(), Fault::statuses([500]));
}
