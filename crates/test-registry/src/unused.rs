use std::fmt;

/// A fault that did not happen as often as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnusedFault {
    /// File, line and column of the test that planned it.
    pub at: String,
    /// The requests that it was planned for.
    pub route: String,
    /// The deviation.
    pub fault: String,
    /// The number of requests that it happened to.
    pub happened: usize,
    /// The planned number of requests; 1 for a fault that happens forever.
    pub wanted: usize,
    /// The number of matching requests that were skipped.
    pub skipped: usize,
    /// The planned number of skipped requests.
    pub skip: usize,
}

impl fmt::Display for UnusedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST_CHARS: usize = 120;
        let Self { at, route, .. } = self;
        let fault: String = self.fault.chars().take(MOST_CHARS).collect();
        let Self {
            happened, wanted, ..
        } = self;
        write!(f, "{at}: {fault} on {route}: {happened} of {wanted} times")?;
        match self.skip {
            0 => Ok(()),
            skip => write!(f, ", {} of {skip} skipped", self.skipped),
        }
    }
}
