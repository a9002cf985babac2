//! The strict reader: it accepts exactly what is written.

use std::collections::BTreeMap;

use oci_content::{Digest, MAX_FOREIGN_CHARS, Reference, bounded};

use super::emit::quote;
use super::{JobLock, LockFile, named};
use crate::job_name::JobName;

/// The largest lock file, in bytes: 64 MiB, which has room for 400,000 images.
const MAX_BYTES: usize = 64 << 20;

/// Why a text is not a lock file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LockFileError {
    line: usize,
    reason: String,
}

impl LockFileError {
    /// Returns the line, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns the reason, without the line.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl LockFile {
    /// Reads a lock file. Only the exact bytes that [`to_yaml`](Self::to_yaml) writes are accepted,
    /// so no change by hand or by a merge is half understood.
    ///
    /// # Errors
    ///
    /// When the file is of another version, was changed to something that is never written, says
    /// something twice, or is larger than 64 MiB.
    pub fn parse(text: &[u8]) -> Result<Self, LockFileError> {
        let fail = |line, reason: String| Err(LockFileError { line, reason });
        if text.len() > MAX_BYTES {
            return fail(1, format!("the file is larger than {MAX_BYTES} bytes"));
        }
        let text = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let line = text[..error.valid_up_to()]
                    .split(|byte| *byte == b'\n')
                    .count();
                return fail(line, "it is not UTF-8 text".into());
            }
        };
        let mut lines = Lines::new(text);
        let file = lines.file()?;
        // What was read is what is written, if the order and the spelling are the same.
        let written = file.to_yaml();
        let differs = text
            .split_inclusive('\n')
            .zip(written.split_inclusive('\n'));
        match differs
            .enumerate()
            .find(|(_, (own, written))| own != written)
        {
            Some((at, _)) => fail(
                at + 1,
                "the order or the spelling is not the one that is written".into(),
            ),
            None if text.len() != written.len() => fail(
                text.lines().count(),
                "the file does not end where it should".into(),
            ),
            None => Ok(file),
        }
    }
}

struct Lines<'a> {
    lines: std::str::Lines<'a>,
    next: Option<&'a str>,
    /// The number of lines that were taken.
    taken: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let mut lines = text.lines();
        Self {
            next: lines.next(),
            lines,
            taken: 0,
        }
    }

    fn take(&mut self) -> Option<&'a str> {
        let line = std::mem::replace(&mut self.next, self.lines.next())?;
        self.taken += 1;
        Some(line)
    }

    /// Takes the next line if it begins with `key`, and returns the rest.
    fn after(&mut self, key: &str) -> Option<&'a str> {
        let rest = self.next?.strip_prefix(key)?;
        self.take();
        Some(rest)
    }

    /// Fails at the line that was taken last.
    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, LockFileError> {
        Err(LockFileError {
            line: self.taken.max(1),
            reason: reason.into(),
        })
    }

    /// Fails at the next line.
    fn unexpected<T>(&mut self, expected: &str) -> Result<T, LockFileError> {
        match self.take() {
            Some(line) if line.starts_with(['<', '=', '>']) => {
                self.fail("it is what a merge leaves; write the file anew")
            }
            Some(line) => {
                let shown = bounded(line.trim(), MAX_FOREIGN_CHARS);
                self.fail(format!("{expected} is expected, not {shown:?}"))
            }
            None => self.fail(format!("{expected} is missing after this line")),
        }
    }

    fn file(&mut self) -> Result<LockFile, LockFileError> {
        match self.after("format: ") {
            Some(LockFile::FORMAT) => {}
            Some(other) if other.starts_with("stellaops-mirror-lock/") => {
                return self.fail(format!(
                    "the file is of version {:?}, and this program knows {}",
                    bounded(other, MAX_FOREIGN_CHARS),
                    LockFile::FORMAT
                ));
            }
            _ => return self.unexpected(&format!("\"format: {}\"", LockFile::FORMAT)),
        }
        let mut file = LockFile::new();
        match self.after("jobs:") {
            Some(" {}") => {}
            Some("") => {
                while let Some(name) = self.after("  '") {
                    self.job(name, &mut file)?;
                }
            }
            Some(_) => return self.fail("\"jobs:\" has something after it"),
            None => return self.unexpected("\"jobs:\""),
        }
        match self.next {
            None => Ok(file),
            Some(_) => self.unexpected("a job, a rule, a pin or the end of the file"),
        }
    }

    fn job(&mut self, rest: &str, file: &mut LockFile) -> Result<(), LockFileError> {
        let named = rest.strip_suffix("':").map(|name| (name, true));
        let named = named.or_else(|| Some((rest.strip_suffix("': []")?, false)));
        let Some((name, has_rules)) = named else {
            return self.fail("a job is written 'NAME': in single quotes");
        };
        let name: JobName = match name.parse() {
            Ok(name) => name,
            Err(error) => return self.fail(format!("{error}")),
        };
        if file.jobs.contains_key(&name) {
            return self.fail(format!("the job {name} is there twice"));
        }
        let mut job = JobLock::new();
        let mut seen = BTreeMap::new();
        while has_rules && let Some(rule) = self.after("  - rule: ") {
            self.rule(rule, &mut job, &mut seen)?;
        }
        file.set(name, job);
        Ok(())
    }

    /// Reads a rule of `job`; `seen` are the pins of the job so far.
    fn rule(
        &mut self,
        text: &str,
        job: &mut JobLock,
        seen: &mut BTreeMap<Reference, Digest>,
    ) -> Result<(), LockFileError> {
        let rule = self.unquoted(text)?;
        if job.rules.contains_key(&rule) {
            return self.fail("the rule is there twice in the job");
        }
        let mut pins = BTreeMap::new();
        match self.after("    pins:") {
            Some(" []") => {}
            Some("") => {
                while let Some(text) = self.after("    - ") {
                    self.pin(text, seen, &mut pins)?;
                }
            }
            Some(_) => return self.fail("\"pins:\" has something after it"),
            None => return self.unexpected("\"pins:\""),
        }
        job.rules.insert(rule, pins);
        Ok(())
    }

    fn pin(
        &mut self,
        text: &str,
        seen: &mut BTreeMap<Reference, Digest>,
        pins: &mut BTreeMap<Reference, Digest>,
    ) -> Result<(), LockFileError> {
        let text = self.unquoted(text)?;
        let image: Reference = match text.parse() {
            Ok(image) => image,
            Err(error) => return self.fail(format!("{error}")),
        };
        let Some(digest) = image.digest() else {
            return self.fail(format!("{image} has no digest, so it is not pinned"));
        };
        let name = named(&image);
        if pins.contains_key(&name) {
            return self.fail(format!("{name} is pinned twice by the rule"));
        }
        if seen.get(&name).is_some_and(|other| other != digest) {
            return self.fail(format!(
                "{name} is pinned to another digest by another rule of the job"
            ));
        }
        seen.insert(name.clone(), digest.clone());
        pins.insert(name, digest.clone());
        Ok(())
    }

    fn unquoted(&self, text: &str) -> Result<String, LockFileError> {
        let inner = text
            .strip_prefix('\'')
            .and_then(|text| text.strip_suffix('\''));
        let value = inner.map(|inner| inner.replace("''", "'"));
        match value {
            Some(value) if quote(&value) == text && !value.chars().any(char::is_control) => {
                Ok(value)
            }
            _ => self.fail("the value is not in single quotes"),
        }
    }
}
