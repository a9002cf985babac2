//! The one encoding of `manifest.yaml`.

use std::fmt::{Display, Write as _};

use super::{BundleManifest, ManifestError};
use crate::entry_path::ReferrerPath;

/// Where the encoding goes.
pub(super) trait Out {
    fn put(&mut self, text: &str);
}

impl Out for Vec<u8> {
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

/// Counts the bytes of an encoding.
struct Length(usize);

impl Out for Length {
    fn put(&mut self, text: &str) {
        self.0 += text.len();
    }
}

impl BundleManifest {
    /// Writes the manifest in its one encoding.
    ///
    /// # Errors
    ///
    /// [`ManifestErrorKind::Inconsistent`](super::ManifestErrorKind::Inconsistent) when the lists are not
    /// [settled](Self::settle), or when two statements contradict each other; the result of a success always
    /// parses.
    pub fn to_yaml(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        // Counted first: for a large bundle, a growing buffer would take twice the memory.
        let mut out = Vec::with_capacity(self.length());
        emit(self, &mut out);
        Ok(out)
    }

    /// Returns how many bytes the encoding takes, whether or not the manifest is consistent.
    pub fn yaml_bytes(&self) -> u64 {
        self.length() as u64
    }

    fn length(&self) -> usize {
        let mut length = Length(0);
        emit(self, &mut length);
        length.0
    }
}

/// Writes `manifest` without checking it; callers check first that it can be read back.
pub(super) fn emit(manifest: &BundleManifest, out: &mut impl Out) {
    let mut out = Lines {
        out,
        line: String::new(),
    };
    out.plain("format: ", BundleManifest::FORMAT);
    out.text("stream: ", manifest.stream.as_str());
    out.plain("sequence: ", manifest.sequence);
    if let Some(created) = &manifest.created {
        // Some YAML readers turn it into a time if it is not quoted.
        out.plain("created: ", format_args!("\"{created}\""));
    }
    if let Some(base) = &manifest.base {
        out.plain("base: ", base);
    }
    let totals = &manifest.referrers;
    out.plain("referrers:", "");
    out.plain("  total: ", totals.total);
    out.plain("  subjects: ", totals.subjects);
    out.plain("  bare_images: ", totals.bare_images);
    out.plain("  status: ", totals.status);
    out.empty_or("  by_category:", " {}", totals.by_category.is_empty());
    for (category, count) in &totals.by_category {
        out.plain(&format!("    {category}: "), count);
    }
    out.list("images:", manifest.graph.images.is_empty());
    for image in &manifest.graph.images {
        out.text("- reference: ", &image.reference.to_string());
        out.plain("  digest: ", &image.digest);
        out.text("  media_type: ", &image.media_type);
        out.plain("  size: ", image.size);
        out.list("  omitted:", image.omitted.is_empty());
        for child in &image.omitted {
            out.plain("  - digest: ", &child.digest);
            out.text("    reason: ", &child.reason);
        }
    }
    out.list("discovery:", manifest.graph.discovery.is_empty());
    for record in &manifest.graph.discovery {
        out.text("- repository: ", &record.repository.to_string());
        out.plain("  subject: ", &record.subject);
        out.plain("  capability: ", record.capability);
        out.plain("  method: ", record.method);
        out.plain("  status: ", record.status);
        out.list("  missing:", record.missing.is_empty());
        for missing in &record.missing {
            out.text("  - code: ", &missing.code);
            if let Some(digest) = &missing.digest {
                out.plain("    digest: ", digest);
            }
            if let Some(source) = &missing.source {
                out.text("    source: ", source);
            }
        }
        out.list("  artifacts:", record.artifacts.is_empty());
        for artifact in &record.artifacts {
            out.plain("  - digest: ", &artifact.digest);
            if let Some(artifact_type) = &artifact.artifact_type {
                out.text("    artifact_type: ", artifact_type);
            }
            out.text("    media_type: ", &artifact.media_type);
            out.plain("    size: ", artifact.size);
            out.plain("    category: ", artifact.category);
            out.list("    sources:", artifact.sources.is_empty());
            for source in &artifact.sources {
                out.plain("    - ", source);
            }
            if let Some(tag) = &artifact.tag {
                out.text("    tag: ", tag.as_str());
            }
            let path = ReferrerPath::new(&record.subject, &artifact.digest);
            out.plain("    path: ", path);
        }
    }
    out.list("entries:", manifest.entries.is_empty());
    for entry in &manifest.entries {
        out.plain("- path: ", &entry.path);
        out.plain("  size: ", entry.size);
        out.text("  sha256: ", entry.sha256.encoded());
        if entry.base {
            out.plain("  base: ", "true");
        }
    }
}

struct Lines<'a, O> {
    out: &'a mut O,
    line: String,
}

