//! The binary, run as a user runs it, against registries on loopback.

mod bad_input;
mod demo;
mod discover;
mod export;
mod import;
mod run;
mod runbook;
