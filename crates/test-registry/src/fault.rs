use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::coding::Coding;
use crate::framing::Framing;

/// A planned deviation of an answer.
///
/// A fault happens once, or once for each status that it lists, unless [`times`](Self::times) or
/// [`forever`](Self::forever) is set. After that, the registry answers normally.
///
/// A fault of the body skips requests whose answer has none, such as `HEAD`.
///
/// A fault that does not happen as often as planned fails the test; see
/// [`TestRegistry::unused_faults`](crate::TestRegistry::unused_faults).
#[derive(Clone, Debug)]
pub struct Fault {
    pub(crate) action: Action,
    /// The headers that are set, or with `None` removed.
    pub(crate) headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// The delay of the answer.
    pub(crate) wait: Duration,
    pub(crate) framing: Framing,
    /// Whether credentials are not required.
    pub(crate) open: bool,
    /// Whether `Range` is ignored.
    pub(crate) whole: bool,
    pub(crate) skip: usize,
    /// The number of times, `None` for every request.
    pub(crate) times: Option<usize>,
    /// Whether each path has its own counts.
    pub(crate) per_path: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Statuses(Vec<StatusCode>),
    Body {
        status: StatusCode,
        content_type: String,
        bytes: Bytes,
    },
    Redirect {
        to: String,
        status: StatusCode,
    },
    RedirectElsewhere {
        status: StatusCode,
    },
    Pass,
    Stall(Option<u64>),
    Reset(Option<u64>),
    Truncate(u64),
    Shorten(u64),
    Corrupt(u64),
    Extend,
    Prefix(Bytes),
    Omit(Vec<String>),
    Encoded(Vec<Coding>),
    Slow(u64),
    BreakUpload(u64),
    ExpireToken,
    RateLimited,
}

impl Fault {
    fn new(action: Action) -> Self {
        let times = match &action {
            Action::Statuses(statuses) => statuses.len(),
            _ => 1,
        };
        Self {
            action,
            headers: Vec::new(),
            wait: Duration::ZERO,
            framing: Framing::default(),
            open: false,
            whole: false,
            skip: 0,
            times: Some(times),
            per_path: false,
        }
    }

    /// Answers successive requests with these statuses. For one below 300, the registry itself
    /// answers.
    ///
    /// An error has the envelope of the specification with a matching code.
    ///
    /// # Panics
    ///
    /// When the list is empty, or a number is not a valid status.
    pub fn statuses(statuses: impl IntoIterator<Item = u16>) -> Self {
        let statuses: Vec<_> = statuses.into_iter().map(status_code).collect();
        assert!(!statuses.is_empty(), "a fault needs a status");
        Self::new(Action::Statuses(statuses))
    }

    /// Answers with a status and with this code in the envelope of the specification.
    ///
    /// # Panics
    ///
    /// When `status` is not a valid status.
    pub fn error(status: u16, code: &str) -> Self {
        let message = "this answer is a planned fault";
        let envelope = json!({"errors": [{"code": code, "message": message}]});
        Self::body(status, "application/json", envelope.to_string())
    }

    /// Answers with this status, content type and body.
    ///
    /// # Panics
    ///
    /// When `status` is not a valid status.
    pub fn body(status: u16, content_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self::new(Action::Body {
            status: status_code(status),
            content_type: content_type.into(),
            bytes: bytes.into(),
        })
    }

    /// Redirects the client to `to`.
    ///
    /// # Panics
    ///
    /// When `status` is not a valid status.
    pub fn redirect(to: impl Into<String>, status: u16) -> Self {
        Self::new(Action::Redirect {
            to: to.into(),
            status: status_code(status),
        })
    }

    /// Redirects the client to the same path and query on the [second
    /// host](crate::TestRegistry::foreign_host), which has the content.
    ///
    /// # Panics
    ///
    /// When `status` is not a valid status.
    pub fn redirect_elsewhere(status: u16) -> Self {
        Self::new(Action::RedirectElsewhere {
            status: status_code(status),
        })
    }

    /// Lets the registry answer, so that only [headers](Self::header) and delays apply.
    pub fn pass() -> Self {
        Self::new(Action::Pass)
    }

    /// Never answers.
    pub fn stall() -> Self {
        Self::new(Action::Stall(None))
    }

    /// Sends the head and this many bytes of the body, then nothing more.
    pub fn stall_after(bytes: u64) -> Self {
        Self::new(Action::Stall(Some(bytes)))
    }

    /// Executes the request, then resets the connection instead of answering.
    pub fn reset() -> Self {
        Self::new(Action::Reset(None))
    }

    /// Sends the head and this many bytes of the body, then resets the connection.
    pub fn reset_after(bytes: u64) -> Self {
        Self::new(Action::Reset(Some(bytes)))
    }