impl<O: Out> Lines<'_, O> {
    /// Writes a line whose value YAML reads as what it is: a number, a digest, a path or a fixed
    /// word.
    fn plain(&mut self, key: &str, value: impl Display) {
        self.line.clear();
        // Writing into a string cannot fail.
        let written = writeln!(self.line, "{key}{value}");
        debug_assert!(written.is_ok());
        self.out.put(&self.line);
    }

    /// Writes a line whose value comes from elsewhere.
    fn text(&mut self, key: &str, value: &str) {
        self.line.clear();
        self.line.push_str(key);
        if is_plain(value) {
            self.line.push_str(value)
        } else {
            quote(value, &mut self.line)
        }
        self.line.push('\n');
        self.out.put(&self.line);
    }

    fn list(&mut self, key: &str, empty: bool) {
        self.empty_or(key, " []", empty);
    }

    fn empty_or(&mut self, key: &str, mark: &str, empty: bool) {
        self.plain(key, if empty { mark } else { "" });
    }
}

/// The text by which scripts find the counts; only their key may contain it.
const COUNTS_KEY: &str = "referrers:";

/// Returns whether a value stands without quotes: every YAML reader, of version 1.1 or 1.2, reads
/// it as this string.
fn is_plain(value: &str) -> bool {
    let bytes = value.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    let word = |b: &u8| b.is_ascii_alphanumeric() || b"._/+@:-".contains(b);
    // No number, date or time of any YAML version has a slash; a hex digest is told apart by its
    // length.
    let starts_like_text = first.is_ascii_alphabetic()
        || (first.is_ascii_digit() && (value.contains('/') || is_hex_digest(value)));
    const RESERVED: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    bytes.iter().all(word)
        && starts_like_text
        && *last != b':'
        && !value.contains(COUNTS_KEY)
        && !RESERVED.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Returns whether a value is a SHA-256 in hex that cannot be read as a decimal or exponential
/// number.
fn is_hex_digest(value: &str) -> bool {
    let (digits, rest) = value.split_at(
        value
            .bytes()
            .position(|b| !b.is_ascii_digit())
            .unwrap_or(value.len()),
    );
    let exponent = rest
        .strip_prefix('e')
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    digits.len() < value.len() && !exponent && value.len() == 64 && value.bytes().all(hex)
}

/// Writes a double-quoted scalar of printable ASCII.
fn quote(value: &str, line: &mut String) {
    line.push('"');
    let mut rest = value;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(COUNTS_KEY) {
            line.push_str("referrers\\x3a");
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        let code = u32::from(c);
        let written = match c {
            '"' | '\\' => write!(line, "\\{c}"),
            ' '..='~' => write!(line, "{c}"),
            _ if code <= 0xff => write!(line, "\\x{code:02x}"),
            _ if code <= 0xffff => write!(line, "\\u{code:04x}"),
            _ => write!(line, "\\U{code:08x}"),
        };
        debug_assert!(written.is_ok());
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_exactly_where_yaml_would_read_something_else() {
        let hex = "0".repeat(63);
        for (value, encoded) in [
            (
                "application/vnd.cyclonedx+json",
                "application/vnd.cyclonedx+json",
            ),
            ("127.0.0.1:5000/app:1.0", "127.0.0.1:5000/app:1.0"),
            ("a:b@c", "a:b@c"),
            ("nothing", "nothing"),
            (&format!("{hex}a"), &format!("{hex}a")),
            (&format!("{hex}0"), &format!("\"{hex}0\"")),
            (&format!("{}e1", &hex[1..]), &format!("\"{}e1\"", &hex[1..])),
            ("", "\"\""),
            ("1.0", "\"1.0\""),
            ("2024-01-01", "\"2024-01-01\""),
            ("0x10", "\"0x10\""),
            ("No", "\"No\""),
            ("y", "\"y\""),
            ("NULL", "\"NULL\""),
            ("~", "\"~\""),
            (".inf", "\".inf\""),
            ("- a", "\"- a\""),
            ("a: b", "\"a: b\""),
            ("a:", "\"a:\""),
            ("a #b", "\"a #b\""),
            ("*a", "\"*a\""),
            ("a\nb", "\"a\\x0ab\""),
            ("a\"\\b", "\"a\\\"\\\\b\""),
            ("\u{7f}\u{85}\u{a0}", "\"\\x7f\\x85\\xa0\""),
            ("\u{202e}\u{feff}", "\"\\u202e\\ufeff\""),
            ("\u{1f980}", "\"\\U0001f980\""),
            ("a.b/referrers:1", "\"a.b/referrers\\x3a1\""),
            ("referrers:referrers:", "\"referrers\\x3areferrers\\x3a\""),
        ] {
            let mut line = String::new();
            if is_plain(value) {
                line.push_str(value)
            } else {
                quote(value, &mut line)
            }
            assert_eq!(line, encoded);
        }
    }
}
