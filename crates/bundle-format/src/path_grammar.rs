//! The spelling of names and paths, independent of what they name.

/// The path of `manifest.yaml`.
pub(crate) const MANIFEST: &str = "manifest.yaml";
/// The path of the signature over `manifest.yaml`.
pub(crate) const SIGNATURE: &str = "manifest.yaml.sigstore.json";
/// The path of the layout marker.
pub(crate) const OCI_LAYOUT: &str = "oci-layout";
/// The path of the layout's index.
pub(crate) const INDEX: &str = "index.json";

/// Returns whether a text is at most 64 of `a-z`, `0-9`, `.`, `_` and `-`, and begins with a letter
/// or a digit.
pub(crate) fn is_short_name(text: &str) -> bool {
    const MAX_BYTES: usize = 64;
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= MAX_BYTES
        && bytes.first().is_some_and(|b| word(*b))
        && bytes.iter().all(|b| word(*b) || b"._-".contains(b))
}

/// Returns whether a path is valid and means the same on every system.
pub(crate) fn is_portable(path: &str) -> bool {
    const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];
    let part = |part: &str| {
        let stem = part
            .split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.ends_with(['.', ' '])
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-+@ ".contains(&b))
            && !RESERVED.contains(&stem)
    };
    const MAX_BYTES: usize = 255;
    path.len() <= MAX_BYTES && path.split('/').all(part)
}

/// Cuts hostile text before it goes into an error; `{:?}` at the place of use escapes it.
pub(crate) fn clip(text: &str) -> String {
    const MAX_CHARS: usize = 160;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
