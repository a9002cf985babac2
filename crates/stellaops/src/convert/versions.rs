use semver::VersionReq;

/// A version requirement of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    pub(super) text: String,
    /// Whether it names a pre-release, which the peers take as permission to select those of other versions too.
    pub(super) has_prerelease: bool,
}

/// Translates a constraint of Masterminds' semver 3, as skopeo has it: one requirement for each alternative.
///
/// - `1.2` is `=1.2`; `=>`, `=<` and `~>` are other spellings; `1.2 - 1.4` is `>=1.2, <=1.4`.
/// - `~0.0.0` takes every version.
/// - `!=` has no counterpart.
pub(super) fn masterminds(constraint: &str) -> Result<Vec<Requirement>, String> {
    constraint.split("||").map(masterminds_group).collect()
}

fn masterminds_group(group: &str) -> Result<Requirement, String> {
    let mut comparators: Vec<(String, Partial)> = Vec::new();
    let spaced = group.replace(',', " ");
    let mut rest = spaced.trim();
    let mut hyphen = false;
    while !rest.is_empty() {
        let operator_end = rest
            .find(|c| !matches!(c, '=' | '!' | '<' | '>' | '~' | '^'))
            .unwrap_or(rest.len());
        let (operator, after) = rest.split_at(operator_end);
        let after = after.trim_start();
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let (version, left) = after.split_at(end);
        rest = left.trim_start();
        if operator.is_empty() && version == "-" && !comparators.is_empty() && !hyphen {
            hyphen = true;
            if let Some((first, _)) = comparators.last_mut() {
                *first = ">=".into();
            }
            continue;
        }
        let operator = if std::mem::take(&mut hyphen) {
            "<="
        } else {
            operator
        };
        comparators.push((operator.to_owned(), Partial::parse(version)?));
    }
    if hyphen {
        return Err("a range without an end".into());
    }
    let mut texts = Vec::new();
    let mut has_prerelease = false;
    for (operator, version) in &comparators {
        has_prerelease |= !version.prerelease.is_empty();
        let operator = match operator.as_str() {
            "" | "=" => "=",
            "=>" => ">=",
            "=<" => "<=",
            "~>" => "~",
            same @ (">" | "<" | ">=" | "<=" | "~" | "^") => same,
            "!=" => return Err("!= has no counterpart".into()),
            other => return Err(format!("{other:?} is not an operator")),
        };
        match (operator, version.parts.as_slice()) {
            ("=" | "~" | "^" | ">=", []) => {}
            (operator, []) => return Err(format!("{operator} without a version")),
            ("~", [0, 0, 0]) => texts.push(">=0.0.0".to_owned()),
            (operator, _) => texts.push(format!("{operator}{version}")),
        }
    }
    requirement(texts, has_prerelease)
}

/// Translates a constraint of regsync: comparators with spaces between them, all of which must hold.
///
/// Missing parts are zeros, so `=1.2` is `=1.2.0`, and `~1` is below `1.1.0`.
pub(super) fn regsync(constraint: &str) -> Result<Requirement, String> {
    let mut texts = Vec::new();
    let mut has_prerelease = false;
    for part in constraint.split_whitespace() {
        let end = part
            .find(|c| !matches!(c, '=' | '<' | '>' | '~' | '^'))
            .unwrap_or(part.len());
        let (operator, version) = part.split_at(end);
        let mut version = Partial::parse(version)?;
        if version.is_wildcard || version.parts.is_empty() {
            return Err(format!("{part:?} has a wildcard, which regsync refuses"));
        }
        version.parts.resize(3, 0);
        has_prerelease |= !version.prerelease.is_empty();
        let (major, minor, patch) = (version.parts[0], version.parts[1], version.parts[2]);
        let below = |major, minor, patch| format!("<{major}.{minor}.{patch}");
        match operator {
            "" | "=" => texts.push(format!("={version}")),
            ">=" | "<=" | ">" | "<" => texts.push(format!("{operator}{version}")),
            "^" => texts.extend([
                format!(">={version}"),
                match (major, minor) {
                    (0, 0) => below(0, 0, patch.saturating_add(1)),
                    (0, _) => below(0, minor.saturating_add(1), 0),
                    _ => below(major.saturating_add(1), 0, 0),
                },
            ]),
            "~" => texts.extend([
                format!(">={version}"),
                below(major, minor.saturating_add(1), 0),
            ]),
            other => return Err(format!("{other:?} is not an operator")),
        }
    }
    if texts.is_empty() {
        return Err("it is empty".into());
    }
    requirement(texts, has_prerelease)
}

fn requirement(texts: Vec<String>, has_prerelease: bool) -> Result<Requirement, String> {
    let text = if texts.is_empty() {
        "*".to_owned()
    } else {
        texts.join(", ")
    };
    VersionReq::parse(&text).map_err(|error| error.to_string())?;
    Ok(Requirement {
        text,
        has_prerelease,
    })
}

/// A version of up to three parts; a wildcard ends it.
struct Partial {
    parts: Vec<u64>,
    is_wildcard: bool,
    prerelease: String,
}

