//! What cannot be read is never absent: bodies that were cut, encoded, damaged or emptied on the
//! way, wherever a discovery reads one, and hosts behind a redirect that do not answer.

use oci_content::{Capability, Completeness, Descriptor, Digest, ErrorCode, WarningCode};
use oci_referrers::ReferrerGraph;
use test_registry::{Coding, Fault, Framing, Persona, Referrer, Route, TestRegistry};

use crate::support::{APP, SBOM, discover, open};

/// Everything that can be found of one image, each part in another place.
struct Scene {
    registry: TestRegistry,
    image: Digest,
    all: Vec<Descriptor>,
}

/// `persona` decides whether the API or the tag has the five referrers; a legacy tag has one more,
/// under a suffix that only the listing of tags shows.
async fn scene(persona: Persona) -> Scene {
    paged_scene(persona, 3).await
}

async fn paged_scene(persona: Persona, page_size: usize) -> Scene {
    let registry = TestRegistry::builder(persona)
        .without_auth()
        .page_size(page_size)
        .start()
        .await;
    let image = registry.image(APP, "1.0");
    let mut all: Vec<Descriptor> = (0..5)
        .map(|n| registry.put_referrer(APP, Referrer::new(&image, SBOM, format!("{n}"))))
        .collect();
    all.push(registry.legacy(APP, &image.digest, "vex", "legacy"));
    Scene {
        registry,
        image: image.digest,
        all,
    }
}

impl Scene {
    fn lost(&self, graph: &ReferrerGraph) -> usize {
        let found = |wanted: &&Descriptor| {
            let digests = graph.referrers.iter().map(|referrer| &referrer.digest);
            digests.into_iter().any(|digest| *digest == wanted.digest)
        };
        self.all.iter().filter(|wanted| !found(wanted)).count()
    }
}

fn damages() -> Vec<(&'static str, Fault)> {
    let framings = [Framing::Length, Framing::Chunked, Framing::UntilClose];
    let mut all: Vec<(&str, Fault)> = framings
        .into_iter()
        .flat_map(|framing| {
            [
                ("cut", Fault::shorten(60).framing(framing)),
                ("empty", Fault::shorten(0).framing(framing)),
            ]
        })
        .collect();
    all.extend([
        ("a byte order mark", Fault::prefix("\u{feff}")),
        ("an unknown coding", Fault::encoded([Coding::Opaque("br")])),
        ("two codings", Fault::encoded([Coding::Gzip, Coding::Gzip])),
        (
            "a coding that it does not have",
            Fault::pass().header("Content-Encoding", "gzip"),
        ),
        (
            "cut within its coding",
            Fault::encoded([Coding::Gzip]).header("Content-Encoding", "gzip, br"),
        ),
        (
            "another digest",
            Fault::pass().header("Docker-Content-Digest", Digest::of(b"else").to_string()),
        ),
    ]);
    all
}

/// Where a discovery of a scene reads a body: a persona that has it there, and the route.
fn places(image: &Digest) -> Vec<(&'static str, Persona, Route)> {
    let tag = format!("manifests/sha256-{}", image.encoded());
    vec![
        (
            "the API",
            Persona::SpecFull,
            Route::referrers().reference(image),
        ),
        (
            "a later page",
            Persona::SpecFull,
            Route::referrers().reference(image).containing("?"),
        ),
        (
            "the referrers tag",
            Persona::Dist3,
            Route::manifests().reference(format!("sha256-{}", image.encoded())),
        ),
        (
            "a legacy tag",
            Persona::Dist3,
            Route::manifests().containing(format!("{tag}.vex")),
        ),
        ("the list of tags", Persona::SpecFull, Route::tags()),
    ]
}

