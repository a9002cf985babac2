use crate::run::Site;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_the_whole_way_and_leaves_nothing_behind() {
    let site = Site::new();
    let ran = site.stellaops("demo").await.done();
    for part in [
        "Probe",
        "Discover",
        "Export",
        "Validate",
        "Import",
        "supported",
        "application/vnd.cyclonedx+json",
        "The two trees are equal: 7 of 7 referrers arrived.",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part:?} is not in {}",
            ran.stdout
        );
    }
    assert!(site.files().is_empty(), "{:?}", site.files());
}
