use oci_content::{Descriptor, DescriptorError};
use serde_json::value::RawValue;

use crate::bounded_list::BoundedList;

/// The number of entries of one page, or of one index, that are read: ten times the default limit
/// of referrers per subject of a discovery.
pub const MAX_LIST_ENTRIES: usize = 100_000;

/// A referrers list, with each entry of the image index parsed separately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReferrersList {
    /// The entries in order, at most [`MAX_LIST_ENTRIES`]; a malformed one does not affect the
    /// others.
    pub entries: Vec<Result<Descriptor, DescriptorError>>,
    /// The number of entries beyond those. If it is not 0, this is not the whole list.
    pub unread: usize,
    /// Whether the content type is not that of an index.
    pub other_content_type: bool,
}

impl ReferrersList {
    /// Parses the list of entries of an index.
    pub(crate) fn read(manifests: &RawValue, other_content_type: bool) -> Self {
        // Reading a valid list of arbitrary values cannot fail, and Go registries send `null` for
        // an empty one.
        let list: BoundedList<&RawValue> =
            BoundedList::read(manifests.get(), MAX_LIST_ENTRIES).unwrap_or_default();
        let entries = list.read.into_iter();
        Self {
            entries: entries
                .map(|raw| Descriptor::from_json(raw.get()))
                .collect(),
            unread: list.unread,
            other_content_type,
        }
    }
}
