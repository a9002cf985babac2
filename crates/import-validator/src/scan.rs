use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::error::Error as _;

use bundle_format::{
    BundleManifest, ContainerError, ContainerErrorKind, EntryKind, EntryPath, ListedFile,
    ManifestErrorKind, index_descriptors, index_json,
};
use oci_content::{Digest, MAX_MANIFEST_BYTES};

use crate::contents::{Contents, Index};
use crate::entries::Entries;
use crate::hashing::{Hash, Hashing};
use crate::limits::ValidationLimits;
use crate::objects::Objects;
use crate::policy::PolicyCheck;
use crate::report::{FindingKind, Findings};
use crate::signature::{Proof, SignatureCheck};

/// Reads a bundle once and keeps what later stages need.
pub(crate) struct Scan<'a, E> {
    entries: E,
    limits: &'a ValidationLimits,
    findings: &'a mut Findings,
    contents: Option<Contents>,
    /// Files that are listed and were not read yet.
    expected: BTreeMap<EntryPath, ListedFile>,
    /// What `manifest.yaml` says is a manifest.
    manifests: HashSet<Digest>,
    hashing: Hashing,
    /// Files that were read and are not judged yet, in their order.
    pending: VecDeque<Pending>,
    /// The number of bytes that are kept of pending files.
    pending_bytes: usize,
    /// The number of files that are not listed.
    unlisted: u64,
    signature: SignatureCheck,
    policy: PolicyCheck,
}

/// A file that was read, until all files before it are judged: findings are in the order of the
/// files.
struct Pending {
    path: EntryPath,
    /// The actual size in bytes.
    size: u64,
    /// What `manifest.yaml` says about it, if it is listed.
    listed: Option<ListedFile>,
    /// The digest, if the size is right, so that the file was read.
    hash: Option<Hash>,
    kept: Vec<u8>,
}

/// The maximum number of bytes that wait for the digest of a large file.
const MAX_PENDING_BYTES: usize = 4 << 20;
const MAX_PENDING: usize = 1024;
/// The number of bytes of `manifest.yaml` that are read at once.
const BUFFER_BYTES: usize = 64 << 10;

impl<'a, E> Scan<'a, E> {
    pub(crate) fn new(
        entries: E,
        limits: &'a ValidationLimits,
        signature: SignatureCheck,
        policy: PolicyCheck,
        hashing: Hashing,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            signature,
            policy,
            entries,
            limits,
            findings,
            contents: None,
            expected: BTreeMap::new(),
            manifests: HashSet::new(),
            hashing,
            pending: VecDeque::new(),
            pending_bytes: 0,
            unlisted: 0,
        }
    }

    /// Returns what was found; `None` without a manifest to compare it with.
    pub(crate) fn finish(self) -> Option<(&'a mut Findings, Contents)> {
        Some((self.findings, self.contents?))
    }
}

