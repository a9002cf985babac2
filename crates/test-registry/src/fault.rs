use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::coding::Coding;
use crate::framing::Framing;

/// What goes wrong with an answer.
///
/// A fault happens once, or once for each status that it lists, unless [`times`](Self::times) or
/// [`forever`](Self::forever) says otherwise. After that the registry answers as it would have.
///
/// A fault of an answer's body waits for a request whose answer has one, and lets a `HEAD` pass.
///
/// A fault that does not happen as often as it says fails the test; see
/// [`TestRegistry::unused_faults`](crate::TestRegistry::unused_faults).
#[derive(Clone, Debug)]
pub struct Fault {
    pub(crate) action: Action,
    /// Headers that the answer gets, and with `None` loses.
    pub(crate) headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// How long an answer waits.
    pub(crate) wait: Duration,
    pub(crate) framing: Framing,
    /// Nobody is asked for credentials.
    pub(crate) open: bool,
    /// The request is answered as one without `Range`.
    pub(crate) whole: bool,
    pub(crate) skip: usize,
    /// `None`: however many requests there are.
    pub(crate) times: Option<usize>,
    /// Each path has its own count of what is skipped and what has happened.
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

    /// Answers one request after the other with these statuses; at one below 300 the registry itself answers.
    ///
    /// An error has the specification's envelope with a code that goes with it.
    ///
    /// # Panics
    ///
    /// When the list is empty, or one of the numbers is no status.
    pub fn statuses(statuses: impl IntoIterator<Item = u16>) -> Self {
        let statuses: Vec<_> = statuses.into_iter().map(status_code).collect();
        assert!(!statuses.is_empty(), "a fault needs a status");
        Self::new(Action::Statuses(statuses))
    }

    /// Answers with a status, and this code in the specification's envelope.
    ///
    /// # Panics
    ///
    /// When `status` is not a valid status.
    pub fn error(status: u16, code: &str) -> Self {
        let message = "this answer is a planned fault";
        let envelope = json!({"errors": [{"code": code, "message": message}]});
        Self::body(status, "application/json", envelope.to_string())
    }

    /// Answers with this instead.
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

    /// Sends the client to `to`.
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

    /// Sends the client to the same path and query of the [second host](crate::TestRegistry::foreign_host), which
    /// has the content.
    ///
    /// # Panics
    ///
    /// When `status` is not a valid status.
    pub fn redirect_elsewhere(status: u16) -> Self {
        Self::new(Action::RedirectElsewhere {
            status: status_code(status),
        })
    }

    /// Lets the registry answer, for the sake of the [headers](Self::header) that are changed.
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

    /// Does what was asked, then resets the connection instead of answering.
    pub fn reset() -> Self {
        Self::new(Action::Reset(None))
    }

    /// Sends the head and this many bytes of the body, then resets the connection.
    pub fn reset_after(bytes: u64) -> Self {
        Self::new(Action::Reset(Some(bytes)))
    }

    /// Sends the head and this many bytes of the body, then closes the connection: less than `Content-Length`
    /// says.
    pub fn truncate_after(bytes: u64) -> Self {
        Self::new(Action::Truncate(bytes))
    }

    /// Sends this many bytes of the body as if they were all; the [framing](Self::framing) agrees.
    pub fn shorten(bytes: u64) -> Self {
        Self::new(Action::Shorten(bytes))
    }

    /// Flips the bits of the byte at this offset of the body, or of the last one of a shorter body.
    pub fn corrupt_byte(at: u64) -> Self {
        Self::new(Action::Corrupt(at))
    }

    /// Adds a byte to the body's end; `Content-Length` agrees.
    pub fn extend() -> Self {
        Self::new(Action::Extend)
    }

    /// Leaves entries out of a list: tags by their name, referrers and an index's manifests by their digest.
    pub fn omit(entries: impl IntoIterator<Item = impl ToString>) -> Self {
        let entries = entries.into_iter().map(|entry| entry.to_string());
        Self::new(Action::Omit(entries.collect()))
    }

    /// Sends these bytes before the body, such as a byte order mark or blanks; `Content-Length` agrees.
    pub fn prefix(bytes: impl Into<Bytes>) -> Self {
        Self::new(Action::Prefix(bytes.into()))
    }

    /// Sends the body in these content codings, one applied after the other, and names them in `Content-Encoding`,
    /// whatever the client accepts.
    pub fn encoded(codings: impl IntoIterator<Item = Coding>) -> Self {
        Self::new(Action::Encoded(codings.into_iter().collect()))
    }

    /// Sends the body at this many bytes a second.
    pub fn slow(bytes_per_second: u64) -> Self {
        Self::new(Action::Slow(bytes_per_second.max(1)))
    }

    /// Takes this many bytes of the request's body, then resets the connection. An upload session keeps them.
    pub fn break_upload_after(bytes: u64) -> Self {
        Self::new(Action::BreakUpload(bytes))
    }

    /// Waits before the registry answers.
    pub fn delay(time: Duration) -> Self {
        Self::pass().after(time)
    }

    /// Makes every token that was issued before worthless, so that the request is answered with 401 and a challenge.
    ///
    /// Without effect on a persona that has no tokens.
    pub fn expire_token() -> Self {
        Self::new(Action::ExpireToken)
    }

    /// Refuses the request as one too many, in the persona's own words: with `Retry-After`, with the time in the
    /// message only, without any, with a page of HTML.
    pub fn rate_limited() -> Self {
        Self::new(Action::RateLimited)
    }

    /// Frames the body of each answer of this fault so, instead of with a `Content-Length`.
    ///
    /// Without a length, and with the end of the connection for the end of the body, what is
    /// [truncated](Self::truncate_after) looks whole.
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// Waits this long before each answer of this fault.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    /// Has the registry answer without asking for credentials.
    #[must_use]
    pub fn without_auth(mut self) -> Self {
        self.open = true;
        self
    }

    /// Has the registry answer as if no range had been asked for.
    #[must_use]
    pub fn without_ranges(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Sets a header on each answer of this fault: on those that it makes, and on those of the registry that it
    /// changes or lets pass.
    ///
    /// # Panics
    ///
    /// When the name or the value cannot stand in a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref().parse().expect("a header's value");
        self.headers.push((header_name(name), Some(value)));
        self
    }

    /// Takes a header off each answer of this fault.
    ///
    /// # Panics
    ///
    /// When the name cannot be a header's.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.push((header_name(name), None));
        self
    }

    /// Lets this many matching requests pass before the fault begins: a fault on page 3 skips two.
    #[must_use]
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Happens to this many requests; a list of statuses begins again at its end.
    #[must_use]
    pub fn times(mut self, requests: usize) -> Self {
        self.times = Some(requests);
        self
    }

    /// Counts for each path by itself: `Fault::statuses([429]).per_path()` refuses every path once. The query does
    /// not count.
    #[must_use]
    pub fn per_path(mut self) -> Self {
        self.per_path = true;
        self
    }

    /// Happens to every matching request; a list of statuses begins again at its end.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.times = None;
        self
    }
}

impl Action {
    /// Returns whether it changes the registry's body, and nothing else.
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
