//! What a test registry does, seen over plain HTTP.

mod client;
mod faults;
mod personas;
