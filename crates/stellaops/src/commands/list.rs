use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use clap::Args;
use oci_content::{
    Descriptor, Digest, ImageLayout, LayoutErrorKind, MAX_MANIFEST_BYTES, Manifest, REF_NAME,
    with_causes,
};
use serde_json::json;

use crate::arguments::TextFormat;
use crate::commands::run::{Run, Running};
use crate::context::{Context, local_store};
use crate::exit::{Exit, Failure};
use crate::render::{self, Table, foreign};

/// List the contents of the local store, and whether its manifests are intact
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ListArgs {
    /// The layout folder to list [default: the local store]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Output format
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub(crate) format: TextFormat,
}

const EXAMPLES: &str = "\
    stellaops store list";

impl Run for ListArgs {
    fn run<'a>(&'a self, _: &'a Context) -> Running<'a> {
        Box::pin(async { run(self) })
    }
}

fn run(args: &ListArgs) -> Result<(), Failure> {
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => local_store()?,
    };
    let failed = |error: &dyn std::error::Error| Failure::new(Exit::LocalIo, with_causes(error));
    let layout = ImageLayout::open(&folder)
        .map_err(|error| failed(&error).and("`stellaops bundle import` creates the local store"))?;
    let mut entries = layout.index().map_err(|error| failed(&error))?;
    entries.sort_by(|a, b| {
        (name(a).is_none(), name(a), &a.digest).cmp(&(name(b).is_none(), name(b), &b.digest))
    });
    let contents = Contents::read(&layout, &entries)?;
    match args.format {
        TextFormat::Text => render::text(&contents.table(&entries))?,
        TextFormat::Json => {
            let entries: Vec<_> = entries.iter().map(|entry| contents.json(entry)).collect();
            let folder = folder.display().to_string();
            let document = json!({"schemaVersion": 1, "folder": folder, "manifests": entries});
            render::json(&document)?;
        }
    }
    let broken: Vec<_> = contents.broken(&entries).collect();
    let Some((digest, state)) = broken.first() else {
        return Ok(());
    };
    let message = format!(
        "{} of the store's manifests are missing or damaged, such as {digest} ({state}); import the bundle that contained them again",
        broken.len()
    );
    Err(Failure::new(Exit::Integrity, message))
}

fn name(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(REF_NAME).map(String::as_str)
}

/// The manifests that a layout's index reaches.
#[derive(Debug, Default)]
struct Contents {
    manifests: HashMap<Digest, Found>,
    /// Subject, then referrers.
    referrers: HashMap<Digest, Vec<Digest>>,
}

#[derive(Debug)]
enum Found {
    Manifest(Manifest),
    /// Intact, and not a manifest that is interpreted here.
    Other,
    Missing,
    Damaged,
}

impl Found {
    fn state(&self) -> &'static str {
        match self {
            Self::Manifest(_) | Self::Other => "present",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
        }
    }
}

impl Contents {
    fn read(layout: &ImageLayout, entries: &[Descriptor]) -> Result<Self, Failure> {
        let mut contents = Self::default();
        let mut reached = entries.to_vec();
        while let Some(entry) = reached.pop() {
            if contents.manifests.contains_key(&entry.digest) {
                continue;
            }
            let found = match layout.read_blob(&entry.digest, MAX_MANIFEST_BYTES) {
                Ok(bytes) => {
                    match Manifest::parse_verified(bytes, &entry.digest, Some(&entry.media_type)) {
                        Ok(manifest) => Found::Manifest(manifest),
                        Err(_no_manifest) => Found::Other,
                    }
                }
                Err(error) => match error.kind() {
                    LayoutErrorKind::NotFound => Found::Missing,
                    LayoutErrorKind::Corrupt => Found::Damaged,
                    LayoutErrorKind::TooLarge => Found::Other,
                    _ => return Err(Failure::new(Exit::LocalIo, with_causes(&error))),
                },
            };
            if let Found::Manifest(manifest) = &found {
                reached.extend(manifest.children().cloned());
                if let Some(subject) = manifest.subject() {
                    let list = contents.referrers.entry(subject.digest.clone());
                    list.or_default().push(entry.digest.clone());
                }
            }
            contents.manifests.insert(entry.digest, found);
        }
        Ok(contents)
    }

    fn manifest(&self, digest: &Digest) -> Option<&Manifest> {
        match self.manifests.get(digest)? {
            Found::Manifest(manifest) => Some(manifest),
            _ => None,
        }
    }

    fn state(&self, digest: &Digest) -> &'static str {
        self.manifests.get(digest).map_or("missing", Found::state)
    }

    /// Counts the referrers of a manifest and its children, at every level.
    fn referrers_of(&self, digest: &Digest) -> usize {
        let mut subjects = vec![digest];
        let mut seen = HashSet::from([digest]);
        let mut count = 0;
        while let Some(subject) = subjects.pop() {
            let manifest = self.manifest(subject);
            subjects.extend(
                manifest
                    .iter()
                    .flat_map(|manifest| manifest.children())
                    .map(|child| &child.digest)
                    .filter(|child| seen.insert(child)),
            );
            for referrer in self.referrers.get(subject).into_iter().flatten() {
                if seen.insert(referrer) {
                    count += 1;
                    subjects.push(referrer);
                }
            }
        }
        count
    }

    /// Returns what the index lists but is missing, and what is damaged. A child may be missing, since an import can carry
    /// only some platforms of an image.
    fn broken<'a>(
        &'a self,
        entries: &'a [Descriptor],
    ) -> impl Iterator<Item = (&'a Digest, &'static str)> {
        let listed: HashSet<_> = entries.iter().map(|entry| &entry.digest).collect();
        let all = self
            .manifests
            .iter()
            .filter(move |(digest, found)| match found {
                Found::Missing => listed.contains(digest),
                Found::Damaged => true,
                Found::Manifest(_) | Found::Other => false,
            });
        all.map(|(digest, found)| (digest, found.state()))
    }

    fn json(&self, entry: &Descriptor) -> serde_json::Value {
        let manifest = self.manifest(&entry.digest);
        json!({
            "reference": name(entry),
            "digest": entry.digest,
            "mediaType": entry.media_type,
            "artifactType": manifest.and_then(Manifest::artifact_type),
            "size": entry.size,
            "subject": manifest.and_then(Manifest::subject).map(|subject| &subject.digest),
            "state": self.state(&entry.digest),
            "referrers": self.referrers_of(&entry.digest),
        })
    }

    fn table(&self, entries: &[Descriptor]) -> String {
        let mut table = Table::new(["REFERENCE", "DIGEST", "REFERRERS", "STATE"]);
        let (mut referrers, mut others) = (0, 0);
        for entry in entries {
            let state = self.state(&entry.digest);
            let is_referrer = self
                .manifest(&entry.digest)
                .is_some_and(|manifest| manifest.subject().is_some());
            match name(entry) {
                None if state == "present" && is_referrer => referrers += 1,
                None if state == "present" => others += 1,
                name => table.row([
                    foreign(name.unwrap_or("-")),
                    entry.digest.to_string(),
                    self.referrers_of(&entry.digest).to_string(),
                    state.to_owned(),
                ]),
            }
        }
        format!("{table}{referrers} referrers and {others} other manifests without a tag")
    }
}
