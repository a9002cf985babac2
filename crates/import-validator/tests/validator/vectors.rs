//! The test vectors of `docs/vectors`: the writer makes them, to the last byte, and the validator takes them.
//!
//! `interop/format/writer.py` makes the same bytes and shares nothing with this.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use bundle_format::{
    BaseBundle, BundleManifest, BundlePlan, BundleWriter, Container, EntryPath, EntryRecord,
    Limits, OCI_LAYOUT, OutputFile, SigningKey, VolumeSize, index_descriptors, index_json,
    referrers_tag_indexes,
};
use import_validator::{FindingKind, ImportValidator};
use oci_content::{
    ArtifactRecord, DiscoveryRecord, ImageRecord, Missing, OmittedChild, SourceRepository,
};
use oci_content::{
    Capability, Completeness, Descriptor, Digest, DiscoveryMethod, LegacyTag, Manifest, SourceKind,
};
use serde_json::Value;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/vectors")
}

/// What an `input.json` gives, and what follows from it.
struct Vector {
    given: Value,
    blobs: BTreeMap<Digest, Vec<u8>>,
    manifest: BundleManifest,
    index: Vec<u8>,
    base: Option<BaseBundle>,
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

fn word(value: &Value) -> &str {
    text(value).unwrap()
}

impl Vector {
    fn read(name: &str) -> Self {
        let given = std::fs::read(vectors().join(name).join("input.json")).unwrap();
        let given: Value = serde_json::from_slice(&given).unwrap();
        let blobs = items(&given["blobs"]).map(|blob| match blob {
            Value::String(text) => text.clone(),
            blob => word(&blob["text"])
                .repeat(usize::try_from(blob["times"].as_u64().unwrap()).unwrap()),
        });
        let blobs = blobs.map(|blob| (Digest::of(blob.as_bytes()), blob.into_bytes()));
        let sequence = given["sequence"].as_u64().unwrap();
        let base = text(&given["base"]).map(|base| {
            let yaml = Self::read(base).manifest.to_yaml().unwrap();
            BaseBundle::parse(&yaml, &Limits::default()).unwrap()
        });
        let mut vector = Self {
            blobs: blobs.collect(),
            manifest: BundleManifest::new(word(&given["stream"]).parse().unwrap(), sequence),
            index: Vec::new(),
            base,
            given,
        };
        vector.fill();
        vector
    }

    fn manifest_of(&self, digest: &Digest) -> Option<Manifest> {
        let bytes = self.blobs.get(digest)?;
        Some(Manifest::parse(bytes.clone().into(), None).unwrap())
    }

    fn fill(&mut self) {
        let given = self.given.clone();
        self.manifest.created = text(&given["created"]).map(|created| created.parse().unwrap());
        self.manifest.base = self.base.as_ref().map(|base| base.digest().clone());
        if given["incomplete"] == true {
            self.manifest.referrers.status = Completeness::Incomplete;
        }
        let images = items(&given["images"]).map(|image| self.image(image));
        self.manifest.graph.images = images.collect();
        let records = items(&given["discovery"]).map(|record| self.discovery(record));
        self.manifest.graph.discovery = records.collect();
        let mut keep = self.manifests();
        let given_blobs: HashSet<_> = self.blobs.keys().cloned().collect();
        self.index = self.layout_index();
        // Indexes under referrers tags are manifests too.
        let made = self
            .blobs
            .keys()
            .filter(|digest| !given_blobs.contains(*digest));
        keep.extend(made.cloned());
        let mut entries = vec![
            EntryRecord::of(EntryPath::INDEX, &self.index),
            EntryRecord::of(EntryPath::OCI_LAYOUT, OCI_LAYOUT),
        ];
        let trust = self.trust();
        entries.extend(
            trust
                .iter()
                .map(|(path, bytes)| EntryRecord::of(path.clone(), bytes)),
        );
        for (digest, bytes) in &self.blobs {
            let mut entry = EntryRecord::blob(digest, bytes.len() as u64).unwrap();
            entry.base = bytes != b"{}"
                && !keep.contains(digest)
                && self
                    .base
                    .as_ref()
                    .is_some_and(|base| base.holds(digest, entry.size));
            entries.push(entry);
        }
        self.manifest.entries = entries;
        let bare = self
            .manifest
            .graph
            .images
            .iter()
            .filter(|image| self.is_bare(image));
        let bare = bare.count() as u64;
        self.manifest.settle(bare);
    }

    fn image(&self, image: &Value) -> ImageRecord {
        let own = self
            .manifest_of(&word(&image["digest"]).parse().unwrap())
            .unwrap();
        let reference = word(&image["reference"]).parse().unwrap();
        let (digest, size) = (own.digest().clone(), own.size());
        let mut record = ImageRecord::new(reference, digest, own.media_type(), size);
        let omitted = image["omitted"].as_object().into_iter().flatten();
        record.omitted = omitted
            .map(|(digest, reason)| OmittedChild::new(digest.parse().unwrap(), word(reason)))
            .collect();
        record
    }

