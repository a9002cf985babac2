use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use oci_content::{Capability, ErrorCode, Registry, RepositoryName};
use registry_client::{Client, CredentialSource, Evidence, ReferrersAnswer, Response, nobody};

use crate::cache::ProbeCache;
use crate::entry::Key;
use crate::facts;
use crate::report::{ProbeFailure, ProbeReport, evidence};
use crate::scope::CredentialScope;

/// Finds out what registries can do, without ever writing to one.
#[derive(Clone, Debug)]
pub struct Probe {
    client: Client,
    timeout: Option<Duration>,
    cache: Option<Caching>,
}

/// A cache, and the credentials that tell users apart.
#[derive(Clone, Debug)]
struct Caching {
    cache: Arc<ProbeCache>,
    credentials: Option<Arc<dyn CredentialSource>>,
}

impl Probe {
    /// Creates a probe that asks through `client`.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            timeout: None,
            cache: None,
        }
    }

    /// Sets a time limit for all answers of one registry, by a
    /// [`Stopwatch`](registry_client::Stopwatch). By default, only the time limits of the
    /// client apply.
    ///
    /// What was found out in time is reported. If that is nothing, the failure is a timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Takes answers from `cache` if it has them, and keeps new answers in it.
    ///
    /// `credentials` must be those of the client, since registries answer users differently. Only
    /// the kind of the credentials and the user's name, or a part of the digest of a token, are
    /// kept. If the source of credentials fails, the cache is not used.
    #[must_use]
    pub fn cached(
        mut self,
        cache: Arc<ProbeCache>,
        credentials: Option<Arc<dyn CredentialSource>>,
    ) -> Self {
        self.cache = Some(Caching { cache, credentials });
        self
    }

    /// Finds out whether a registry has the referrers API, with one request if that is enough.
    ///
    /// Without a repository the result may be `Unknown`, since most registries give no telling
    /// answer for a repository that they do not have.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the requests and keeps nothing, unless another call waits for
    /// the same answer through the [cache](Self::cached).
    pub async fn probe(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> ProbeReport {
        self.answer(registry, repository, false).await
    }

    /// Finds out everything that can be learned by reading: the referrers API, paging, filters,
    /// signs of a proxy, rate limits.
    ///
    /// Sends at most 12 requests, without redirects and token requests. Without a repository, only
    /// what the registry says about itself can be found out.
    ///
    /// # Cancellation
    ///
    /// Dropping the future has the same effect as for [`probe`](Self::probe).
    pub async fn facts(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> ProbeReport {
        self.answer(registry, repository, true).await
    }

    async fn answer(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
        facts: bool,
    ) -> ProbeReport {
        let Some(Caching { cache, credentials }) = &self.cache else {
            return self.ask(registry, repository, facts).await;
        };
        let Some(scope) = CredentialScope::of(credentials.as_deref(), registry, repository).await
        else {
            return self.ask(registry, repository, facts).await;
        };
        let key = Key::new(registry, repository, scope, facts);
        let mut probe = Self::new(self.client.clone());
        probe.timeout = self.timeout;
        let (registry, repository) = (registry.clone(), repository.cloned());
        let ask = async move { probe.ask(&registry, repository.as_ref(), facts).await };
        cache.get_or_ask(key, ask.boxed()).await
    }

    async fn ask(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
        facts: bool,
    ) -> ProbeReport {
        let mut report = ProbeReport::new(registry, repository);
        let Some(timeout) = self.timeout else {
            self.find_out(&mut report, facts).await;
            return report;
        };
        let stopwatch = self.client.stopwatch(registry);
        let asked = stopwatch.within(timeout, self.find_out(&mut report, facts));
        if asked.await.is_none() {
            report.elapsed = stopwatch.elapsed();
            cut_short(&mut report, timeout, facts);
        }
        report
    }

    async fn find_out(&self, report: &mut ProbeReport, facts: bool) {
        let registry = report.registry.clone();
        let asked = match &report.repository {
            Some(name) => name.clone(),
            None => match "library/stellaops-probe".parse() {
                Ok(name) => name,
                Err(_) => return,
            },
        };
        let subject = nobody();
        let answer = self
            .client
            .repository(&registry, &asked)
            .referrers(&subject, None)
            .await;
        match &answer {
            Ok(response) => {
                let named = report.repository.is_some();
                self.conclude(report, response, named).await
            }
            Err(error) => {
                report.failure = Some(ProbeFailure {
                    code: error.code(),
                    message: error.with_causes(),
                });
                let request = match error.url() {
                    Some(url) => format!("GET {url}"),
                    None => format!("GET {registry}/v2/{asked}/referrers/{subject}"),
                };
                let evidence = Evidence::new(request, Capability::Unknown, error.with_causes());
                report.evidence.push(evidence);
            }
        }
        if facts {
            facts::find(&self.client, report, answer.as_ref().ok()).await;
        }
    }

    async fn conclude(
        &self,
        report: &mut ProbeReport,
        response: &Response,
        repository_named: bool,
    ) {
        report.elapsed += response.elapsed();
        report.note_version(response);
        let codes = response.error_codes();
        let status = response.status().as_u16();
        let (capability, reason, failure) = match response.referrers_answer() {
            ReferrersAnswer::List(_) => (
                Capability::Supported,
                "it answers with a referrers list".to_owned(),
                None,
            ),
            ReferrersAnswer::SubjectUnknown => (
                Capability::Supported,
                "it says that it does not know the subject".to_owned(),
                None,
            ),
            // For a repository that may not exist, 404 is conclusive only if the request did not
            // reach the registry's own code, whose errors have codes.
            ReferrersAnswer::NoAnswer { reason, .. } if !repository_named && !codes.is_empty() => (
                Capability::Unknown,
                format!("{reason}, for a repository that may not exist"),
                None,
            ),
            // Harbor before 2.11 has the API and answers this for a subject that it does not have.
            ReferrersAnswer::NoAnswer {
                false_200: true, ..
            } if response.body().trim_ascii() == b"{}" => (
                Capability::Unknown,
                "200 with {}, which some registries answer for an unknown subject".to_owned(),
                None,
            ),
            ReferrersAnswer::NoAnswer {
                capability, reason, ..
            } => (
                capability,
                format!("{reason}: the referrers API gave no answer"),
                None,
            ),
            ReferrersAnswer::RepositoryUnknown if repository_named => {
                // A route that knows repositories is there, but this is not an answer either.
                (
                    Capability::Unknown,
                    "404, the registry does not know the repository".to_owned(),
                    None,
                )
            }
            ReferrersAnswer::RepositoryUnknown => (
                Capability::Unknown,
                "404 for a repository that may not exist; name one".to_owned(),
                None,
            ),
            ReferrersAnswer::Blocked => (
                Capability::Unknown,
                format!("{status}"),
                Some(ErrorCode::Denied),
            ),
            ReferrersAnswer::Unavailable {
                rate_limited: true, ..
            } => (
                Capability::Unknown,
                "429".to_owned(),
                Some(ErrorCode::RateLimited),
            ),
            _ => (
                Capability::Unknown,
                format!("{status}"),
                Some(ErrorCode::ServerError),
            ),
        };
        report.capability = capability;
        if let Some(code) = failure {
            let said = response
                .error_message()
                .map(|said| format!(" ({said})"))
                .unwrap_or_default();
            report.failure = Some(ProbeFailure {
                code,
                message: format!("{}{said}", response.status()),
            });
        }
        report
            .evidence
            .push(evidence(response, capability, &reason));
        if !report.has_version() {
            self.ask_version(report).await;
        }
    }

    /// Reads the version header from the answer to `/v2/`, if the first answer did not have it.
    async fn ask_version(&self, report: &mut ProbeReport) {
        let Ok(response) = self.client.ping(&report.registry).await else {
            return;
        };
        report.elapsed += response.elapsed();
        report.note_version(&response);
        let reason = "asked for the version header; it decides nothing";
        report
            .evidence
            .push(evidence(&response, Capability::Unknown, reason));
    }
}

/// Reports that the time limit was reached before everything was answered.
fn cut_short(report: &mut ProbeReport, timeout: Duration, facts: bool) {
    let nothing = report.evidence.is_empty();
    let message = if nothing {
        format!("no answer within {} s", timeout.as_secs_f64())
    } else {
        format!(
            "not everything was answered within {} s",
            timeout.as_secs_f64()
        )
    };
    if nothing {
        let request = format!("GET {}/v2/", report.registry);
        let evidence = Evidence::new(request, Capability::Unknown, message.clone());
        report.evidence.push(evidence);
    }
    // If only the version header was missing, the question is answered.
    if nothing || facts {
        report.failure.get_or_insert(ProbeFailure {
            code: ErrorCode::Timeout,
            message,
        });
    }
}
