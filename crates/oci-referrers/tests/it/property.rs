//! Whatever a repository holds and whatever goes wrong: what is found exists, and `complete` means
//! everything.
//!
//! A few hundred cases by default. For a long run: `PROPTEST_CASES=20000 cargo test -p
//! oci-referrers --test it property --release`.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use oci_content::{Completeness, Digest, WarningCode};
use oci_referrers::{ImageDepth, ReferrerGraph, RegistrySources, Warning};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use registry_client::Client;

use crate::model::{Built, Entry, World};
use crate::support::{APP, options, options_with_account};

async fn run(client: &Client, built: &Built, world: &World) -> ReferrerGraph {
    let name = APP.parse().unwrap();
    let repository = client.repository(&built.registry.registry(), &name);
    let sources = RegistrySources::new(repository);
    let discovery = sources
        .discovery(None)
        .depth(world.depth)
        .children(world.children.then_some(ImageDepth::Indexes))
        .one_of_many(world.many);
    discovery.run(built.roots.iter().cloned()).await
}

fn entries(graph: &ReferrerGraph) -> BTreeSet<Entry> {
    let entries = graph.referrers.iter().map(|found| {
        let tag = found.tag.as_ref().map(ToString::to_string);
        let (subject, digest) = (found.subject.clone(), found.digest.clone());
        (
            found.depth,
            subject,
            digest,
            found.sources.iter().copied().collect(),
            tag,
        )
    });
    entries.collect()
}

/// Subject, digest and tag.
fn edges(entries: &BTreeSet<Entry>) -> BTreeSet<(&Digest, &Digest, Option<&String>)> {
    let edges = entries.iter();
    edges
        .map(|(_, subject, digest, _, tag)| (subject, digest, tag.as_ref()))
        .collect()
}

#[test]
fn a_complete_graph_is_all_that_there_is_and_an_incomplete_one_invents_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let [anonymous, known] = [options(), options_with_account()].map(|mut options| {
        options.retry.max_attempts = NonZeroU32::new(3).unwrap();
        Client::new(options).unwrap()
    });
    // A failure prints the world it happened in, which goes into a test of its own.
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    };
    let check = |world: World| {
        let built = world.build();
        let client = match world.hidden {
            Some(_) => &known,
            None => &anonymous,
        };
        let (expected, must_be_complete) = built.expected(world.depth);
        let calm = runtime.block_on(run(client, &built, &world));
        let complete = calm.status() == Completeness::Complete;
        prop_assert!(
            complete || !must_be_complete,
            "incomplete although nothing went wrong: {:#?}",
            calm.errors().collect::<Vec<_>>()
        );
        if complete {
            prop_assert_eq!(entries(&calm), expected.clone(), "left found, right there");
        }
        for found in &calm.referrers {
            prop_assert!(
                built.exists(&found.subject, &found.digest),
                "invented: {:?}",
                found
            );
        }

        built.begin_mishaps();
        let troubled = runtime.block_on(run(client, &built, &world));
        match troubled.status() {
            Completeness::Complete => {
                let found = entries(&troubled);
                // A referrers tag settles what another host does not answer in the API's place, as
                // it does where the API is denied. What was late may have been seen by then, or
                // not, or in one of several ways.
                let settled = |warning: &Warning| warning.code == WarningCode::CapabilityBlocked;
                let without_api = troubled.warnings().any(settled);
                if let Some(least) = built.least(world.depth, without_api) {
                    let (found, least, most) = (edges(&found), edges(&least), edges(&expected));
                    prop_assert!(found.is_superset(&least), "lost: {found:?} of {least:?}");
                    prop_assert!(found.is_subset(&most), "too much: {found:?} of {most:?}");
                } else {
                    prop_assert_eq!(
                        found,
                        expected,
                        "complete, with mishaps: left found, right there"
                    );
                }
            }
            _ => prop_assert!(
                troubled.errors().next().is_some(),
                "incomplete without a reason"
            ),
        }
        for found in &troubled.referrers {
            prop_assert!(
                built.exists(&found.subject, &found.digest),
                "invented: {:?}",
                found
            );
        }
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(&World::any(), check) {
        panic!("{error}");
    }
}
