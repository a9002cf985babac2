use mirror_plan::PlanObserver;

/// Is told what an export does, as it happens: first by [`PlanObserver`] what is found, then what is written.
pub trait ExportObserver: PlanObserver {
    /// Is called for each event, possibly from several threads.
    fn event(&self, event: ExportEvent);

    /// Returns how many HTTP requests were sent so far, for the report.
    fn requests(&self) -> u64;
}

/// Nobody is told, and no request counted.
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
    /// So many more bytes of blobs are in their places. When a blob is whole, they sum up to its size.
    #[non_exhaustive]
    Received {
        /// Their number.
        bytes: u64,
    },
    /// So many bytes of a blob, which had been [received](Self::Received), have to be asked for again.
    #[non_exhaustive]
    Discarded {
        /// Their number.
        bytes: u64,
    },
    /// A blob is in its place.
    #[non_exhaustive]
    Transferred {
        /// Its size in bytes.
        bytes: u64,
    },
    /// So many more bytes of the bundle are in its checksum, which is computed while blobs are still downloaded.
    #[non_exhaustive]
    Hashed {
        /// Their number.
        bytes: u64,
    },
    /// Every blob is in its place, and the bundle is being made durable.
    Syncing,
    /// The bundle is durable, and what is left is its checksum.
    Checksumming,
}
