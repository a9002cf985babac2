use std::fmt;
use std::io;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::read_at::ReadAt;
use crate::sink::Sink;

/// A bundle in memory, for those that are small.
#[derive(Default)]
pub struct MemorySink(RwLock<Vec<u8>>);

impl MemorySink {
    /// Creates an empty sink.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a copy of what was written.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.held().clone()
    }

    /// Returns what was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that panicked has left no half-made list: each change is one call.
    fn held(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_mut(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for MemorySink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut held = self.held_mut();
        let place = usize::try_from(offset)
            .ok()
            .and_then(|start| held.get_mut(start..start.checked_add(bytes.len())?));
        let beyond = "a write beyond the size that was reserved";
        place
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, beyond))?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn reserve(&self, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut held = self.held_mut();
        let more = size.saturating_sub(held.len());
        held.try_reserve_exact(more)
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        held.resize(size, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn read_back(&self) -> Option<&dyn ReadAt> {
        Some(self)
    }
}

impl ReadAt for MemorySink {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.held().read_at(buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.held().size()
    }
}

impl fmt::Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemorySink({} bytes)", self.held().len())
    }
}
