//! Whatever a source holds: what export, strict validation and import say of it agrees.
//!
//! A few dozen cases by default, each with a registry, a bundle and a folder. For a long run:
//! `PROPTEST_CASES=3000 cargo test -p mirror-import --test importer -- any::`, with `TMPDIR` in
//! memory.

use std::collections::BTreeSet;

use mirror_export::ExportErrorKind;
use oci_content::{Descriptor, Digest, Platform, media_type};
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Value, json};
use test_registry::{Persona, TestRegistry};

use crate::whole::Way;

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "windows/amd64"];
const REPOSITORIES: [&str; 2] = ["app", "other"];

/// Something to put into a source. Numbers choose among what is there already.
#[derive(Clone, Debug)]
enum Step {
    Image {
        layer: Layer,
        docker: bool,
        lie: Lie,
    },
    Index {
        children: Vec<(usize, usize, Lie)>,
        docker: bool,
        subject: Option<usize>,
    },
    /// An index of a platform and its attestation, which has it for a subject or not.
    Attested {
        image: usize,
        subject: bool,
    },
    Cache {
        missing: bool,
    },
    /// An index that lists something of a type that nobody knows.
    Unknown,
    Referrer {
        subject: usize,
        lie: Lie,
    },
    Legacy {
        subject: usize,
    },
    /// A list that names what is not there, or refers to something else.
    Listed {
        subject: usize,
        other: Option<usize>,
    },
    /// A manifest that only the registry knows the type of.
    Untyped,
    Delete {
        manifest: usize,
    },
}

/// The layer of an image.
#[derive(Clone, Copy, Debug)]
enum Layer {
    Own,
    Shared,
    Gone,
    Manifest(usize),
}

/// What is wrong with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    Longer,
    Shorter,
    Type,
    Data,
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        12 => Just(Lie::None),
        1 => Just(Lie::Longer),
        1 => Just(Lie::Shorter),
        1 => Just(Lie::Type),
        1 => Just(Lie::Data),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 0..16_usize;
    let layer = prop_oneof![
        6 => Just(Layer::Own),
        3 => Just(Layer::Shared),
        1 => Just(Layer::Gone),
        1 => number().prop_map(Layer::Manifest),
    ];
    let child = (number(), 0..5_usize, lie());
    let children = proptest::collection::vec(child, 0..4);
    prop_oneof![
        4 => (layer, any::<bool>(), lie())
            .prop_map(|(layer, docker, lie)| Step::Image { layer, docker, lie }),
        5 => (children, any::<bool>(), proptest::option::weighted(0.2, number()))
            .prop_map(|(children, docker, subject)| Step::Index { children, docker, subject }),
        1 => (number(), any::<bool>()).prop_map(|(image, subject)| Step::Attested { image, subject }),
        1 => any::<bool>().prop_map(|missing| Step::Cache { missing }),
        1 => Just(Step::Unknown),
        3 => (number(), lie()).prop_map(|(subject, lie)| Step::Referrer { subject, lie }),
        1 => number().prop_map(|subject| Step::Legacy { subject }),
        1 => (number(), proptest::option::of(number()))
            .prop_map(|(subject, other)| Step::Listed { subject, other }),
        1 => Just(Step::Untyped),
        1 => number().prop_map(|manifest| Step::Delete { manifest }),
    ]
}

/// A source, and what is to be exported of it.
#[derive(Clone, Debug)]
struct Case {
    steps: Vec<(usize, Step)>,
    /// The manifests that are asked for, and whether by tag, by digest or by both.
    images: Vec<(usize, usize)>,
    persona: Persona,
    tag_index: bool,
    platforms: Vec<usize>,
    allow_incomplete: bool,
    layout_tags: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let steps = proptest::collection::vec((0..4_usize, step()), 1..9);
    let images = proptest::collection::vec((0..16_usize, 0..6_usize), 1..4);
    let persona = prop_oneof![2 => Just(Persona::SpecFull), 1 => Just(Persona::Dist2)];
    let platforms = prop_oneof![
        3 => Just(Vec::new()),
        2 => proptest::collection::vec(0..PLATFORMS.len(), 1..3),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (steps, images, persona, platforms, flags).prop_map(
        |(steps, images, persona, platforms, (tag_index, allow_incomplete, layout_tags))| Case {
            steps,
            images,
            persona,
            tag_index,
            platforms,
            allow_incomplete,
            layout_tags,
        },
    )
}

/// A source that is being filled.
struct Source {
    registry: TestRegistry,
    /// Every manifest with its repository; each has a tag that is its number.
    manifests: Vec<(&'static str, Descriptor)>,
    /// What is wrong somewhere.
    odd: BTreeSet<Digest>,
}

impl Source {
    fn put(&mut self, repository: &'static str, document: &Value) -> Descriptor {
        let media_type = document["mediaType"]
            .as_str()
            .unwrap_or(media_type::DOCKER_MANIFEST);
        let put = self
            .registry
            .put_manifest(repository, media_type, document.to_string());
        let tag = format!("v{}", self.manifests.len());
        self.registry.tag(repository, &tag, &put.digest);
        self.manifests.push((repository, put.clone()));
        put
    }