impl Partial {
    fn parse(text: &str) -> Result<Self, String> {
        let fail = |why: &str| format!("{text:?} {why}");
        let bare = text.strip_prefix('v').unwrap_or(text);
        let bare = bare.split_once('+').map_or(bare, |(bare, _)| bare);
        let (core, prerelease) = bare.split_once('-').unwrap_or((bare, ""));
        let mut parts = Vec::new();
        let mut is_wildcard = false;
        for part in core.split('.') {
            if matches!(part, "x" | "X" | "*") {
                is_wildcard = true;
            } else if part.bytes().all(|b| b.is_ascii_digit()) {
                let number = part.parse().map_err(|_| fail("is not a version"))?;
                if is_wildcard {
                    return Err(fail("has a number behind a wildcard"));
                }
                parts.push(number);
            } else {
                return Err(fail("is not a version"));
            }
        }
        if core.split('.').count() > 3 {
            return Err(fail("has more than three parts"));
        }
        if !prerelease.is_empty() && parts.len() < 3 {
            return Err(fail("has a pre-release and fewer than three parts"));
        }
        Ok(Self {
            parts,
            is_wildcard,
            prerelease: prerelease.to_owned(),
        })
    }
}

impl std::fmt::Display for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        f.write_str(&parts.join("."))?;
        if self.prerelease.is_empty() {
            return Ok(());
        }
        write!(f, "-{}", self.prerelease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these releases a requirement takes, as a word of digits.
    fn taken(requirement: &str) -> String {
        let requirement = VersionReq::parse(requirement).unwrap();
        RELEASES
            .iter()
            .map(|release| {
                let taken = requirement.matches(&release.parse().unwrap());
                char::from(b'0' + u8::from(taken))
            })
            .collect()
    }

    const RELEASES: [&str; 10] = [
        "0.0.0", "0.0.1", "0.2.3", "0.3.0", "1.0.0", "1.2.0", "1.2.3", "1.3.0", "1.4.5", "2.0.0",
    ];

    /// The columns are the releases above; they follow from the tables in the README of Masterminds/semver 3.
    #[test]
    fn constraints_of_skopeo_take_the_same_releases_here() {
        for (constraint, expected) in [
            (">= 1.2", &["0000011111"][..]),
            ("> 1.2", &["0000000111"]),
            ("<= 1.2", &["1111111000"]),
            ("< 1.2", &["1111100000"]),
            ("1.2", &["0000011000"]),
            ("=1.2.3", &["0000001000"]),
            ("1.2.x", &["0000011000"]),
            ("1", &["0000111110"]),
            ("1.2 - 1.4.5", &["0000011110"]),
            ("1.2 - 1.3", &["0000011100"]),
            (">=1.2, <2", &["0000011110"]),
            (">=1.2 <1.4.0 ", &["0000011100"]),
            ("^1.2.3", &["0000001110"]),
            ("^0.2", &["0010000000"]),
            ("^0", &["1111000000"]),
            ("^0.0.1", &["0100000000"]),
            ("~1.2.3", &["0000001000"]),
            ("~> 1", &["0000111110"]),
            ("~0.0.0", &["1111111111"]),
            ("*", &["1111111111"]),
            ("=>v1.3", &["0000000111"]),
            ("<0.3 || >=2", &["1110000000", "0000000001"]),
        ] {
            let found = masterminds(constraint).unwrap();
            let found: Vec<String> = found.iter().map(|r| taken(&r.text)).collect();
            assert_eq!(found, expected, "{constraint}");
        }
    }

    /// The columns are the releases above; regsync pads versions with zeros.
    #[test]
    fn ranges_of_regsync_take_the_same_releases_here() {
        for (range, expected) in [
            (">=1.2 <2.0", "0000011110"),
            (">1.2", "0000001111"),
            ("<=1.2", "1111110000"),
            ("1.2", "0000010000"),
            ("=v1.2.3", "0000001000"),
            ("^1.2", "0000011110"),
            ("^0.2.0", "0010000000"),
            ("^0", "1000000000"),
            ("^0.0.1", "0100000000"),
            ("~1", "0000100000"),
            ("~1.2", "0000011000"),
        ] {
            assert_eq!(taken(&regsync(range).unwrap().text), expected, "{range}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_said() {
        for (constraint, reason) in [
            ("!=1.2.3", "!="),
            (">*", "without a version"),
            ("1.2 -", "without an end"),
            ("1.2.3.4", "more than three"),
            ("latest", "not a version"),
            (">=1.x.3", "behind a wildcard"),
            ("<>1", "not an operator"),
        ] {
            let error = masterminds(constraint).unwrap_err();
            assert!(error.contains(reason), "{constraint}: {error}");
        }
        for (range, reason) in [
            ("", "empty"),
            (">= 1.2", "\"\""),
            (">=1.2,<2", "not a version"),
            ("1.x", "wildcard"),
            ("1.2.3.4", "more than three"),
            ("!=1", "not a version"),
        ] {
            let error = regsync(range).unwrap_err();
            assert!(error.contains(reason), "{range}: {error}");
        }
        assert!(masterminds(">=1.2.0-0").unwrap()[0].has_prerelease);
        assert!(regsync(">=1.2.0-rc1").unwrap().has_prerelease);
    }
}
