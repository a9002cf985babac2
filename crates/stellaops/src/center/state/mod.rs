//! What the service keeps in its state folder.

mod error;

pub(crate) use self::error::StateError;
