use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use oci_content::Digest;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::error::{ApiError, ErrorCode};

/// The passwords that are verified concurrently. Guessing must not occupy all processors.
const MAX_VERIFICATIONS: usize = 4;
/// The requests that may wait for a verification. More are answered with 429.
const MAX_WAITING: usize = 64;
/// The limit of `htpasswd -C`. Each step doubles the time of the first request.
const MAX_COST: u32 = 17;

/// The users of a registry, with the bcrypt hashes of their passwords, as `htpasswd -B` writes
/// them.
///
/// - Every request needs basic authentication, including the ping. All users have the same
///   permissions.
/// - Passwords are hashed on blocking threads, at most 4 concurrently with 64 waiting. A correct
///   password is remembered until the process ends, so only the first request of a client takes the
///   time of the hash.
/// - A wrong password takes the same time for every user and for users that do not exist, even if
///   the costs of the hashes differ.
pub struct Htpasswd {
    users: HashMap<String, Arc<User>>,
    /// The hash that passwords of unknown users are verified against.
    stranger: Arc<User>,
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

struct User {
    /// The validated hash, in the form `$2b$COST$SALTHASH`.
    hash: String,
    cost: u32,
    /// The SHA-256 of the last correct password.
    right: Mutex<Option<Digest>>,
}

/// The reason that a text is not a list of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct HtpasswdError {
    line: Option<usize>,
    reason: &'static str,
}

impl fmt::Display for HtpasswdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(self.reason),
        }
    }
}

impl FromStr for Htpasswd {
    type Err = HtpasswdError;

    /// Parses lines of `USER:HASH`. Empty lines and lines that begin with `#` are ignored.
    ///
    /// Hashes must be bcrypt (`$2a$`, `$2b$`, `$2y$`) up to cost 17, and there must be at least one
    /// user.
    fn from_str(text: &str) -> Result<Self, HtpasswdError> {
        let mut users = HashMap::new();
        let mut strictest: Option<(u32, Arc<User>)> = None;
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let fail = |reason| HtpasswdError {
                line: Some(line),
                reason,
            };
            let (name, hash) = text
                .split_once(':')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| fail("this is not USER:HASH"))?;
            let cost = cost(hash)
                .ok_or_else(|| fail("the hash is not bcrypt, as printed by `htpasswd -nB USER`"))?;
            if cost > MAX_COST {
                return Err(fail("the cost of the hash is higher than 17"));
            }
            let user = Arc::new(User {
                hash: hash.to_owned(),
                cost,
                right: Mutex::default(),
            });
            if strictest.as_ref().is_none_or(|(known, _)| *known < cost) {
                strictest = Some((cost, Arc::clone(&user)));
            }
            if users.insert(name.to_owned(), user).is_some() {
                return Err(fail("the user is named twice"));
            }
        }
        let Some((_, stranger)) = strictest else {
            return Err(HtpasswdError {
                line: None,
                reason: "it has no user; `htpasswd -nB USER` prints a line for one",
            });
        };
        Ok(Self {
            users,
            stranger,
            running: Arc::new(Semaphore::new(MAX_VERIFICATIONS)),
            waiting: Semaphore::new(MAX_WAITING),
        })
    }
}

impl Htpasswd {
    /// Admits a request with the name and password of a user, and returns the name.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> Result<Arc<str>, ApiError> {
        let Some((name, password)) = credentials(headers) else {
            return Err(unauthorized("this registry needs a user and a password"));
        };
        let known = self.users.get(&name);
        let given = Digest::of(&password);
        if known.is_some_and(|user| user.remembers(&given)) {
            return Ok(name.into());
        }
        let user = Arc::clone(known.unwrap_or(&self.stranger));
        if self.verify(user, known.is_some(), password, given).await? {
            Ok(name.into())
        } else {
            Err(unauthorized("wrong user or password"))
        }
    }

    async fn verify(
        &self,
        user: Arc<User>,
        known: bool,
        password: Vec<u8>,
        given: Digest,
    ) -> Result<bool, ApiError> {
        let busy = |_| {
            let message = "too many passwords are being verified";
            ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::TooManyRequests,
                message,
            )
            .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        };
        let waiting = self.waiting.try_acquire().map_err(busy)?;
        let running = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .expect("it is never closed");
        drop(waiting);
        let highest = self.stranger.cost;
        let verified = spawn_blocking(move || {
            // Held until the hash is computed, even if the client has gone.
            let _running = running;
            // The first requests of a client arrive together. Once one password was correct, the
            // others need no hash. Not checked for a user that does not exist, because the time
            // would reveal that the password belongs to somebody.
            if known && user.remembers(&given) {
                return true;
            }
            let right = bcrypt::verify(&password, &user.hash).unwrap_or(false) && known;
            if right {
                user.remember(given);
            } else {
                // Together with the step above, this is the work of the highest cost: 2^n = 2^k +
                // 2^k + 2^(k+1) + … + 2^(n-1).
                for cost in user.cost..highest {
                    bcrypt::hash_with_salt(&password, cost, [0; 16]).ok();
                }
            }
            right
        });
        // A panic in the task admits nobody.
        Ok(verified.await.unwrap_or(false))
    }
}

