//! What jobs do. The command line and the service run them in the same way.

pub(crate) mod audit;
pub(crate) mod copy;
mod counting;
pub(crate) mod export;
pub(crate) mod job;
pub(crate) mod mirror;
pub(crate) mod prune;
pub(crate) mod sending;
