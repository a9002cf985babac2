//! The mirror bundle: one file that carries images and everything that refers to them.
//!
//! A bundle is a tar archive in one gzip member of stored blocks, an OCI image layout once it is
//! extracted, and a list of claims that can be checked. `docs/bundle-format.md` in the repository
//! is the specification.
//!
//! - [`BundleManifest`] is the list: `manifest.yaml`, with one encoding.
//! - [`BundlePlan`] computes from it where every byte goes, and [`BundleWriter`] puts the bytes
//!   there, in any order and from several threads, always to the same file.
//! - [`BundleReader`] reads a bundle from its first byte to its last, [`BundleArchive`] any file of
//!   it, and [`BundleFolder`] one that has been extracted.
//! - [`BaseBundle`] is the bundle that a delta is based on.
//! - [`OutputFile`] is where a bundle is written, and [`BundleFile`] where one is read from: one
//!   file, or volumes.
//! - With the feature `signature`, `SigningKey` signs a bundle and `PublicKey` verifies it.
//!
//! ```
//! use bundle_format::{BundleManifest, BundlePlan, BundleWriter, Container, EntryPath, EntryRecord};
//! use bundle_format::{OCI_LAYOUT, OutputFile, StreamName, index_json};
//! use oci_content::Digest;
//!
//! # let folder = tempfile::tempdir()?;
//! # let output = folder.path().join("bundle.tgz");
//! let index = index_json(&[]);
//! let blob = Digest::of(b"content");
//! let mut manifest = BundleManifest::new(StreamName::default(), 1);
//! manifest.entries.push(EntryRecord::of(EntryPath::OCI_LAYOUT, OCI_LAYOUT));
//! manifest.entries.push(EntryRecord::of(EntryPath::INDEX, &index));
//! manifest.entries.push(EntryRecord::blob(&blob, 7)?);
//! manifest.settle(0);
//!
//! let plan = BundlePlan::new(&manifest, Container::TarGz)?;
//! let output = OutputFile::create(output, false)?;
//! let writer = BundleWriter::new(plan, output.sink())?;
//! writer.put(&EntryPath::blob(&blob)?, b"content")?;
//! writer.put(&EntryPath::INDEX, &index)?;
//! writer.put(&EntryPath::OCI_LAYOUT, OCI_LAYOUT)?;
//! writer.finish()?;
//! output.publish()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Scope
//!
//! The crate is synchronous and has no HTTP. It knows what a bundle looks like, not whether its
//! contents make sense: `import-validator` checks that.

mod archive;
mod base;
mod bundle_file;
mod checksums;
mod container;
mod container_error;
mod created;
mod entry_path;
mod entry_reader;
mod file_sink;
mod folder;
mod framing;
mod layout_files;
mod limits;
mod manifest;
mod memory_sink;
mod output_file;
mod path_grammar;
mod plan;
mod read_at;
mod reader;
#[cfg(feature = "signature")]
mod signature;
mod sink;
mod stream_name;
mod tar_header;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text_form;
mod trust_name;
mod volume_fault;
mod volume_names;
mod volume_size;
mod writer;

pub use archive::{BundleArchive, OpenError};
pub use base::BaseBundle;
pub use bundle_file::{BundleFile, BundleFileError, BundleFileErrorKind};
pub use checksums::{Checksums, VolumeChecksum};
pub use container::Container;
pub use container_error::{ContainerError, ContainerErrorKind, REPACK_REMEDY};
pub use created::{Created, CreatedError};
pub use entry_path::{EntryKind, EntryPath, EntryPathError, ReferrerPath};
pub use entry_reader::EntryReader;
pub use file_sink::FileSink;
pub use folder::{BundleFolder, FolderScan};
pub use layout_files::{OCI_LAYOUT, index_descriptors, index_json, referrers_tag_indexes};
pub use limits::Limits;
pub use manifest::{
    BundleManifest, EntryRecord, ListedFile, ManifestError, ManifestErrorKind, ReferrerTotals,
};
pub use memory_sink::MemorySink;
pub use output_file::{OutputError, OutputErrorKind, OutputFile, OutputSink};
pub use plan::{BundlePlan, PlannedEntry};
pub use read_at::{ReadAt, Sequential};
pub use reader::{BundleReader, EntryHead};
#[cfg(feature = "signature")]
pub use signature::{
    KeyError, PublicKey, SignatureError, SignatureErrorKind, SigningKey, VerifiedSignature,
    check_signature_form,
};
pub use sink::Sink;
pub use stream_name::{StreamName, StreamNameError};
pub use trust_name::{TrustName, TrustNameError};
pub use volume_fault::{VolumeFault, VolumeFaultKind};
pub use volume_names::checksum_line;
pub use volume_size::{VolumeSize, VolumeSizeError};
pub use writer::{
    Adopted, BundleSummary, BundleWriter, Checksum, EntryWriter, WriteError, WriteErrorKind,
};
