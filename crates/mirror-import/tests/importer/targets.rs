//! Targets that differ from what the specification has, and how an import gets everything into
//! them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mirror_import::{ImportErrorKind, RegistryTarget, Target};
use oci_content::{Digest, referrers_tag};
use test_registry::{Fault, Lateness, Persona, Route, TestRegistry, TestRegistryBuilder, Variant};

use crate::support::{Bundle, client, export, import, open, options, registry, said, writes};

/// Every persona that takes pushes, with the variants that differ in how they do.
fn targets() -> Vec<(String, TestRegistryBuilder)> {
    let personas = Persona::ALL.into_iter();
    let personas = personas.filter(|persona| *persona != Persona::EdgeProxy);
    let plain = personas.map(|persona| (persona.to_string(), TestRegistry::builder(persona)));
    let variants = [
        Variant::Acr,
        Variant::Zot,
        Variant::QuayBefore312,
        Variant::QuayFirstPush,
        Variant::HarborImmutable,
    ];
    let variants = variants.into_iter().map(|variant| {
        let builder = TestRegistry::builder(variant.persona()).variant(variant);
        (format!("{variant:?}"), builder)
    });
    let late = |persona| {
        let time = Lateness::Reads(2);
        let builder = TestRegistry::builder(persona).late_tags(time);
        (format!("late {persona}"), builder.late_referrers(time))
    };
    plain
        .chain(variants)
        .chain([late(Persona::SpecFull), late(Persona::Dist2)])
        .collect()
}

