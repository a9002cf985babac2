use serde_json::{Value, json};

use crate::exit::Exit;

/// The widest line, for narrow terminals. Words are not broken, so that digests and URLs can be copied.
const WIDTH: usize = 78;

/// The result of one check.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    check: &'static str,
    outcome: Outcome,
    seen: String,
    details: Vec<String>,
    cause: Option<String>,
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Good,
    /// Nothing is wrong, but the finding explains something.
    Notice,
    Failed(Exit),
}

impl Finding {
    fn new(check: &'static str, outcome: Outcome, seen: String) -> Self {
        Self {
            check,
            outcome,
            seen,
            details: Vec::new(),
            cause: None,
            remedy: None,
        }
    }

    pub(super) fn good(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Good, seen.into())
    }

    pub(super) fn notice(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Notice, seen.into())
    }

    pub(super) fn failed(check: &'static str, exit: Exit, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Failed(exit), seen.into())
    }

    /// Adds the likely cause.
    pub(super) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds the remedy.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds details, one per line.
    pub(super) fn details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    pub(super) fn check(&self) -> &'static str {
        self.check
    }

    /// Returns what was seen, as a sentence.
    pub(super) fn seen(&self) -> &str {
        &self.seen
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        match self.outcome {
            Outcome::Failed(exit) => Some(exit),
            Outcome::Good | Outcome::Notice => None,
        }
    }

    pub(super) fn text(&self) -> String {
        let mark = match self.outcome {
            Outcome::Good => "ok",
            Outcome::Notice => "note",
            Outcome::Failed(_) => "FAIL",
        };
        let first = format!("  {mark:4}   ");
        let mut text = wrapped(&first, 11, &format!("{}: {}", self.check, self.seen));
        for detail in &self.details {
            text.push_str(&wrapped("         ", 11, detail));
        }
        for (name, sentence) in [("cause:", &self.cause), ("do:", &self.remedy)] {
            if let Some(sentence) = sentence {
                text.push_str(&wrapped(&format!("         {name:6} "), 16, sentence));
            }
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let outcome = match self.outcome {
            Outcome::Good => "ok",
            Outcome::Notice => "note",
            Outcome::Failed(_) => "failed",
        };
        json!({
            "check": self.check, "outcome": outcome, "seen": self.seen, "details": self.details,
            "cause": self.cause, "remedy": self.remedy,
        })
    }
}

/// Wraps a sentence after `first`, with its further lines indented.
pub(super) fn wrapped(first: &str, indent: usize, sentence: &str) -> String {
    let mut text = String::new();
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in sentence.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = " ".repeat(indent);
        } else if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    text.push_str(&line);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_are_broken_at_words_and_words_are_not() {
        let url = format!("https://registry.example.com/{}", "x".repeat(90));
        let finding = Finding::failed("TLS", Exit::Network, format!("{}{url}", "seen ".repeat(30)))
            .details(["detail ".repeat(30).trim_end().to_owned()])
            .cause("cause ".repeat(30).trim_end())
            .remedy(format!("ask {url} again"));
        let text = finding.text();
        assert!(text.starts_with("  FAIL   TLS: seen seen"), "{text}");
        for line in text.lines().filter(|line| !line.contains(&url)) {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert!(
                line.starts_with("         ") || line.contains("FAIL"),
                "{line}"
            );
        }
        for (word, count) in [("seen", 30), ("detail", 30), (url.as_str(), 2)] {
            assert_eq!(text.matches(word).count(), count, "{word}");
        }
        assert_eq!(text.matches("cause: ").count(), 1);
    }
}
