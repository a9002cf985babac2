//! The binary, run as a user runs it, against registries on loopback.
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, but not what they share"
)]

mod bad_input;
mod budget;
mod center;
mod config;
mod convert;
mod delta;
mod demo;
mod deploy;
mod diagnose;
mod discover;
mod disk;
mod documented;
mod export;
mod folders;
mod import;
mod inspect;
mod jobs;
mod kill;
mod ledger;
mod login;
mod metrics;
mod mirror;
mod mirror_audit;
mod mirror_prune;
mod policy;
mod probe;
mod progress;
mod run;
mod runbook;
mod selection;
mod serve;
mod settings;

mod signals;
mod signature;
mod support;
mod volumes;
