use crate::exit::{Exit, Failure};
use crate::render::foreign;

/// The keys of configurations and policies. Only the values of these are shown: none of them holds a secret, while an unknown
/// key may be a misspelled one that does.
const KNOWN: &[&str] = &[
    "artifact_type",
    "audit",
    "base",
    "bundle",
    "bytes_per_second",
    "ca_file",
    "category",
    "center",
    "cert",
    "client_ca",
    "client_cert",
    "cron",
    "deny",
    "except",
    "exclude",
    "export",
    "full_every",
    "images",
    "import",
    "insecure_skip_verify",
    "jitter_seconds",
    "jobs",
    "keep",
    "keep_host",
    "listen",
    "log_file",
    "map",
    "max_age",
    "max_concurrent_discoveries",
    "max_in_flight",
    "max_prune",
    "min",
    "name",
    "newest",
    "oci",
    "on",
    "order",
    "output",
    "per",
    "plain_http",
    "platforms",
    "policy",
    "prune",
    "reference",
    "referrer_discovery",
    "referrers_api",
    "regex",
    "registries",
    "registry",
    "repair",
    "repositories",
    "repository",
    "requests_per_second",
    "require",
    "require_sequence",
    "required",
    "rules",
    "schedule",
    "semver",
    "signed",
    "state",
    "stream",
    "tags",
    "target",
    "tenant",
    "time_zone",
    "timeout_seconds",
    "tls",
    "to",
    "tokens",
    "undated",
    "unused",
    "version",
    "volume_size",
    "window",
];
const HIDDEN: &str = "***";
/// How many characters of a line are shown.
const MAX_CHARS: usize = 160;

/// Describes an error in a YAML file, with the line and a caret below the column, both counted from 1.
pub(crate) fn failure(file: &str, yaml: &str, place: Option<(u64, u64)>, reason: &str) -> Failure {
    let quoted = place.and_then(|(line, column)| Quoted::new(yaml, line, column));
    let (reason, quote) = match quoted {
        Some(quoted) => (quoted.without_secrets(reason), quoted.lines()),
        None => (reason.to_owned(), Vec::new()),
    };
    Failure::new(Exit::Usage, format!("{file}: {}", foreign(&reason))).quoting(quote)
}

/// Returns a file that could be parsed without comments, without values that may be secret, and without logins in keys.
pub(crate) fn without_secrets(yaml: &str) -> String {
    masked(yaml, |part| part.is_secret)
}

/// Returns a file without comments and values, with the keys that it seems to have.
pub(crate) fn without_values(yaml: &str) -> String {
    masked(yaml, |part| part.is_secret || part.is_value)
}

