use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use oci_content::{
    Capability, Completeness, Descriptor, Digest, DiscoveryMethod, ErrorCode, SourceKind,
    WarningCode, media_type,
};
use oci_referrers::{Discovery, Limits, ReferrerGraph, RegistrySources};
use registry_client::{
    Client, ClientOptions, CredentialError, CredentialSource, Credentials, Repository,
};
use serde_json::json;
use test_registry::{Persona, TestRegistry};

/// The repository of most tests.
pub(crate) const APP: &str = "team/app";

pub(crate) const SBOM: &str = "application/spdx+json";
pub(crate) const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

pub(crate) const API: &[SourceKind] = &[SourceKind::ReferrersApi];
pub(crate) const TAG: &[SourceKind] = &[SourceKind::ReferrersTag];
pub(crate) const API_AND_TAG: &[SourceKind] = &[SourceKind::ReferrersApi, SourceKind::ReferrersTag];
pub(crate) const LEGACY: &[SourceKind] = &[SourceKind::LegacyTag];

/// A client that does not let a test wait between its tries, unless a registry asks it to.
pub(crate) fn options() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.retry.base_delay = Duration::from_millis(1);
    options
}

pub(crate) fn repository_with(registry: &TestRegistry, options: ClientOptions) -> Repository {
    let client = Client::new(options).unwrap();
    client.repository(&registry.registry(), &APP.parse().unwrap())
}

pub(crate) fn repository(registry: &TestRegistry) -> Repository {
    repository_with(registry, options())
}

pub(crate) fn sources(registry: &TestRegistry) -> RegistrySources {
    RegistrySources::new(repository(registry))
}

/// The default limits with a change.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

pub(crate) fn discovery(registry: &TestRegistry) -> Discovery {
    sources(registry).discovery(None)
}

/// Starts a persona that asks nobody for credentials.
pub(crate) async fn open(persona: Persona) -> TestRegistry {
    TestRegistry::builder(persona).without_auth().start().await
}

/// Asks for everything that refers to one subject.
pub(crate) async fn discover(registry: &TestRegistry, subject: &Digest) -> ReferrerGraph {
    discovery(registry).run([subject.clone()]).await
}

/// The same name and password for every registry.
#[derive(Debug)]
pub(crate) struct Account;

impl Account {
    pub(crate) const USER: &str = "mirror";
    pub(crate) const PASSWORD: &str = "in-a-test-only";
}

#[async_trait::async_trait]
impl CredentialSource for Account {
    async fn credentials(
        &self,
        _registry: &oci_content::Registry,
        _repository: Option<&oci_content::RepositoryName>,
    ) -> Result<Option<Credentials>, CredentialError> {
        Ok(Some(Credentials::basic(Self::USER, Self::PASSWORD)))
    }
}

pub(crate) fn options_with_account() -> ClientOptions {
    let mut options = options();
    options.credentials = Some(Arc::new(Account));
    options
}

/// The body of a referrers list with these entries.
pub(crate) fn list(entries: &[&Descriptor]) -> String {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::IMAGE_INDEX,
        "manifests": entries,
    });
    document.to_string()
}

/// What a test expects of a whole graph. All of it is compared, so nothing unexpected passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Of the first subject.
    method: DiscoveryMethod,
    /// Of the first subject.
    capability: Capability,
    status: Completeness,
    /// Depth, subject, digest, sources, tag.
    referrers: BTreeSet<(u32, Digest, Vec<SourceKind>, Option<String>)>,
    warnings: BTreeSet<(WarningCode, Option<Digest>)>,
    errors: BTreeSet<(ErrorCode, Option<Digest>)>,
}

pub(crate) fn expect(method: DiscoveryMethod, capability: Capability) -> Expected {
    Expected {
        method,
        capability,
        status: Completeness::Complete,
        referrers: BTreeSet::new(),
        warnings: BTreeSet::new(),
        errors: BTreeSet::new(),
    }
}

impl Expected {
    /// A referrer of depth 1.
    pub(crate) fn found(self, referrer: &Descriptor, sources: &[SourceKind]) -> Self {
        self.found_at(1, referrer, sources)
    }

    pub(crate) fn found_at(
        mut self,
        depth: u32,
        referrer: &Descriptor,
        sources: &[SourceKind],
    ) -> Self {
        let entry = (depth, referrer.digest.clone(), sources.to_vec(), None);
        self.referrers.insert(entry);
        self
    }

    /// What a legacy tag with this suffix holds.
    pub(crate) fn legacy(self, subject: &Digest, referrer: &Descriptor, suffix: &str) -> Self {
        self.tagged(1, subject, referrer, suffix, LEGACY)
    }

    pub(crate) fn tagged(
        mut self,
        depth: u32,
        subject: &Digest,
        referrer: &Descriptor,
        suffix: &str,
        sources: &[SourceKind],
    ) -> Self {
        let tag = format!("sha256-{}.{suffix}", subject.encoded());
        self.referrers
            .insert((depth, referrer.digest.clone(), sources.to_vec(), Some(tag)));
        self
    }

    pub(crate) fn warning(mut self, code: WarningCode) -> Self {
        self.warnings.insert((code, None));
        self
    }

    pub(crate) fn warning_about(mut self, code: WarningCode, digest: &Digest) -> Self {
        self.warnings.insert((code, Some(digest.clone())));
        self
    }

    /// An error, which makes the graph incomplete.
    pub(crate) fn error(mut self, code: ErrorCode) -> Self {
        self.errors.insert((code, None));
        self.status = Completeness::Incomplete;
        self
    }

    pub(crate) fn error_about(mut self, code: ErrorCode, digest: &Digest) -> Self {
        self.errors.insert((code, Some(digest.clone())));
        self.status = Completeness::Incomplete;
        self
    }

    #[track_caller]
    pub(crate) fn check(&self, graph: &ReferrerGraph) {
        let first = &graph.subjects[0];
        let referrers = graph.referrers.iter().map(|referrer| {
            let sources = referrer.sources.clone();
            let tag = referrer.tag.as_ref().map(ToString::to_string);
            (referrer.depth, referrer.digest.clone(), sources, tag)
        });
        let warnings = graph
            .warnings()
            .map(|warning| (warning.code, warning.digest.clone()));
        let errors = graph
            .errors()
            .map(|error| (error.code, error.digest.clone()));
        let seen = Self {
            method: first.method,
            capability: first.capability,
            status: graph.status(),
            referrers: referrers.collect(),
            warnings: warnings.collect(),
            errors: errors.collect(),
        };
        assert_eq!(
            seen, *self,
            "seen (left) is not what was expected (right); {:#?}",
            graph.subjects
        );
        assert_eq!(
            graph.referrers.len(),
            self.referrers.len(),
            "an entry appears twice"
        );
    }
}
