use std::fmt;

use futures::future::LocalBoxFuture;
use oci_content::Registry;

use crate::context::Context;
use crate::exit::Failure;

/// A command, with the arguments that it was given.
pub(crate) trait Run: fmt::Debug {
    /// Returns the registries that the arguments name; `None` where the command speaks to no registry but its own.
    fn registries(&self) -> Option<Vec<Registry>> {
        None
    }

    /// Returns whether it ends by itself when the process is asked to, and has then done what it was for.
    fn drains(&self) -> bool {
        false
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a>;
}

/// What a command does until it ends.
pub(crate) type Running<'a> = LocalBoxFuture<'a, Result<(), Failure>>;
