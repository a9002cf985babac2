use std::borrow::Cow;
use std::error::Error;

/// The longest foreign text that a message or a report quotes, in characters: the value of a
/// header, the message of an error, the path of a redirect. Members of a manifest are data and are
/// never cut in documents for programs.
pub const MAX_FOREIGN_CHARS: usize = 256;

/// The longest message that contains such texts, in characters: a last line of defence for
/// everything that builds messages.
pub const MAX_MESSAGE_CHARS: usize = 1024;

/// Cuts a text to `max_chars` characters, the last of which is `…` if something was cut off.
///
/// ```
/// assert_eq!(oci_content::bounded("größer", 4), "grö…");
/// assert_eq!(oci_content::bounded("groß", 4), "groß");
/// ```
pub fn bounded(text: &str, max_chars: usize) -> Cow<'_, str> {
    if text.char_indices().nth(max_chars).is_none() {
        return Cow::Borrowed(text);
    }
    let kept = text.char_indices().nth(max_chars.saturating_sub(1));
    let end = kept.map_or(text.len(), |(end, _)| end);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Returns the text of an error followed by those of its causes, separated by colons, for a report
/// or a log line.
///
/// A cause is left out if the text before it already ends in it; each is cut to
/// [`MAX_MESSAGE_CHARS`].
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        let said = bounded(&said, MAX_MESSAGE_CHARS);
        if !text.ends_with(&*said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// Cuts a foreign name or digest before it goes into an error, where `{:?}` escapes it.
pub(crate) fn clip(text: &str) -> String {
    const MAX_CHARS: usize = 161;
    bounded(text, MAX_CHARS).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_only_once() {
        for text in [
            "é".repeat(300),
            "x".repeat(4 << 20),
            "👩‍👩‍👧\u{202e}\0".repeat(90),
        ] {
            let cut = bounded(&text, MAX_FOREIGN_CHARS);
            assert_eq!(cut.chars().count(), MAX_FOREIGN_CHARS);
            assert!(cut.ends_with('…'));
            assert_eq!(bounded(&cut, MAX_FOREIGN_CHARS), cut);
        }
        for text in ["", "x", &"é".repeat(256)] {
            assert_eq!(bounded(text, MAX_FOREIGN_CHARS), text);
        }
        assert_eq!(bounded("xyz", 1), "…");
        assert_eq!(bounded("xyz", 0), "…");
    }
}
