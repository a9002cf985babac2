use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::lock::Mutex;
use oci_content::{Capability, Digest, ErrorCode, SourceKind, WarningCode};
use registry_client::{
    MAX_LIST_ENTRIES, ReferrersAnswer, ReferrersList, Repository, Response, nobody,
};

use super::cached::Listed;
use super::reader::{Reader, counted, refusal};
use crate::held;
use crate::limits::Limits;
use crate::source::{Answer, Claim, Exchange, Problem, Query, ReferrerSource, Warning};

/// The most malformed entries of one list that are reported one by one.
const MAX_MALFORMED: usize = 100;

/// The referrers API: `GET /v2/<name>/referrers/<digest>`, to the last page.
///
/// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>
///
/// - No filter is sent: filters are applied to the verified manifests.
/// - A failure on a later page keeps the pages before it and makes the list a partial one.
/// - Of the [`Limits`], those on entries, pages and bytes apply to each list.
#[derive(Clone, Debug)]
pub struct NativeReferrers {
    reader: Reader,
    state: Arc<ApiState>,
    limits: Limits,
    listed: Option<Arc<Listed>>,
    /// Whether the first of many subjects is asked about alone.
    one_first: bool,
}

/// What a run has learned about the API of one repository.
///
/// The API counts as absent, and is not asked about each of many subjects, only if no subject got a
/// list, a subject that is known to exist got no answer, and neither did one that cannot exist.
/// This is needed because some registries answer 404 for a subject that they do not have (Quay
/// before 3.12) or whose list they cannot build (Harbor, zot).
#[derive(Debug, Default)]
pub(crate) struct ApiState {
    /// Some subject got a list.
    listed: AtomicBool,
    /// A subject that got no answer, until it is clear what that means.
    silent: std::sync::Mutex<Option<Digest>>,
    /// Whether the API is absent, once that is known.
    absent: Mutex<Option<bool>>,
    /// Some subject got an answer; locked while the first one is asked about alone.
    answered: Mutex<bool>,
}

impl ApiState {
    fn learn(&self, subject: &Digest, answer: &Answer) {
        match answer.capability {
            Some(Capability::Supported) => self.listed.store(true, Ordering::Release),
            Some(Capability::Unsupported) => {
                if let Ok(mut silent) = self.silent.lock() {
                    silent.get_or_insert_with(|| subject.clone());
                }
            }
            _ => {}
        }
    }

    fn candidate(&self) -> Option<Digest> {
        self.silent.lock().ok()?.clone()
    }

    fn drop_candidate(&self) {
        if let Ok(mut silent) = self.silent.lock() {
            *silent = None;
        }
    }
}

impl NativeReferrers {
    /// Creates a source over the API of a repository, with the default limits.
    pub fn new(repository: Repository) -> Self {
        Self::shared(
            Reader::new(repository, None),
            Arc::default(),
            Limits::default(),
        )
    }

