use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

/// Observes the progress of a validation.
pub trait ValidationObserver: fmt::Debug + Send + Sync {
    /// Called once, before anything is read. `bytes` is the size of the bundle, if it is known:
    /// that of a pipe is not.
    fn started(&self, bytes: Option<u64>);

    /// Called with the number of bytes read since the last call.
    fn read(&self, bytes: u64);
}

/// An input whose reads are reported to the observer.
pub(crate) struct Observed<R> {
    pub(crate) input: R,
    pub(crate) observer: Option<Arc<dyn ValidationObserver>>,
}

impl<R: Read> Read for Observed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        if let Some(observer) = &self.observer {
            observer.read(count as u64);
        }
        Ok(count)
    }
}
