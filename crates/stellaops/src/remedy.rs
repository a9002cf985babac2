//! What to type to mend a failure: the libraries say what it is, and name no option and no command.

use mirror_export::ExportRemedy;
use oci_content::{ErrorCode, Registry};
use oci_referrers::Problem;

use crate::exit::Exit;

/// What a URL is told that stands for a reference.
pub(crate) const SCHEME: &str = "--plain-http HOST selects plain HTTP";
pub(crate) const OVERWRITE: &str = "--overwrite replaces it";

pub(crate) fn of_export(remedy: ExportRemedy) -> Option<&'static str> {
    match remedy {
        ExportRemedy::AllowIncomplete => Some("--allow-incomplete writes the bundle without it"),
        ExportRemedy::Overwrite => Some(OVERWRITE),
        _ => None,
    }
}

/// Says where to look when a registry could not be reached.
pub(crate) fn of_exit(exit: Exit) -> Option<&'static str> {
    (exit == Exit::Network).then_some("`stellaops registry diagnose` looks for the cause")
}

/// Says what to configure where an operator can know better than a registry says.
pub(crate) fn of_problem(problem: &Problem, registry: &Registry) -> String {
    match problem.code {
        ErrorCode::Denied if problem.settled_by_tag => format!(
            "; if the registry has no referrers API, configure registries.{registry}.referrers_api: unsupported"
        ),
        _ => String::new(),
    }
}
