use mirror_plan::TagPattern;

/// Reads a regular expression of Go that means the same here, or says what differs.
pub(super) fn same_here(pattern: &str) -> Result<TagPattern, String> {
    check(pattern).map_err(|why| format!("{pattern:?}: {why}"))?;
    compiled(pattern)
}

fn compiled(pattern: &str) -> Result<TagPattern, String> {
    pattern
        .parse()
        .map_err(|error: mirror_plan::TagPatternError| error.to_string())
}

fn check(pattern: &str) -> Result<(), String> {
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let mut used = c.len_utf8();
        match c {
            '\\' => {
                let escaped = after.chars().next();
                if let Some(escaped @ ('Q' | 'C' | '<' | '>')) = escaped {
                    return Err(format!("\\{escaped} has no counterpart"));
                }
                if after.starts_with("b{") {
                    return Err("\\b{ has another meaning".into());
                }
                used += escaped.map_or(0, char::len_utf8);
            }
            '[' if !in_class => {
                in_class = true;
                // A bracket at the start of a class belongs to it.
                used += usize::from(after.starts_with('^'));
                used += usize::from(rest[used..].starts_with(']'));
            }
            ']' => in_class = false,
            '[' if after.starts_with(':') => {
                used = rest.find(":]").map_or(used, |end| end + 2);
            }
            '[' => return Err("[ within a class has another meaning".into()),
            '&' | '-' | '~' if in_class && after.starts_with(c) => {
                return Err(format!("{c}{c} within a class has another meaning"));
            }
            '{' if !in_class && !is_repetition(after) => {
                return Err("a { that does not repeat has to be written \\{".into());
            }
            '(' if !in_class && after.starts_with('?') => {
                let flags = after[1..].split([':', ')', '<']).next().unwrap_or_default();
                if !after.starts_with("?P") && flags.contains(['x', 'R', 'u']) {
                    return Err(format!("(?{flags} has no counterpart"));
                }
            }
            _ => {}
        }
        rest = &rest[used..];
    }
    Ok(())
}

/// Returns one pattern that matches what any of `patterns` matches, where each is anchored as regsync anchors it: by putting
/// `^` before it and `$` behind it, so that `a|b` is `^a|b$`.
pub(super) fn anchored(patterns: &[&str]) -> Result<String, String> {
    for pattern in patterns {
        same_here(pattern)?;
    }
    let joined = if patterns.iter().all(|pattern| is_plain(pattern)) {
        let bare: Vec<&str> = patterns.iter().map(|pattern| bare(pattern)).collect();
        match bare.as_slice() {
            [one] => format!("^{one}$"),
            many => format!("^(?:{})$", many.join("|")),
        }
    } else {
        // Groups keep alternatives and flags of one pattern from the next.
        let each: Vec<String> = patterns.iter().map(|p| format!("(?:^{p}$)")).collect();
        each.join("|")
    };
    compiled(&joined)?;
    Ok(joined)
}

/// Returns whether a pattern has neither alternatives nor flags, which an enclosing group would change.
fn is_plain(pattern: &str) -> bool {
    !pattern.contains(['|', '^']) && !pattern.contains("(?")
        || (pattern.starts_with('^') && is_plain(&pattern[1..]))
}

/// Takes anchors away that are there already.
fn bare(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    match pattern.strip_suffix('$') {
        Some(bare) if !bare.ends_with('\\') => bare,
        _ => pattern,
    }
}

/// Returns whether what follows a `{` makes it a repetition.
fn is_repetition(after: &str) -> bool {
    let Some((range, _)) = after.split_once('}') else {
        return false;
    };
    let (from, to) = range.split_once(',').unwrap_or((range, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !from.is_empty() && digits(from) && digits(to)
}

/// Returns the glob that matches the repositories that a pattern matches as a whole; `None` if there is none.
pub(super) fn glob(pattern: &str) -> Option<String> {
    let mut glob = String::new();
    let mut rest = bare(pattern);
    while let Some(c) = rest.chars().next() {
        let (text, used) = match c {
            _ if rest.starts_with(".*") => ("**", 2),
            // A repository's name does not end with a slash.
            _ if rest == ".+" && glob.ends_with('/') => ("**", 2),
            _ if rest.starts_with("[^/]*") => ("*", 5),
            _ if rest == "[^/]+" && glob.ends_with('/') => ("*", 5),
            '\\' if rest[1..].starts_with(['.', '-', '/', '_']) => (&rest[1..2], 2),
            'a'..='z' | '0'..='9' | '/' | '-' | '_' => (&rest[..1], 1),
            _ => return None,
        };
        glob.push_str(text);
        rest = &rest[used..];
    }
    (!glob.is_empty()).then_some(glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_one_anchored_pattern() {
        for (patterns, expected) in [
            (&["latest"][..], "^latest$"),
            (&["^v1\\.\\d+$"], "^v1\\.\\d+$"),
            (&["3", "3.\\d+"], "^(?:3|3.\\d+)$"),
            // What regsync makes of alternatives is kept, surprising as it is.
            (&["v1|v2"], "(?:^v1|v2$)"),
            (&["(?i)LTS", "stable"], "(?:^(?i)LTS$)|(?:^stable$)"),
            (&["price\\$"], "^price\\$$"),
        ] {
            let pattern = anchored(patterns).unwrap();
            assert_eq!(pattern, expected);
            let ours = compiled(&pattern).unwrap();
            let theirs: Vec<TagPattern> = patterns
                .iter()
                .map(|pattern| compiled(&format!("^{pattern}$")).unwrap())
                .collect();
            for tag in [
                "latest", "v1.2", "v1", "v1-x", "x-v2", "3", "3.14", "33", "lts", "STABLE",
                "stable", "price$",
            ] {
                let wanted = theirs.iter().any(|theirs| theirs.is_found_in(tag));
                assert_eq!(ours.is_found_in(tag), wanted, "{pattern} on {tag}");
            }
        }
    }

    #[test]
    fn patterns_that_mean_something_else_here_are_refused() {
        for (pattern, reason) in [
            ("\\Qa.b\\E", "\\Q"),
            ("[a-z&&x]", "&&"),
            ("[[a]", "["),
            ("v{1", "{"),
            ("a{,3}", "{"),
            ("(?x)a b", "(?x"),
            ("\\<v1", "\\<"),
            ("(unclosed", "unclosed"),
            ("(?=look)", "look"),
        ] {
            let error = same_here(pattern).unwrap_err();
            assert!(error.contains(reason), "{pattern}: {error}");
        }
        for pattern in [
            "v\\d{1,3}",
            "[[:digit:]]+",
            "[^]a]",
            "[]a]",
            "(?i:rc)",
            "(?P<v>x)",
            "a\\{b",
        ] {
            same_here(pattern).unwrap();
        }
    }

    #[test]
    fn a_pattern_of_repositories_becomes_a_glob_or_nothing() {
        for (pattern, expected) in [
            ("team/.*", Some("team/**")),
            ("team/.+", Some("team/**")),
            ("^team/[^/]+$", Some("team/*")),
            ("library/alpine", Some("library/alpine")),
            ("my\\.repo", Some("my.repo")),
            ("(a|b)/.*", None),
            ("team/.", None),
            ("team/x+", None),
        ] {
            assert_eq!(glob(pattern).as_deref(), expected, "{pattern}");
        }
    }
}
