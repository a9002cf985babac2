use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressDrawTarget};
use oci_content::FileSystemGaps;
use serde_json::{Map, Value};

use crate::exit::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Writes messages to stderr, and to a file if one is given.
///
/// - A sink that fails (a closed terminal, a full disk) never changes what a command does.
/// - Text from elsewhere is escaped, so that a hostile tag cannot draw on the terminal or forge a line.
#[derive(Debug)]
pub(crate) struct Log {
    level: LogLevel,
    format: LogFormat,
    file: Option<Mutex<File>>,
    /// Progress bars on the same terminal, which make room for messages.
    bars: MultiProgress,
}

impl Log {
    pub(crate) fn new(level: LogLevel, format: LogFormat, file: Option<&Path>) -> io::Result<Self> {
        let file = match file {
            Some(path) => Some(Mutex::new(
                OpenOptions::new().create(true).append(true).open(path)?,
            )),
            None => None,
        };
        Ok(Self {
            level,
            format,
            file,
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        })
    }

    /// Returns where progress is drawn between messages; hidden until it is given a terminal.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    pub(crate) fn error(&self, message: &str) {
        self.write(LogLevel::Error, message, Map::new());
    }

    /// Writes why a command fails, followed by the quoted lines in the text form.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_answer() {
            return self.info(&failure.to_string());
        }
        let quote = failure.quote().join("\n");
        let mut fields = Map::new();
        if !quote.is_empty() {
            fields.insert("quote".into(), quote.into());
        }
        self.write_with(
            LogLevel::Error,
            &failure.to_string(),
            fields,
            failure.quote(),
        );
    }

    pub(crate) fn warn(&self, message: &str) {
        self.write(LogLevel::Warn, message, Map::new());
    }

    /// Warns once about what the file systems that were written to cannot do.
    pub(crate) fn warn_of_gaps(&self, gaps: &FileSystemGaps) {
        let gaps = gaps.take();
        let Some((_, first)) = gaps.first() else {
            return;
        };
        let told: Vec<_> = gaps.iter().map(|(gap, _)| gap.to_string()).collect();
        self.warn(&format!(
            "{}: what this file system cannot do is not guaranteed: {}",
            first.display(),
            told.join("; ")
        ));
    }

    pub(crate) fn info(&self, message: &str) {
        self.write(LogLevel::Info, message, Map::new());
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.level >= LogLevel::Debug
    }

    pub(crate) fn debug(&self, message: &str) {
        self.write(LogLevel::Debug, message, Map::new());
    }

    /// Writes a message; `fields` go into the JSON form.
    pub(crate) fn write(&self, level: LogLevel, message: &str, fields: Map<String, Value>) {
        self.write_with(level, message, fields, &[]);
    }

    fn write_with(
        &self,
        level: LogLevel,
        message: &str,
        fields: Map<String, Value>,
        quote: &[String],
    ) {
        if level > self.level {
            return;
        }
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let word = match level {
            LogLevel::Error => "ERROR",
            LogLevel::Warn => "WARN",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
        };
        let message = escape(message);
        // Indented, so that none of them can be mistaken for a log line.
        let quote: String = quote.iter().map(|line| format!("  {line}\n")).collect();
        let (terminal, file) = match self.format {
            LogFormat::Text => (
                format!("[{word}] {message}\n{quote}"),
                format!("{now} [{word}] {message}\n{quote}"),
            ),
            LogFormat::Json => {
                let mut document = Map::new();
                document.insert("timestamp".into(), now.to_string().into());
                document.insert("level".into(), word.into());
                document.insert("message".into(), message.into());
                document.extend(fields);
                let line = escape_json(&format!("{}\n", Value::Object(document)));
                (line.clone(), line)
            }
        };
        // One write per line, so that lines of different threads do not mix.
        self.bars
            .suspend(|| io::stderr().write_all(terminal.as_bytes()).ok());
        if let Some(log_file) = &self.file
            && let Ok(mut log_file) = log_file.lock()
        {
            log_file.write_all(file.as_bytes()).ok();
        }
    }
}

/// Escapes characters with which foreign text could draw on a terminal, or hide or reverse text.
pub(crate) fn escape(text: &str) -> String {
    replace(text, |c| c.escape_unicode().to_string())
}

/// Escapes the same characters in a JSON document, in JSON's syntax; the line ends of its layout stay.
pub(crate) fn escape_json(document: &str) -> String {
    let escaped = |c: char| -> String {
        if c == '\n' {
            return c.into();
        }
        let units = c.encode_utf16(&mut [0; 2]).to_vec();
        units.iter().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    replace(document, escaped)
}

fn replace(text: &str, escaped: impl Fn(char) -> String) -> String {
    if !text.contains(is_hostile) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            out.push_str(&escaped(c))
        } else {
            out.push(c)
        }
    }
    out
}

/// Returns whether a character is a control character (C1 included), changes the direction of text, separates lines, or is
/// invisible (Unicode's `Default_Ignorable_Code_Point`).
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        )
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}')
        || matches!(c, '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}')
        || matches!(c, '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_forge_a_line_or_colour_the_terminal() {
        assert_eq!(
            escape("tag\n[INFO] all good\u{1b}[31m\u{202e}"),
            "tag\\u{a}[INFO] all good\\u{1b}[31m\\u{202e}"
        );
        assert_eq!(escape("plain é"), "plain é");
        for unseen in [
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{2060}',
            '\u{fe0f}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            let escaped = format!("a{}b", unseen.escape_unicode());
            assert_eq!(escape(&format!("a{unseen}b")), escaped);
        }
    }

    #[test]
    fn a_json_document_stays_the_same_document() {
        let value = Value::from("a\u{9b}31m\u{202e}b\u{e0041}\u{7f}\n\u{2028}é");
        let document = format!("{:#}", serde_json::json!({ "key": value }));
        let escaped = escape_json(&document);
        assert_eq!(
            escaped,
            "{\n  \"key\": \"a\\u009b31m\\u202eb\\udb40\\udc41\\u007f\\n\\u2028é\"\n}"
        );
        let read: Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read["key"], value);
    }
}