impl User {
    fn remembers(&self, given: &Digest) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.as_ref().is_some_and(|right| {
            let equal = right.encoded().as_bytes().ct_eq(given.encoded().as_bytes());
            equal.into()
        })
    }

    fn remember(&self, given: Digest) {
        *self.right.lock().unwrap_or_else(PoisonError::into_inner) = Some(given);
    }
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.users.keys().collect();
        names.sort();
        f.debug_struct("Htpasswd")
            .field("users", &names)
            .finish_non_exhaustive()
    }
}

/// Returns the cost of a bcrypt hash.
fn cost(hash: &str) -> Option<u32> {
    // `$2x$` marks hashes of a faulty implementation.
    if hash.starts_with("$2x$") {
        return None;
    }
    let cost = hash.parse::<HashParts>().ok()?.get_cost();
    (cost >= 4).then_some(cost)
}

/// Parses `Authorization: Basic`: <https://www.rfc-editor.org/rfc/rfc7617#section-2>
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((name, decoded[colon + 1..].to_vec()))
}

fn unauthorized(message: &str) -> ApiError {
    let challenge = HeaderValue::from_static("Basic realm=\"registry\", charset=\"UTF-8\"");
    ApiError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message)
        .header(header::WWW_AUTHENTICATE, challenge)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    /// `htpasswd -nbBC 4 anna secret`
    const ANNA: &str = "anna:$2y$04$UL.8oFmyyDI/nesAdXAo9eTAB/NU0geMPKok9PN625U3Jj4CwB7y.";

    #[test]
    fn only_lines_of_users_with_bcrypt_hashes_are_taken() {
        let good = format!("# users\n\n  {ANNA}\r\nbob:{}\n", &ANNA[5..]);
        let users: Htpasswd = good.parse().unwrap();
        assert!(format!("{users:?}").contains("[\"anna\", \"bob\"]"));
        assert!(!format!("{users:?}").contains("$2y$"));
        let dear = ANNA.replace("$04$", "$18$");
        let cheap = ANNA.replace("$04$", "$03$");
        let broken = ANNA.replace("$2y$", "$2x$");
        for (text, line, part) in [
            ("", None, "no user"),
            ("# nobody\n", None, "no user"),
            ("anna", Some(1), "USER:HASH"),
            (&ANNA[4..], Some(1), "USER:HASH"),
            ("\nanna:secret", Some(2), "htpasswd -nB"),
            (
                "anna:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
                Some(1),
                "htpasswd -nB",
            ),
            (
                "anna:$apr1$tqiV8yCm$E0cRkk1.e5UYs5qsUoeXj0",
                Some(1),
                "htpasswd -nB",
            ),
            (&ANNA[..ANNA.len() - 1], Some(1), "htpasswd -nB"),
            (&cheap, Some(1), "htpasswd -nB"),
            (&broken, Some(1), "htpasswd -nB"),
            (&dear, Some(1), "cost"),
            (&format!("{ANNA}\n{ANNA}"), Some(2), "twice"),
        ] {
            let error = text.parse::<Htpasswd>().unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(error.reason.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn credentials_are_read_as_rfc_7617_writes_them() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            credentials(&headers)
        };
        let both = Some(("anna".to_owned(), b"a:b".to_vec()));
        assert_eq!(read("Basic YW5uYTphOmI="), both);
        assert_eq!(read("bASIC  YW5uYTphOmI="), both);
        for none in [
            "Basic",
            "Basic YW5uYQ==",
            "Basic !",
            "Bearer YW5uYTphOmI=",
            "Basic /zph",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[tokio::test]
    async fn guesses_get_429_when_too_many_wait_and_who_was_admitted_goes_on() {
        let users: Htpasswd = ANNA.parse().unwrap();
        let with = |password: &str| {
            let mut headers = HeaderMap::new();
            let value = format!("Basic {}", STANDARD.encode(format!("anna:{password}")));
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            headers
        };
        users.admit(&with("secret")).await.unwrap();
        let guess = with("guess");
        // Nothing is verified while these are held.
        let running = users.running.acquire_many(4).await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| Box::pin(users.admit(&guess)))
            .collect();
        for guess in &mut waiting {
            assert!(futures::poll!(guess).is_pending());
        }
        let status = |error: ApiError| error.into_response().status();
        let answer = users.admit(&guess).await.map_err(status);
        assert_eq!(answer, Err(StatusCode::TOO_MANY_REQUESTS));
        users.admit(&with("secret")).await.unwrap();
        drop(running);
        for guess in waiting {
            assert_eq!(guess.await.map_err(status), Err(StatusCode::UNAUTHORIZED));
        }
    }
}
