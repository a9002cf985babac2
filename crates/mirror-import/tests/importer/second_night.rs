//! What an import costs when nothing has changed since the last one, and that it is not blind.

use std::collections::BTreeMap;
use std::sync::Arc;

use mirror_import::{ImportOptions, ImportReport, Importer, Mirror, RegistryTarget};
use mirror_plan::{PlanRequest, Planner};
use oci_content::{Descriptor, Digest, Manifest, Tag, referrers_tag};
use oci_referrers::{ManifestCache, ManifestFolder};
use tempfile::TempDir;
use test_registry::{Persona, RecordedRequest, TestRegistry};

use crate::support::{PATIENCE, client, open, options, writes};

const APP: &str = "team/app";
const IMAGES: usize = 10;
/// Sets of an SBOM with a signature, a VEX document, and a legacy tag.
const SETS: usize = 15;
const REFERRERS: usize = 4 * SETS;

/// A source of ten images that share a layer, with 45 referrers, a third of them on other
/// referrers, and 15 legacy tags; and a target.
struct Site {
    source: TestRegistry,
    target: TestRegistry,
    images: Vec<Descriptor>,
    sboms: Vec<Descriptor>,
    folder: TempDir,
    uncached: bool,
}

impl Site {
    async fn new(persona: Persona) -> Self {
        Self::with(persona, IMAGES, SETS).await
    }

    async fn with(persona: Persona, count: usize, sets: usize) -> Self {
        let (source, target) = (open(persona).await, open(persona).await);
        let shared = vec![7; 10_000];
        let images: Vec<Descriptor> = (0..count)
            .map(|number| {
                let own = format!("layer of {number}").into_bytes();
                source.image_with_layers(APP, &format!("{number}.0"), [shared.clone(), own])
            })
            .collect();
        let mut sboms = Vec::new();
        for number in 0..sets {
            let image = &images[number % count];
            let put = |subject: &Descriptor, kind: &str| {
                source.referrer(APP, subject, kind, format!("{kind} {number}"))
            };
            let sbom = put(image, "application/vnd.cyclonedx+json");
            put(&sbom, "application/vnd.cncf.notary.signature");
            put(image, "application/vnd.openvex+json");
            let suffix = if number < count { "sig" } else { "att" };
            source.legacy(APP, &image.digest, suffix, format!("legacy {number}"));
            sboms.push(sbom);
        }
        Self {
            source,
            target,
            images,
            sboms,
            folder: tempfile::tempdir().unwrap(),
            uncached: false,
        }
    }

    /// A cache as each run opens it anew.
    fn cache(&self) -> Option<Arc<dyn ManifestCache>> {
        if self.uncached {
            return None;
        }
        let folder = self.folder.path().join("manifests");
        Some(Arc::new(ManifestFolder::new(folder)))
    }

    /// Mirrors everything.
    async fn night(&self) -> ImportReport {
        self.night_with(options()).await
    }

    async fn night_with(&self, options: ImportOptions) -> ImportReport {
        self.night_of(4 * self.sboms.len(), options).await
    }

    async fn night_of(&self, referrers: usize, options: ImportOptions) -> ImportReport {
        self.source.clear_requests();
        self.target.clear_requests();
        let reference = |number| format!("{}/{APP}:{number}.0", self.source.host());
        let images = (0..self.images.len()).map(|number| reference(number).parse().unwrap());
        let planner = Planner::new(client(), Arc::new(())).manifest_cache(self.cache());
        let target = RegistryTarget::new(client(), self.target.registry());
        let target = target.patience(PATIENCE).manifest_cache(self.cache());
        let importer = Importer::new(Arc::new(target), options, Arc::new(()));
        let mirror = Mirror::new(planner, importer, Arc::new(()));
        let request = PlanRequest::new(images.collect());
        let report = mirror.copy(&request).await.unwrap();
        let found = (report.referrers_expected, report.referrers_found);
        assert_eq!(found, (referrers, referrers));
        report
    }

    /// Returns a blob of a manifest at the source.
    fn blob(&self, manifest: &Digest, place: usize) -> Digest {
        let raw = self.source.manifest(APP, manifest).unwrap();
        let manifest = Manifest::parse(raw, None).unwrap();
        manifest.blobs().nth(place).unwrap().digest.clone()
    }
}

