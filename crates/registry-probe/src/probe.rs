use std::time::Duration;

use oci_content::{Capability, ErrorCode, Registry, RepositoryName};
use registry_client::{
    AnswerParts, Client, ErrorKind, Evidence, ReferrersAnswer, Response, nobody,
};
use serde::Serialize;

/// Asks registries what they can do.
#[derive(Clone, Debug)]
pub struct Probe {
    client: Client,
}

/// What a registry was found to be able to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProbeReport {
    /// The registry.
    pub registry: Registry,
    /// The repository that was asked; `None` where none was named.
    pub repository: Option<RepositoryName>,
    /// Whether it has the referrers API.
    pub capability: Capability,
    /// What its version header says, or `unknown`. Reported, never used to decide.
    pub version: String,
    /// How long the answers took.
    #[serde(rename = "probeMs", serialize_with = "millis")]
    pub elapsed: Duration,
    /// Why nothing could be found out, if so.
    pub failure: Option<ProbeFailure>,
    /// What was asked and answered.
    pub evidence: Vec<Evidence>,
}

/// Why a probe found nothing out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProbeFailure {
    /// The class.
    pub code: ErrorCode,
    /// What happened, in a sentence fragment.
    pub message: String,
}

fn millis<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

impl Probe {
    /// Creates a probe that asks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Finds out whether a registry has the referrers API: one request where that is enough.
    ///
    /// Without a repository the answer may be `Unknown`, since most registries do not tell for a repository that
    /// they do not have.
    pub async fn probe(
        &self,
        registry: &Registry,
        repository: Option<&RepositoryName>,
    ) -> ProbeReport {
        let mut report = ProbeReport {
            registry: registry.clone(),
            repository: repository.cloned(),
            capability: Capability::Unknown,
            version: "unknown".to_owned(),
            elapsed: Duration::ZERO,
            failure: None,
            evidence: Vec::new(),
        };
        let asked = match repository {
            Some(name) => name.clone(),
            None => match "library/stellaops-probe".parse() {
                Ok(name) => name,
                Err(_) => return report,
            },
        };
        let subject = nobody();
        let request = format!("GET https://{registry}/v2/{asked}/referrers/{subject}");
        match self
            .client
            .repository(registry, &asked)
            .referrers(&subject, None)
            .await
        {
            Ok(response) => {
                let request = format!("GET {}", response.url());
                self.conclude(&mut report, &request, &response, repository.is_some())
                    .await;
            }
            Err(error) => {
                report.failure = Some(ProbeFailure {
                    code: code_of(error.kind()),
                    message: chain(&error),
                });
                let evidence = Evidence::new(request, Capability::Unknown, chain(&error));
                report.evidence.push(evidence);
            }
        }
        report
    }

    async fn conclude(
        &self,
        report: &mut ProbeReport,
        request: &str,
        response: &Response,
        repository_named: bool,
    ) {
        report.elapsed += response.elapsed();
        report.note_version(response);
        let codes = response.error_codes();
        let status = response.status().as_u16();
        let mut parts = AnswerParts::new(
            status,
            response.header("content-type"),
            &codes,
            response.body(),
        );
        parts.foreign = response.is_foreign();
        let (capability, reason, failure) = match ReferrersAnswer::decide(parts) {
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
            // For a repository that may not exist, 404 is conclusive only when the request reached no registry
            // code at all: an error of the registry's own would have a code.
            ReferrersAnswer::NoAnswer { reason, .. } if !repository_named && !codes.is_empty() => (
                Capability::Unknown,
                format!("{reason}, for a repository that may not exist"),
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
                // A route that knows repositories is not a route that is missing, nor one that answers.
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
            ReferrersAnswer::Unavailable { rate_limited: true } => (
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
            .push(evidence(request, response, capability, &reason));
        if report.version == "unknown" {
            self.ask_version(report).await;
        }
    }

    /// Asks the ping for what the first answer did not carry.
    async fn ask_version(&self, report: &mut ProbeReport) {
        let Ok(response) = self.client.ping(&report.registry).await else {
            return;
        };
        report.elapsed += response.elapsed();
        report.note_version(&response);
        let reason = "asked for the version header; it decides nothing";
        let request = format!("GET {}", response.url());
        report
            .evidence
            .push(evidence(&request, &response, Capability::Unknown, reason));
    }
}

impl ProbeReport {
    /// Takes the version from the header that the runbook names, or from the one that registries send.
    fn note_version(&mut self, response: &Response) {
        let names = [
            "oci-distribution-api-version",
            "docker-distribution-api-version",
        ];
        if let Some(version) = names.iter().find_map(|name| response.header(name)) {
            self.version = version
                .chars()
                .filter(|c| c.is_ascii_graphic() && *c != ',' && *c != ')')
                .collect();
        }
    }
}

fn evidence(request: &str, response: &Response, capability: Capability, reason: &str) -> Evidence {
    let headers = response.headers().iter();
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    Evidence::new(request, capability, reason).with_answer(response.status().as_u16(), headers)
}

fn code_of(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::Timeout => ErrorCode::Timeout,
        ErrorKind::Token | ErrorKind::UntrustedRealm | ErrorKind::Credentials => ErrorCode::Denied,
        ErrorKind::LimitExceeded => ErrorCode::Limit,
        _ => ErrorCode::Network,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
