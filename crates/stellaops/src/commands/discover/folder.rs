//! Discovery in a layout folder.

use std::sync::Arc;
use std::time::Duration;

use mirror_plan::PlanError;
use oci_content::{ErrorCode, LayoutReference, SourceKind};
use oci_referrers::{
    Discovery, LayoutImageError, LayoutImageErrorKind, LayoutReferrers, ManifestFailure,
    ManifestSource as _, Problem,
};

use super::{DiscoverArgs, Found};
use crate::arguments::LegacyTagsArg;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::failure;

pub(super) async fn discover(
    context: &Context,
    args: &DiscoverArgs,
    reference: &LayoutReference,
    timeout: Duration,
) -> Result<Found, Failure> {
    let mut found = Found::nothing(reference.digest().cloned(), timeout);
    let folder = match LayoutReferrers::open_folder(reference) {
        Ok(folder) => folder,
        Err(error) => {
            found.no_image(error)?;
            // Not even a list can be read.
            found.subject = None;
            return Ok(found);
        }
    };
    let folder = match folder.image(reference) {
        Ok(image) => {
            found.subject = Some(image.digest.clone());
            if let Some(now) = &image.tag_moved_to {
                context.log.warn(&format!(
                    "{reference}: the name leads to {now} now; the digest is used"
                ));
            }
            let folder = folder.of(&image);
            found.name = Some(image.reference);
            folder
        }
        Err(error) => {
            found.no_image(error)?;
            folder
        }
    };
    let Some(subject) = found.subject.clone() else {
        return Ok(found);
    };
    match folder.manifest(&subject).await {
        Ok(manifest) => found.manifest = Some(manifest),
        Err(ManifestFailure::Failed(problem)) => {
            let message = format!("{reference} could not be read: {problem}");
            found.errors.push(problem);
            found.resolve_failure = Some(Failure::new(Exit::Incomplete, message));
        }
        // Why it is not there has been said.
        Err(_) if found.resolve_failure.is_some() => {}
        Err(_) => {
            let message = format!(
                "{reference} could not be read: index.json lists {subject}, and it is not there"
            );
            let problem = Problem::new(ErrorCode::Integrity, &message).about(&subject);
            found.errors.push(problem);
            found.resolve_failure = Some(Failure::new(Exit::Incomplete, message));
        }
    }
    let roots = found.roots(&folder, subject, args.platforms).await;
    let sources = folder.sources().into_iter().filter(|source| {
        args.legacy_tags != LegacyTagsArg::Off || source.kind() != SourceKind::LegacyTag
    });
    let discovery = sources.fold(Discovery::new(Arc::new(folder.clone())), Discovery::source);
    found.search(discovery, roots, args).await;
    Ok(found)
}

impl Found {
    /// Records why there is no image; what the user can write differently is a failure of the arguments.
    fn no_image(&mut self, error: LayoutImageError) -> Result<(), Failure> {
        let code = match error.kind() {
            LayoutImageErrorKind::NotFound => ErrorCode::Denied,
            LayoutImageErrorKind::Limit => ErrorCode::Limit,
            LayoutImageErrorKind::Io => ErrorCode::ServerError,
            _ => ErrorCode::Malformed,
        };
        let failure = failure::of_plan(&PlanError::from(error));
        if failure.is(Exit::Usage) {
            return Err(failure);
        }
        self.errors.push(Problem::new(code, failure.to_string()));
        self.resolve_failure = Some(failure);
        Ok(())
    }
}
