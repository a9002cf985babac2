//! What a test registry does, seen over plain HTTP.

mod bodies;
mod client;
mod content;
mod elsewhere;
mod faults;
mod personas;
mod refusals;
mod tokens;
mod unused;
