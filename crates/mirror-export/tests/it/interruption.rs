use std::time::Duration;

use mirror_export::ExportErrorKind;
use test_registry::{Fault, Route};

use crate::support::{Site, export, exporter, registry};

fn blobs_asked_for(registry: &test_registry::TestRegistry) -> usize {
    registry
        .requests()
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_fetches_only_what_is_not_there_and_gives_the_same_bytes() {
    let registry = registry().await;
    let site = Site::new();
    let images = ["team/app:v0", "team/app:v1", "team/app:v2"];
    let clean = export(&site.request(&registry, &images, "clean.tgz"))
        .await
        .unwrap();
    let all = blobs_asked_for(&registry);

    let request = site.request(&registry, &images, "b.tgz");
    // The fifth blob and all after it never come.
    registry.fault(Route::blobs(), Fault::stall().skip(5).forever());
    let exporter = exporter();
    let cut = tokio::time::timeout(
        Duration::from_secs(3),
        exporter.export(&request, &request.output),
    )
    .await;
    assert!(cut.is_err(), "the export was to be cut off");
    assert!(
        !site.path("b.tgz").exists() && site.path(".b.tgz.partial").exists(),
        "{:?}",
        site.files()
    );

    registry.clear_faults();
    registry.clear_requests();
    let resumed = export(&request).await.unwrap();
    assert_eq!(resumed.sha256, clean.sha256);
    let again = blobs_asked_for(&registry);
    assert_eq!(again, all - 5, "of {all} blobs, 5 were there already");
    assert!(!site.path(".b.tgz.partial").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_wrong_leaves_nothing_under_the_final_name() {
    let registry = registry().await;
    let site = Site::new();
    for (fault, kind) in [
        (
            Fault::corrupt_byte(100).forever(),
            ExportErrorKind::Integrity,
        ),
        (Fault::statuses([403]).forever(), ExportErrorKind::Access),
        (Fault::statuses([503]).forever(), ExportErrorKind::Network),
        (
            Fault::statuses([404]).forever(),
            ExportErrorKind::Incomplete,
        ),
    ] {
        registry.clear_faults();
        registry.fault(Route::blobs(), fault);
        let request = site.request(&registry, &["team/app:v0"], "b.tgz");
        let error = export(&request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!site.path("b.tgz").exists());
    }
    registry.clear_faults();
    export(&site.request(&registry, &["team/app:v0"], "b.tgz"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_export_to_the_same_file_is_busy() {
    let registry = registry().await;
    let site = Site::new();
    registry.fault(
        Route::blobs(),
        Fault::delay(Duration::from_secs(2)).times(1),
    );
    let request = site.request(&registry, &["team/app:v0"], "b.tgz");
    let first = tokio::spawn({
        let request = request.clone();
        async move { export(&request).await }
    });
    while !site.path(".b.tgz.partial").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        export(&request).await.unwrap_err().kind(),
        ExportErrorKind::Busy
    );
    first.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_dropped_has_let_go_of_its_file() {
    let registry = registry().await;
    let site = Site::new();
    registry.fault(Route::blobs(), Fault::stall_after(20_000).skip(2).forever());
    let mut request = site.request(&registry, &["team/app:v0", "team/app:v1"], "b.tgz");
    let clean = site.path("b.tgz");
    for round in 0..20 {
        request.output.volume_size = (round % 2 == 1).then(|| "64KiB".parse().unwrap());
        registry.clear_requests();
        let run = tokio::spawn({
            let request = request.clone();
            async move { export(&request).await }
        });
        while blobs_asked_for(&registry) < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        run.abort();
        match round % 4 {
            // The next one starts while the task is still being dropped.
            3 => {
                let next = tokio::time::timeout(Duration::from_millis(700), export(&request));
                assert!(next.await.is_err(), "it stalls as well, and is not refused");
            }
            _ => {
                assert!(run.await.unwrap_err().is_cancelled());
                let output = bundle_format::OutputFile::create(&clean, false);
                output.expect("nobody holds it").keep();
            }
        }
    }
    registry.clear_faults();
    request.output.volume_size = None;
    export(&request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_resumed_as_one_file_is() {
    let registry = registry().await;
    let site = Site::new();
    let images = ["team/app:v0", "team/app:v1"];
    let clean = export(&site.request(&registry, &images, "clean.tgz"))
        .await
        .unwrap();
    let all = blobs_asked_for(&registry);

    let mut request = site.request(&registry, &images, "b.tgz");
    request.output.volume_size = Some("64KiB".parse().unwrap());
    registry.fault(Route::blobs(), Fault::stall().skip(4).forever());
    let exporter = exporter();
    let cut = tokio::time::timeout(
        Duration::from_secs(3),
        exporter.export(&request, &request.output),
    )
    .await;
    assert!(cut.is_err(), "the export was to be cut off");
    let files = site.files();
    assert!(
        files.contains(&".b.tgz.002.partial".to_owned()),
        "{files:?}"
    );
    assert!(
        !files.iter().any(|name| name.starts_with("b.tgz")),
        "{files:?}"
    );

    registry.clear_faults();
    registry.clear_requests();
    let resumed = export(&request).await.unwrap();
    assert_eq!(resumed.sha256, clean.sha256);
    assert_eq!(blobs_asked_for(&registry), all - 4);
    let volumes = resumed
        .volumes
        .iter()
        .map(|volume| std::fs::read(&volume.path).unwrap());
    let volumes: Vec<_> = volumes.collect();
    assert_eq!(
        volumes.concat(),
        std::fs::read(site.path("clean.tgz")).unwrap()
    );
    let files = site.files();
    assert!(!files.iter().any(|name| name.starts_with('.')), "{files:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_volumes_than_there_can_be_are_a_matter_of_usage() {
    let registry = registry().await;
    let layer = vec![7; 64 << 20];
    registry.image_with_layers("team/large", "v0", [layer]);
    let site = Site::new();
    let mut request = site.request(&registry, &["team/large:v0"], "b.tgz");
    request.output.volume_size = Some("64KiB".parse().unwrap());
    let error = export(&request).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Usage);
    assert!(error.to_string().contains("volumes of"), "{error}");
}
