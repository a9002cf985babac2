mod contents;
mod images;

use std::sync::Arc;

use async_trait::async_trait;
use oci_content::{
    Digest, ImageLayout, LayoutError, LegacyTag, Manifest, SourceKind, SourceRepository,
    referrers_tag,
};

use self::contents::{Contents, Named};
pub use self::images::{LayoutImage, LayoutImageError, LayoutImageErrorKind};
use crate::discovery::Discovery;
use crate::manifests::{ManifestFailure, ManifestSource};
use crate::source::{Answer, Claim, Exchange, Outcome, Problem, Query, ReferrerSource};

/// An image layout folder as a source of images, referrers and manifests.
///
/// - A manifest that `index.json` leads to and that has a `subject` is a referrer of that subject.
///   The kind of its source is [`SourceKind::Manifest`], since a folder has no referrers API.
/// - A name in `index.json` that is a referrers tag or a legacy tag is used as such.
/// - `index.json`, and every manifest that it leads to, is read once, when the folder is opened.
#[derive(Clone, Debug)]
pub struct LayoutReferrers {
    contents: Arc<Contents>,
    repository: Option<SourceRepository>,
}

impl LayoutReferrers {
    /// Opens a layout: reads `index.json` and every manifest that it leads to.
    ///
    /// # Errors
    ///
    /// When `index.json` cannot be read. A manifest that cannot be read is not an error here, but
    /// in every answer.
    pub fn open(layout: ImageLayout) -> Result<Self, LayoutError> {
        Ok(Self {
            contents: Arc::new(Contents::read(layout)?),
            repository: None,
        })
    }

    /// Returns the same folder as one repository sees it: a tag that another repository has in
    /// `index.json` is left out if that repository has the tag's subject itself.
    ///
    /// With `None`, tags of all repositories count, as they do by default.
    #[must_use]
    pub fn within(&self, repository: Option<&SourceRepository>) -> Self {
        Self {
            contents: Arc::clone(&self.contents),
            repository: repository.cloned(),
        }
    }

    /// Returns the layout.
    pub fn layout(&self) -> &ImageLayout {
        &self.contents.layout
    }

    /// Creates a discovery over this folder.
    pub fn discovery(&self) -> Discovery {
        let manifests = Arc::new(self.clone());
        let sources = self.sources().into_iter();
        sources.fold(Discovery::new(manifests), Discovery::source)
    }

    /// Returns the sources of this folder: its manifests, its referrers tags and its legacy tags.
    pub fn sources(&self) -> [Arc<dyn ReferrerSource>; 3] {
        let source = |kind| -> Arc<dyn ReferrerSource> {
            Arc::new(LayoutSource {
                folder: self.clone(),
                kind,
            })
        };
        [
            source(SourceKind::Manifest),
            source(SourceKind::ReferrersTag),
            source(SourceKind::LegacyTag),
        ]
    }

    /// Selects the tags of a subject that count in this repository.
    fn in_repository<'a>(&self, subject: &Digest, named: Option<&'a Vec<Named>>) -> Vec<&'a Named> {
        let counts = |named: &&Named| match (&self.repository, &named.repository) {
            (Some(own), Some(other)) => own == other || !self.contents.has(other, subject),
            _ => true,
        };
        named.into_iter().flatten().filter(counts).collect()
    }
}

#[async_trait]
impl ManifestSource for LayoutReferrers {
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, ManifestFailure> {
        self.contents.read_manifest(digest)
    }
}

#[derive(Debug)]
struct LayoutSource {
    folder: LayoutReferrers,
    kind: SourceKind,
}

impl LayoutSource {
    fn by_subject(&self, subject: &Digest) -> Answer {
        let contents = &self.folder.contents;
        let mut answer = contents.list(contents.referrers(subject));
        for problem in &contents.unreadable {
            answer.fail(problem.clone());
        }
        let said = format!("{} name it", answer.claims.len());
        self.told(answer, "the subject of every manifest".to_owned(), said)
    }

    fn by_referrers_tag(&self, subject: &Digest) -> Answer {
        let contents = &self.folder.contents;
        let tag = referrers_tag(subject);
        let named = self
            .folder
            .in_repository(subject, contents.referrers_tags.get(&tag));
        let mut answer = Answer::none();
        for named in named {
            match contents.read_manifest(&named.digest) {
                Ok(index) => {
                    answer.outcome = Outcome::List;
                    let claims = index.entries().iter().cloned().map(Claim::new);
                    answer.claims.extend(claims);
                }
                // It is among what was unreadable when the folder was opened.
                Err(ManifestFailure::NotFound) => {}
                Err(ManifestFailure::Failed(problem)) => answer.errors.push(problem),
            }
        }
        if answer.outcome == Outcome::List && !answer.errors.is_empty() {
            answer.outcome = Outcome::PartialList;
        }
        let said = match answer.claims.len() {
            0 => "not there".to_owned(),
            count => format!("an index of {count}"),
        };
        self.told(answer, format!("the name {tag} in index.json"), said)
    }

    fn by_legacy_tags(&self, subject: &Digest) -> Answer {
        let contents = &self.folder.contents;
        let mut answer = Answer::list([]);
        let named = contents.legacy.get(subject);
        for named in self.folder.in_repository(subject, named) {
            match contents.read_manifest(&named.digest) {
                Ok(manifest) => {
                    let claim = Claim::tagged(named.tag.clone(), manifest);
                    if !answer.claims.contains(&claim) {
                        answer.claims.push(claim);
                    }
                }
                Err(ManifestFailure::NotFound) => {}
                Err(ManifestFailure::Failed(problem)) => answer.fail(problem),
            }
        }
        let tags = answer.claims.iter().filter_map(|claim| claim.tag.as_ref());
        let suffixes: Vec<_> = tags
            .filter_map(LegacyTag::from_tag)
            .map(|legacy| format!(".{}", legacy.suffix()))
            .collect();
        let said = match suffixes.len() {
            0 => "none".to_owned(),
            _ => suffixes.join(", "),
        };
        let asked = format!("the names {}.* in index.json", referrers_tag(subject));
        self.told(answer, asked, said)
    }

    fn told(&self, mut answer: Answer, asked: String, said: String) -> Answer {
        let failed = answer.errors.first().map(Problem::to_string);
        let said = failed.unwrap_or(said);
        answer.exchanges.push(Exchange::new(self.kind, asked, said));
        answer
    }
}

#[async_trait]
impl ReferrerSource for LayoutSource {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    async fn referrers(&self, query: &Query) -> Answer {
        match self.kind {
            SourceKind::Manifest => self.by_subject(query.subject()),
            SourceKind::ReferrersTag => self.by_referrers_tag(query.subject()),
            _ => self.by_legacy_tags(query.subject()),
        }
    }
}

#[cfg(test)]
mod tests;