fn masked(yaml: &str, is_hidden: impl Fn(&Part<'_>) -> bool) -> String {
    let lines: Vec<&str> = yaml.trim_start_matches('\u{feff}').lines().collect();
    let mut out = String::new();
    for (at, line) in lines.iter().enumerate() {
        for part in parts(line, key_above(&lines[..at], line)) {
            if is_hidden(&part) && !part.text.trim().is_empty() {
                out.push_str(HIDDEN);
            } else {
                out.push_str(&crate::log::escape(part.text));
            }
        }
        out.push('\n');
    }
    out
}

/// One line of a file, with secrets hidden.
struct Quoted {
    number: String,
    shown: String,
    /// Where the caret goes, in characters of the shown text.
    caret: usize,
    hidden: Vec<String>,
}

impl Quoted {
    fn new(yaml: &str, line: u64, column: u64) -> Option<Self> {
        let (place, column) = (
            usize::try_from(line).ok()?.checked_sub(1)?,
            usize::try_from(column).ok()?.saturating_sub(1),
        );
        // A byte order mark takes no column.
        let lines: Vec<&str> = yaml.trim_start_matches('\u{feff}').lines().collect();
        let text = lines.get(place)?;
        // A value without a key on its line belongs to the key above.
        let parts = parts(text, key_above(&lines[..place], text));
        let (mut shown, mut caret, mut at) = (String::new(), None, 0);
        let mut hidden = Vec::new();
        for part in parts {
            let length = part.text.chars().count();
            let inside = (at..at + length).contains(&column);
            if part.is_secret {
                if inside {
                    caret = Some(shown.chars().count());
                }
                shown.push_str(HIDDEN);
                hidden.push(part.text.trim().to_owned());
            } else {
                for (offset, c) in part.text.chars().enumerate() {
                    if at + offset == column {
                        caret = Some(shown.chars().count());
                    }
                    match c {
                        '\t' => shown.push(' '),
                        c => shown.push_str(&crate::log::escape(c.encode_utf8(&mut [0; 4]))),
                    }
                }
            }
            at += length;
        }
        let caret = caret.unwrap_or(shown.chars().count());
        // Lines after a multi-line secret belong to it, and the reason may quote them.
        let following = lines[place..].iter().skip(1).take(64);
        if !hidden.is_empty() {
            hidden.extend(following.map(|line| line.trim().to_owned()));
        }
        Some(Self {
            number: line.to_string(),
            shown,
            caret,
            hidden,
        })
    }

    fn without_secrets(&self, reason: &str) -> String {
        let mut reason = reason.to_owned();
        for secret in &self.hidden {
            let bare = secret.trim_matches(['"', '\'', '-', ' ', '|', '>', ',']);
            for text in [secret.as_str(), bare] {
                if text.chars().count() > 2
                    || (!text.is_empty() && reason.contains(&format!("`{text}`")))
                {
                    reason = reason.replace(text, HIDDEN);
                }
            }
        }
        reason
    }

    fn lines(&self) -> Vec<String> {
        let margin = " ".repeat(self.number.len());
        // Of a long line, only the part around the caret is shown.
        let start = self.caret.saturating_sub(MAX_CHARS / 2);
        let shown: String = self.shown.chars().skip(start).take(MAX_CHARS).collect();
        let caret = " ".repeat(self.caret - start);
        vec![
            format!("{margin} |"),
            format!("{} | {}", self.number, shown.trim_end()),
            format!("{margin} | {caret}^"),
        ]
    }
}

/// A piece of a line, verbatim.
struct Part<'a> {
    text: &'a str,
    is_secret: bool,
    /// Whether it is a scalar that is not a key.
    is_value: bool,
}

/// Splits a line into values, keys, and everything else. Values before any key belong to `above`. The pieces together are the
/// line.
fn parts<'a>(line: &'a str, above: &'a str) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut keys = vec![above];
    let mut rest = line;
    while !rest.is_empty() {
        let in_flow = keys.len() > 1;
        let key = keys.last().copied().unwrap_or(above);
        let lead = rest.len() - rest.trim_start_matches([' ', '\t', ',', '?']).len();
        let lead = if rest[lead..].starts_with("- ") {
            lead + 2
        } else {
            lead
        };
        let mut is_value = false;
        let (end, is_secret) = match rest.as_bytes()[0] {
            _ if lead > 0 => (lead, false),
            b'{' | b'[' => {
                keys.push(key);
                (1, false)
            }
            b'}' | b']' => {
                if in_flow {
                    keys.pop();
                }
                (1, false)
            }
            b'#' => (rest.len(), true),
            _ => {
                let end = scalar(rest, in_flow).max(1);
                let (text, left) = rest.split_at(end);
                let after = left.trim_start();
                let is_key = after.strip_prefix(':').is_some_and(|value| {
                    value.is_empty() || value.starts_with([' ', '\t', '{', '['])
                });
                if is_key {
                    if let Some(own) = keys.last_mut() {
                        *own = bare(text);
                    }
                    parts.push(Part {
                        text,
                        is_secret: has_login(text),
                        is_value,
                    });
                    rest = left;
                    (left.len() - after.len() + 1, false)
                } else {
                    is_value = true;
                    (end, !KNOWN.contains(&key) || has_login(text))
                }
            }
        };
        let (text, left) = rest.split_at(end);
        parts.push(Part {
            text,
            is_secret,
            is_value,
        });
        rest = left;
    }
    parts
}

