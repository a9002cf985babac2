use std::fmt;

/// The exit codes of the commands. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Bug = 1,
    Usage = 2,
    Malformed = 3,
    Integrity = 4,
    Authenticity = 5,
    Limit = 6,
    Unsafe = 7,
    LocalIo = 8,
    Network = 9,
    Access = 10,
    Incomplete = 11,
}

/// Why a command ends without having done what it was asked for: one sentence that names the thing and the next
/// step, and the exit code.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    quote: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            code: exit as u8,
            message: message.into(),
            quote: Vec::new(),
        }
    }

    /// Carries the code that a validation report computed.
    pub(crate) fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            quote: Vec::new(),
        }
    }

    /// Returns whether it ends with this exit code.
    pub(crate) fn is(&self, exit: Exit) -> bool {
        self.code == exit as u8
    }

    /// Says more about it.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// Says what mends it, where something does.
    #[must_use]
    pub(crate) fn mended_by(self, remedy: Option<impl AsRef<str>>) -> Self {
        match remedy {
            Some(remedy) => self.and(remedy.as_ref()),
            None => self,
        }
    }

    /// Shows these lines of a file below the sentence. What is foreign in them has been escaped.
    #[must_use]
    pub(crate) fn quoting(mut self, lines: Vec<String>) -> Self {
        self.quote = lines;
        self
    }

    pub(crate) fn quote(&self) -> &[String] {
        &self.quote
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
