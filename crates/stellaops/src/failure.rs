//! The exit code and the sentence for each error of the libraries.

use mirror_export::{ExportError, ExportErrorKind};
use mirror_import::{ImportError, ImportErrorKind, MirrorError};
use mirror_plan::{PlanError, PlanErrorKind};
use oci_content::with_causes;

use crate::exit::{Exit, Failure};
use crate::remedy;

pub(crate) fn of_export(error: &ExportError) -> Failure {
    let exit = match error.kind() {
        ExportErrorKind::Usage | ExportErrorKind::Busy => Exit::Usage,
        ExportErrorKind::LocalIo => Exit::LocalIo,
        ExportErrorKind::Access => Exit::Access,
        ExportErrorKind::Incomplete | ExportErrorKind::Policy => Exit::Incomplete,
        ExportErrorKind::Integrity => Exit::Integrity,
        ExportErrorKind::Limit => Exit::Limit,
        _ => Exit::Network,
    };
    Failure::new(exit, with_causes(error))
        .mended_by(error.remedy().and_then(remedy::of_export))
        .mended_by(remedy::of_exit(exit))
}

pub(crate) fn of_import(error: &ImportError) -> Failure {
    let exit = match error.kind() {
        ImportErrorKind::Usage => Exit::Usage,
        ImportErrorKind::LocalIo => Exit::LocalIo,
        ImportErrorKind::Access | ImportErrorKind::BaseMissing => Exit::Access,
        ImportErrorKind::Integrity => Exit::Integrity,
        ImportErrorKind::Authenticity => Exit::Authenticity,
        ImportErrorKind::Incomplete | ImportErrorKind::Unavailable => Exit::Incomplete,
        _ => Exit::Network,
    };
    Failure::new(exit, with_causes(error)).mended_by(remedy::of_import(error))
}

pub(crate) fn exit_of_plan(kind: PlanErrorKind) -> Exit {
    match kind {
        PlanErrorKind::Usage => Exit::Usage,
        PlanErrorKind::LocalIo => Exit::LocalIo,
        PlanErrorKind::Access => Exit::Access,
        PlanErrorKind::Incomplete | PlanErrorKind::Policy => Exit::Incomplete,
        PlanErrorKind::Integrity => Exit::Integrity,
        PlanErrorKind::Limit => Exit::Limit,
        _ => Exit::Network,
    }
}

pub(crate) fn of_plan(error: &PlanError) -> Failure {
    let exit = exit_of_plan(error.kind());
    Failure::new(exit, with_causes(error))
        .mended_by(error.remedy().and_then(remedy::of_plan))
        .mended_by(remedy::of_exit(exit))
}

pub(crate) fn of_mirror(error: &MirrorError) -> Failure {
    match error {
        MirrorError::Plan(error) => of_plan(error),
        MirrorError::Import(error) => {
            let failure = of_import(error);
            if error.kind() == ImportErrorKind::Unavailable {
                return failure.and(remedy::COPY_INCOMPLETE);
            }
            failure
        }
        incomplete => Failure::new(Exit::Incomplete, incomplete.to_string())
            .and(remedy::COPY_INCOMPLETE)
            .mended_by(remedy::of_exit(Exit::Incomplete)),
    }
}
