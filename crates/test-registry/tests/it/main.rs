//! What a test registry does, seen over plain HTTP.

mod client;
mod content;
mod faults;
mod personas;
mod tokens;
