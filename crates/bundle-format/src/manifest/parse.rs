//! The strict reader: it reads line by line, then compares the bytes with the encoding of what it
//! read.

use std::collections::BTreeMap;
use std::str::FromStr;

use oci_content::{
    ArtifactCategory, ArtifactRecord, Capability, Completeness, Digest, DiscoveryMethod,
    DiscoveryRecord, ImageRecord, Missing, OmittedChild, SourceKind,
};

use super::emit::{Out, emit};
use super::{BundleManifest, EntryRecord, ManifestError, ManifestErrorKind, ReferrerTotals};
use crate::entry_path::EntryPath;
use crate::limits::Limits;
use crate::path_grammar::clip;

impl BundleManifest {
    /// Reads a manifest. Only the exact bytes that [`to_yaml`](Self::to_yaml) writes are accepted,
    /// so no two YAML readers can disagree about it.
    ///
    /// Of the limits, [`max_manifest_bytes`](Limits::max_manifest_bytes) applies.
    ///
    /// # Errors
    ///
    /// When the bytes are too long, of another version, not in the one encoding, or contradict
    /// themselves.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > limits.max_manifest_bytes {
            return Err(ManifestError::new(
                ManifestErrorKind::TooLarge,
                format!(
                    "{} bytes are more than the limit of {}",
                    bytes.len(),
                    limits.max_manifest_bytes
                ),
            ));
        }
        let mut lines = Lines {
            rest: bytes,
            number: 0,
        };
        let manifest = lines.manifest()?;
        let mut compare = Compare {
            expected: bytes,
            at: 0,
            differs: None,
        };
        emit(&manifest, &mut compare);
        if compare.at != bytes.len() {
            compare.differs.get_or_insert(compare.at);
        }
        if let Some(at) = compare.differs {
            let line = 1 + bytes[..at].iter().filter(|b| **b == b'\n').count() as u64;
            return Err(ManifestError::new(
                ManifestErrorKind::NotCanonical,
                "quoting, spacing or spelling is not the one that the format prescribes",
            )
            .at_line(line));
        }
        manifest.check()?;
        Ok(manifest)
    }
}

/// Compares the encoding with the bytes that were read, without a second copy of them.
struct Compare<'a> {
    expected: &'a [u8],
    at: usize,
    differs: Option<usize>,
}

impl Out for Compare<'_> {
    fn put(&mut self, text: &str) {
        if self.differs.is_some() {
            return;
        }
        if self.expected[self.at..].starts_with(text.as_bytes()) {
            self.at += text.len()
        } else {
            self.differs = Some(self.at)
        }
    }
}

struct Lines<'a> {
    rest: &'a [u8],
    number: u64,
}

