use std::fmt;
use std::time::Duration;

/// The times in which requests may be sent, such as the nights.
///
/// # Contract
/// - `Display` describes it for a message, such as `22:00-06:00`.
/// - It is asked before each try of a call, so it must answer at once.
pub trait Window: fmt::Debug + fmt::Display + Send + Sync {
    /// Returns how long it takes until requests may be sent; zero if they may be sent now.
    ///
    /// A wait is checked again at least once a minute, so the answer may change, for example when
    /// the clock is set.
    fn until_open(&self) -> Duration;
}
