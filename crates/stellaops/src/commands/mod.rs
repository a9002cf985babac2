//! One module per command.

pub(crate) mod base;
pub(crate) mod demo;
pub(crate) mod diagnose;
pub(crate) mod diff;
pub(crate) mod discover;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod manifest;
pub(crate) mod output;
pub(crate) mod pack;
pub(crate) mod policy;
pub(crate) mod probe;
pub(crate) mod serve;
pub(crate) mod signature;
pub(crate) mod validate;
pub(crate) mod version;
