use std::num::NonZeroUsize;
use std::time::Duration;

use oci_content::{ImageLayout, REF_NAME, referrers_tag};
use test_registry::{Fault, Route};

use crate::support::{Site, export, registry};

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_and_the_order_of_arrival_do_not_change_a_byte() {
    let registry = registry().await;
    let site = Site::new();
    let images = ["team/app:v3", "team/app:v0", "team/app:v7"];
    let mut digests = Vec::new();
    for (place, at_once) in [1, 4, 16].into_iter().enumerate() {
        let mut order = images;
        order.rotate_left(place);
        // Some blobs come late, others each time.
        registry.clear_faults();
        registry.fault(
            Route::blobs(),
            Fault::delay(Duration::from_millis(40))
                .skip(place * 2)
                .times(3),
        );
        let mut request = site.request(&registry, &order, &format!("{place}.tgz"));
        request.max_concurrent_transfers = NonZeroUsize::new(at_once).unwrap();
        request.plan.max_concurrent_discoveries = NonZeroUsize::new(at_once).unwrap();
        digests.push(export(&request).await.unwrap().sha256);
    }
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{digests:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn layout_tags_list_the_referrers_of_each_subject_under_its_referrers_tag() {
    let registry = registry().await;
    let site = Site::new();
    let mut request = site.request(&registry, &["team/app:v0"], "b.tar");
    request.layout_tags = true;
    let summary = export(&request).await.unwrap();
    let status = std::process::Command::new("tar")
        .args(["-xf", "b.tar"])
        .current_dir(site.path(""))
        .status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("skipped: tar is not on the path");
        return;
    }
    let layout = ImageLayout::open(site.path("")).unwrap();
    let names: Vec<String> = layout
        .index()
        .unwrap()
        .iter()
        .filter_map(|entry| entry.annotations.get(REF_NAME).cloned())
        .collect();
    for record in summary
        .manifest
        .graph
        .discovery
        .iter()
        .filter(|record| !record.artifacts.is_empty())
    {
        let tag = referrers_tag(&record.subject).to_string();
        assert!(names.contains(&tag), "{tag} is not in {names:?}");
    }
    assert_eq!(names.len(), 3);
}
