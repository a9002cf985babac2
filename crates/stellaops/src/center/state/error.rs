use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// Why the state of the service could not be read or written.
#[derive(Debug)]
pub(crate) struct StateError {
    path: PathBuf,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the state in {}", self.path.display())
    }
}

impl Error for StateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}