    /// Sends the head and this many bytes of the body, then closes the connection, before
    /// `Content-Length` is reached.
    pub fn truncate_after(bytes: u64) -> Self {
        Self::new(Action::Truncate(bytes))
    }

    /// Sends only this many bytes of the body. The [framing](Self::framing) matches.
    pub fn shorten(bytes: u64) -> Self {
        Self::new(Action::Shorten(bytes))
    }

    /// Flips the bits of the byte at this offset of the body, or of the last byte of a shorter
    /// body.
    pub fn corrupt_byte(at: u64) -> Self {
        Self::new(Action::Corrupt(at))
    }

    /// Appends a byte to the body. `Content-Length` matches.
    pub fn extend() -> Self {
        Self::new(Action::Extend)
    }

    /// Omits entries from a list: tags by name, referrers and manifests of an index by digest.
    pub fn omit(entries: impl IntoIterator<Item = impl ToString>) -> Self {
        let entries = entries.into_iter().map(|entry| entry.to_string());
        Self::new(Action::Omit(entries.collect()))
    }

    /// Sends these bytes before the body, such as a byte order mark or blanks. `Content-Length`
    /// matches.
    pub fn prefix(bytes: impl Into<Bytes>) -> Self {
        Self::new(Action::Prefix(bytes.into()))
    }

    /// Encodes the body with these content codings, one after another, and names them in
    /// `Content-Encoding`, whatever the client accepts.
    pub fn encoded(codings: impl IntoIterator<Item = Coding>) -> Self {
        Self::new(Action::Encoded(codings.into_iter().collect()))
    }

    /// Limits the body to this many bytes per second.
    pub fn slow(bytes_per_second: u64) -> Self {
        Self::new(Action::Slow(bytes_per_second.max(1)))
    }

    /// Reads this many bytes of the request body, then resets the connection. An upload session
    /// keeps them.
    pub fn break_upload_after(bytes: u64) -> Self {
        Self::new(Action::BreakUpload(bytes))
    }

    /// Delays the answer of the registry.
    pub fn delay(time: Duration) -> Self {
        Self::pass().after(time)
    }

    /// Expires every token that was issued before, so that the request is answered with 401 and a
    /// challenge.
    ///
    /// Has no effect on a persona without tokens.
    pub fn expire_token() -> Self {
        Self::new(Action::ExpireToken)
    }

    /// Refuses the request as one too many, as the persona does: with `Retry-After`, with the time
    /// only in the message, without a time, or with an HTML page.
    pub fn rate_limited() -> Self {
        Self::new(Action::RateLimited)
    }

    /// Sets the framing of the body of each answer of this fault. Default: `Content-Length`.
    ///
    /// Without a length, when the end of the connection is the end of the body, a
    /// [truncated](Self::truncate_after) body looks complete.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Delays each answer of this fault by this time.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    /// Makes the registry answer without asking for credentials.
    #[must_use]
    pub fn without_auth(mut self) -> Self {
        self.open = true;
        self
    }

    /// Makes the registry ignore `Range`.
    #[must_use]
    pub fn without_ranges(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Sets a header on each answer of this fault, whether the fault or the registry creates it.
    ///
    /// # Panics
    ///
    /// When the name or the value is not valid in a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref().parse().expect("a header's value");
        self.headers.push((header_name(name), Some(value)));
        self
    }

    /// Removes a header from each answer of this fault.
    ///
    /// # Panics
    ///
    /// When the name is not a valid header name.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.push((header_name(name), None));
        self
    }

    /// Skips this many matching requests before the fault begins. A fault on page 3 skips two.
    #[must_use]
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Sets the number of requests that the fault happens to. A list of statuses is repeated.
    #[must_use]
    pub fn times(mut self, requests: usize) -> Self {
        self.times = Some(requests);
        self
    }

    /// Counts separately for each path: `Fault::statuses([429]).per_path()` refuses every path
    /// once. The query is not part of the path.
    #[must_use]
    pub fn per_path(mut self) -> Self {
        self.per_path = true;
        self
    }

    /// Makes the fault happen to every matching request. A list of statuses is repeated.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.times = None;
        self
    }
}

impl Action {
    /// Returns whether the fault only changes the body of the registry's answer.
    pub(crate) fn is_of_body(&self) -> bool {
        match self {
            Self::Stall(bytes) | Self::Reset(bytes) => bytes.is_some(),
            Self::Truncate(_)
            | Self::Shorten(_)
            | Self::Corrupt(_)
            | Self::Extend
            | Self::Prefix(_)
            | Self::Omit(_)
            | Self::Encoded(_)
            | Self::Slow(_) => true,
            _ => false,
        }
    }
}

pub(crate) fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status is a number from 100 to 999")
}

fn header_name(name: &str) -> HeaderName {
    name.parse().expect("a header's name")
}