    fn discovery(&self, record: &Value) -> DiscoveryRecord {
        let mut found = DiscoveryRecord::new(
            word(&record["repository"]).parse().unwrap(),
            word(&record["subject"]).parse().unwrap(),
            Capability::from_word(word(&record["capability"])).unwrap(),
            DiscoveryMethod::from_word(word(&record["method"])).unwrap(),
        );
        found.status = Completeness::from_word(word(&record["status"])).unwrap();
        for missing in items(&record["missing"]) {
            let mut noted = Missing::new(word(&missing["code"]));
            noted.digest = text(&missing["digest"]).map(|digest| digest.parse().unwrap());
            noted.source = text(&missing["source"]).map(str::to_owned);
            found.missing.push(noted);
        }
        for artifact in items(&record["artifacts"]) {
            let own = self
                .manifest_of(&word(&artifact["digest"]).parse().unwrap())
                .unwrap();
            let artifact_type = own.artifact_type().map(str::to_owned);
            let mut listed = ArtifactRecord::new(
                own.digest().clone(),
                artifact_type,
                own.media_type(),
                own.size(),
            );
            let sources = items(&artifact["sources"]);
            listed.sources = sources
                .map(|source| SourceKind::from_word(word(source)).unwrap())
                .collect();
            listed.tag = text(&artifact["tag"]).map(|tag| tag.parse().unwrap());
            if listed.sources == [SourceKind::LegacyTag] {
                let tag = listed.tag.as_ref().and_then(LegacyTag::from_tag);
                listed.category = tag.unwrap().category();
            }
            found.artifacts.push(listed);
        }
        found
    }

    fn layout_index(&mut self) -> Vec<u8> {
        let (images, discovery) = (&self.manifest.graph.images, &self.manifest.graph.discovery);
        let mut listed = index_descriptors(images, discovery);
        if self.given["layout_tags"] == true {
            let artifacts = discovery.iter().flat_map(|record| &record.artifacts);
            let own: BTreeMap<Digest, Descriptor> = artifacts
                .filter_map(|artifact| self.manifest_of(&artifact.digest))
                .map(|own| (own.digest().clone(), own.descriptor()))
                .collect();
            for (entry, bytes) in referrers_tag_indexes(images, discovery, |digest| own.get(digest))
            {
                self.blobs.insert(entry.digest.clone(), bytes);
                listed.push(entry);
            }
        }
        index_json(&listed)
    }

    fn trust(&self) -> Vec<(EntryPath, Vec<u8>)> {
        let trust = self.given["trust"].as_object().into_iter().flatten();
        trust
            .map(|(name, text)| {
                let path = EntryPath::trust(name.parse().unwrap());
                (path, word(text).as_bytes().to_vec())
            })
            .collect()
    }

    /// Collects `root` and the manifests below it.
    fn below(&self, root: &Digest, into: &mut HashSet<Digest>) {
        let Some(bytes) = self.blobs.get(root) else {
            into.insert(root.clone());
            return;
        };
        let manifest = Manifest::parse(bytes.clone().into(), None).unwrap();
        if into.insert(root.clone()) {
            for child in manifest.children() {
                self.below(&child.digest, into);
            }
        }
    }

    fn manifests(&self) -> HashSet<Digest> {
        let mut found = HashSet::new();
        let images = self.manifest.graph.images.iter().map(|image| &image.digest);
        let records = self.manifest.graph.discovery.iter();
        let artifacts = records.flat_map(|record| &record.artifacts);
        for root in images.chain(artifacts.map(|artifact| &artifact.digest)) {
            self.below(root, &mut found);
        }
        found
    }

    fn is_bare(&self, image: &ImageRecord) -> bool {
        let repository = SourceRepository::from(&image.reference);
        let mut own = HashSet::new();
        self.below(&image.digest, &mut own);
        let mut records = self.manifest.graph.discovery.iter();
        !records.any(|record| {
            record.repository == repository
                && own.contains(&record.subject)
                && !record.artifacts.is_empty()
        })
    }

    fn bytes(&self, path: &EntryPath) -> Vec<u8> {
        if let Some(digest) = path.digest() {
            return self.blobs[digest].clone();
        }
        let trust = self.trust().into_iter().find(|(trust, _)| trust == path);
        match trust {
            Some((_, bytes)) => bytes,
            None if *path == EntryPath::INDEX => self.index.clone(),
            None => OCI_LAYOUT.to_vec(),
        }
    }

    fn signed(&self, yaml: &[u8]) -> Option<Vec<u8>> {
        let key = text(&self.given["key"])?;
        Some(SigningKey::from_pem(key).unwrap().sign(yaml))
    }