    fn pick(&self, repository: &str, number: usize) -> Option<Descriptor> {
        let mut own = self
            .manifests
            .iter()
            .filter(|(other, _)| *other == repository);
        let count = own.clone().count();
        own.nth(number.checked_rem(count)?)
            .map(|(_, own)| own.clone())
    }

    fn told(&mut self, descriptor: &Descriptor, lie: Lie) -> Value {
        let mut told = json!(descriptor);
        if lie != Lie::None {
            self.odd.insert(descriptor.digest.clone());
        }
        match lie {
            Lie::None => {}
            Lie::Longer => told["size"] = json!(descriptor.size + 3),
            Lie::Shorter => told["size"] = json!(descriptor.size.saturating_sub(1)),
            Lie::Type if descriptor.media_type == media_type::IMAGE_MANIFEST => {
                told["mediaType"] = json!(media_type::DOCKER_MANIFEST);
            }
            Lie::Type => told["mediaType"] = json!(media_type::IMAGE_MANIFEST),
            Lie::Data => told["data"] = json!("b3RoZXI="),
        }
        told
    }

    fn step(&mut self, number: usize, repository: &'static str, step: &Step) {
        match step {
            Step::Image { layer, docker, lie } => {
                let config = self
                    .registry
                    .put_blob(repository, format!("{{\"n\":{number}}}"));
                let layer = match layer {
                    Layer::Own => self
                        .registry
                        .put_blob(repository, format!("layer {number}")),
                    Layer::Shared => self.registry.put_blob(repository, "shared layer"),
                    Layer::Gone => {
                        let gone = Descriptor::of("application/octet-stream", b"gone");
                        self.odd.insert(gone.digest.clone());
                        gone
                    }
                    Layer::Manifest(other) => match self.pick(repository, *other) {
                        Some(other) => {
                            let raw = self.registry.manifest(repository, &other.digest);
                            if let Some(raw) = raw {
                                self.registry.put_blob(repository, raw);
                            }
                            // A platform that is left out elsewhere.
                            self.odd.insert(other.digest.clone());
                            Descriptor::new("application/octet-stream", other.digest, other.size)
                        }
                        None => self.registry.put_blob(repository, "shared layer"),
                    },
                };
                // The type of a layer is whatever its image says.
                let lie = if *lie == Lie::Type { Lie::Data } else { *lie };
                let layer = self.told(&layer, lie);
                let kind = if *docker {
                    media_type::DOCKER_MANIFEST
                } else {
                    media_type::IMAGE_MANIFEST
                };
                let config = Descriptor::new(media_type::IMAGE_CONFIG, config.digest, config.size);
                self.put(
                    repository,
                    &json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}),
                );
            }
            Step::Index {
                children,
                docker,
                subject,
            } => {
                let mut entries = Vec::new();
                for (child, platform, lie) in children {
                    if let Some(child) = self.pick(repository, *child) {
                        let mut entry = self.told(&child, *lie);
                        if let Some(platform) = PLATFORMS.get(*platform) {
                            entry["platform"] = json!(Platform::parse(platform));
                        }
                        entries.push(entry);
                    }
                }
                let kind = if *docker {
                    media_type::DOCKER_MANIFEST_LIST
                } else {
                    media_type::IMAGE_INDEX
                };
                let mut index = json!({
                    "schemaVersion": 2, "mediaType": kind, "manifests": entries,
                    "annotations": {"number": number.to_string()},
                });
                if let Some(subject) = subject.and_then(|subject| self.pick(repository, subject)) {
                    index["subject"] = json!(subject);
                    index["artifactType"] = json!("application/vnd.example.set");
                }
                self.put(repository, &index);
            }
            Step::Attested { image, subject } => {
                let Some(image) = self.pick(repository, *image) else {
                    return;
                };
                let config = self.registry.put_blob(repository, "{}");
                let mut attestation = json!({
                    "schemaVersion": 2, "mediaType": media_type::IMAGE_MANIFEST, "config": config, "layers": [],
                    "artifactType": "application/vnd.docker.attestation.manifest.v1+json",
                    "annotations": {"number": number.to_string()},
                });
                if *subject {
                    attestation["subject"] = json!(image);
                }
                let mut entry = json!(self.put(repository, &attestation));
                entry["annotations"] = json!({
                    "vnd.docker.reference.type": "attestation-manifest",
                    "vnd.docker.reference.digest": image.digest,
                });
                entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
                let mut image = json!(image);
                image["platform"] = json!(Platform::parse(PLATFORMS[number % PLATFORMS.len()]));
                self.put(
                    repository,
                    &json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [image, entry]}),
                );
            }
            Step::Cache { missing } => {
                let mut layer = self
                    .registry
                    .put_blob(repository, format!("cached {number}"));
                if *missing {
                    self.registry.delete(repository, &layer.digest);
                    self.odd.insert(layer.digest.clone());
                }
                layer.media_type = "application/vnd.oci.image.layer.v1.tar+gzip".into();
                let mut config = self.registry.put_blob(repository, r#"{"layers":[]}"#);
                config.media_type = "application/vnd.buildkit.cacheconfig.v0".into();
                self.put(
                    repository,
                    &json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [layer, config]}),
                );
            }
            Step::Unknown => {
                let mut entry = self.registry.put_blob(repository, "whatever");
                entry.media_type = String::new();
                // Without a type nobody knows what it lists in turn.
                self.odd.insert(entry.digest.clone());
                self.put(
                    repository,
                    &json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": [entry]}),
                );
            }
            Step::Referrer { subject, lie } => {
                let Some(mut subject) = self.pick(repository, *subject) else {
                    return;
                };
                match lie {
                    Lie::Longer => subject.size += 1,
                    Lie::Type => subject.media_type = "application/vnd.example.other".into(),
                    _ => {}
                }
                let sbom = self.registry.referrer(
                    repository,
                    &subject,
                    "application/spdx+json",
                    format!("sbom {number}"),
                );
                let tag = format!("v{}", self.manifests.len());
                self.registry.tag(repository, &tag, &sbom.digest);
                self.manifests.push((
                    repository,
                    Descriptor::new(&sbom.media_type, sbom.digest, sbom.size),
                ));
            }
            Step::Legacy { subject } => {
                let Some(subject) = self.pick(repository, *subject) else {
                    return;
                };
                let payload = format!("signature {number}");
                self.registry
                    .legacy(repository, &subject.digest, "sig", payload);
            }
            Step::Listed { subject, other } => {
                let Some(subject) = self.pick(repository, *subject) else {
                    return;
                };
                let other = other.and_then(|other| self.pick(repository, other));
                let named = other.unwrap_or_else(|| {
                    Descriptor::of(
                        media_type::IMAGE_MANIFEST,
                        format!("never {number}").as_bytes(),
                    )
                });
                self.registry
                    .referrers_tag_index(repository, &subject.digest, &[named]);
            }
            Step::Untyped => {
                let config = self
                    .registry
                    .put_blob(repository, format!("{{\"untyped\":{number}}}"));
                let untyped = json!({"schemaVersion": 2, "config": config, "layers": []});
                let put = self.put(repository, &untyped);
                self.odd.insert(put.digest);
            }
            Step::Delete { manifest } => {
                let Some(manifest) = self.pick(repository, *manifest) else {
                    return;
                };
                self.registry.delete(repository, &manifest.digest);
                self.odd.insert(manifest.digest);
            }
        }
    }
}

