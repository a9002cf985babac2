use http::header::{HeaderMap, WWW_AUTHENTICATE};
use http_auth::{ChallengeParser, ChallengeRef};
use url::Url;

/// How a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// With a user and a password.
    Basic,
    /// With a token of this realm for this service. The challenge's own scope is not kept: registries send
    /// placeholders there (GHCR), so the client asks for the scope that it needs.
    Bearer { realm: Url, service: Option<String> },
}

/// Reads the challenges of a 401 and picks the one to meet: a bearer challenge before a basic one.
///
/// A header line that does not parse, a scheme that is not known and a realm that is no plain web address
/// count for nothing; the other lines stand.
pub(crate) fn pick(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for line in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(line) = line.to_str() else { continue };
        let Ok(challenges) = ChallengeParser::new(line).collect::<Result<Vec<_>, _>>() else {
            continue;
        };
        for challenge in &challenges {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(bearer) = bearer(challenge) {
                    return Some(bearer);
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

fn bearer(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
    let parameter = |name: &str| {
        challenge
            .params
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_unescaped())
    };
    let mut realm = Url::parse(&parameter("realm")?).ok()?;
    let plain = matches!(realm.scheme(), "http" | "https")
        && realm.has_host()
        && realm.username().is_empty()
        && realm.password().is_none();
    if !plain {
        return None;
    }
    realm.set_fragment(None);
    let service = parameter("service").filter(|service| !service.is_empty());
    Some(Challenge::Bearer { realm, service })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, line.parse().unwrap());
        }
        pick(&headers)
    }

    #[test]
    fn every_line_is_read_and_bearer_comes_before_basic() {
        let bearer = |service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: Url::parse("https://auth.test/token").unwrap(),
                service: service.map(str::to_owned),
            })
        };
        for (lines, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.test/token",service="r.test",scope="repository:user/image:pull""#,
                ][..],
                bearer(Some("r.test")),
            ),
            (
                &[r#"bearer Realm="https://auth.test/token", Service=r.test"#],
                bearer(Some("r.test")),
            ),
            (&[r#"Bearer realm="https://auth.test/token""#], bearer(None)),
            (
                &[r#"Bearer realm="https://auth.test/token",service="""#],
                bearer(None),
            ),
            (
                &[
                    r#"Basic realm="x""#,
                    r#"Bearer realm="https://auth.test/token""#,
                ],
                bearer(None),
            ),
            (
                &[r#"Basic realm="x", Bearer realm="https://auth.test/token",service="a \"b\"""#],
                bearer(Some("a \"b\"")),
            ),
            (
                &[r#"Negotiate, Bearer realm="https://auth.test/token""#],
                bearer(None),
            ),
            (
                &[r#"Bearer realm="no closing"#, r#"Basic realm="x""#],
                Some(Challenge::Basic),
            ),
            (
                &[r#"Bearer service="r.test""#, "BASIC"],
                Some(Challenge::Basic),
            ),
            (
                &[r#"Bearer realm="https://user:pw@auth.test/token", Basic realm="x""#],
                Some(Challenge::Basic),
            ),
            (&[r#"Digest realm="x", nonce="y""#], None),
            (&[r#"Bearer realm="/token""#], None),
            (&[r#"Bearer realm="file:///etc/passwd""#], None),
            (&["Bearer"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
        let long = format!(
            r#"Bearer realm="https://auth.test/{}""#,
            "a".repeat(64 << 10)
        );
        assert!(
            of(&[&long]).is_some(),
            "long lines are the HTTP library's to limit"
        );
    }
}
