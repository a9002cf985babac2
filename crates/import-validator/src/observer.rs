use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

/// Is told how far a validation is.
pub trait ValidationObserver: fmt::Debug + Send + Sync {
    /// Is called once, before anything is read. `bytes` are those of the bundle, where they are known: a pipe does not say
    /// how many there are.
    fn started(&self, bytes: Option<u64>);

    /// Is called with how many more bytes were read, each time that there are some.
    fn read(&self, bytes: u64);
}

/// An input of which the observer is told.
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