impl<'a> Lines<'a> {
    /// Returns the next line without taking it; `None` at the end.
    fn peek(&self) -> Result<Option<&'a str>, ManifestError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let here = |reason: &str| {
            Err(ManifestError::new(ManifestErrorKind::Malformed, reason).at_line(self.number + 1))
        };
        let Some(end) = self.rest.iter().position(|b| *b == b'\n') else {
            return here("the last line does not end");
        };
        let line = &self.rest[..end];
        match std::str::from_utf8(line) {
            Ok(text) if line.iter().all(|b| (b' '..=b'~').contains(b)) => Ok(Some(text)),
            _ => here("it has characters other than printable ASCII"),
        }
    }

    fn advance(&mut self, line: &str) {
        self.rest = &self.rest[line.len() + 1..];
        self.number += 1;
    }

    fn fail<T>(&self, kind: ManifestErrorKind, reason: String) -> Result<T, ManifestError> {
        Err(ManifestError::new(kind, reason).at_line(self.number))
    }

    /// Takes the next line, if it starts with `key`, and returns what follows.
    fn optional(&mut self, key: &str) -> Result<Option<&'a str>, ManifestError> {
        let Some(line) = self.peek()? else {
            return Ok(None);
        };
        let value = line.strip_prefix(key);
        if value.is_some() {
            self.advance(line);
        }
        Ok(value)
    }

    /// Takes the next line, which must start with `key`, and returns what follows.
    fn required(&mut self, key: &str) -> Result<&'a str, ManifestError> {
        if let Some(value) = self.optional(key)? {
            return Ok(value);
        }
        let found = match self.peek()? {
            Some(line) => format!("{:?}", clip(line)),
            None => "the end".to_owned(),
        };
        self.number += 1;
        self.fail(
            ManifestErrorKind::Malformed,
            format!("{:?} is expected, {found} is there", key.trim_end()),
        )
    }

    fn text(&mut self, key: &str) -> Result<String, ManifestError> {
        let value = self.required(key)?;
        self.unquote(value)
    }

    fn unquote(&self, value: &str) -> Result<String, ManifestError> {
        unquote(value).or_else(|reason| self.fail(ManifestErrorKind::Malformed, reason.to_owned()))
    }

    /// Reads a value that is a string of its own type.
    fn value<T: FromStr<Err: ToString>>(&mut self, key: &str) -> Result<T, ManifestError> {
        let text = self.text(key)?;
        self.parsed(&text)
    }

    fn parsed<T: FromStr<Err: ToString>>(&self, text: &str) -> Result<T, ManifestError> {
        text.parse()
            .or_else(|error: T::Err| self.fail(ManifestErrorKind::Malformed, error.to_string()))
    }

    fn number(&mut self, key: &str) -> Result<u64, ManifestError> {
        let value = self.required(key)?;
        if value.bytes().all(|b| b.is_ascii_digit()) {
            self.parsed(value)
        } else {
            self.fail(
                ManifestErrorKind::Malformed,
                format!("{:?} is not a number", clip(value)),
            )
        }
    }

    fn word<T>(&mut self, key: &str, find: fn(&str) -> Option<T>) -> Result<T, ManifestError> {
        let value = self.required(key)?;
        self.known_word(value, find)
    }

    fn known_word<T>(&self, value: &str, find: fn(&str) -> Option<T>) -> Result<T, ManifestError> {
        match find(value) {
            Some(word) => Ok(word),
            None => self.fail(
                ManifestErrorKind::Malformed,
                format!("{:?} is not known here", clip(value)),
            ),
        }
    }

    /// Takes the line that opens a list, and returns whether items follow.
    fn opens(&mut self, key: &str, empty: &str) -> Result<bool, ManifestError> {
        match self.required(key)? {
            "" => Ok(true),
            value if value == empty => Ok(false),
            value => self.fail(
                ManifestErrorKind::Malformed,
                format!("{:?} does not open a list", clip(value)),
            ),
        }
    }

    fn manifest(&mut self) -> Result<BundleManifest, ManifestError> {
        let format = self.required("format: ")?;
        if format != BundleManifest::FORMAT {
            let reason = match format.strip_prefix("stellaops-mirror-bundle/v") {
                Some(_) => format!("{:?} needs a newer release of stellaops", clip(format)),
                None => format!("{:?} is not a format of a bundle", clip(format)),
            };
            return self.fail(ManifestErrorKind::Version, reason);
        }
        let stream = self.value("stream: ")?;
        let sequence = self.number("sequence: ")?;
        let mut manifest = BundleManifest::new(stream, sequence);
        if let Some(created) = self.optional("created: ")? {
            let created = self.unquote(created)?;
            manifest.created = Some(self.parsed(&created)?);
        }
        if let Some(base) = self.optional("base: ")? {
            manifest.base = Some(self.parsed(base)?);
        }
        manifest.referrers = self.totals()?;
        if self.opens("images:", " []")? {
            while let Some(reference) = self.optional("- reference: ")? {
                let image = self.image(reference)?;
                manifest.graph.images.push(image);
            }
        }
        if self.opens("discovery:", " []")? {
            while let Some(repository) = self.optional("- repository: ")? {
                let record = self.discovery(repository)?;
                manifest.graph.discovery.push(record);
            }
        }
        if self.opens("entries:", " []")? {
            while let Some(path) = self.optional("- path: ")? {
                let entry = self.entry(path)?;
                manifest.entries.push(entry);
            }
        }
        match self.peek()? {
            None => Ok(manifest),
            Some(line) => {
                self.number += 1;
                self.fail(
                    ManifestErrorKind::Malformed,
                    format!("the end is expected, {:?} is there", clip(line)),
                )
            }
        }
    }

    fn totals(&mut self) -> Result<ReferrerTotals, ManifestError> {
        // The line has no value, so what follows the key is compared at the end.
        self.required("referrers:")?;
        let total = self.number("  total: ")?;
        let subjects = self.number("  subjects: ")?;
        let bare_images = self.number("  bare_images: ")?;
        let status = self.word("  status: ", Completeness::from_word)?;
        let mut by_category = BTreeMap::new();
        if self.opens("  by_category:", " {}")? {
            while let Some(line) = self.optional("    ")? {
                let (category, count) = line.split_once(": ").unwrap_or((line, ""));
                let category = self.known_word(category, ArtifactCategory::from_name)?;
                by_category.insert(category, self.parsed(count)?);
            }
        }
        Ok(ReferrerTotals {
            total,
            subjects,
            bare_images,
            status,
            by_category,
        })
    }

    fn image(&mut self, reference: &str) -> Result<ImageRecord, ManifestError> {
        let reference = self.unquote(reference)?;
        let reference = self.parsed(&reference)?;
        let digest = self.value("  digest: ")?;
        let media_type = self.text("  media_type: ")?;
        let size = self.number("  size: ")?;
        let mut image = ImageRecord::new(reference, digest, media_type, size);
        if self.opens("  omitted:", " []")? {
            while let Some(digest) = self.optional("  - digest: ")? {
                let digest = self.parsed(digest)?;
                let reason = self.text("    reason: ")?;
                image.omitted.push(OmittedChild::new(digest, reason));
            }
        }
        Ok(image)
    }

    fn discovery(&mut self, repository: &str) -> Result<DiscoveryRecord, ManifestError> {
        let repository = self.unquote(repository)?;
        let repository = self.parsed(&repository)?;
        let subject: Digest = self.value("  subject: ")?;
        let capability = self.word("  capability: ", Capability::from_word)?;
        let method = self.word("  method: ", DiscoveryMethod::from_word)?;
        let status = self.word("  status: ", Completeness::from_word)?;
        let mut record = DiscoveryRecord::new(repository, subject, capability, method);
        record.status = status;
        if self.opens("  missing:", " []")? {
            while let Some(code) = self.optional("  - code: ")? {
                let mut missing = Missing::new(self.unquote(code)?);
                if let Some(digest) = self.optional("    digest: ")? {
                    missing.digest = Some(self.parsed(digest)?);
                }
                if let Some(source) = self.optional("    source: ")? {
                    missing.source = Some(self.unquote(source)?);
                }
                record.missing.push(missing);
            }
        }
        if self.opens("  artifacts:", " []")? {
            while let Some(digest) = self.optional("  - digest: ")? {
                let artifact = self.artifact(&record.subject, digest)?;
                record.artifacts.push(artifact);
            }
        }
        Ok(record)
    }

    fn artifact(
        &mut self,
        subject: &Digest,
        digest: &str,
    ) -> Result<ArtifactRecord, ManifestError> {
        let digest: Digest = self.parsed(digest)?;
        let artifact_type = match self.optional("    artifact_type: ")? {
            Some(artifact_type) => Some(self.unquote(artifact_type)?),
            None => None,
        };
        let media_type = self.text("    media_type: ")?;
        let size = self.number("    size: ")?;
        let category = self.word("    category: ", ArtifactCategory::from_name)?;
        let mut sources = Vec::new();
        if self.opens("    sources:", " []")? {
            while let Some(source) = self.optional("    - ")? {
                sources.push(self.known_word(source, SourceKind::from_word)?);
            }
        }
        let tag = match self.optional("    tag: ")? {
            Some(tag) => {
                let tag = self.unquote(tag)?;
                Some(self.parsed(&tag)?)
            }
            None => None,
        };
        let path: EntryPath = self.value("    path: ")?;
        if EntryPath::referrer(subject, &digest).is_ok_and(|named| named != path) {
            let reason = format!("artifact {digest} of {subject} has the path {path}");
            return self.fail(ManifestErrorKind::Inconsistent, reason);
        }
        let mut artifact = ArtifactRecord::new(digest, artifact_type, media_type, size);
        artifact.category = category;
        artifact.sources = sources;
        artifact.tag = tag;
        Ok(artifact)
    }

    fn entry(&mut self, path: &str) -> Result<EntryRecord, ManifestError> {
        let path: EntryPath = self.parsed(path)?;
        let size = self.number("  size: ")?;
        let encoded = self.text("  sha256: ")?;
        let mut sha256 = self.parsed(&format!("sha256:{encoded}"))?;
        if let Some(named) = path.digest()
            && *named == sha256
        {
            sha256 = named.clone();
        }
        let mut entry = EntryRecord::new(path, size, sha256);
        if let Some(base) = self.optional("  base: ")? {
            entry.base = base == "true";
        }
        Ok(entry)
    }
}

/// Reads a scalar; the comparison at the end checks whether it had to be quoted.
fn unquote(value: &str) -> Result<String, &'static str> {
    let Some(inner) = value.strip_prefix('"') else {
        return Ok(value.to_owned());
    };
    let inner = inner
        .strip_suffix('"')
        .ok_or("the quotation mark is not closed")?;
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find(['\\', '"']) {
        text.push_str(&rest[..at]);
        let escape = rest[at..].strip_prefix('\\');
        let escape = escape.ok_or("a quotation mark stands inside quotation marks")?;
        let letter = escape.chars().next().ok_or("an escape does not end")?;
        rest = &escape[letter.len_utf8()..];
        let digits = match letter {
            '"' | '\\' => {
                text.push(letter);
                continue;
            }
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err("this escape is not used"),
        };
        let (code, after) = rest
            .split_at_checked(digits)
            .ok_or("an escape does not end")?;
        let c = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
        text.push(c.ok_or("an escape names no character")?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}
