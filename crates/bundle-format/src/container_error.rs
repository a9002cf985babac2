use std::io;

/// Why a file is not the container of a bundle.
#[derive(Debug, thiserror::Error)]
#[error("{reason}, at byte {offset}")]
pub struct ContainerError {
    kind: ContainerErrorKind,
    offset: u64,
    path: Option<String>,
    reason: String,
    source: Option<io::Error>,
}

/// The classes of [`ContainerError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ContainerErrorKind {
    /// Neither a gzip file nor a tar archive.
    NotABundle,
    /// A gzip file or tar archive in an encoding that the format does not have: another tool packed
    /// it.
    NotCanonical,
    /// The file ends before the bundle does.
    Truncated,
    /// The framing of a stored block contradicts itself.
    GzipBlock,
    /// The CRC-32 or the length in the gzip trailer is not that of the content.
    GzipChecksum,
    /// A tar header that is damaged.
    TarHeader,
    /// A tar entry that changes another one: a pax or GNU header.
    TarExtension,
    /// The padding after a file is not all zeros.
    TarPadding,
    /// The end of the archive is not two zero blocks.
    TarEnd,
    /// A file is out of order.
    Order,
    /// The first file is not `manifest.yaml`.
    NoManifest,
    /// There is data after the end of the bundle.
    TrailingData,
    /// A link, a device or another kind of entry that is not a file.
    EntryType,
    /// A path that would lead out of a folder, or that systems read differently.
    UnsafePath,
    /// A path that occurs twice.
    DuplicatePath,
    /// A harmless path that the format does not have.
    UnknownPath,
    /// `manifest.yaml` is larger than the limit.
    ManifestBytes,
    /// The signature is larger than the limit.
    SignatureBytes,
    /// There are more files than the limit.
    Entries,
    /// A file is larger than the limit.
    EntryBytes,
    /// All files together are larger than the limit.
    TotalBytes,
    /// The file or folder cannot be read.
    Io,
}

impl ContainerErrorKind {
    /// Returns whether the file may be an intact bundle that another tool unpacked and packed
    /// again, so that packing it with this project's tool may help.
    pub fn suggests_repacking(self) -> bool {
        matches!(
            self,
            Self::NotCanonical | Self::TarExtension | Self::Order | Self::NoManifest
        )
    }
}

/// What to do about a file that another tool packed.
pub const REPACK_REMEDY: &str = "another tool packed this bundle again, or its framing is damaged; extract it and \
    pack the folder with a program that validates it and writes the canonical file";

impl ContainerError {
    pub(crate) fn new(kind: ContainerErrorKind, offset: u64, reason: impl Into<String>) -> Self {
        Self {
            kind,
            offset,
            path: None,
            reason: reason.into(),
            source: None,
        }
    }

    pub(crate) fn io(offset: u64, source: io::Error) -> Self {
        Self {
            kind: ContainerErrorKind::Io,
            offset,
            path: None,
            reason: "cannot be read".to_owned(),
            source: Some(source),
        }
    }

    pub(crate) fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Takes the error out of the [`io::Error`] that a reader of content returns; any other error
    /// is one of reading.
    pub fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => Self::io(0, error),
        }
    }

    /// Returns the class.
    pub fn kind(&self) -> ContainerErrorKind {
        self.kind
    }

    /// Returns where in the container the error is, in bytes from its start; 0 in a folder.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the path of the entry at fault, as written there, if there is one. It can hold any
    /// characters.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Returns the reason without the offset, and without the [source](std::error::Error::source).
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<ContainerError> for io::Error {
    fn from(error: ContainerError) -> Self {
        let kind = match (&error.source, error.kind) {
            (Some(source), _) => source.kind(),
            (None, ContainerErrorKind::Truncated) => io::ErrorKind::UnexpectedEof,
            (None, _) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