async fn check(case: Case) {
    let mut builder = TestRegistry::builder(case.persona).without_auth();
    if !case.tag_index {
        builder = builder.without_tag_index();
    }
    let mut source = Source {
        registry: builder.start().await,
        manifests: Vec::new(),
        odd: BTreeSet::new(),
    };
    for (number, (repository, step)) in case.steps.iter().enumerate() {
        source.step(number, REPOSITORIES[repository / 3], step);
    }
    if source.manifests.is_empty() {
        return;
    }
    let images = case.images.iter().map(|(image, by)| {
        let number = image % source.manifests.len();
        let (repository, image) = &source.manifests[number];
        match by {
            0 => format!("{repository}@{}", image.digest),
            1 => format!("{repository}:v{number}@{}", image.digest),
            _ => format!("{repository}:v{number}"),
        }
    });
    let images: Vec<String> = images.collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let mut way = Way::new(&source.registry, &images);
    let platforms = case.platforms.iter().map(|number| PLATFORMS[*number]);
    way.request.plan.platforms = platforms.filter_map(Platform::parse).collect();
    way.request.allow_incomplete = case.allow_incomplete;
    way.request.layout_tags = case.layout_tags;
    match way.go().await {
        Ok(verdicts) => {
            verdicts.agree();
            if !case.allow_incomplete {
                let status = verdicts.summary.manifest.referrers.status;
                assert_eq!(status, oci_content::Completeness::Complete);
            }
        }
        // An image that is gone, or has none of the platforms.
        Err(error) if error.kind() == ExportErrorKind::Access => {}
        Err(error) => {
            let text = error.to_string();
            let named = source.odd.iter().any(|odd| text.contains(&odd.to_string()));
            assert!(named, "{:?}: {text}; odd: {:?}", error.kind(), source.odd);
            assert_eq!(error.kind(), ExportErrorKind::Incomplete, "{text}");
        }
    }
}

#[test]
fn export_strict_validation_and_import_agree_whatever_a_source_holds() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 48;
    }
    config.max_shrink_iters = 200;
    // A failure prints the case it happened in, which goes into a test of its own.
    config.failure_persistence = None;
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&case(), |case| {
        runtime.block_on(check(case));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
