use std::io;

use oci_content::{Digest, Hasher, VerifyError};
use registry_client::BlobSink;

/// A sink that only hashes a blob.
#[derive(Debug)]
pub(crate) struct Discarded {
    digest: Digest,
    hasher: Hasher,
}

impl Discarded {
    pub(crate) fn new(digest: Digest) -> Self {
        let hasher = Hasher::new(digest.algorithm());
        Self { digest, hasher }
    }
}

impl BlobSink for Discarded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.hasher = Hasher::new(self.digest.algorithm());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VerifyError> {
        self.digest.verify(self.hasher.clone())
    }
}
