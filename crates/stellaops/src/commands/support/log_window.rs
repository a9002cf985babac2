use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// The most that is taken of a log, from its end.
const MAX_BYTES: u64 = 16 << 20;

/// Returns the lines of a log since a time; of the file that was rotated last as well, if the log does not go back so far.
pub(super) fn since(log: &Path, since: Timestamp) -> io::Result<String> {
    let (lines, is_all) = of_file(log, since)?;
    let mut rotated = log.as_os_str().to_owned();
    rotated.push(".1");
    match of_file(&PathBuf::from(rotated), since) {
        Ok((older, _)) if is_all => Ok(older + &lines),
        _ => Ok(lines),
    }
}

/// Returns the lines of a file since a time, and whether those are all lines that it has.
fn of_file(path: &Path, since: Timestamp) -> io::Result<(String, bool)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(MAX_BYTES);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line may be the rest of one.
    let start = if skipped == 0 {
        0
    } else {
        text.find('\n').map_or(text.len(), |at| at + 1)
    };
    let mut from = text.len();
    let mut at = start;
    for line in text[start..].split_inclusive('\n') {
        if time_of(line).is_some_and(|time| time >= since) {
            from = at;
            break;
        }
        at += line.len();
    }
    let is_all = skipped == 0 && from == start && !text.is_empty();
    Ok((text[from..].to_owned(), is_all))
}

/// Returns the time of a line, in either form of the log.
fn time_of(line: &str) -> Option<Timestamp> {
    let time = match line.split_once("\"timestamp\":\"") {
        Some((_, rest)) => rest.split('"').next()?,
        None => line.split(' ').next()?,
    };
    time.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_what_was_written_since_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(
            &path,
            "2026-11-30T02:00:00.000Z [INFO] one\n2026-11-30T03:00:00.000Z run=1 [ERROR] two\n  quoted\n",
        )
        .unwrap();
        let window = |time: &str| since(&path, time.parse().unwrap()).unwrap();
        assert_eq!(
            window("2026-11-30T02:30:00Z"),
            "2026-11-30T03:00:00.000Z run=1 [ERROR] two\n  quoted\n"
        );
        assert_eq!(window("2026-11-30T04:00:00Z"), "");
        std::fs::write(
            folder.path().join("x.log.1"),
            "2026-11-29T01:00:00.000Z [INFO] older\n2026-11-29T23:00:00.000Z [INFO] old\n",
        )
        .unwrap();
        let all = window("2026-11-29T12:00:00Z");
        assert!(
            all.starts_with("2026-11-29T23") && all.contains("one"),
            "{all}"
        );
        assert!(!window("2026-11-30T02:30:00Z").contains("old"));
        let json = folder.path().join("y.log");
        std::fs::write(
            &json,
            "{\"level\":\"INFO\",\"timestamp\":\"2026-11-30T02:00:00.000Z\"}\n",
        )
        .unwrap();
        let time = "2026-11-30T01:00:00Z".parse().unwrap();
        assert!(since(&json, time).unwrap().contains("INFO"));
    }
}