fn with_workers(target: &TestRegistry, workers: usize) -> Arc<dyn Target> {
    let workers = NonZeroUsize::new(workers).unwrap();
    let target = RegistryTarget::new(client(), target.registry());
    Arc::new(
        target
            .patience(Duration::from_secs(3))
            .max_concurrent(workers),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_at_every_target_with_one_two_and_eight_workers() {
    let bundle = Bundle::new().await;
    let mut failures = Vec::new();
    for workers in [1, 2, 8] {
        for (name, builder) in targets() {
            // Its tokens do not reach to a repository that does not exist yet.
            let builder = if name.starts_with("hub-") {
                builder.without_auth()
            } else {
                builder
            };
            let target = builder.start().await;
            let report = import(
                bundle.validated(),
                with_workers(&target, workers),
                options(),
            )
            .await;
            let report = match report {
                Ok(report) => report,
                Err(error) => {
                    failures.push(format!("{name}, {workers}: {error}"));
                    continue;
                }
            };
            assert_eq!(
                report.referrers_found, bundle.referrers,
                "{name}, {workers}"
            );
            assert!(report.missing.is_empty(), "{name}, {workers}");
            assert!(
                report.blobs_checked >= 6,
                "{name}: {}",
                report.blobs_checked
            );
            for repository in ["app", "other"] {
                assert!(
                    target.resolve(repository, "1").is_some(),
                    "{name}, {workers}"
                );
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_with_a_mount_the_blob_is_sent() {
    let bundle = Bundle::new().await;
    let mount = || Route::uploads().method("POST").containing("mount=");
    let status = |status| Fault::statuses([status]).forever();
    for (what, fault) in [
        ("400", status(400)),
        ("401", status(401)),
        ("403", status(403)),
        ("404", status(404)),
        ("405", status(405)),
        ("500", status(500)),
        ("502", status(502)),
        ("202 without a session", Fault::body(202, "", "").forever()),
        (
            "202 with a session elsewhere",
            Fault::body(202, "", "")
                .header("Location", "https://elsewhere.test/x")
                .forever(),
        ),
        ("201 and no blob", Fault::body(201, "", "").forever()),
        ("no answer", Fault::reset().forever()),
    ] {
        let target = open(Persona::SpecFull).await;
        target.fault(mount(), fault);
        let report = bundle.import_to(&target).await;
        let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(report.referrers_found, bundle.referrers, "{what}");
        assert_eq!(report.blobs.mounted, 0, "{what}");
    }
    for status in [401, 403] {
        let builder = TestRegistry::builder(Persona::SpecFull).refuse_several_scopes(status);
        let target = builder.start().await;
        let report = bundle.import_to(&target).await;
        let report = report.unwrap_or_else(|error| panic!("token {status}: {error}"));
        assert_eq!(report.referrers_found, bundle.referrers, "token {status}");
    }
}

fn a_blob(bundle: &Bundle) -> Digest {
    let validated = bundle.validated();
    let mut entries: Vec<_> = validated.manifest().entries.iter().collect();
    entries.sort_by_key(|entry| entry.size);
    entries.last().unwrap().sha256.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_taken_and_not_kept_is_sent_again_or_named() {
    let bundle = Bundle::new().await;
    let blob = a_blob(&bundle);
    let lost = || {
        Route::path_prefix("/v2/app/blobs/uploads/")
            .method("PUT")
            .containing(blob.encoded())
    };
    let taken = || Fault::body(201, "", "");
    let target = open(Persona::Minimal).await;
    target.fault(lost(), taken());
    bundle.import_to(&target).await.unwrap();
    assert!(target.has_blob("app", &blob));
    let target = open(Persona::Minimal).await;
    target.fault(lost(), taken().forever());
    let error = bundle.import_to(&target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Incomplete, "{error}");
    assert!(error.to_string().contains(blob.encoded()), "{error}");
    assert_eq!(target.resolve("app", "1"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_in_another_size_is_sent_again_and_what_is_to_be_verified_is_read() {
    let bundle = Bundle::new().await;
    let blob = a_blob(&bundle);
    let route = |method: &str| {
        let path = format!("/v2/app/blobs/{blob}");
        Route::path_prefix(path).method(method)
    };
    let uploads = |target: &TestRegistry| {
        let sent = writes(target).into_iter();
        sent.filter(|write| write.query.contains(blob.encoded()))
            .count()
    };
    // Cut to nothing, and HEAD says so.
    let target = open(Persona::SpecFull).await;
    bundle.import_to(&target).await.unwrap();
    target.clear_requests();
    target.fault(
        route("HEAD"),
        Fault::body(200, "application/octet-stream", ""),
    );
    let report = bundle.import_to(&target).await.unwrap();
    assert_eq!((report.blobs.sent, uploads(&target)), (1, 1));
    // Of the right size, and damaged: found if the content is verified.
    target.clear_requests();
    let mut verify = options();
    verify.verify_existing = true;
    target.fault(route("GET"), Fault::corrupt_byte(3).times(2));
    bundle.import_to(&target).await.unwrap();
    assert_eq!(uploads(&target), 0);
    let report = import(bundle.validated(), registry(&target), verify)
        .await
        .unwrap();
    assert_eq!((report.blobs.sent, uploads(&target)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_tag_that_are_late_are_waited_for_and_nothing_is_repaired() {
    let bundle = Bundle::new().await;
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let late = Lateness::Time(Duration::from_millis(1_500));
        let builder = TestRegistry::builder(persona).without_auth();
        let target = builder.late_tags(late).late_referrers(late).start().await;
        let report = import(bundle.validated(), with_workers(&target, 8), options()).await;
        assert_eq!(
            report.unwrap().referrers_found,
            bundle.referrers,
            "{persona}"
        );
        let tag = referrers_tag(&bundle.image);
        let tags = writes(&target).into_iter();
        let tags = tags
            .filter(|write| write.path.ends_with(tag.as_str()))
            .count();
        assert_eq!(tags, usize::from(persona == Persona::Dist2), "{persona}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrers_tag_that_another_writer_makes_meanwhile_is_not_overwritten() {
    let bundle = Bundle::new().await;
    let tag = referrers_tag(&bundle.image);
    let builder = || {
        TestRegistry::builder(Persona::Dist2)
            .without_auth()
            .conditional_writes()
    };
    let target = builder().start().await;
    bundle.import_to(&target).await.unwrap();
    let conditions = writes(&target).into_iter();
    let condition = conditions
        .filter(|write| write.path.ends_with(tag.as_str()))
        .map(|write| write.header("if-none-match").map(str::to_owned))
        .collect::<Vec<_>>();
    assert_eq!(condition, [Some("*".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_412_that_no_other_writer_caused_is_told_apart_and_the_registrys_words_are_repeated() {
    let bundle = Bundle::new().await;
    let tag = referrers_tag(&bundle.image);
    let route = || Route::manifests().method("PUT").reference(&tag);
    // A front that lets no condition hold: written without one, and read back.
    let target = open(Persona::Dist2).await;
    target.fault(route(), Fault::statuses([412]));
    assert_eq!(
        bundle.import_to(&target).await.unwrap().referrers_found,
        bundle.referrers
    );
    // Immutability.
    let target = open(Persona::Dist2).await;
    let words = r#"{"errors":[{"code":"PRECONDITION","message":"configured as immutable"}]}"#;
    target.fault(
        route(),
        Fault::body(412, "application/json", words).forever(),
    );
    let error = bundle.import_to(&target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Access, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("configured as immutable") && text.contains(tag.as_str()),
        "{text}"
    );
    let tries = target.requests().into_iter();
    let tries = tries.filter(|write| write.method == "PUT" && write.path.ends_with(tag.as_str()));
    assert_eq!(tries.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_may_not_be_read_is_absent_only_where_others_can_be() {
    let bundle = Bundle::new().await;
    // Nothing may be read: whether the tag is there is not known.
    let target = open(Persona::SpecFull).await;
    let reads = [
        Route::manifests().method("GET"),
        Route::manifests().method("HEAD"),
        Route::tags(),
    ];
    for route in reads {
        target.fault(route, Fault::statuses([403]).forever());
    }
    target.allow_unused_faults();
    let error = bundle.import_to(&target).await.unwrap_err();
    assert_eq!(error.kind(), ImportErrorKind::Access, "{error}");
    assert!(writes(&target).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_a_refused_upload_are_repeated() {
    let bundle = Bundle::new().await;
    for route in [
        Route::uploads().method("POST"),
        Route::uploads().method("PUT"),
    ] {
        let target = open(Persona::SpecFull).await;
        let words =
            "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"quota of 10 GiB\\n exceeded\"}]}";
        target.fault(route, Fault::body(403, "application/json", words).forever());
        let error = bundle.import_to(&target).await.unwrap_err();
        assert!(
            said(&error).contains("(quota of 10 GiB  exceeded)"),
            "{}",
            said(&error)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrers_tag_that_is_carried_as_an_image_is_merged_with_what_is_there() {
    let source = open(Persona::Dist2).await;
    let image = source.image("app", "1");
    let sbom = source.referrer("app", &image, "application/spdx+json", "sbom");
    let tag = referrers_tag(&image.digest);
    let folder = export(&source, &["app:1", &format!("app:{tag}")]).await;
    let target = open(Persona::Dist2).await;
    let same = target.image("app", "1");
    assert_eq!(same.digest, image.digest);
    let own = target.referrer("app", &same, "application/vnd.example.local", "local");
    let bundle = Bundle {
        folder,
        image: image.digest,
        sbom,
        referrers: 1,
    };
    bundle.import_over(&target).await.unwrap();
    let index = target.resolve("app", tag.as_str()).unwrap();
    let index = target.manifest("app", &index).unwrap();
    let index = String::from_utf8(index.to_vec()).unwrap();
    for digest in [&own.digest, &bundle.sbom.digest] {
        assert!(index.contains(digest.encoded()), "{digest}: {index}");
    }
}