    /// Replaces the limits of each list: entries over all pages, pages, and bytes.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn shared(reader: Reader, state: Arc<ApiState>, limits: Limits) -> Self {
        Self {
            reader,
            state,
            limits,
            listed: None,
            one_first: false,
        }
    }

    /// Sets whether the first of many subjects is asked about alone: if there is no API, the others
    /// need not be asked about at all. It makes them wait for one answer.
    pub(crate) fn one_first(mut self, one_first: bool) -> Self {
        self.one_first = one_first;
        self
    }

    /// Records in `listed` what the API lists.
    pub(crate) fn listed(mut self, listed: Option<Arc<Listed>>) -> Self {
        self.listed = listed;
        self
    }

    /// Returns whether the API is known to be absent. Finds it out if a subject got no answer.
    async fn is_absent(&self) -> bool {
        if self.state.listed.load(Ordering::Acquire) || self.state.candidate().is_none() {
            return false;
        }
        let mut absent = self.state.absent.lock().await;
        if let Some(known) = *absent {
            return known;
        }
        let Some(candidate) = self.state.candidate() else {
            return false;
        };
        match self.reader.status(&candidate).await {
            Ok(200) => {}
            Ok(_) => {
                self.state.drop_candidate();
                return false;
            }
            Err(_) => return false,
        }
        let Ok(response) = self.reader.referrers(&nobody()).await else {
            return false;
        };
        let known = match response.referrers_answer() {
            ReferrersAnswer::NoAnswer {
                capability: Capability::Unsupported,
                false_200,
                ..
            } => !false_200,
            ReferrersAnswer::RepositoryUnknown => true,
            ReferrersAnswer::NoAnswer { .. }
            | ReferrersAnswer::List(_)
            | ReferrersAnswer::SubjectUnknown => false,
            // Not conclusive; ask again next time.
            _ => return false,
        };
        *absent = Some(known);
        known
    }

    async fn first_page(&self, subject: &Digest) -> (Answer, Option<Response>) {
        let request = self.reader.request(&format!("referrers/{subject}"));
        let say = |answer: String| Exchange::new(SourceKind::ReferrersApi, &request, answer);
        let response = match self.reader.referrers(subject).await {
            Ok(response) => response,
            Err(problem) => {
                let mut answer = Answer::failed(problem.clone());
                answer.capability = Some(Capability::Unknown);
                answer.exchanges.push(say(problem.message));
                return (answer, None);
            }
        };
        let status = response.status();
        let mut answer = Answer::none();
        match response.referrers_answer() {
            ReferrersAnswer::List(list) => {
                answer = Answer::list([]);
                answer.capability = Some(Capability::Supported);
                answer.exchanges.push(say(format!(
                    "{status}, {}",
                    counted(list.entries.len(), "entry", "entries")
                )));
                take_entries(&mut answer, list);
                return (answer, Some(response));
            }
            ReferrersAnswer::SubjectUnknown => {
                answer = Answer::list([]);
                answer.capability = Some(Capability::Supported);
                answer
                    .exchanges
                    .push(say(format!("{status}, the subject is unknown")));
            }
            ReferrersAnswer::NoAnswer {
                capability,
                false_200,
                reason,
                ..
            } => {
                answer.capability = Some(capability);
                if false_200 {
                    answer
                        .warnings
                        .push(Warning::new(WarningCode::False200, &reason));
                }
                answer.exchanges.push(say(format!("no answer: {reason}")));
            }
            ReferrersAnswer::RepositoryUnknown => match self.reader.status(subject).await {
                Ok(200) => {
                    answer.capability = Some(Capability::Unsupported);
                    answer.exchanges.push(say(format!(
                        "{status} NAME_UNKNOWN, but the subject is there: no answer"
                    )));
                }
                // An unknown repository is not an empty repository.
                Ok(404) => {
                    answer.capability = Some(Capability::Unknown);
                    answer.exchanges.push(say(format!(
                        "{status} NAME_UNKNOWN, and the subject is not there"
                    )));
                    let message = "the registry does not know the repository, or hides it";
                    answer.fail(Problem::new(ErrorCode::Denied, message));
                }
                Ok(_) => answer.fail(refusal(&response)),
                Err(problem) => answer.fail(problem),
            },
            ReferrersAnswer::Blocked => {
                answer.capability = Some(Capability::Unknown);
                answer.exchanges.push(say(format!("{status}")));
                match self.reader.status(subject).await {
                    Ok(200) => {
                        let message =
                            "the referrers API is denied although the subject may be read";
                        let problem = Problem::new(ErrorCode::Denied, message);
                        answer.fail(problem.unless_tag_answers());
                    }
                    Ok(_) => answer.fail(refusal(&response)),
                    Err(problem) => answer.fail(problem),
                }
            }
            ReferrersAnswer::Unreadable(reason) => {
                answer.capability = Some(Capability::Unknown);
                answer.exchanges.push(say(format!("{status}, {reason}")));
                let message = format!("the referrers list is {reason}");
                answer.fail(Problem::new(ErrorCode::Malformed, message));
            }
            ReferrersAnswer::Unavailable { foreign: true, .. } => {
                answer.capability = Some(Capability::Unknown);
                answer
                    .exchanges
                    .push(say(format!("{status} from another host")));
                let mut problem = refusal(&response);
                problem.message = format!("{} (another host, by redirect)", problem.message);
                answer.fail(problem.unless_tag_answers());
            }
            _ => {
                answer.capability = Some(Capability::Unknown);
                answer.exchanges.push(say(format!("{status}")));
                answer.fail(refusal(&response));
            }
        }
        (answer, None)
    }

    /// Reads the pages after the first one into `answer`.
    async fn later_pages(&self, answer: &mut Answer, mut page: Response) {
        let mut seen = HashSet::from([page.url().clone()]);
        loop {
            let next = match self.reader.next_link(&page) {
                Ok(Some(next)) => next,
                Ok(None) => return,
                Err(problem) => return answer.fail(cut_off(problem)),
            };
            if !seen.insert(next.clone()) {
                let message = format!(
                    "the next page {} was read before: the list loops",
                    next.path()
                );
                return answer.fail(Problem::new(ErrorCode::PageFailed, message));
            }
            let Limits {
                max_pages,
                max_referrers_per_subject: max_entries,
                max_bytes,
                ..
            } = self.limits;
            if seen.len() > max_pages {
                let message = format!("the referrers list has more than {max_pages} pages");
                return answer.fail(Problem::new(ErrorCode::Limit, message));
            }
            if answer.claims.iter().map(held::of_claim).sum::<usize>() > max_bytes {
                let message = format!("the referrers list takes more than {max_bytes} bytes");
                return answer.fail(Problem::new(ErrorCode::Limit, message));
            }
            if answer.claims.len() > max_entries {
                let message = format!("the referrers list has more than {max_entries} entries");
                return answer.fail(Problem::new(ErrorCode::Limit, message));
            }
            let number = seen.len();
            let request = format!("GET {} (page {number})", next.path());
            let say = |answer: String| Exchange::new(SourceKind::ReferrersApi, &request, answer);
            page = match self.reader.page(&next).await {
                Ok(page) => page,
                Err(problem) => {
                    answer.exchanges.push(say(problem.message.clone()));
                    return answer.fail(cut_off(problem));
                }
            };
            let status = page.status();
            let (code, what) = match page.referrers_answer() {
                ReferrersAnswer::List(list) => {
                    answer.exchanges.push(say(format!(
                        "{status}, {}",
                        counted(list.entries.len(), "entry", "entries")
                    )));
                    take_entries(answer, list);
                    continue;
                }
                ReferrersAnswer::NoAnswer {
                    false_200: true,
                    reason,
                    ..
                } => (ErrorCode::PageFailed, reason),
                ReferrersAnswer::Unreadable(reason) => (ErrorCode::Malformed, reason),
                _ => {
                    answer.exchanges.push(say(status.to_string()));
                    return answer.fail(cut_off(refusal(&page)));
                }
            };
            answer.exchanges.push(say(format!("{status}, {what}")));
            let message = format!("page {number} of the referrers list is {what}");
            return answer.fail(Problem::new(code, message));
        }
    }
}

