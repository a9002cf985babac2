use std::fmt;

/// A fault that did not happen as often as it was to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnusedFault {
    /// File, line and column of the test that planned it.
    pub at: String,
    /// Which requests it is for.
    pub route: String,
    /// What it does.
    pub fault: String,
    /// How many requests it has happened to.
    pub happened: usize,
    /// How many requests it was to happen to; 1 for one that goes on forever.
    pub wanted: usize,
    /// How many matching requests have been let pass before.
    pub skipped: usize,
    /// How many were to be.
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
