use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use oci_content::{Descriptor, Digest};

/// Lists that are given again, and lists that are being walked.
#[derive(Debug, Default)]
pub(crate) struct ListCache {
    pub(crate) answers: Mutex<HashMap<(String, Digest), CachedList>>,
    /// Pages, by the digest of the list that they were cut from.
    pub(crate) walks: Mutex<HashMap<String, Vec<Vec<Descriptor>>>>,
}

#[derive(Debug)]
pub(crate) struct CachedList {
    pub(crate) since: Instant,
    pub(crate) entries: Vec<Descriptor>,
}
