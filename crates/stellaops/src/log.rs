use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    sinks: Arc<Sinks>,
    run: Option<RunLog>,
}

/// Where the messages of a process go.
#[derive(Debug)]
struct Sinks {
    level: LogLevel,
    format: LogFormat,
    /// Whether lines on stderr begin with the time.
    is_stamped: bool,
    file: Option<LogFile>,
    /// Progress bars on the same terminal, which make room for messages.
    bars: MultiProgress,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: Mutex<File>,
}

/// What the messages of one run have in addition.
#[derive(Debug)]
struct RunLog {
    /// What each line says of the run, by name.
    fields: Vec<(&'static str, String)>,
    /// A file for the messages of this run only.
    file: Option<Mutex<File>>,
    warnings: Mutex<Warnings>,
}

/// The first warnings of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings {
    pub(crate) messages: Vec<String>,
    /// The number of those that are not kept.
    pub(crate) more: u64,
}

/// The most warnings of a run that are kept.
const MAX_WARNINGS: usize = 100;

impl Log {
    pub(crate) fn new(level: LogLevel, format: LogFormat, file: Option<&Path>) -> io::Result<Self> {
        Self::open(level, format, file, false)
    }

    /// Creates the log of a service, whose lines begin with the time on stderr as well.
    pub(crate) fn of_service(level: LogLevel, format: LogFormat, file: &Path) -> io::Result<Self> {
        Self::open(level, format, Some(file), true)
    }

    fn open(
        level: LogLevel,
        format: LogFormat,
        file: Option<&Path>,
        is_stamped: bool,
    ) -> io::Result<Self> {
        let file = match file {
            Some(path) => Some(LogFile {
                path: path.to_owned(),
                file: Mutex::new(appended(path)?),
            }),
            None => None,
        };
        let sinks = Sinks {
            level,
            format,
            is_stamped,
            file,
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        };
        Ok(Self {
            sinks: Arc::new(sinks),
            run: None,
        })
    }

    /// Returns the log of one run: its lines carry `fields`, and also go to `file`, which is created or continued.
    ///
    /// If the file cannot be written, the log does without it, and warns.
    pub(crate) fn for_run(&self, fields: Vec<(&'static str, String)>, file: &Path) -> Self {
        let opened = appended(file);
        let unopened = opened.as_ref().err().map(ToString::to_string);
        let log = Self {
            sinks: Arc::clone(&self.sinks),
            run: Some(RunLog {
                fields,
                file: opened.ok().map(Mutex::new),
                warnings: Mutex::default(),
            }),
        };
        if let Some(error) = unopened {
            log.warn(&format!("{}: {error}", file.display()));
        }
        log
    }

    /// Writes why the process ends to the file, and not to stderr.
    pub(crate) fn failure_to_file(&self, failure: &Failure) {
        let message = escape(&failure.to_string());
        let line = self.line(LogLevel::Error, &message, Map::new(), failure.quote());
        self.append(&line.stamped);
    }

    /// Opens the file anew, after something else has moved it away. If that fails, the file that is open stays in use.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let Some(log_file) = &self.sinks.file else {
            return Ok(());
        };
        let file = appended(&log_file.path)?;
        *locked(&log_file.file) = file;
        Ok(())
    }

    /// Returns the warnings of this run.
    pub(crate) fn warnings(&self) -> Warnings {
        let run = self.run.as_ref();
        run.map(|run| locked(&run.warnings).clone())
            .unwrap_or_default()
    }

    /// Returns where progress is drawn between messages; hidden until it is given a terminal.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.sinks.bars
    }

    pub(crate) fn error(&self, message: &str) {
        self.write(LogLevel::Error, message, Map::new());
    }

    /// Writes why a command fails, followed by the quoted lines in the text form.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_answer() {
            return self.info(&failure.to_string());
        }
        self.quoted(LogLevel::Error, failure);
    }

    /// Writes a message about a file, followed by its quoted lines in the text form.
    pub(crate) fn quoted(&self, level: LogLevel, failure: &Failure) {
        let quote = failure.quote().join("\n");
        let mut fields = Map::new();
        if !quote.is_empty() {
            fields.insert("quote".into(), quote.into());
        }
        self.write_with(level, &failure.to_string(), fields, failure.quote());
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
        self.sinks.level >= LogLevel::Debug
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
        let message = escape(message);
        if let Some(run) = &self.run
            && level == LogLevel::Warn
        {
            run.keep(&message);
        }
        if level > self.sinks.level {
            return;
        }
        let line = self.line(level, &message, fields, quote);
        // One write per line, so that lines of different threads do not mix.
        let shown = if self.sinks.is_stamped {
            &line.stamped
        } else {
            &line.plain
        };
        self.bars()
            .suspend(|| io::stderr().write_all(shown.as_bytes()).ok());
        self.append(&line.stamped);
    }

    fn append(&self, line: &str) {
        let own = self.run.as_ref().and_then(|run| run.file.as_ref());
        let shared = self.sinks.file.as_ref().map(|log_file| &log_file.file);
        for sink in [shared, own].into_iter().flatten() {
            locked(sink).write_all(line.as_bytes()).ok();
        }
    }

    /// Formats a message that is escaped already.
    fn line(
        &self,
        level: LogLevel,
        message: &str,
        fields: Map<String, Value>,
        quote: &[String],
    ) -> Line {
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let word = match level {
            LogLevel::Error => "ERROR",
            LogLevel::Warn => "WARN",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
        };
        // Indented, so that none of them can be mistaken for a log line.
        let quote: String = quote.iter().map(|line| format!("  {line}\n")).collect();
        let own = self.run.iter().flat_map(|run| &run.fields);
        match self.sinks.format {
            LogFormat::Text => {
                let own: String = own
                    .map(|(name, value)| format!("{name}={value} "))
                    .collect();
                let plain = format!("[{word}] {message}\n{quote}");
                Line {
                    stamped: format!("{now} {own}{plain}"),
                    plain,
                }
            }
            LogFormat::Json => {
                let mut document = Map::new();
                document.insert("timestamp".into(), now.to_string().into());
                document.insert("level".into(), word.into());
                document.extend(own.map(|(name, value)| ((*name).into(), value.as_str().into())));
                document.insert("message".into(), message.into());
                document.extend(fields);
                let line = escape_json(&format!("{}\n", Value::Object(document)));
                Line {
                    stamped: line.clone(),
                    plain: line,
                }
            }
        }
    }
}

