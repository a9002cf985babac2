use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::cli::{LogFormat, LogLevel};

/// Where messages go: stderr, and a file where one is named.
///
/// - A sink that fails (a closed terminal, a full disk) never changes what a command does.
/// - Text from elsewhere is escaped, so that a hostile tag cannot draw on the terminal or forge a line.
#[derive(Debug)]
pub(crate) struct Log {
    level: LogLevel,
    format: LogFormat,
    file: Option<Mutex<File>>,
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
        })
    }

    pub(crate) fn error(&self, message: &str) {
        self.write(LogLevel::Error, message, Map::new());
    }

    pub(crate) fn warn(&self, message: &str) {
        self.write(LogLevel::Warn, message, Map::new());
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

    /// Writes a message whose parts are fields of the JSON form.
    pub(crate) fn write(&self, level: LogLevel, message: &str, fields: Map<String, Value>) {
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
        let (terminal, file) = match self.format {
            LogFormat::Text => (
                format!("[{word}] {message}\n"),
                format!("{now} [{word}] {message}\n"),
            ),
            LogFormat::Json => {
                let mut document = Map::new();
                document.insert("timestamp".into(), now.to_string().into());
                document.insert("level".into(), word.into());
                document.insert("message".into(), message.into());
                document.extend(fields);
                let line = format!("{}\n", Value::Object(document));
                (line.clone(), line)
            }
        };
        // One write per line, so that lines of several threads do not mix.
        io::stderr().write_all(terminal.as_bytes()).ok();
        if let Some(log_file) = &self.file
            && let Ok(mut log_file) = log_file.lock()
        {
            log_file.write_all(file.as_bytes()).ok();
        }
    }
}

/// Escapes control and direction-changing characters of text that came from elsewhere.
pub(crate) fn escape(text: &str) -> String {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| {
            if hostile(c) {
                c.escape_unicode().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
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
    }
}
