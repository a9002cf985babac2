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
    Todo = 12,
}

/// Why a command failed: one sentence that names the thing and the next step, and the exit code.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    quote: Vec<String>,
    /// Whether it is what was asked for, and only told by an exit code.
    is_answer: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            code: exit as u8,
            message: message.into(),
            quote: Vec::new(),
            is_answer: false,
        }
    }

    /// Creates a failure with the exit code of a validation report.
    pub(crate) fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            quote: Vec::new(),
            is_answer: false,
        }
    }

    /// Makes an answer of it, such as that there is something to do: it has an exit code, and is no error.
    #[must_use]
    pub(crate) fn into_answer(mut self) -> Self {
        self.is_answer = true;
        self
    }

    pub(crate) fn is_answer(&self) -> bool {
        self.is_answer
    }

    /// Returns whether the exit code is this one.
    pub(crate) fn is(&self, exit: Exit) -> bool {
        self.code == exit as u8
    }

    /// Appends to the sentence.
    #[must_use]
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }

    /// Appends what mends the failure, if anything does.
    #[must_use]
    pub(crate) fn mended_by(self, remedy: Option<impl AsRef<str>>) -> Self {
        match remedy {
            Some(remedy) => self.and(remedy.as_ref()),
            None => self,
        }
    }

    /// Adds lines of a file to show below the sentence. They must be escaped already.
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