/// A message as it is written.
struct Line {
    stamped: String,
    /// Without the time, in the text form.
    plain: String,
}

impl RunLog {
    fn keep(&self, warning: &str) {
        let mut warnings = locked(&self.warnings);
        if warnings.messages.len() < MAX_WARNINGS {
            warnings.messages.push(warning.to_owned());
        } else {
            warnings.more += 1;
        }
    }
}

fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::fs;

    use super::*;

    #[test]
    fn the_lines_of_a_run_name_it_and_go_to_its_own_file_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let [all, own] = ["all.log", "own.log"].map(|name| folder.path().join(name));
        let log = Log::of_service(LogLevel::Info, LogFormat::Text, &all).unwrap();
        let fields = vec![("run", "20261130-000017".into()), ("job", "nightly".into())];
        let run = log.for_run(fields, &own);
        log.info("before");
        run.warn("No referrers found for image a\nb");
        run.debug("unseen");
        let line = "run=20261130-000017 job=nightly [WARN] No referrers found for image a\\u{a}b\n";
        let own = fs::read_to_string(own).unwrap();
        assert_eq!(own.split_once(' ').unwrap().1, line);
        assert!(fs::read_to_string(&all).unwrap().ends_with(line));
        assert_eq!(
            run.warnings().messages,
            ["No referrers found for image a\\u{a}b"]
        );

        let moved = folder.path().join("all.log.1");
        fs::rename(&all, &moved).unwrap();
        log.reopen().unwrap();
        run.info("after");
        assert!(
            fs::read_to_string(&all)
                .unwrap()
                .ends_with("[INFO] after\n")
        );
        assert!(!fs::read_to_string(&moved).unwrap().contains("after"));
    }

    #[test]
    fn the_lines_of_a_run_are_members_of_its_json() {
        let folder = tempfile::tempdir().unwrap();
        let [all, own] = ["all.log", "own.log"].map(|name| folder.path().join(name));
        let log = Log::of_service(LogLevel::Info, LogFormat::Json, &all).unwrap();
        log.for_run(vec![("run", "20261130-000017".into())], &own)
            .info("x");
        let line: Value = serde_json::from_str(&fs::read_to_string(own).unwrap()).unwrap();
        assert_eq!(
            (&line["run"], &line["message"]),
            (&"20261130-000017".into(), &"x".into())
        );
    }

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
