use http::header::{HeaderMap, WWW_AUTHENTICATE};
use url::Url;

/// The number of scopes of one challenge that are read.
pub(crate) const MAX_SCOPES: usize = 16;

/// The longest scope that is read, in bytes.
const MAX_SCOPE_BYTES: usize = 1024;

/// The scope in GHCR's challenge for every path that it does not serve, whatever the repository.
const PLACEHOLDER: &str = "repository:user/image:pull";

/// A bearer or basic challenge of a `WWW-Authenticate` header, as written.
///
/// <https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Challenge {
    /// The scheme, such as `Bearer`.
    pub scheme: String,
    /// The parameter `realm`.
    pub realm: Option<String>,
    /// The parameter `service`.
    pub service: Option<String>,
    /// The parameter `scope`.
    pub scope: Option<String>,
}

impl Challenge {
    /// Parses the bearer and basic challenges in the lines of a `WWW-Authenticate` header, in
    /// order.
    ///
    /// Other schemes are ignored, and so are malformed parts (not a token, a string without its
    /// closing quote); the rest counts. Bytes above 127 are read as UTF-8, else as ISO-8859-1. The
    /// first of two parameters with the same name counts. The time is linear in the length of the
    /// headers, which the HTTP library limits.
    pub fn read(lines: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Self> {
        let mut challenges = Vec::new();
        for line in lines {
            read_line(line.as_ref(), &mut challenges);
        }
        challenges
    }

    /// Returns whether the scheme is `Bearer`; it is `Basic` otherwise.
    pub fn is_bearer(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("bearer")
    }

    fn set(&mut self, name: &[u8], value: &[u8]) {
        let field = match name.to_ascii_lowercase().as_slice() {
            b"realm" => &mut self.realm,
            b"service" => &mut self.service,
            b"scope" => &mut self.scope,
            _ => return,
        };
        field.get_or_insert_with(|| text(value));
    }
}

/// The authentication that a registry demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// With a user and a password.
    Basic,
    /// With a token of this realm for this service. The scopes are those of the challenge; they may
    /// be useless, so the client first requests the scope that it needs.
    Bearer {
        realm: Url,
        service: Option<String>,
        scopes: Vec<String>,
    },
}

/// Picks the challenge to meet, preferring a bearer challenge to a basic one.
///
/// Unknown schemes are ignored, and so are realms that are not plain web addresses.
pub(crate) fn pick(headers: &HeaderMap) -> Option<Demand> {
    let challenges = Challenge::read(headers.get_all(WWW_AUTHENTICATE));
    let bearer = challenges
        .iter()
        .filter(|challenge| challenge.is_bearer())
        .find_map(bearer);
    bearer.or_else(|| {
        let basic = challenges.iter().any(|challenge| !challenge.is_bearer());
        basic.then_some(Demand::Basic)
    })
}

fn bearer(challenge: &Challenge) -> Option<Demand> {
    let mut realm = Url::parse(challenge.realm.as_deref()?).ok()?;
    let plain = matches!(realm.scheme(), "http" | "https")
        && realm.has_host()
        && realm.username().is_empty()
        && realm.password().is_none();
    if !plain {
        return None;
    }
    realm.set_fragment(None);
    let service = challenge
        .service
        .clone()
        .filter(|service| !service.is_empty());
    // https://www.rfc-editor.org/rfc/rfc6749#section-3.3
    let readable = |scope: &&str| {
        scope.len() <= MAX_SCOPE_BYTES
            && *scope != PLACEHOLDER
            && scope
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
    };
    let mut scopes: Vec<String> = Vec::new();
    for scope in challenge
        .scope
        .iter()
        .flat_map(|scope| scope.split_ascii_whitespace())
    {
        if scopes.len() < MAX_SCOPES && readable(&scope) && !scopes.iter().any(|s| s == scope) {
            scopes.push(scope.to_owned());
        }
    }
    Some(Demand::Bearer {
        realm,
        service,
        scopes,
    })
}

