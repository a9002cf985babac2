//! What an interrupted run left of a blob is not fetched again.

use std::time::Duration;

use mirror_export::{ExportErrorKind, ExportSummary};
use oci_content::{Descriptor, Digest};
use test_registry::{Fault, Persona, Route, TestRegistry};

use crate::support::{Export, Site, export};

const CUT: u64 = 700_000;

/// Bytes without a pattern, none of them 0.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 | 1
    };
    (0..length).map(byte).collect()
}

struct Source {
    registry: TestRegistry,
    image: Descriptor,
    layer: Digest,
    site: Site,
    clean: ExportSummary,
}

impl Source {
    async fn new(layer: Vec<u8>) -> Self {
        let registry = TestRegistry::builder(Persona::SpecFull)
            .without_auth()
            .start()
            .await;
        let digest = Digest::of(&layer);
        let image = registry.image_with_layers("team/app", "v1", [layer, b"small".to_vec()]);
        registry.referrer("team/app", &image, "application/vnd.cyclonedx+json", "sbom");
        let site = Site::new();
        let request = site.request(&registry, &["team/app:v1"], "clean.tgz");
        let clean = export(&request).await.unwrap();
        registry.clear_requests();
        Self {
            registry,
            image,
            layer: digest,
            site,
            clean,
        }
    }

    fn request(&self, name: &str) -> Export {
        self.site.request(&self.registry, &["team/app:v1"], name)
    }

    fn route(&self) -> Route {
        Route::blobs().method("GET").reference(&self.layer)
    }

    /// Exports until the connection breaks.
    async fn cut(&self, name: &str) {
        let fault = Fault::reset_after(CUT);
        self.registry.fault(self.route(), fault);
        let error = export(&self.request(name)).await.unwrap_err();
        assert_eq!(error.kind(), ExportErrorKind::Network, "{error}");
        self.registry.clear_faults();
        self.registry.clear_requests();
    }

    /// Where each request for the layer began.
    fn begun(&self) -> Vec<Option<u64>> {
        begun(&self.registry.requests(), &self.layer)
    }
}