/// Counts requests by what they ask for.
fn counted(requests: &[RecordedRequest]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let path = request.path.as_str();
        let (kind, last) = path.rsplit_once('/').unwrap_or(("", path));
        let kind = kind.rsplit('/').next().unwrap_or_default();
        let what = match kind {
            "manifests" if last.starts_with("sha256:") => "manifest",
            "manifests" if last.contains('.') && last.starts_with("sha256-") => "legacy tag",
            "manifests" if last.starts_with("sha256-") => "referrers tag",
            "manifests" => "tag",
            other => other,
        };
        let what = format!("{} {what}", request.method);
        *counts.entry(what).or_default() += 1;
    }
    counts
}

fn counts(parts: &[&[(&str, usize)]]) -> BTreeMap<String, usize> {
    let parts = parts.iter().copied().flatten();
    parts
        .map(|(what, count)| ((*what).to_owned(), *count))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_night_asks_for_every_list_tag_and_object_once_and_reads_no_manifest() {
    // Of each image: a config and a layer, and the layer that they share. Of each referrer: the
    // payload, and the empty config that they share. Of each legacy tag: config and payload.
    let blobs = IMAGES * 2 + 1 + 45 + 1 + 15 * 2;
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let site = Site::new(persona).await;
        site.night().await;
        let first = site.source.requests().len() + site.target.requests().len();
        site.night().await;
        let (source, target) = (site.source.requests(), site.target.requests());
        let second = source.len() + target.len();
        let (mut at_source, mut at_target) = (counted(&source), counted(&target));
        assert!(
            first * 10 > second * 38,
            "{persona}: {first}, then {second}"
        );
        let tags = [("HEAD tag", IMAGES), ("HEAD legacy tag", 15)];
        let listing = [("GET tags", 1)];
        let objects = [("HEAD manifest", 45), ("HEAD blobs", blobs)];
        if persona == Persona::SpecFull {
            // Every subject, and nobody, whom the probe asks about.
            let lists = [("GET referrers", IMAGES + REFERRERS + 1)];
            assert_eq!(at_source, counts(&[&tags[..], &listing, &lists]));
            // Only what has referrers in the graph.
            let lists = [("GET referrers", IMAGES + 15)];
            let all = counts(&[&tags[..], &listing, &objects, &lists]);
            assert_eq!(at_target, all);
        } else {
            // Whether there is an API is found out once: one subject gets no answer, although it is
            // there, and neither does nobody. At the source, the probe asks about nobody too.
            for (counts, asked) in [(&mut at_source, 3), (&mut at_target, 2)] {
                assert_eq!(counts.remove("GET referrers"), Some(asked));
                *counts.get_mut("HEAD manifest").unwrap() -= 1;
            }
            let lists = [("GET referrers tag", IMAGES + 15)];
            let looked_up = [("HEAD manifest", 45)];
            assert_eq!(
                at_source,
                counts(&[&tags[..], &listing, &lists, &looked_up])
            );
            let all = counts(&[&tags[..], &listing, &objects, &lists]);
            assert_eq!(at_target, all);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_the_same_is_asked_for_and_read() {
    let mut site = Site::new(Persona::SpecFull).await;
    site.night().await;
    let second = counted(&{
        site.night().await;
        site.target.requests()
    });
    site.uncached = true;
    site.night().await;
    let uncached = counted(&site.target.requests());
    let sum = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
    assert_eq!(sum(&uncached), sum(&second));
    assert_eq!(uncached["GET manifest"], second["HEAD manifest"]);
}

/// Something that happens to a target between two nights.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The list no longer names a referrer whose manifest is there.
    Listing,
    /// The list names a referrer whose manifest is gone.
    Manifest,
    /// Nothing is left of a referrer.
    Referrer,
    /// Nothing is left of a referrer and of what refers to it.
    ReferrerTag,
    LegacyTag,
    LegacyManifest,
    ImageTag,
    ImageManifest,
    ImageBlob,
    SharedBlob,
    Payload,
    EmptyConfig,
}

impl Site {
    fn lose(&self, loss: Loss) {
        let (target, image, sbom) = (&self.target, &self.images[1].digest, &self.sboms[1].digest);
        let legacy: Tag = format!("sha256-{}.sig", image.encoded()).parse().unwrap();
        let native = target.persona() != Persona::Dist2;
        match loss {
            Loss::Listing if native => target.hide_referrer(APP, sbom),
            Loss::Listing => {
                target.referrers_tag_index(APP, image, &[]);
            }
            Loss::Manifest => target.lose(APP, sbom),
            Loss::Referrer => target.delete(APP, sbom),
            Loss::ReferrerTag if native => {
                target.delete(APP, sbom);
                target.hide_referrer(APP, sbom);
            }
            Loss::ReferrerTag => target.untag(APP, referrers_tag(sbom).as_str()),
            Loss::LegacyTag => target.untag(APP, legacy.as_str()),
            Loss::LegacyManifest => {
                let digest = target.resolve(APP, legacy.as_str()).unwrap();
                target.delete(APP, &digest);
            }
            Loss::ImageTag => target.untag(APP, "1.0"),
            Loss::ImageManifest => target.delete(APP, image),
            Loss::ImageBlob => target.delete(APP, &self.blob(image, 2)),
            Loss::SharedBlob => target.delete(APP, &self.blob(image, 1)),
            Loss::Payload => target.delete(APP, &self.blob(sbom, 1)),
            Loss::EmptyConfig => target.delete(APP, &self.blob(sbom, 0)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanished_at_the_target_since_the_last_night_is_put_back() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let site = Site::with(persona, 3, 4).await;
        site.night().await;
        let whole = site.target.tags(APP);
        for loss in [
            Loss::Listing,
            Loss::Manifest,
            Loss::Referrer,
            Loss::ReferrerTag,
            Loss::LegacyTag,
            Loss::LegacyManifest,
            Loss::ImageTag,
            Loss::ImageManifest,
            Loss::ImageBlob,
            Loss::SharedBlob,
            Loss::Payload,
            Loss::EmptyConfig,
        ] {
            site.lose(loss);
            site.night().await;
            let written = writes(&site.target);
            assert!(!written.is_empty(), "{persona}, {loss:?}");
            assert!(written.len() < 10, "{persona}, {loss:?}: {written:?}");
            assert!(
                whole.iter().all(|tag| site.target.tags(APP).contains(tag)),
                "{persona}, {loss:?}"
            );
            for manifest in site.images.iter().chain(&site.sboms) {
                let kept = site.target.manifest(APP, &manifest.digest);
                assert_eq!(kept, site.source.manifest(APP, &manifest.digest));
                for place in 0..2 {
                    let blob = site.blob(&manifest.digest, place);
                    assert!(site.target.has_blob(APP, &blob), "{persona}, {loss:?}");
                }
            }
            site.night().await;
            assert!(writes(&site.target).is_empty(), "{persona}, {loss:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_new_image_costs_what_it_needs_and_one_look_at_the_rest() {
    for persona in [Persona::SpecFull, Persona::Dist2] {
        let site = Site::new(persona).await;
        site.night().await;
        site.night().await;
        let unchanged = site.target.requests().len();
        let image = &site.images[5];
        let new = site
            .source
            .referrer(APP, image, "application/vnd.example", "new");
        site.night_of(REFERRERS + 1, options()).await;
        let requests = site.target.requests();
        assert!(
            requests.len() < unchanged + 40,
            "{persona}: {}",
            requests.len()
        );
        let of = |method: &str, digest: &Digest| {
            let of = requests.iter().filter(|request| {
                request.method == method && request.path.ends_with(&format!("/manifests/{digest}"))
            });
            of.count()
        };
        // What was sent is read back, and the rest of its subject's list with it.
        assert_eq!(of("GET", &new.digest), 1, "{persona}");
        assert_eq!(of("GET", &site.sboms[0].digest), 0, "{persona}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_verifies_everything_reads_everything() {
    let site = Site::new(Persona::SpecFull).await;
    site.night().await;
    let mut verify = options();
    verify.verify_existing = true;
    site.night_with(verify).await;
    let requests = counted(&site.target.requests());
    // Each manifest by digest, and each referrer once more in the proof.
    assert_eq!(requests["GET manifest"], IMAGES + REFERRERS + 45);
    assert!(requests["GET blobs"] > 90 && requests["GET tag"] == IMAGES);
}