/// Parses one header line in a single pass.
///
/// Commas separate both challenges and parameters, and a comma between two parameters may be
/// missing; a scheme can only follow a comma or the start of the line.
fn read_line(mut rest: &[u8], challenges: &mut Vec<Challenge>) {
    // The challenge that parameters belong to; none before the first scheme and after an ignored
    // one.
    let mut current = None;
    let mut after_comma = true;
    loop {
        let blank = rest
            .iter()
            .take_while(|b| is_blank(**b) || **b == b',')
            .count();
        after_comma |= rest[..blank].contains(&b',');
        rest = &rest[blank..];
        if rest.is_empty() {
            return;
        }
        let token = rest.iter().take_while(|b| is_token(**b)).count();
        let (name, after) = rest.split_at(token);
        let after = after.trim_ascii_start();
        match after.first() {
            Some(b'=') if token > 0 => {
                let (value, next) = read_value(after[1..].trim_ascii_start());
                if let (Some(value), Some(challenge)) =
                    (value, current.and_then(|at: usize| challenges.get_mut(at)))
                {
                    challenge.set(name, &value);
                }
                rest = next;
                after_comma = false;
            }
            next if token > 0
                && after_comma
                && (next.is_none_or(|b| *b == b',') || after.len() + token < rest.len()) =>
            {
                let known = [&b"bearer"[..], b"basic"];
                let known = known.iter().any(|known| name.eq_ignore_ascii_case(known));
                current = known.then_some(challenges.len());
                if known {
                    challenges.push(Challenge {
                        scheme: text(name),
                        ..Challenge::default()
                    });
                }
                rest = after;
                after_comma = false;
            }
            _ => {
                rest = next_part(rest);
                after_comma = true;
            }
        }
    }
}

/// Parses the value of a parameter and returns it with what follows; without a value if it is
/// malformed.
fn read_value(rest: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    if rest.first() != Some(&b'"') {
        let length = rest
            .iter()
            .take_while(|b| !is_blank(**b) && **b != b',')
            .count();
        let (value, next) = rest.split_at(length);
        return (Some(value.to_vec()), next);
    }
    let mut value = Vec::new();
    let mut bytes = rest.iter().enumerate().skip(1);
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'\\' => value.extend(bytes.next().map(|(_, escaped)| *escaped)),
            b'"' => {
                let next = &rest[at + 1..];
                // The text that follows directly is the inside of the next string: this one was
                // never closed.
                return if next.first().is_none_or(|b| is_blank(*b) || *b == b',') {
                    (Some(value), next)
                } else {
                    (None, next_part(rest))
                };
            }
            _ => value.push(byte),
        }
    }
    (None, next_part(rest))
}