/// Turns a 404 or an unexpected answer for a later page into `page-failed`: the list is truncated.
fn cut_off(problem: Problem) -> Problem {
    match problem.code {
        ErrorCode::ServerError => Problem {
            code: ErrorCode::PageFailed,
            ..problem
        },
        _ => problem,
    }
}

/// Turns the entries of a list into claims. A malformed entry is an error; the others are still
/// used.
pub(super) fn take_entries(answer: &mut Answer, list: ReferrersList) {
    if list.other_content_type {
        let message = "the referrers list has a content type that is not the one of an image index";
        answer
            .warnings
            .push(Warning::new(WarningCode::ContentType, message));
    }
    let mut malformed: usize = 0;
    for entry in list.entries {
        match entry {
            Ok(descriptor) => answer.claims.push(Claim::new(descriptor)),
            Err(error) => {
                malformed += 1;
                if malformed <= MAX_MALFORMED {
                    let message = format!("an entry cannot be used: {error}");
                    answer.fail(Problem::new(ErrorCode::Malformed, message));
                }
            }
        }
    }
    if list.unread > 0 {
        let message = format!(
            "a list has {} entries beyond the limit of {MAX_LIST_ENTRIES}",
            list.unread
        );
        answer.fail(Problem::new(ErrorCode::Limit, message));
    }
    if malformed > MAX_MALFORMED {
        let message = format!("{malformed} entries of one list are malformed");
        answer.fail(Problem::new(ErrorCode::Malformed, message));
    }
}

#[async_trait]
impl ReferrerSource for NativeReferrers {
    fn kind(&self) -> SourceKind {
        SourceKind::ReferrersApi
    }

    async fn referrers(&self, query: &Query) -> Answer {
        if self.one_first && !query.is_direct() {
            let mut answered = self.state.answered.lock().await;
            if !*answered {
                let answer = self.ask(query).await;
                *answered = true;
                return answer;
            }
        }
        self.ask(query).await
    }
}

impl NativeReferrers {
    async fn ask(&self, query: &Query) -> Answer {
        let subject = query.subject();
        if !query.is_direct() && self.is_absent().await {
            let mut answer = Answer::none();
            answer.capability = Some(Capability::Unsupported);
            return answer;
        }
        let (mut answer, page) = self.first_page(subject).await;
        if let Some(page) = page {
            self.later_pages(&mut answer, page).await;
        }
        if let Some(listed) = &self.listed {
            let claims = answer.claims.iter();
            listed.add(claims.map(|claim| &claim.descriptor.digest));
        }
        self.state.learn(subject, &answer);
        answer
    }
}