impl<E: Entries> Scan<'_, E> {
    /// Reads the bundle to its end, or as far as its framing allows.
    pub(crate) fn run(&mut self) {
        let read = self.read_all();
        // Files read before an error are judged before it is reported.
        self.settle(0);
        let complete = match read {
            Ok(complete) => complete,
            Err(error) => {
                add_container_error(self.findings, &error);
                // The checksum comes after the last file, so all files were read.
                let seen = error.kind() == ContainerErrorKind::GzipChecksum;
                if !seen {
                    self.findings.broken_at = Some(error.offset());
                }
                seen
            }
        };
        if !complete {
            return;
        }
        for (path, file) in std::mem::take(&mut self.expected) {
            let kind = match path.kind() {
                EntryKind::Referrer { .. } => FindingKind::ReferrerMissing,
                _ => FindingKind::EntryMissing,
            };
            self.findings
                .add(kind)
                .path(&path)
                .expected(format_args!("{} bytes of {}", file.size, file.sha256))
                .found("no such file");
            self.damaged(path);
        }
        if let Some(contents) = &mut self.contents {
            contents.complete = true;
        }
    }

    fn damaged(&mut self, path: EntryPath) {
        if let Some(contents) = &mut self.contents {
            contents.damaged.insert(path);
        }
    }

    /// Returns whether every file was seen.
    fn read_all(&mut self) -> Result<bool, ContainerError> {
        let mut first = true;
        let mut next = self.next_entry()?;
        while let Some((path, size)) = next {
            next = None;
            if path == EntryPath::MANIFEST {
                let mut bytes = Vec::new();
                self.read_into(&mut bytes, self.limits.bundle.max_manifest_bytes)?;
                let mut inside = None;
                let mut following = None;
                // An unsigned list must not even be parsed, so the signature, which follows it, is
                // read first.
                if self.signature.looks_inside() {
                    let read = self.next_entry();
                    if matches!(read, Ok(Some((EntryPath::SIGNATURE, _)))) {
                        let mut signature = Vec::new();
                        let limit = self.limits.bundle.max_signature_bytes;
                        self.read_into(&mut signature, limit)?;
                        inside = Some(signature);
                    }
                    // If no signature is required, the list is parsed even if what follows cannot
                    // be read.
                    following = if self.signature.is_required() {
                        Some(Ok(read?))
                    } else {
                        Some(read)
                    };
                }
                let Some(proof) = self.signature.check(&bytes, inside, self.findings) else {
                    return Ok(false);
                };
                // Without the list, nothing can be said about the rest.
                if !self.read_manifest(bytes, proof) {
                    return Ok(false);
                }
                next = following.transpose()?.flatten();
            } else if first {
                break;
            } else if path != EntryPath::SIGNATURE {
                self.check_file(path, size)?;
                let limit = self.limits.max_unlisted_entries;
                if self.unlisted > limit {
                    self.settle(0);
                    self.findings
                        .add(FindingKind::Entries)
                        .expected(format_args!(
                            "at most {limit} files that manifest.yaml does not list"
                        ))
                        .found("more");
                    return Ok(false);
                }
            }
            first = false;
            if next.is_none() {
                next = self.next_entry()?;
            }
        }
        if first {
            self.findings
                .add(FindingKind::NoManifest)
                .path(EntryPath::MANIFEST)
                .found("no such file");
        }
        Ok(!first)
    }

    fn next_entry(&mut self) -> Result<Option<(EntryPath, u64)>, ContainerError> {
        let next = self.entries.next_entry()?;
        if let Some((_, size)) = &next {
            self.findings.counts.entries += 1;
            self.findings.counts.bytes += size;
        }
        Ok(next)
    }

    /// Parses the list; returns whether it is valid.
    fn read_manifest(&mut self, bytes: Vec<u8>, proof: Proof) -> bool {
        let manifest = match BundleManifest::parse(&bytes, &self.limits.bundle) {
            Ok(manifest) => manifest,
            Err(error) => {
                let kind = match error.kind() {
                    ManifestErrorKind::Version => FindingKind::ManifestVersion,
                    ManifestErrorKind::TooLarge => FindingKind::ManifestBytes,
                    ManifestErrorKind::NotCanonical => FindingKind::ManifestNotCanonical,
                    ManifestErrorKind::Inconsistent => FindingKind::ManifestInconsistent,
                    _ => FindingKind::ManifestMalformed,
                };
                let line = error.line().map(|line| format!("line {line}: "));
                let line = line.unwrap_or_default();
                self.findings
                    .add(kind)
                    .path(EntryPath::MANIFEST)
                    .found(format_args!("{line}{}", error.reason()));
                return false;
            }
        };
        self.check_counts(&manifest);
        self.expected = manifest.files();
        let images = manifest.graph.images.iter().map(|image| &image.digest);
        let artifacts = manifest.graph.referrers();
        let artifacts = artifacts.map(|(_, artifact)| &artifact.digest);
        self.manifests = images.chain(artifacts).cloned().collect();
        let blobs = manifest
            .entries
            .iter()
            .filter(|entry| entry.path.digest().is_some());
        self.contents = Some(Contents {
            blobs: blobs
                .clone()
                .map(|entry| (entry.sha256.clone(), entry.size))
                .collect(),
            in_base: manifest
                .left_out()
                .map(|entry| entry.sha256.clone())
                .collect(),
            manifest_digest: Digest::of(&bytes),
            manifest_bytes: bytes.len() as u64,
            proof,
            manifest,
            complete: false,
            damaged: HashSet::new(),
            objects: Objects::default(),
            dates: HashMap::new(),
            oci_layout: None,
            index: Index::Unread,
        });
        true
    }

    fn check_counts(&mut self, manifest: &BundleManifest) {
        let counts = &mut self.findings.counts;
        counts.images = manifest.graph.images.len() as u64;
        counts.subjects = manifest.referrers.subjects;
        counts.referrers = manifest.referrers.total;
        for entry in manifest.left_out() {
            counts.blobs_in_base += 1;
            counts.blob_bytes_in_base += entry.size;
        }
        let limit = self.limits.max_referrers_per_subject;
        for record in &manifest.graph.discovery {
            if record.artifacts.len() > limit {
                self.findings
                    .add(FindingKind::ReferrersPerSubject)
                    .path(format_args!("{}@{}", record.repository, record.subject))
                    .expected(format_args!("at most {limit} referrers"))
                    .found(record.artifacts.len());
            }
        }
    }

    /// Reads a file if its size is right, and queues it to be judged.
    fn check_file(&mut self, path: EntryPath, size: u64) -> Result<(), ContainerError> {
        let listed = self.expected.remove(&path);
        self.unlisted += u64::from(listed.is_none());
        let mut kept = Vec::new();
        let (mut hash, mut length) = (None, size);
        if listed.as_ref().is_some_and(|listed| listed.size == size) {
            let keep = self.bytes_to_keep(&path, size);
            let read = self.read_and_hash(&mut kept, keep, size)?;
            (hash, length) = (Some(read.0), read.1);
        }
        self.pending_bytes += kept.len();
        self.pending.push_back(Pending {
            path,
            size: length,
            listed,
            hash,
            kept,
        });
        self.settle(MAX_PENDING);
        Ok(())
    }

    /// Judges files in their order, as far as their digests are known; waits for digests while more
    /// than `most` files or too many bytes are pending.
    fn settle(&mut self, most: usize) {
        while let Some(mut file) = self.pending.pop_front() {
            let wait = self.pending.len() >= most || self.pending_bytes > MAX_PENDING_BYTES;
            let found = match file
                .hash
                .take()
                .map(|hash| if wait { Ok(hash.wait()) } else { hash.poll() })
            {
                Some(Err(hash)) => {
                    file.hash = Some(hash);
                    return self.pending.push_front(file);
                }
                Some(Ok(found)) => Some(found),
                None => None,
            };
            self.pending_bytes -= file.kept.len();
            self.judge(file, found);
        }
    }

    fn judge(&mut self, file: Pending, found: Option<Digest>) {
        let Pending {
            path, size, kept, ..
        } = file;
        let Some(listed) = file.listed else {
            self.findings
                .add(FindingKind::EntryNotListed)
                .path(&path)
                .expected("a file that manifest.yaml lists")
                .found(format_args!("{size} bytes"));
            return;
        };
        let is_referrer = matches!(path.kind(), EntryKind::Referrer { .. });
        if size != listed.size {
            let kind = if is_referrer {
                FindingKind::ReferrerSizeMismatch
            } else {
                FindingKind::EntrySizeMismatch
            };
            self.findings
                .add(kind)
                .path(&path)
                .expected(format_args!("{} bytes", listed.size))
                .found(format_args!("{size} bytes"));
            return self.damaged(path);
        }
        if let Some(found) = found.filter(|found| *found != listed.sha256) {
            let kind = if is_referrer {
                FindingKind::ReferrerChecksumMismatch
            } else {
                FindingKind::EntryChecksumMismatch
            };
            self.findings
                .add(kind)
                .path(&path)
                .expected(&listed.sha256)
                .found(found);
            return self.damaged(path);
        }
        self.keep(&path, &listed.sha256, kept, size);
    }

    /// Returns how many bytes of a file later stages need: all or none.
    fn bytes_to_keep(&self, path: &EntryPath, size: u64) -> u64 {
        let limit = match path.kind() {
            EntryKind::Index => self.limits.max_index_bytes,
            EntryKind::Blob(_) => MAX_MANIFEST_BYTES.max(self.policy.max_dated_bytes()),
            EntryKind::OciLayout | EntryKind::Referrer { .. } => MAX_MANIFEST_BYTES,
            _ => 0,
        };
        if size <= limit { size } else { 0 }
    }

    fn keep(&mut self, path: &EntryPath, digest: &Digest, bytes: Vec<u8>, size: u64) {
        let Some(contents) = &mut self.contents else {
            return;
        };
        match path.kind() {
            EntryKind::Index if size > self.limits.max_index_bytes => {
                let limit = self.limits.max_index_bytes;
                self.findings
                    .add(FindingKind::IndexBytes)
                    .path(path)
                    .expected(format_args!("at most {limit} bytes"))
                    .found(format_args!("{size} bytes"));
            }
            EntryKind::Index => {
                let manifest = &contents.manifest;
                let expected = index_json(&index_descriptors(
                    &manifest.graph.images,
                    &manifest.graph.discovery,
                ));
                contents.index = if bytes == expected {
                    Index::Expected
                } else {
                    Index::Other(bytes)
                };
            }
            EntryKind::OciLayout => contents.oci_layout = Some(bytes),
            // Files below trust/ are for the importing site and are not used here.
            EntryKind::Trust(_) => {}
            _ => {
                if matches!(path.kind(), EntryKind::Blob(_))
                    && let Some(date) = self.policy.date(&bytes)
                {
                    contents.dates.insert(digest.clone(), date);
                }
                let expected = self.manifests.contains(digest);
                let too_large = size > MAX_MANIFEST_BYTES;
                if too_large && expected {
                    self.findings
                        .add(FindingKind::ObjectBytes)
                        .path(path)
                        .expected(format_args!("at most {MAX_MANIFEST_BYTES} bytes"))
                        .found(format_args!("{size} bytes"));
                }
                // A manifest of an image's platform is known as one only when its index has been
                // read, which may come later; so everything that could be one is looked at.
                let looks_like_json =
                    bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
                if too_large || !(expected || looks_like_json) {
                    return;
                }
                let limit = self.limits.max_graph_bytes;
                // The manifests stand behind `index.json`.
                let describe = expected && matches!(contents.index, Index::Other(_));
                let total = contents.objects.keep(digest, bytes, expected, describe);
                if total > limit {
                    // Reported once; content that is not kept takes no memory.
                    self.findings
                        .add(FindingKind::GraphBytes)
                        .path(path)
                        .expected(format_args!("manifests of at most {limit} bytes together"))
                        .found(format_args!("{total} bytes"));
                    contents.objects = Objects::default();
                }
            }
        }
    }

    /// Reads the current file to its end, keeping its bytes if `keep` says so. Returns its digest
    /// and its size in bytes.
    fn read_and_hash(
        &mut self,
        kept: &mut Vec<u8>,
        keep: u64,
        size: u64,
    ) -> Result<(Hash, u64), ContainerError> {
        self.hashing.start(size);
        let mut length = 0;
        loop {
            let mut buffer = self.hashing.buffer();
            let ended = buffer.fill(|into| self.entries.read(into))?;
            length += buffer.filled().len() as u64;
            if length <= keep {
                kept.extend_from_slice(buffer.filled());
            }
            self.hashing.update(buffer);
            if ended {
                return Ok((self.hashing.end(), length));
            }
        }
    }

    /// Reads the current file, and stops once it exceeds its limit.
    fn read_into(&mut self, bytes: &mut Vec<u8>, max_bytes: u64) -> Result<(), ContainerError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while bytes.len() as u64 <= max_bytes {
            let count = self.entries.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
        Ok(())
    }
}

