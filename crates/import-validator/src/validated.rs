use std::io::{self, Read};
use std::sync::Arc;

use bundle_format::{BundleArchive, BundleFolder, BundleManifest, EntryPath, ReadAt};
use oci_content::{Digest, VerifyingReader};

use crate::report::{Finding, Report, Severity};
use crate::signature::Proof;

/// A bundle that was validated without an error.
///
/// - Only [`ImportValidator`](crate::ImportValidator) creates one, so a function that takes one
///   cannot be given anything else.
/// - It holds the open file, folder or source, not its name: a file that takes its name later is
///   not read.
/// - What is read from it is compared with `manifest.yaml` again, since the file may have changed.
#[derive(Clone, Debug)]
pub struct ValidatedBundle {
    manifest_digest: Digest,
    source: Source,
    warnings: Arc<[Finding]>,
    warnings_omitted: u64,
    #[cfg_attr(
        not(feature = "signature"),
        expect(dead_code, reason = "there is nothing to prove without keys")
    )]
    proof: Proof,
}

#[derive(Clone, Debug)]
enum Source {
    Archive(Arc<BundleArchive<Arc<dyn ReadAt>>>),
    Folder {
        folder: BundleFolder,
        manifest: Arc<BundleManifest>,
        manifest_bytes: u64,
    },
}

impl ValidatedBundle {
    pub(crate) fn archive(archive: BundleArchive<Arc<dyn ReadAt>>, proof: Proof) -> Self {
        Self {
            manifest_digest: archive.plan().manifest_digest().clone(),
            source: Source::Archive(Arc::new(archive)),
            warnings: Arc::default(),
            warnings_omitted: 0,
            proof,
        }
    }

    pub(crate) fn folder(
        folder: BundleFolder,
        manifest: BundleManifest,
        manifest_digest: Digest,
        manifest_bytes: u64,
        proof: Proof,
    ) -> Self {
        Self {
            manifest_digest,
            source: Source::Folder {
                folder,
                manifest: Arc::new(manifest),
                manifest_bytes,
            },
            warnings: Arc::default(),
            warnings_omitted: 0,
            proof,
        }
    }

    /// Keeps the warnings of the report that found the bundle valid.
    pub(crate) fn warned(mut self, report: &Report) -> Self {
        let warnings = report.findings.iter();
        self.warnings = warnings
            .filter(|finding| finding.severity == Severity::Warning)
            .cloned()
            .collect();
        self.warnings_omitted = report.counts.omitted;
        self
    }

    /// Returns the warnings that the report of the validation lists.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// Returns the number of warnings that are not listed, because there are too many of their
    /// kind.
    pub fn warnings_omitted(&self) -> u64 {
        self.warnings_omitted
    }

    /// Returns the manifest of the bundle.
    pub fn manifest(&self) -> &BundleManifest {
        match &self.source {
            Source::Archive(archive) => archive.manifest(),
            Source::Folder { manifest, .. } => manifest,
        }
    }

    /// Returns the digest of `manifest.yaml`, which identifies the whole bundle.
    pub fn manifest_digest(&self) -> &Digest {
        &self.manifest_digest
    }

    /// Returns the key that verified the bundle's signature, as the SHA-256 of its DER form; `None`
    /// if no key was given.
    pub fn signed_by(&self) -> Option<Digest> {
        #[cfg(feature = "signature")]
        return self.proof.as_ref().map(|proof| proof.key_id().clone());
        #[cfg(not(feature = "signature"))]
        None
    }

    /// Returns the proof of who signed the bundle, if the validation was given a key.
    #[cfg(feature = "signature")]
    pub fn signature(&self) -> Option<&bundle_format::VerifiedSignature> {
        self.proof.as_ref()
    }

    /// Opens a file of the bundle: `manifest.yaml` or a file that it lists. Several can be read at
    /// once.
    ///
    /// The reader returns an error instead of the end unless size and SHA-256 match
    /// `manifest.yaml`.
    ///
    /// # Errors
    ///
    /// When the bundle has no such file, or the file cannot be read.
    pub fn open(&self, path: &EntryPath) -> io::Result<Box<dyn Read + Send>> {
        match &self.source {
            Source::Archive(archive) => {
                let reader = archive.open_entry(path);
                Ok(Box::new(reader.ok_or_else(|| unlisted(path))?))
            }
            Source::Folder {
                folder,
                manifest,
                manifest_bytes,
            } => {
                let (size, sha256) = if *path == EntryPath::MANIFEST {
                    (*manifest_bytes, self.manifest_digest.clone())
                } else {
                    let file = manifest.file(path).ok_or_else(|| unlisted(path))?;
                    (file.size, file.sha256)
                };
                let file = folder.open_file(path)?;
                Ok(Box::new(VerifyingReader::new(file, sha256, size)))
            }
        }
    }

    /// Opens a file that `manifest.yaml` lists, for a caller that compares size and SHA-256 itself.
    ///
    /// # Errors
    ///
    /// When the bundle has no such file, or the file cannot be read.
    pub fn open_unverified(&self, path: &EntryPath) -> io::Result<Box<dyn Read + Send>> {
        match &self.source {
            Source::Archive(archive) => {
                let reader = archive.open_unverified(path);
                Ok(Box::new(reader.ok_or_else(|| unlisted(path))?))
            }
            Source::Folder { folder, .. } => Ok(Box::new(folder.open_file(path)?)),
        }
    }

    /// Reads a whole file of at most `max_bytes`.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), and when the file is larger or its bytes are not those that
    /// were validated.
    pub fn read(&self, path: &EntryPath, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // The reader verifies at its end, so it must not be stopped one byte before.
        let mut reader = self.open(path)?.take(max_bytes.saturating_add(1));
        reader.read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max_bytes {
            Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{path} is larger than {max_bytes} bytes"),
            ))
        } else {
            Ok(bytes)
        }
    }
}

fn unlisted(path: &EntryPath) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the bundle has no {path}"))
}
