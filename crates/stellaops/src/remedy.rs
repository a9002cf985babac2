//! What to type to mend a failure. The libraries say what a failure is; they name no option and no command.

use bundle_format::VolumeFaultKind;
use import_validator::{Finding, FindingKind};
use mirror_export::ExportRemedy;
use mirror_import::{ImportError, ImportErrorKind, ImportRemedy};
use mirror_plan::PlanRemedy;
use oci_content::{ErrorCode, Registry};
use oci_referrers::Problem;

use crate::exit::Exit;

/// For a URL in place of a reference.
pub(crate) const SCHEME: &str = "--plain-http HOST selects plain HTTP";
/// For a bundle that another tool packed.
pub(crate) const REPACK: &str = "`stellaops bundle pack FOLDER --output FILE` does that";
/// For a mirror of something that is not complete.
pub(crate) const COPY_INCOMPLETE: &str = "--allow-incomplete copies the rest";
pub(crate) const OVERWRITE: &str = "--overwrite replaces it";

pub(crate) fn of_export(remedy: ExportRemedy) -> Option<&'static str> {
    match remedy {
        ExportRemedy::AllowIncomplete => Some("--allow-incomplete writes the bundle without it"),
        ExportRemedy::Overwrite => Some(OVERWRITE),
        _ => None,
    }
}

pub(crate) fn of_plan(remedy: PlanRemedy) -> Option<&'static str> {
    match remedy {
        PlanRemedy::NameRepositories => {
            Some("write an entry `repository:` for each repository instead of `repositories:`")
        }
        PlanRemedy::NameImages => {
            Some("write an entry `reference:` for each image instead of a rule about tags")
        }
        _ => None,
    }
}

pub(crate) fn of_import(error: &ImportError) -> Option<String> {
    let sentence = match error.remedy() {
        Some(ImportRemedy::OverwriteTags) => "--overwrite-tags moves it",
        Some(ImportRemedy::AllowRollback) => {
            "if it is meant, --allow-rollback imports it this once"
        }
        Some(ImportRemedy::Map(repository)) => {
            return Some(format!(
                "--keep-host does that, or --map {repository}=REPOSITORY"
            ));
        }
        None if error.kind() == ImportErrorKind::BaseMissing => {
            "`bundle export` without --base writes a bundle that needs none"
        }
        _ => return None,
    };
    Some(sentence.to_owned())
}

/// Adds what to type to the remedies of findings.
pub(crate) fn add_to(findings: &mut [Finding]) {
    for finding in findings {
        if let Some(remedy) = of_finding(finding.kind) {
            finding.remedy = format!("{}; {remedy}", finding.remedy).into();
        }
    }
}

fn of_finding(kind: FindingKind) -> Option<&'static str> {
    use FindingKind as Kind;
    Some(match kind {
        Kind::NotABundle => "`stellaops bundle export` writes one",
        Kind::NotCanonical | Kind::TarExtension | Kind::Order | Kind::NoManifest => REPACK,
        Kind::SignatureMissing => {
            "`bundle export --sign-key` signs a bundle, --signature names a signature beside it"
        }
        Kind::SignatureUnsupported => {
            "`bundle export --sign-key` and `cosign sign-blob --key` do that"
        }
        Kind::BaseMismatch => {
            "--base named it; `stellaops bundle inspect` shows the digest of its manifest.yaml"
        }
        Kind::UnlistedReferrer
        | Kind::BundleIncomplete
        | Kind::DiscoveryIncomplete
        | Kind::DiscoveryGap
        | Kind::ImageNotDiscovered => "`stellaops referrers discover` names what is missing",
        Kind::RequiredSignatureMissing => {
            "`bundle export --sign-key` signs a bundle, `bundle validate --key` verifies it"
        }
        _ => return None,
    })
}

/// Returns what tells more about a volume that does not belong to the bundle.
pub(crate) fn of_volume(fault: VolumeFaultKind) -> Option<&'static str> {
    (fault == VolumeFaultKind::Content).then_some("`stellaops bundle validate` says more")
}

/// Returns where to look when a registry could not be reached.
pub(crate) fn of_exit(exit: Exit) -> Option<&'static str> {
    (exit == Exit::Network).then_some("`stellaops registry diagnose` looks for the cause")
}

/// Returns what to configure where an operator may know better than the registry's answers; empty otherwise.
pub(crate) fn of_problem(problem: &Problem, registry: Option<&Registry>) -> String {
    match (problem.code, registry) {
        (ErrorCode::Denied, Some(registry)) if problem.settled_by_tag => format!(
            "; if the registry has no referrers API, configure registries.{registry}.referrers_api: unsupported"
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::commands::command_line;

    fn options(command: &clap::Command, found: &mut BTreeSet<String>) {
        let own = command.get_arguments().filter_map(clap::Arg::get_long);
        found.extend(own.map(|long| format!("--{long}")));
        for below in command.get_subcommands() {
            options(below, found);
        }
    }

    #[test]
    fn every_option_that_a_remedy_names_is_one_of_the_command_line() {
        let mut known = BTreeSet::new();
        options(&command_line(), &mut known);
        let exports = [ExportRemedy::AllowIncomplete, ExportRemedy::Overwrite];
        let findings = FindingKind::ALL.iter().copied();
        let remedies = exports.into_iter().filter_map(of_export);
        let remedies = remedies
            .chain(findings.filter_map(of_finding))
            .chain([SCHEME]);
        let text = remedies.collect::<Vec<_>>().join(" ");
        let named = text
            .split_whitespace()
            .map(|word| word.trim_matches(['`', ',']));
        let named: Vec<_> = named.filter(|word| word.starts_with("--")).collect();
        assert!(named.len() > 5, "{named:?}");
        for option in named {
            assert!(known.contains(option), "{option}");
        }
    }

    #[test]
    fn what_a_library_says_of_a_finding_names_no_option_and_no_command_of_this_program() {
        for kind in FindingKind::ALL {
            let said = kind.remedy();
            assert!(
                !said.contains("--") && !said.contains("stellaops"),
                "{kind}: {said}"
            );
        }
    }
}