fn begun(requests: &[test_registry::RecordedRequest], layer: &Digest) -> Vec<Option<u64>> {
    let layer = layer.to_string();
    let of_layer = requests
        .iter()
        .filter(|request| request.path.ends_with(&layer) && request.method == "GET");
    let begun = of_layer.map(|request| {
        let range = request.header("range")?.strip_prefix("bytes=")?;
        Some(range.strip_suffix('-').unwrap().parse().unwrap())
    });
    begun.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_goes_on_inside_a_blob() {
    let source = Source::new(noise(1_500_000)).await;
    let tar = export(&source.request("clean.tar")).await.unwrap();
    for (name, volumes) in [("b.tgz", None), ("b.tar", None), ("v.tgz", Some("256KiB"))] {
        let mut request = source.request(name);
        request.output.volume_size = volumes.map(|size| size.parse().unwrap());
        let fault = Fault::reset_after(CUT);
        source.registry.fault(source.route(), fault);
        export(&request).await.unwrap_err();
        source.registry.clear_requests();
        let resumed = export(&request).await.unwrap();
        let clean = if name == "b.tar" { &tar } else { &source.clean };
        assert_eq!(resumed.sha256, clean.sha256, "{name}");
        assert_eq!(source.begun(), [Some(CUT)], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_has_written_is_gone_on_from() {
    for (layer, least) in [
        (noise(1_500_000), CUT - (192 << 10)),
        // A blob may hold zeros, also where it was cut.
        (
            [noise(300_000), vec![0; 900_000], noise(9)].concat(),
            300_000,
        ),
        (vec![0; 1_500_000], 0),
        ([noise(600_000), vec![0; 600_000]].concat(), 450_000),
    ] {
        let source = Source::new(layer).await;
        source
            .registry
            .fault(source.route(), Fault::stall_after(CUT));
        let request = source.request("b.tgz");
        let run = tokio::spawn({
            let request = request.clone();
            async move { export(&request).await }
        });
        while source.begun().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        // What stands in the file at any moment is what kill -9 leaves.
        let there = std::fs::read(source.site.path(".b.tgz.partial")).unwrap();
        run.abort();
        drop(run.await);
        std::fs::write(source.site.path(".b.tgz.partial"), there).unwrap();
        source.registry.clear_faults();
        source.registry.clear_requests();
        let resumed = export(&request).await.unwrap();
        assert_eq!(resumed.sha256, source.clean.sha256);
        let begun = source.begun();
        assert_eq!(begun.len(), 1, "{begun:?}");
        let begun = begun[0].unwrap_or(0);
        assert!((least..=CUT).contains(&begun), "{begun}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_not_answered_as_it_was_asked_for_starts_the_blob_over() {
    let source = Source::new(noise(1_500_000)).await;
    let range = |range: &str| Fault::pass().header("content-range", range);
    let faults = [
        ("no ranges", Fault::pass().without_ranges(), 1),
        ("another start", range("bytes 1-1499999/1500000"), 2),
        ("another total", range("bytes 700000-1499999/1500001"), 2),
        (
            "no range told",
            Fault::pass().without_header("content-range"),
            2,
        ),
        ("416", Fault::statuses([416]), 2),
        ("501", Fault::statuses([501]), 2),
        ("500", Fault::statuses([500]), 2),
    ];
    for (what, fault, requests) in faults {
        source.cut("b.tgz").await;
        source
            .registry
            .fault(source.route().ranged(), fault.forever());
        let mut request = source.request("b.tgz");
        request.output.overwrite = true;
        let resumed = export(&request).await.unwrap();
        assert_eq!(resumed.sha256, source.clean.sha256, "{what}");
        let expected = [Some(CUT), None];
        assert_eq!(source.begun(), expected[..requests], "{what}");
        source.registry.clear_faults();
        std::fs::remove_file(source.site.path("b.tgz")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_each_time_gets_the_blob_in_the_end() {
    let source = Source::new(noise(1_500_000)).await;
    let fault = Fault::reset_after(400_000);
    source.registry.fault(source.route(), fault.forever());
    let mut runs = 1;
    while let Err(error) = export(&source.request("b.tgz")).await {
        assert_eq!(error.kind(), ExportErrorKind::Network, "{error}");
        runs += 1;
        assert!(runs < 10);
    }
    let expected = [None, Some(400_000), Some(800_000), Some(1_200_000)];
    assert_eq!(source.begun(), expected);
    assert_eq!(
        std::fs::read(source.site.path("b.tgz")).unwrap(),
        std::fs::read(&source.clean.output).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_file_that_was_damaged_is_found_out() {
    let source = Source::new(noise(1_500_000)).await;
    source.cut("b.tgz").await;
    let partial = source.site.path(".b.tgz.partial");
    let mut bytes = std::fs::read(&partial).unwrap();
    let layer = noise(64);
    let at = bytes.windows(64).position(|part| part == layer).unwrap();
    bytes[at + 300_000] ^= 0xff;
    std::fs::write(&partial, bytes).unwrap();
    let resumed = export(&source.request("b.tgz")).await.unwrap();
    assert_eq!(resumed.sha256, source.clean.sha256);
    assert_eq!(source.begun(), [Some(CUT), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_range_follows_a_redirect_to_another_host() {
    let source = Source::new(noise(1_500_000)).await;
    source.cut("b.tgz").await;
    let elsewhere = Fault::redirect_elsewhere(307);
    source.registry.fault(source.route(), elsewhere);
    let resumed = export(&source.request("b.tgz")).await.unwrap();
    assert_eq!(resumed.sha256, source.clean.sha256);
    let foreign = source.registry.foreign_requests();
    assert_eq!(begun(&foreign, &source.layer), [Some(CUT)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stood_in_another_bundle_is_not_taken_for_the_start_of_a_blob() {
    for name in ["b.tgz", "b.tar"] {
        let source = Source::new(noise(1_500_000)).await;
        source.cut(name).await;
        let kind = "application/vnd.cncf.notary.signature";
        source
            .registry
            .referrer("team/app", &source.image, kind, "a signature");
        let clean = format!("new-{name}");
        let clean = export(&source.request(&clean)).await.unwrap();
        source.registry.clear_requests();

        // Broken off early, over what the first run has left.
        source
            .registry
            .fault(source.route(), Fault::reset_after(200_000));
        export(&source.request(name)).await.unwrap_err();
        let resumed = export(&source.request(name)).await.unwrap();
        assert_eq!(source.begun(), [None, Some(200_000)], "{name}");
        assert_eq!(resumed.sha256, clean.sha256, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_goes_on_where_the_first_broke_off() {
    let source = Source::new(noise(1_500_000)).await;
    source
        .registry
        .image_with_layers("team/twin", "v1", [noise(1_500_000)]);
    let route = source.route().repository("team/app");
    source.registry.fault(route, Fault::reset_after(CUT));
    let images = ["team/app:v1", "team/twin:v1"];
    let request = source.site.request(&source.registry, &images, "b.tgz");
    export(&request).await.unwrap();
    assert_eq!(source.begun(), [None, Some(CUT)]);
}
