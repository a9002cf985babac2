use oci_content::{Descriptor, DescriptorError};
use serde_json::value::RawValue;

use crate::bounded_list::BoundedList;

/// Entries of one page of a list, or of one index, that are read: ten times what a discovery takes of one subject.
pub const MAX_LIST_ENTRIES: usize = 100_000;

/// A referrers list: the body of an image index, read entry by entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReferrersList {
    /// The entries in their order, up to [`MAX_LIST_ENTRIES`]; a malformed one does not spoil the others.
    pub entries: Vec<Result<Descriptor, DescriptorError>>,
    /// The number of entries beyond those. Where there are any, this is not the whole list.
    pub unread: usize,
    /// Whether the content type was another than an index has.
    pub other_content_type: bool,
}

impl ReferrersList {
    /// Reads the list of entries of an index.
    pub(crate) fn read(manifests: &RawValue, other_content_type: bool) -> Self {
        // A list of whatever values cannot fail to be read, and `null` is what Go registries send for an empty one.
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
