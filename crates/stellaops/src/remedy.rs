//! What to do about a failure, in the words of this program: the libraries name no option and no command.

use oci_content::{ErrorCode, Registry};
use oci_referrers::Problem;

use crate::exit::Exit;

/// Says what to configure where an operator can know better than a registry says.
pub(crate) fn way_out(problem: &Problem, registry: &Registry) -> String {
    match problem.code {
        ErrorCode::Denied if problem.settled_by_tag => format!(
            "; if the registry has no referrers API, configure registries.{registry}.referrers_api: unsupported"
        ),
        _ => String::new(),
    }
}

/// Adds where to look when a registry could not be reached.
pub(crate) fn with_next_step(exit: Exit, message: String) -> String {
    match exit {
        Exit::Network => format!("{message}; `stellaops registry diagnose` looks for the cause"),
        _ => message,
    }
}