#[tokio::test]
async fn a_body_that_cannot_be_read_loses_nothing_in_silence_wherever_it_is() {
    let image = scene(Persona::SpecFull).await.image;
    for (place, persona, route) in places(&image) {
        for (what, damage) in damages() {
            for forever in [false, true] {
                let scene = scene(persona).await;
                assert_eq!(scene.image, image, "the content is the same each time");
                let fault = match forever {
                    true => damage.clone().forever(),
                    false => damage.clone(),
                };
                scene.registry.fault(route.clone(), fault);
                let graph = discover(&scene.registry, &image).await;
                let said = format!(
                    "{place}, {what}, forever: {forever}: {:#?}",
                    graph.subjects[0]
                );
                if !forever {
                    assert_eq!(scene.lost(&graph), 0, "{said}");
                    assert_eq!(graph.status(), Completeness::Complete, "{said}");
                    continue;
                }
                assert!(scene.lost(&graph) > 0 || place == "the API", "{said}");
                assert_eq!(graph.status(), Completeness::Incomplete, "{said}");
                let expected = match place {
                    "the list of tags" => ErrorCode::TagListFailed,
                    _ => ErrorCode::Malformed,
                };
                assert!(
                    graph.errors().all(|problem| problem.code == expected),
                    "{said}"
                );
                assert!(
                    !graph.warnings().any(|warning| {
                        matches!(
                            warning.code,
                            WarningCode::False200 | WarningCode::NotAnIndex
                        )
                    }),
                    "{said}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_known_coding_that_was_not_asked_for_is_taken_off_wherever_it_is() {
    for coding in [Coding::Gzip, Coding::Deflate, Coding::RawDeflate] {
        for persona in [Persona::SpecFull, Persona::Dist3] {
            let scene = scene(persona).await;
            for route in [
                Route::referrers(),
                Route::tags(),
                Route::manifests().method("GET"),
            ] {
                scene
                    .registry
                    .fault(route, Fault::encoded([coding]).forever());
            }
            let graph = discover(&scene.registry, &scene.image).await;
            assert_eq!(scene.lost(&graph), 0, "{coding:?}: {:#?}", graph.subjects);
            assert_eq!(graph.status(), Completeness::Complete);
        }
    }
}

#[tokio::test]
async fn blanks_before_a_list_do_no_harm() {
    for persona in [Persona::SpecFull, Persona::Dist3] {
        let scene = scene(persona).await;
        let blanks = || Fault::prefix(" \r\n\t".repeat(256 << 10)).forever();
        scene.registry.fault(Route::referrers(), blanks());
        let tag = format!("sha256-{}", scene.image.encoded());
        scene.registry.fault(
            Route::manifests().reference(tag),
            blanks().without_header("Docker-Content-Digest"),
        );
        let graph = discover(&scene.registry, &scene.image).await;
        assert_eq!(scene.lost(&graph), 0, "{:#?}", graph.subjects);
        assert_eq!(graph.status(), Completeness::Complete);
    }
}

/// A page of another host has to be the last one: a link from there does not lead to the registry.
async fn elsewhere_scene(place: &str, persona: Persona) -> Scene {
    paged_scene(persona, if place == "the API" { 100 } else { 3 }).await
}

#[tokio::test]
async fn another_host_that_throttles_once_is_waited_out_wherever_it_is_asked() {
    let image = scene(Persona::SpecFull).await.image;
    for (place, persona, route) in places(&image) {
        for (status, retry_after) in [(429, Some("1")), (429, None), (503, Some("1")), (503, None)]
        {
            let scene = elsewhere_scene(place, persona).await;
            let registry = &scene.registry;
            registry.fault(route.clone(), Fault::redirect_elsewhere(307).forever());
            let busy = Fault::statuses([status]).per_path();
            let busy = match retry_after {
                Some(seconds) => busy.header("Retry-After", seconds),
                None => busy,
            };
            registry.fault(route.clone().elsewhere(), busy);
            let graph = discover(registry, &scene.image).await;
            let said = format!("{place}, {status} {retry_after:?}: {:#?}", graph.subjects);
            assert_eq!(scene.lost(&graph), 0, "{said}");
            assert_eq!(graph.status(), Completeness::Complete, "{said}");
        }
    }
}

#[tokio::test]
async fn another_host_that_never_answers_makes_the_result_incomplete_wherever_it_is_asked() {
    let image = scene(Persona::SpecFull).await.image;
    for (place, persona, route) in places(&image) {
        for (status, code) in [
            (429, ErrorCode::RateLimited),
            (503, ErrorCode::ServerError),
            (520, ErrorCode::ServerError),
        ] {
            let scene = elsewhere_scene(place, persona).await;
            let registry = &scene.registry;
            registry.fault(route.clone(), Fault::redirect_elsewhere(302).forever());
            let busy = Fault::statuses([status]).forever();
            registry.fault(route.clone().elsewhere(), busy);
            let graph = discover(registry, &scene.image).await;
            let said = format!("{place}, {status}: {:#?}", graph.subjects);
            assert_eq!(graph.status(), Completeness::Incomplete, "{said}");
            let expected = match (place, code) {
                ("the list of tags", _) => ErrorCode::TagListFailed,
                ("a later page", ErrorCode::ServerError) => ErrorCode::PageFailed,
                _ => code,
            };
            assert!(
                graph.errors().all(|problem| problem.code == expected),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn a_referrers_tag_settles_what_another_host_does_not_answer() {
    for status in [429, 503, 520, 424] {
        for by_redirect in [true, false] {
            let registry = open(Persona::SpecFull).await;
            let image = registry.image(APP, "1.0");
            let referrer = registry.put_referrer(APP, Referrer::new(&image, SBOM, "a"));
            registry.referrers_tag_index(APP, &image.digest, std::slice::from_ref(&referrer));
            registry.referrers_tag_index(APP, &referrer.digest, &[]);
            let busy = Fault::statuses([status]).forever();
            match by_redirect {
                true => {
                    let there = Fault::redirect_elsewhere(307).forever();
                    registry.fault(Route::referrers(), there);
                    registry.fault(Route::referrers().elsewhere(), busy);
                }
                false => registry.fault(Route::referrers(), busy),
            }
            let graph = discover(&registry, &image.digest).await;
            assert_eq!(graph.referrers.len(), 1);
            let complete = graph.status() == Completeness::Complete;
            assert_eq!(complete, by_redirect, "{status}");
            let report = graph.report(&image.digest).unwrap();
            assert_eq!(report.capability, Capability::Unknown);
            let mut codes = report.warnings.iter().map(|warning| warning.code);
            let noticed = codes.any(|code| code == WarningCode::CapabilityBlocked);
            assert_eq!(noticed, by_redirect, "{status}");
        }
    }
}
