use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use oci_content::{Descriptor, Digest};

/// Cached lists, and lists that clients are paging through.
#[derive(Debug, Default)]
pub(crate) struct ListCache {
    pub(crate) answers: Mutex<HashMap<(String, Digest), CachedList>>,
    /// Pages, by the digest of the whole list.
    pub(crate) walks: Mutex<HashMap<String, Vec<Vec<Descriptor>>>>,
}

#[derive(Debug)]
pub(crate) struct CachedList {
    pub(crate) since: Instant,
    pub(crate) entries: Vec<Descriptor>,
}
