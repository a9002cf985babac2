use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use bundle_format::BundleManifest;
use clap::Args;
use oci_content::{ArtifactCategory, ArtifactRecord, Completeness, Digest};
use serde::Serialize;

use crate::arguments::TextFormat;
use crate::commands::run::{Run, Running};
use crate::context::Context;
use crate::exit::Failure;
use crate::opened_bundle::OpenedBundle;
use crate::render;

/// Show which images, referrers and blobs were added, removed or changed between two bundles
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// The earlier bundle, or the folder of an extracted one
    pub(crate) a: PathBuf,
    /// The later bundle, or the folder of an extracted one
    pub(crate) b: PathBuf,
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

const EXAMPLES: &str = "\
    stellaops bundle diff old.tgz new.tgz";

impl Run for DiffArgs {
    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async { run(self) })
    }
}

/// Shows how two bundles differ. A difference is a result, not a failure.
fn run(args: &DiffArgs) -> Result<(), Failure> {
    let (a, b) = (OpenedBundle::open(&args.a)?, OpenedBundle::open(&args.b)?);
    let difference = Difference::new(&a, &b);
    match args.format {
        TextFormat::Json => render::json(&difference),
        TextFormat::Text => render::text(&text(&difference)),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    schema_version: u32,
    a: Side,
    b: Side,
    /// Whether both have the same `manifest.yaml`, and therefore the same content.
    identical: bool,
    images: Changes<ImageChange, ImageMove>,
    referrers: Changes<ReferrerChange, ReferrerMove>,
    blobs: Changes<BlobChange, ()>,
}

#[derive(Debug, Serialize)]
struct Side {
    file: String,
    manifest: Digest,
    stream: String,
    sequence: u64,
    base: Option<Digest>,
    status: Completeness,
}

#[derive(Debug, Serialize)]
struct Changes<T, C> {
    added: Vec<T>,
    removed: Vec<T>,
    changed: Vec<C>,
}

#[derive(Debug, Serialize)]
struct ImageChange {
    reference: String,
    digest: Digest,
}

#[derive(Debug, Serialize)]
struct ImageMove {
    reference: String,
    from: Digest,
    to: Digest,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerChange {
    #[serde(flatten)]
    slot: Slot,
    digest: Digest,
    category: ArtifactCategory,
}

#[derive(Debug, Serialize)]
struct ReferrerMove {
    #[serde(flatten)]
    slot: Slot,
    from: Digest,
    to: Digest,
}

#[derive(Debug, Serialize)]
struct BlobChange {
    digest: Digest,
    size: u64,
}

/// What a referrer is about: if exactly one was removed and one added, the second replaced the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Slot {
    repository: String,
    subject: Digest,
    artifact_type: Option<String>,
    tag: Option<String>,
}

impl Difference {
    fn new(a: &OpenedBundle, b: &OpenedBundle) -> Self {
        let (side_a, side_b) = (Side::new(a), Side::new(b));
        Self {
            schema_version: 1,
            identical: side_a.manifest == side_b.manifest,
            a: side_a,
            b: side_b,
            images: images(&a.manifest, &b.manifest),
            referrers: referrers(&a.manifest, &b.manifest),
            blobs: blobs(&a.manifest, &b.manifest),
        }
    }
}

impl Side {
    fn new(bundle: &OpenedBundle) -> Self {
        Self {
            file: bundle.file.clone(),
            manifest: Digest::of(&bundle.manifest_yaml),
            stream: bundle.manifest.stream.to_string(),
            sequence: bundle.manifest.sequence,
            base: bundle.manifest.base.clone(),
            status: bundle.manifest.referrers.status,
        }
    }
}

fn images(a: &BundleManifest, b: &BundleManifest) -> Changes<ImageChange, ImageMove> {
    let named = |manifest: &BundleManifest| -> BTreeMap<String, Digest> {
        let images = manifest.graph.images.iter();
        images
            .map(|image| (image.reference.to_string(), image.digest.clone()))
            .collect()
    };
    let (a, b) = (named(a), named(b));
    let only = |own: &BTreeMap<String, Digest>, other: &BTreeMap<String, Digest>| {
        let own = own.iter().filter(|(name, _)| !other.contains_key(*name));
        own.map(|(reference, digest)| ImageChange {
            reference: reference.clone(),
            digest: digest.clone(),
        })
        .collect()
    };
    let both = a.iter().filter_map(|(name, from)| {
        let to = b.get(name).filter(|to| *to != from)?;
        Some(ImageMove {
            reference: name.clone(),
            from: from.clone(),
            to: to.clone(),
        })
    });
    Changes {
        added: only(&b, &a),
        removed: only(&a, &b),
        changed: both.collect(),
    }
}

fn referrers(a: &BundleManifest, b: &BundleManifest) -> Changes<ReferrerChange, ReferrerMove> {
    let (a, b) = (slots(a), slots(b));
    let mut changes = Changes {
        added: Vec::new(),
        removed: Vec::new(),
        changed: Vec::new(),
    };
    let none = BTreeMap::new();
    let all: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    for slot in all {
        let (old, new) = (a.get(slot).unwrap_or(&none), b.get(slot).unwrap_or(&none));
        let only = |own: &BTreeMap<&Digest, &ArtifactRecord>,
                    other: &BTreeMap<&Digest, &ArtifactRecord>| {
            let own = own
                .iter()
                .filter(|(digest, _)| !other.contains_key(*digest));
            let changes = own.map(|(digest, artifact)| ReferrerChange {
                slot: slot.clone(),
                digest: (*digest).clone(),
                category: artifact.category,
            });
            changes.collect::<Vec<_>>()
        };
        let (removed, added) = (only(old, new), only(new, old));
        match (&*removed, &*added) {
            ([from], [to]) => changes.changed.push(ReferrerMove {
                slot: slot.clone(),
                from: from.digest.clone(),
                to: to.digest.clone(),
            }),
            _ => {
                changes.removed.extend(removed);
                changes.added.extend(added);
            }
        }
    }
    changes
}

fn slots(manifest: &BundleManifest) -> BTreeMap<Slot, BTreeMap<&Digest, &ArtifactRecord>> {
    let mut slots: BTreeMap<Slot, BTreeMap<_, _>> = BTreeMap::new();
    for record in &manifest.graph.discovery {
        for artifact in &record.artifacts {
            let slot = Slot {
                repository: record.repository.to_string(),
                subject: record.subject.clone(),
                artifact_type: artifact.artifact_type.clone(),
                tag: artifact.tag.as_ref().map(ToString::to_string),
            };
            slots
                .entry(slot)
                .or_default()
                .insert(&artifact.digest, artifact);
        }
    }
    slots
}

/// Lists the blobs of a bundle, including those that its base holds.
fn blobs(a: &BundleManifest, b: &BundleManifest) -> Changes<BlobChange, ()> {
    let held = |manifest: &BundleManifest| -> BTreeMap<Digest, u64> {
        let entries = manifest.entries.iter();
        let blobs = entries.filter(|entry| entry.path.digest().is_some());
        blobs
            .map(|entry| (entry.sha256.clone(), entry.size))
            .collect()
    };
    let (a, b) = (held(a), held(b));
    let only = |own: &BTreeMap<Digest, u64>, other: &BTreeMap<Digest, u64>| {
        let own = own
            .iter()
            .filter(|(digest, _)| !other.contains_key(*digest));
        own.map(|(digest, size)| BlobChange {
            digest: digest.clone(),
            size: *size,
        })
        .collect()
    };
    Changes {
        added: only(&b, &a),
        removed: only(&a, &b),
        changed: Vec::new(),
    }
}

/// Formats a difference from A to B for people: `+` added, `-` removed, `~` changed.
fn text(difference: &Difference) -> String {
    let mut text = String::new();
    for (name, side) in [("A", &difference.a), ("B", &difference.b)] {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name}  {}: {}, stream {}, sequence {}, {}",
            side.file,
            render::short(&side.manifest),
            side.stream,
            side.sequence,
            side.status
        );
    }
    let (a, b) = (&difference.a, &difference.b);
    for (name, side, other_name, other) in [("A", a, "B", b), ("B", b, "A", a)] {
        let Some(base) = &side.base else {
            continue;
        };
        let base = if *base == other.manifest {
            other_name.to_owned()
        } else {
            base.to_string()
        };
        let _ = writeln!(
            text,
            "{name} is a delta on {base}; what the base holds counts as its own"
        );
    }
    if difference.identical {
        text.push_str("both have the same manifest.yaml, and therefore the same content\n");
        return text;
    }
    let images = &difference.images;
    heading(&mut text, "images", images);
    for (sign, list) in [("+", &images.added), ("-", &images.removed)] {
        for image in list {
            let _ = writeln!(text, "  {sign} {} {}", image.reference, image.digest);
        }
    }
    for image in &images.changed {
        let _ = writeln!(
            text,
            "  ~ {} {} -> {}",
            image.reference, image.from, image.to
        );
    }
    let referrers = &difference.referrers;
    heading(&mut text, "referrers", referrers);
    for (sign, list) in [("+", &referrers.added), ("-", &referrers.removed)] {
        for referrer in list {
            let (category, digest) = (referrer.category, &referrer.digest);
            let _ = writeln!(
                text,
                "  {sign} {category} {digest}\n      {}",
                referrer.slot
            );
        }
    }
    for referrer in &referrers.changed {
        let (from, to) = (&referrer.from, &referrer.to);
        let _ = writeln!(text, "  ~ {from} -> {to}\n      {}", referrer.slot);
    }
    let blobs = &difference.blobs;
    heading(&mut text, "blobs", blobs);
    for (sign, list) in [("+", &blobs.added), ("-", &blobs.removed)] {
        for blob in list {
            let _ = writeln!(
                text,
                "  {sign} {} {}",
                blob.digest,
                render::bytes(blob.size)
            );
        }
    }
    text
}

fn heading<T, C>(text: &mut String, what: &str, changes: &Changes<T, C>) {
    let (added, removed) = (changes.added.len(), changes.removed.len());
    let changed = changes.changed.len();
    let _ = writeln!(
        text,
        "{what}: {added} added, {removed} removed, {changed} changed"
    );
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let artifact_type = self.artifact_type.as_deref();
        let artifact_type = artifact_type.map_or("no artifact type".into(), render::foreign);
        write!(f, "{artifact_type} of {}@{}", self.repository, self.subject)?;
        match &self.tag {
            Some(tag) => write!(f, ", tag {tag}"),
            None => Ok(()),
        }
    }
}
