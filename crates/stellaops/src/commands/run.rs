use std::fmt;

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

    /// Returns whether the command reads the configuration itself, and so runs even if it is wrong.
    fn reads_config(&self) -> bool {
        false
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a>;
}

/// A running command.
pub(crate) type Running<'a> = BoxFuture<'a, Result<(), Failure>>;