fn bare(key: &str) -> &str {
    key.trim().trim_matches(['"', '\''])
}

/// Returns where a scalar ends: at its closing quote, before the colon of a key or a comment, in a flow collection also
/// before its delimiters, or at the end of the line.
fn scalar(text: &str, in_flow: bool) -> usize {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if let Some(quote) = quote {
            if at > 0 && c == quote && !escaped {
                return at + 1;
            }
            escaped = c == '\\' && !escaped;
            continue;
        }
        let next = text[at + c.len_utf8()..].chars().next();
        let ends_key = c == ':' && next.is_none_or(|next| matches!(next, ' ' | '\t'));
        let begins_comment = c == '#' && text[..at].ends_with([' ', '\t']);
        if ends_key || begins_comment || (in_flow && matches!(c, ',' | '}' | ']')) {
            return at;
        }
    }
    text.len()
}

/// Returns whether a key or a value contains a user and a password, as a URL can, with or without its scheme.
fn has_login(value: &str) -> bool {
    let (is_url, rest) = match value.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, value),
    };
    let host = rest.split('/').next().unwrap_or(rest);
    let login = host.split_once('@').map(|(login, _)| login);
    login.is_some_and(|login| is_url || login.contains(':'))
}

/// Returns the key for a value whose own line has no key; empty if there is none.
fn key_above<'a>(lines: &[&'a str], line: &str) -> &'a str {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let is_item = line.trim_start().starts_with("- ");
    let own = indent(line);
    for line in lines.iter().rev().filter(|line| !line.trim().is_empty()) {
        let is_owner = indent(line) < own || (is_item && indent(line) == own);
        let text = line.trim_start_matches([' ', '-']);
        let end = scalar(text, false);
        if is_owner && end < text.len() {
            return bare(&text[..end]);
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(yaml: &str, line: u64, column: u64) -> (String, usize) {
        let quoted = Quoted::new(yaml, line, column).unwrap();
        (quoted.shown, quoted.caret)
    }

    #[test]
    fn a_line_is_shown_with_a_caret_and_without_values_of_unknown_keys() {
        for (yaml, line, column, expected) in [
            (
                "export:\n  platforms: [linux]\n",
                2,
                15,
                ("  platforms: [linux]", 14),
            ),
            ("export:\n  passwrd: hunter2\n", 2, 3, ("  passwrd: ***", 2)),
            (
                "registries:\n  r.test: {token: abc, max_in_flight: x}\n",
                2,
                39,
                ("  r.test: {token: ***, max_in_flight: x}", 38),
            ),
            (
                "registries:\n  r.test: {pasword: \"a, b}\", max_in_flight: x}\n",
                2,
                11,
                ("  r.test: {pasword: ***, max_in_flight: x}", 10),
            ),
            ("password: |\n  hunter2\n  more: x\n", 2, 3, ("  ***", 2)),
            ("password:\n- hunter2\n", 2, 3, ("- ***", 2)),
            ("platforms:\n- linux\n", 2, 3, ("- linux", 2)),
            (
                "client_key: |\n  -----BEGIN PRIVATE KEY-----\n  MIIE\n",
                3,
                3,
                ("  ***", 2),
            ),
            (
                "reference: user:hunter2@r.test/a\n",
                1,
                12,
                ("reference: ***", 11),
            ),
            (
                "reference: https://user:hunter2@r.test/a\n",
                1,
                12,
                ("reference: ***", 11),
            ),
            (
                "reference: registry.test/a:1@sha256:00\n",
                1,
                12,
                ("reference: registry.test/a:1@sha256:00", 11),
            ),
            (
                "\"pass\u{1b}word\": 'hunter2\n",
                1,
                1,
                ("\"pass\\u{1b}word\": ***", 0),
            ),
            ("images: x # token abc\n", 1, 1, ("images: x ***", 0)),
            (
                "reference: :hunter2@r.test/a\n",
                1,
                12,
                ("reference: ***", 11),
            ),
            (
                "registries: {\"u:hunter2@r.test\": {}, q.test: {}}\n",
                1,
                14,
                ("registries: {***: {}, q.test: {}}", 13),
            ),
            (
                "registries:\n  u:hunter2@r.test:5000 : {max_in_flight: 1}\n",
                2,
                3,
                ("  ***: {max_in_flight: 1}", 2),
            ),
            (
                "https://u:hunter2@r.test:\n  plain_http: true\n",
                1,
                1,
                ("***:", 0),
            ),
        ] {
            assert_eq!(
                shown(yaml, line, column),
                (expected.0.to_owned(), expected.1),
                "{yaml}"
            );
        }
    }

    #[test]
    fn every_key_of_the_configuration_is_known_or_may_hold_a_secret() {
        let schema = crate::config::schema();
        let mut open = vec![(String::new(), schema)];
        let mut hidden = std::collections::BTreeSet::new();
        while let Some((name, schema)) = open.pop() {
            if !name.is_empty() && !KNOWN.contains(&name.as_str()) {
                hidden.insert(name);
            }
            let properties = schema["properties"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            open.extend(properties);
            let below = ["items", "additionalProperties"].map(|below| schema.get(below));
            let below = below
                .into_iter()
                .flatten()
                .filter(|below| below.is_object());
            open.extend(below.map(|below| (String::new(), below.clone())));
        }
        let hidden: Vec<_> = hidden.iter().map(String::as_str).collect();
        assert_eq!(
            hidden,
            ["client_key", "key", "notify", "secret", "sign_key", "url"]
        );
    }

    #[test]
    fn a_reason_that_quotes_a_secret_does_not() {
        for (yaml, line, column, reason) in [
            (
                "token: hunter2\n",
                1,
                8,
                "invalid type: string \"hunter2\", expected u64",
            ),
            ("token: 'hunter2'\n", 1, 8, "unknown variant `hunter2`"),
            ("token:\n  - hunter2\n", 2, 5, "unknown variant `hunter2`"),
            (
                "token: |\n  one\n  hunter2\n",
                1,
                8,
                "\"one\\nhunter2\\n\" is no registry",
            ),
            ("token: 42\n", 1, 8, "invalid type: integer `42`"),
        ] {
            let text = failure("c.yaml", yaml, Some((line, column)), reason).to_string();
            assert!(
                text.contains("***") && !text.contains("hunter2") && !text.contains("42"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_whole_file_is_shown_without_secrets_or_without_values() {
        let yaml = "# token abc\ncenter:\n  listen: 127.0.0.1:1 # hunter2\n  tokens: /etc/t\njobs:\n  j:\n    notify:\n    - {url: \"https://a.test/hunter2\", on: [failed]}\n";
        assert_eq!(
            without_secrets(yaml),
            "***\ncenter:\n  listen: 127.0.0.1:1 ***\n  tokens: /etc/t\njobs:\n  j:\n    notify:\n    - {url: ***, on: [failed]}\n"
        );
        let broken =
            "center:\n  state: hunter2\n  x: |\n    tenant: hunter2\n    -----BEGIN hunter2\n";
        let shown = without_values(broken);
        assert!(
            !shown.contains("hunter2") && shown.contains("tenant: ***"),
            "{shown}"
        );
    }

    #[test]
    fn a_long_line_is_shown_around_the_caret() {
        let yaml = format!("images: {}!{}\n", "x".repeat(5000), "y".repeat(5000));
        let lines = Quoted::new(&yaml, 1, 5009).unwrap().lines();
        let (shown, caret) = (&lines[1], &lines[2]);
        assert!(shown.chars().count() < 200, "{shown}");
        assert_eq!(shown.find('!'), caret.find('^'));
    }

    #[test]
    fn a_place_that_is_not_in_the_file_quotes_nothing() {
        for place in [None, Some((0, 0)), Some((9, 1)), Some((u64::MAX, u64::MAX))] {
            let failure = failure("c.yaml", "a: b\n", place, "it is wrong");
            assert_eq!(failure.to_string(), "c.yaml: it is wrong");
        }
        assert!(Quoted::new("a: b\n", 1, 99).is_some());
    }
}
