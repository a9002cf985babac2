//! What a test registry does, seen over plain HTTP.

mod anonymous;
mod bodies;
mod client;
mod content;
mod digests;
mod elsewhere;
mod faults;
mod late;
mod personas;
mod refusals;
mod tokens;
mod unused;