fn next_part(rest: &[u8]) -> &[u8] {
    let length = rest.iter().take_while(|b| **b != b',').count();
    &rest[length..]
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // https://www.rfc-editor.org/rfc/rfc9110#section-5.5
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(lines: &[&[u8]]) -> Option<Demand> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line).unwrap());
        }
        pick(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scopes: &[&str]) -> Option<Demand> {
        Some(Demand::Bearer {
            realm: Url::parse(realm).unwrap(),
            service: service.map(str::to_owned),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        })
    }

    #[test]
    fn every_line_is_read_and_bearer_comes_before_basic() {
        const REALM: &str = "https://auth.test/token";
        for (lines, expected) in [
            (
                &[
                    r#"Bearer realm="https://auth.test/token",service="r.test",scope="repository:user/image:pull""#,
                ][..],
                bearer(REALM, Some("r.test"), &[]),
            ),
            (
                &[r#"Bearer realm="https://auth.test/token",scope="repository:a/b:pull""#],
                bearer(REALM, None, &["repository:a/b:pull"]),
            ),
            (
                &[r#"bearer Realm="https://auth.test/token", Service=r.test"#],
                bearer(REALM, Some("r.test"), &[]),
            ),
            (
                &[r#"Bearer realm="https://auth.test/token""#],
                bearer(REALM, None, &[]),
            ),
            (
                &[r#"Bearer realm="https://auth.test/token",service="""#],
                bearer(REALM, None, &[]),
            ),
            (
                &[
                    r#"Basic realm="x""#,
                    r#"Bearer realm="https://auth.test/token""#,
                ],
                bearer(REALM, None, &[]),
            ),
            (
                &[r#"Basic realm="x", Bearer realm="https://auth.test/token",service="a \"b\"""#],
                bearer(REALM, Some("a \"b\""), &[]),
            ),
            (
                &[r#"Negotiate, Bearer realm="https://auth.test/token""#],
                bearer(REALM, None, &[]),
            ),
            (
                &[r#"Bearer realm="no closing"#, r#"Basic realm="x""#],
                Some(Demand::Basic),
            ),
            (
                &[r#"Bearer service="r.test""#, "BASIC"],
                Some(Demand::Basic),
            ),
            (
                &[r#"Bearer realm="https://user:pw@auth.test/token", Basic realm="x""#],
                Some(Demand::Basic),
            ),
            (&[r#"Digest realm="x", nonce="y""#], None),
            (&[r#"Bearer realm="/token""#], None),
            (&[r#"Bearer realm="file:///etc/passwd""#], None),
            (&["Bearer"], None),
            (&[""], None),
            (&[], None),
        ] {
            let bytes: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(of(&bytes), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_takes_nothing_away_that_can() {
        const REALM: &str = "https://auth.test/token";
        for line in [
            r#"Bearer realm="https://auth.test/token",,"#,
            r#",, Bearer realm="https://auth.test/token""#,
            r#"Bearer realm="https://auth.test/token", error="never closed"#,
            r#"Bearer error="never closed,realm="https://auth.test/token""#,
            r#"Bearer error=,realm="https://auth.test/token""#,
            r#"Bearer @@@,realm="https://auth.test/token""#,
            r#"Bearer realm="https://auth.test/token" service"#,
            r#"Bearer realm="https://auth.test/token", "stray""#,
            r#"Bearer realm="https://auth.test/token", a b=c=d"#,
            r#"Bearer  realm = "https://auth.test/token""#,
            "Bearer\trealm=\"https://auth.test/token\"",
            "Bearer realm=https://auth.test/token",
            r#"realm="https://other.test/", Bearer realm="https://auth.test/token""#,
            r#"Bearer realm="https://auth.test/token", Digest realm="https://other.test/""#,
            r#"Bearer realm="https://auth.test/token", realm="https://other.test/""#,
            r#"NTLM TlRMTVNTUAAB/+==, Bearer realm="https://auth.test/token""#,
            r#"Negotiate YII=, Bearer realm="https://auth.test/token""#,
            r#"Basic realm="never closed, Bearer realm="https://auth.test/token""#,
            r#"Basic realm="a \" b", Bearer realm="https://auth.test/token""#,
            r#"Basic realm="Bearer realm=x", Bearer realm="https://auth.test/token""#,
            r#"="", Basic, Bearer realm="https://auth.test/token""#,
        ] {
            assert_eq!(of(&[line.as_bytes()]), bearer(REALM, None, &[]), "{line}");
        }
        // A challenge is not read out of the text of another one.
        for line in [
            r#"Digest realm="Basic realm=x""#,
            r#"Digest realm="a, Basic realm=x""#,
            "Digest realm=Basic Bearer",
            r#"Digest realm="a" Basic realm="b""#,
        ] {
            assert_eq!(of(&[line.as_bytes()]), None, "{line}");
        }
    }

    #[test]
    fn bytes_above_127_are_read() {
        let realm = Some("https://auth.test/t%C3%B6k");
        for (line, expected) in [
            (&b"Basic realm=\"Zugriff f\xc3\xbcr alle\""[..], None),
            (b"Basic realm=\"Zugriff f\xfcr alle\"", None),
            (b"Bearer realm=\"https://auth.test/t\xc3\xb6k\"", realm),
            (b"Bearer realm=\"https://auth.test/t\xf6k\"", realm),
            (
                b"\xff\xfe, Bearer realm=\"https://auth.test/t\xf6k\"",
                realm,
            ),
        ] {
            let expected = match expected {
                Some(realm) => bearer(realm, None, &[]),
                None => Some(Demand::Basic),
            };
            assert_eq!(of(&[line]), expected, "{line:?}");
        }
    }

    #[test]
    fn scopes_are_taken_apart_and_bounded() {
        let scopes = |scope: &str| match of(&[format!(
            r#"Bearer realm="https://auth.test/",scope="{scope}""#
        )
        .as_bytes()])
        {
            Some(Demand::Bearer { scopes, .. }) => scopes,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            scopes(" repository:a:pull  registry:catalog:* repository:a:pull "),
            ["repository:a:pull", "registry:catalog:*"]
        );
        let long = "x".repeat(MAX_SCOPE_BYTES + 1);
        assert_eq!(scopes(&format!("{long} a")), ["a"]);
        let many: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
        assert_eq!(scopes(&many.join(" ")), many[..MAX_SCOPES]);
    }

    #[test]
    fn long_headers_take_no_longer_than_they_are() {
        let started = std::time::Instant::now();
        let long = format!(
            r#"Bearer realm="https://auth.test/{}""#,
            "a".repeat(64 << 10)
        );
        assert!(of(&[long.as_bytes()]).is_some());
        for piece in [
            "A, ",
            "Basic,",
            "a=\",",
            "a=\"b\",",
            "\"",
            "a=\"\\\",",
            "=,",
            ", ,",
            "a=\"x a",
            "Bearer a=",
        ] {
            let line = format!("{}, {long}", piece.repeat((64 << 10) / piece.len()));
            assert!(of(&[line.as_bytes()]).is_some(), "{piece:?}");
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }
}