/// Reports what is wrong with a container or folder.
pub(crate) fn add_container_error(findings: &mut Findings, error: &ContainerError) {
    use ContainerErrorKind as From;
    let kind = match error.kind() {
        From::NotABundle => FindingKind::NotABundle,
        From::NotCanonical => FindingKind::NotCanonical,
        From::Truncated => FindingKind::Truncated,
        From::GzipBlock => FindingKind::GzipBlock,
        From::GzipChecksum => FindingKind::GzipChecksum,
        From::TarHeader => FindingKind::TarHeader,
        From::TarExtension => FindingKind::TarExtension,
        From::TarPadding => FindingKind::TarPadding,
        From::TarEnd => FindingKind::TarEnd,
        From::Order => FindingKind::Order,
        From::NoManifest => FindingKind::NoManifest,
        From::TrailingData => FindingKind::TrailingData,
        From::EntryType => FindingKind::EntryType,
        From::UnsafePath => FindingKind::UnsafePath,
        From::DuplicatePath => FindingKind::DuplicatePath,
        From::UnknownPath => FindingKind::EntryNotListed,
        From::ManifestBytes => FindingKind::ManifestBytes,
        From::SignatureBytes => FindingKind::SignatureBytes,
        From::Entries => FindingKind::Entries,
        From::EntryBytes => FindingKind::EntryBytes,
        From::TotalBytes => FindingKind::TotalBytes,
        // A kind that this version does not know is treated as unreadable.
        _ => FindingKind::Io,
    };
    let draft = findings.add(kind);
    let draft = match error.path() {
        Some(path) => draft.path(path),
        None => draft,
    };
    let reason = match error.source() {
        Some(source) => format!("{}: {source}", error.reason()),
        None => error.reason().to_owned(),
    };
    match error.offset() {
        0 => draft.found(reason),
        offset => draft.found(format_args!("{reason}, at byte {offset}")),
    };
}