    /// Writes the bundle and returns its path, that of the first volume of several.
    fn write(&self, target: &Path, volume: Option<VolumeSize>) -> PathBuf {
        let container = Container::from_file_name(target);
        let mut plan = BundlePlan::new(&self.manifest, container).unwrap();
        if let Some(signature) = self.signed(plan.manifest_yaml()) {
            plan = plan.with_signature(signature);
        }
        let output = match volume {
            Some(size) => OutputFile::create_volumes(target, size, false),
            None => OutputFile::create(target, false),
        };
        let output = output.unwrap();
        let writer = BundleWriter::new(plan, output.sink()).unwrap();
        for path in self.manifest.files().keys().rev() {
            writer.put(path, &self.bytes(path)).unwrap();
        }
        writer.finish().unwrap();
        let first = output.volume_path(1);
        output.publish().unwrap();
        first
    }

    /// Returns the files that are documented, and writes the bundles whose digests are.
    fn documented(&self, name: &str, folder: &Path) -> BTreeMap<String, String> {
        let yaml = self.manifest.to_yaml().unwrap();
        let signature = self.signed(&yaml);
        let mut listing = format!("{} manifest.yaml\n", yaml.len());
        if let Some(signature) = &signature {
            listing += &format!("{} manifest.yaml.sigstore.json\n", signature.len());
        }
        for (path, file) in self.manifest.files() {
            listing += &format!("{} {path}\n", file.size);
        }
        let volume = self.given["volume_bytes"].as_u64();
        let volume = volume.map(|bytes| VolumeSize::new(bytes).unwrap());
        for extension in ["tgz", "tar"] {
            let target = folder.join(format!("{name}.{extension}"));
            self.validate(&self.write(&target, None));
            if let Some(volume) = volume {
                // Where the bundle itself is, no volumes are made.
                let apart = folder.join("apart");
                std::fs::create_dir_all(&apart).unwrap();
                self.validate(&self.write(&apart.join(target.file_name().unwrap()), Some(volume)));
                for entry in std::fs::read_dir(&apart).unwrap() {
                    let entry = entry.unwrap();
                    std::fs::rename(entry.path(), folder.join(entry.file_name())).unwrap();
                }
            }
        }
        let written = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let sums: BTreeSet<_> = written
            .filter(|path| path.is_file())
            .map(|path| {
                let digest = Digest::of(&std::fs::read(&path).unwrap());
                let name = path.file_name().unwrap().to_str().unwrap();
                (name.to_owned(), format!("{}  {name}\n", digest.encoded()))
            })
            .collect();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let mut files: BTreeMap<_, _> = [
            ("manifest.yaml".to_owned(), text(yaml)),
            ("index.json".to_owned(), text(self.index.clone())),
            ("listing".to_owned(), listing),
            (
                "SHA256SUMS".to_owned(),
                sums.into_iter().map(|(_, line)| line).collect(),
            ),
        ]
        .into();
        if let Some(signature) = signature {
            files.insert("manifest.yaml.sigstore.json".into(), text(signature));
        }
        files
    }

    /// Holds the verdict against what the vector says of itself: only what is incomplete is found.
    fn validate(&self, path: &Path) {
        let mut validator = ImportValidator::new().strict(true);
        if let Some(base) = &self.base {
            validator = validator.base(base.clone());
        }
        if let Some(key) = text(&self.given["key"]) {
            let key = SigningKey::from_pem(key).unwrap();
            validator = validator.key(key.public().clone());
        }
        let report = validator.validate_path(path).report;
        let found: BTreeSet<_> = report.findings.iter().map(|finding| finding.kind).collect();
        let mut expected = BTreeSet::new();
        let records = &self.manifest.graph.discovery;
        if self.manifest.referrers.status == Completeness::Incomplete {
            expected.insert(FindingKind::BundleIncomplete);
        }
        if records
            .iter()
            .any(|record| record.status == Completeness::Incomplete)
        {
            expected.insert(FindingKind::DiscoveryIncomplete);
        }
        if records.iter().any(|record| !record.missing.is_empty()) {
            expected.insert(FindingKind::DiscoveryGap);
        }
        assert_eq!(
            found,
            expected,
            "{}: {:#?}",
            path.display(),
            report.findings
        );
    }
}

#[test]
fn the_writer_makes_every_test_vector_and_the_validator_takes_it() {
    let folders = std::fs::read_dir(vectors()).unwrap();
    let mut names: Vec<_> = folders
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in &names {
        let folder = tempfile::tempdir().unwrap();
        let made = Vector::read(name).documented(name, folder.path());
        let files = std::fs::read_dir(vectors().join(name)).unwrap();
        let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut documented: BTreeMap<_, _> = files
            .map(|file| {
                let text = std::fs::read_to_string(vectors().join(name).join(&file)).unwrap();
                (file, text)
            })
            .collect();
        assert!(documented.remove("input.json").is_some());
        assert!(
            made.keys().eq(documented.keys()),
            "{name}: {:?}",
            made.keys()
        );
        for (file, text) in made {
            assert_eq!(text, documented[&file], "{name}: {file}");
        }
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bundle-format.md");
    let document = std::fs::read_to_string(document).unwrap();
    for name in names {
        let link = format!("[`{name}`](vectors/{name})");
        assert!(document.contains(&link), "the document describes {name}");
    }
}
