//! The time for one image.

use std::time::{Duration, Instant};

use oci_content::Capability::{Supported, Unknown, Unsupported};
use oci_content::DiscoveryMethod::{FallbackTag, Native};
use oci_content::{ErrorCode, referrers_tag};
use oci_referrers::LegacyTags;
use test_registry::{Fault, Persona, Referrer, Route, TestRegistry};

use crate::support::{API, APP, SBOM, TAG, expect, open, sources};

const TIMEOUT: Duration = Duration::from_millis(500);
/// What a busy machine may take on top.
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test]
async fn what_was_found_in_time_is_kept() {
    let registry = TestRegistry::builder(Persona::SpecFull)
        .without_auth()
        .page_size(2)
        .start()
        .await;
    let image = registry.image(APP, "1.0");
    let put = |number| registry.referrer(APP, &image, SBOM, format!("{number}"));
    let mut all: Vec<_> = (0..4).map(put).collect();
    all.sort_by(|a, b| a.digest.cmp(&b.digest));
    let stalled = Fault::stall().skip(1).forever();
    registry.fault(Route::referrers().reference(&image.digest), stalled);
    let started = Instant::now();
    let time = Duration::from_secs(4);
    let off = sources(&registry).legacy_tags(LegacyTags::Off);
    let within = off.discovery(Some(time)).depth(Some(1));
    let graph = within.run([image.digest.clone()]).await;
    assert!(started.elapsed() < time + SLACK);
    let expected = all[..2]
        .iter()
        .fold(expect(Native, Supported), |e, a| e.found(a, API));
    expected.error(ErrorCode::Timeout).check(&graph);
}

#[tokio::test]
async fn a_slow_source_does_not_cost_the_others_their_answers() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a").also_in_tag_index());
    registry.fault(
        Route::referrers().reference(&image.digest),
        Fault::stall().forever(),
    );
    let off = sources(&registry).legacy_tags(LegacyTags::Off);
    let graph = off
        .discovery(Some(TIMEOUT))
        .run([image.digest.clone()])
        .await;
    let expected = expect(FallbackTag, Unknown).error(ErrorCode::Timeout);
    expected.found(&a, TAG).check(&graph);
}

#[tokio::test]
async fn a_retry_after_is_obeyed_within_the_time_and_not_beyond() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let throttled = Fault::statuses([429]).header("Retry-After", "1");
    registry.fault(
        Route::referrers().reference(&image.digest),
        throttled.clone(),
    );
    let source = sources(&registry);
    let within = source.discovery(Some(Duration::from_secs(20)));
    let started = Instant::now();
    let graph = within.run([image.digest.clone()]).await;
    expect(Native, Supported).found(&a, API).check(&graph);
    assert!(started.elapsed() >= Duration::from_secs(1));

    let throttled = throttled.header("Retry-After", "60").forever();
    registry.fault(Route::referrers().reference(&image.digest), throttled);
    let started = Instant::now();
    let graph = source
        .discovery(Some(TIMEOUT))
        .run([image.digest.clone()])
        .await;
    assert!(started.elapsed() < TIMEOUT + SLACK);
    let report = graph.report(&image.digest).unwrap();
    assert_eq!(report.capability, Unknown);
    assert!(
        report
            .errors
            .iter()
            .any(|error| error.code == ErrorCode::Timeout)
    );
}

#[tokio::test]
async fn a_listing_that_ran_out_of_time_is_read_again_by_the_next() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let statement = registry.legacy(APP, &image.digest, "vex", "v");
    registry.fault(Route::tags(), Fault::stall());
    let source = sources(&registry);
    let first = source.discovery(Some(TIMEOUT)).depth(Some(1));
    let graph = first.run([image.digest.clone()]).await;
    assert!(graph.errors().all(|error| error.code == ErrorCode::Timeout));
    assert_ne!(graph.errors().count(), 0);

    let second = source.discovery(None).depth(Some(1));
    let graph = second.run([image.digest.clone()]).await;
    let method = oci_content::DiscoveryMethod::LegacyTag;
    expect(method, Unsupported)
        .legacy(&image.digest, &statement, "vex")
        .check(&graph);
}

#[tokio::test]
async fn a_discovery_that_is_dropped_leaves_nothing_behind() {
    let registry = open(Persona::Dist2).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let statement = registry.legacy(APP, &image.digest, "vex", "v");
    registry.fault(Route::tags(), Fault::stall());
    registry.fault(
        Route::manifests().reference(referrers_tag(&image.digest)),
        Fault::stall(),
    );
    let source = sources(&registry);
    let first = source.discovery(None);
    let dropped = tokio::time::timeout(TIMEOUT, first.run([image.digest.clone()])).await;
    assert!(dropped.is_err());
    let graph = source.discovery(None).run([image.digest.clone()]).await;
    expect(FallbackTag, Unsupported)
        .found(&a, TAG)
        .legacy(&image.digest, &statement, "vex")
        .check(&graph);
}

#[tokio::test]
async fn a_time_beyond_all_clocks_is_no_limit() {
    let registry = open(Persona::SpecFull).await;
    let image = registry.image(APP, "1.0");
    let a = registry.referrer(APP, &image, SBOM, "a");
    let endless = sources(&registry).discovery(Some(Duration::MAX));
    let graph = endless.run([image.digest.clone()]).await;
    expect(Native, Supported).found(&a, API).check(&graph);
}
