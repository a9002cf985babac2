use std::fmt;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use oci_content::Registry;

use crate::context::Context;
use crate::exit::Failure;

/// A command with its arguments.
pub(crate) trait Run: fmt::Debug + Sync {
    /// Returns the registries named by the arguments; `None` if the command talks to no registry other than its own.
    fn registries(&self) -> Option<Vec<Registry>> {
        None
    }

    /// Returns whether the command handles signals itself, and ends successfully after one.
    fn drains(&self) -> bool {
        false
    }

    /// Returns whether the command changes the file of logins, which then need not be there.
    fn changes_logins(&self) -> bool {
        false
    }

    /// Returns what the command does about the configuration.
    fn config_use(&self) -> ConfigUse {
        ConfigUse::Demanded
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a>;
}

/// What a command does about the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigUse {
    /// It does not run if the configuration is wrong.
    Demanded,
    /// It runs with the defaults if the configuration is wrong.
    IfRight,
    /// It reads the file itself.
    Own,
}

/// Where the unit of the service expects the configuration.
const SERVICE_FILE: &str = "/etc/stellaops/export-center.yaml";

impl ConfigUse {
    /// Returns the file of the configuration. Commands about the service find its file without being told.
    pub(crate) fn file(self, named: Option<&Path>) -> Option<PathBuf> {
        let of_service = Path::new(SERVICE_FILE);
        let is_read = match self {
            Self::Demanded => false,
            Self::IfRight => of_service.exists(),
            Self::Own => true,
        };
        named
            .or_else(|| is_read.then_some(of_service))
            .map(Path::to_owned)
    }
}

/// A running command.
pub(crate) type Running<'a> = BoxFuture<'a, Result<(), Failure>>;
