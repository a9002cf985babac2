use mirror_plan::PlanObserver;

/// Receives the events of an export as they happen: first those of [`PlanObserver`], then those of
/// the writing.
pub trait ExportObserver: PlanObserver {
    /// Called for each event, possibly from several threads.
    fn event(&self, event: ExportEvent);

    /// Returns the number of HTTP requests sent so far, for the report.
    fn requests(&self) -> u64;
}

/// An observer that ignores everything and counts no requests.
impl ExportObserver for () {
    fn event(&self, _: ExportEvent) {}

    fn requests(&self) -> u64 {
        0
    }
}

/// Something that happened while a bundle was written.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ExportEvent {
    /// Everything that the bundle will hold is known.
    #[non_exhaustive]
    Planned {
        /// The size of the bundle in bytes.
        bytes: u64,
        /// The blobs that are to be downloaded.
        blobs: usize,
        /// Their size in bytes.
        blob_bytes: u64,
        /// The blobs that an interrupted export had left whole.
        kept: usize,
        /// The blobs that are left out because the base holds them.
        left_out: usize,
    },
    /// More bytes of blobs are in their places. When a blob is whole, they sum up to its size.
    #[non_exhaustive]
    Received {
        /// The number of bytes since the last event.
        bytes: u64,
    },
    /// Bytes of a blob that had been [received](Self::Received) must be requested again.
    #[non_exhaustive]
    Discarded {
        /// The number of bytes.
        bytes: u64,
    },
    /// A blob is in its place.
    #[non_exhaustive]
    Transferred {
        /// Its size in bytes.
        bytes: u64,
    },
    /// More bytes of the bundle are in its checksum, which is computed while blobs are still
    /// downloaded.
    #[non_exhaustive]
    Hashed {
        /// The number of bytes since the last event.
        bytes: u64,
    },
    /// Every blob is in its place, and the bundle is being made durable.
    Syncing,
    /// The bundle is durable, and only its checksum is left.
    Checksumming,
}
