use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::path::Path;

use oci_content::{
    Digest, ImageLayout, LayoutError, LayoutErrorKind, LayoutReference, Reference,
    SourceRepository, bounded,
};

use super::LayoutReferrers;
use super::contents::{Contents, Entry};

/// An image that a [`LayoutReference`] leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayoutImage {
    /// The name of the image, for bundles, receipts and policies.
    ///
    /// Its repository is that of the annotation `io.containerd.image.name`, else that of a `ref.name`
    /// that is a full reference, else [`oci/FOLDERNAME`](LayoutReference::repository). Its tag is
    /// that of the `ref.name`, else that of the annotation. Without a tag, it is named by its
    /// digest.
    pub reference: Reference,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The digest that the name leads to, if the image was asked for by name and digest and the
    /// name leads elsewhere.
    pub tag_moved_to: Option<Digest>,
    /// The repository whose tags count; `None` if the folder does not say one, or several.
    repository: Option<SourceRepository>,
}

/// Why a [`LayoutReference`] leads to no image. Displays as one sentence.
#[derive(Debug)]
pub struct LayoutImageError {
    kind: LayoutImageErrorKind,
    message: String,
    source: Option<LayoutError>,
}

/// The classes of [`LayoutImageError`], by what a caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayoutImageErrorKind {
    /// There is no such folder, or no such image in it.
    NotFound,
    /// What is there is not an image layout.
    NotALayout,
    /// Several images are meant where one is wanted, or one name means several.
    Ambiguous,
    /// The folder's `index.json` is missing or malformed.
    Malformed,
    /// The folder's `index.json` is larger than its limit.
    Limit,
    /// The file system refused.
    Io,
}

/// The number of images that a message lists.
const SHOWN: usize = 8;

impl LayoutReferrers {
    /// Opens the layout in the folder of a reference.
    ///
    /// # Errors
    ///
    /// When the folder does not exist, is not a layout, or its `index.json` cannot be read.
    pub fn open_folder(wanted: &LayoutReference) -> Result<Self, LayoutImageError> {
        let folder = wanted.folder();
        let shown = folder.display();
        match std::fs::metadata(folder) {
            Ok(metadata) if !metadata.is_dir() => {
                let message = format!("{shown} is a file, not the folder of an image layout");
                return Err(LayoutImageError::new(
                    LayoutImageErrorKind::NotALayout,
                    message,
                ));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let whole = wanted.name().map(|name| format!("{shown}:{name}"));
                let whole = whole.filter(|whole| Path::new(whole).is_dir());
                let hint = match whole {
                    Some(whole) => format!("; the folder {whole} is written oci:{whole}/"),
                    None if folder.starts_with("~") => {
                        "; shells expand ~ only at the start of a word".to_owned()
                    }
                    None => String::new(),
                };
                let message = format!("there is no folder {shown}{hint}");
                return Err(LayoutImageError::new(
                    LayoutImageErrorKind::NotFound,
                    message,
                ));
            }
            // What else is wrong shows when the layout is opened.
            _ => {}
        }
        let layout = ImageLayout::open(folder)?;
        Self::open(layout).map_err(|error| match error.kind() {
            LayoutErrorKind::NotALayout | LayoutErrorKind::NotFound | LayoutErrorKind::Corrupt => {
                LayoutImageError {
                    kind: LayoutImageErrorKind::Malformed,
                    ..error.into()
                }
            }
            _ => error.into(),
        })
    }

    /// Returns the images that a reference selects: all images of the folder if it has neither name
    /// nor digest, else one. They are sorted by reference.
    ///
    /// # Errors
    ///
    /// When there is none, or when a name leads to several manifests.
    pub fn images(&self, wanted: &LayoutReference) -> Result<Vec<LayoutImage>, LayoutImageError> {
        if wanted.name().is_some() || wanted.digest().is_some() {
            return self.image(wanted).map(|image| vec![image]);
        }
        let images = named_images(self.contents.images(), wanted);
        let mut pairs = images.iter().zip(images.iter().skip(1));
        if let Some((one, other)) = pairs.find(|(one, other)| one.reference == other.reference) {
            let message = format!(
                "{wanted} has two manifests with the name {}, {} and {}; choose one by its digest",
                one.reference, one.digest, other.digest
            );
            return Err(LayoutImageError::new(
                LayoutImageErrorKind::Ambiguous,
                message,
            ));
        }
        if images.is_empty() {
            return Err(self.nothing(wanted));
        }
        Ok(images)
    }

    /// Returns the one image that a reference selects.
    ///
    /// # Errors
    ///
    /// When there is none, or more than one.
    pub fn image(&self, wanted: &LayoutReference) -> Result<LayoutImage, LayoutImageError> {
        match (wanted.name(), wanted.digest()) {
            (name, Some(digest)) => self.by_digest(wanted, name, digest),
            (Some(name), None) => self.by_name(wanted, name),
            (None, None) => {
                let mut images = self.images(wanted)?;
                match images.pop() {
                    Some(image) if images.is_empty() => Ok(image),
                    _ => {
                        let entries: Vec<_> = self.contents.images().collect();
                        let message = format!(
                            "{wanted} holds {} images; choose one: {}",
                            images.len() + 1,
                            listed(&entries)
                        );
                        Err(LayoutImageError::new(
                            LayoutImageErrorKind::Ambiguous,
                            message,
                        ))
                    }
                }
            }
        }
    }

    /// Returns this folder as an image of it sees it.
    #[must_use]
    pub fn of(&self, image: &LayoutImage) -> Self {
        self.within(image.repository.as_ref())
    }

    fn by_name(
        &self,
        wanted: &LayoutReference,
        name: &str,
    ) -> Result<LayoutImage, LayoutImageError> {
        let found: Vec<_> = called(&self.contents, name).collect();
        let mut images = named_images(found.iter().copied(), wanted);
        let folder = wanted.folder().display();
        match images.pop() {
            Some(image) if images.is_empty() => Ok(image),
            Some(_) => {
                let message = format!(
                    "{folder} has {} images that are named {name}; choose one by its full name or its digest: {}",
                    images.len() + 1,
                    listed(&found)
                );
                Err(LayoutImageError::new(
                    LayoutImageErrorKind::Ambiguous,
                    message,
                ))
            }
            None => {
                let there: Vec<_> = self.contents.images().collect();
                let has = if there.is_empty() {
                    "it has none".to_owned()
                } else {
                    format!("it has {}", listed(&there))
                };
                let message = format!(
                    "{folder} has no image that is named {:?}; {has}",
                    bounded(name, 256)
                );
                Err(LayoutImageError::new(
                    LayoutImageErrorKind::NotFound,
                    message,
                ))
            }
        }
    }

    fn by_digest(
        &self,
        wanted: &LayoutReference,
        name: Option<&str>,
        digest: &Digest,
    ) -> Result<LayoutImage, LayoutImageError> {
        let folder = wanted.folder().display();
        match self.contents.layout.blob_size(digest) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let message = format!("{folder} does not have {digest}");
                return Err(LayoutImageError::new(
                    LayoutImageErrorKind::NotFound,
                    message,
                ));
            }
            Err(error) => return Err(error.into()),
        }
        let by_name = name.and_then(|name| called(&self.contents, name).next());
        let entries = self.contents.entries.iter();
        let own = entries.filter(|entry| entry.digest == *digest);
        let repositories: BTreeSet<_> = own.chain(by_name).filter_map(Entry::repository).collect();
        let mut repositories = repositories.into_iter();
        let (first, second) = (repositories.next(), repositories.next());
        let place = first.clone().unwrap_or_else(|| wanted.repository());
        let (registry, repository) = (place.registry().clone(), place.name().clone());
        let tag = by_name.and_then(|entry| entry.tag.clone());
        let tag = tag.or_else(|| name?.parse().ok());
        let reference = match tag {
            Some(tag) => Reference::with_tag(registry, repository, tag).pinned_to(digest.clone()),
            None => Reference::with_digest(registry, repository, digest.clone()),
        };
        Ok(LayoutImage {
            reference,
            digest: digest.clone(),
            tag_moved_to: by_name
                .map(|entry| entry.digest.clone())
                .filter(|now| now != digest),
            repository: first.filter(|_| second.is_none()),
        })
    }

    /// Explains that there is no image.
    fn nothing(&self, wanted: &LayoutReference) -> LayoutImageError {
        let folder = wanted.folder().display();
        match self.contents.unreadable.first() {
            Some(problem) => {
                let about = problem.digest.as_ref().map(|digest| format!("{digest}: "));
                let message = format!(
                    "{folder} holds no image that can be read: {}{problem}",
                    about.unwrap_or_default()
                );
                LayoutImageError::new(LayoutImageErrorKind::Malformed, message)
            }
            None => {
                let message = format!("{folder} is an image layout without an image");
                LayoutImageError::new(LayoutImageErrorKind::NotFound, message)
            }
        }
    }
}

/// Returns the entries with a name: a `ref.name`, the tag of one, or the full name.
fn called<'a>(contents: &'a Contents, name: &'a str) -> impl Iterator<Item = &'a Entry> {
    let own = |entry: &&Entry| entry.name.as_deref() == Some(name);
    // A name that is written in full is not also looked for as a tag.
    let exact = contents.entries.iter().any(|entry| own(&entry));
    contents.entries.iter().filter(move |entry| {
        let full = entry.full.as_ref();
        own(entry)
            || full.is_some_and(|full| full.to_string() == name)
            || !exact && entry.tag.as_ref().is_some_and(|tag| tag.as_str() == name)
    })
}

/// Names images by their entries, sorted, each once.
fn named_images<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    wanted: &LayoutReference,
) -> Vec<LayoutImage> {
    let mut images: Vec<_> = entries.map(|entry| named(entry, wanted)).collect();
    images.sort_by_cached_key(|image| (image.reference.to_string(), image.digest.clone()));
    images.dedup();
    images
}

/// Names an image of a folder by its entry in `index.json`.
fn named(entry: &Entry, wanted: &LayoutReference) -> LayoutImage {
    let own = entry.repository();
    let place = own.clone().unwrap_or_else(|| wanted.repository());
    let (registry, repository) = (place.registry().clone(), place.name().clone());
    let reference = match &entry.tag {
        Some(tag) => Reference::with_tag(registry, repository, tag.clone()),
        None => Reference::with_digest(registry, repository, entry.digest.clone()),
    };
    LayoutImage {
        reference,
        digest: entry.digest.clone(),
        tag_moved_to: None,
        repository: own,
    }
}

/// Lists images for a message, each so that it can be written after the folder.
fn listed(entries: &[&Entry]) -> String {
    let tags = entries.iter().filter_map(|entry| entry.tag.as_ref());
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<_> = tags.filter(|tag| !seen.insert(*tag)).collect();
    let mut names: Vec<_> = entries
        .iter()
        .map(|entry| match (&entry.tag, &entry.full) {
            (Some(tag), _) if !repeated.contains(tag) => format!(":{tag}"),
            (Some(_), Some(full)) if entry.name.as_deref() == Some(&full.to_string()) => {
                format!(":{full}")
            }
            _ => format!("@{}", entry.digest),
        })
        .collect();
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let names = names.join(", ");
    match more {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

impl LayoutImageError {
    fn new(kind: LayoutImageErrorKind, message: String) -> Self {
        Self {
            kind,
            message,
            source: None,
        }
    }

    /// Returns the class.
    pub fn kind(&self) -> LayoutImageErrorKind {
        self.kind
    }
}

impl From<LayoutError> for LayoutImageError {
    fn from(error: LayoutError) -> Self {
        let kind = match error.kind() {
            LayoutErrorKind::NotALayout => LayoutImageErrorKind::NotALayout,
            LayoutErrorKind::NotFound => LayoutImageErrorKind::NotFound,
            LayoutErrorKind::Corrupt => LayoutImageErrorKind::Malformed,
            LayoutErrorKind::TooLarge => LayoutImageErrorKind::Limit,
            _ => LayoutImageErrorKind::Io,
        };
        Self {
            kind,
            message: String::new(),
            source: Some(error),
        }
    }
}

impl fmt::Display for LayoutImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => source.fmt(f),
            None => f.write_str(&self.message),
        }
    }
}

impl Error for LayoutImageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The wrapped error is displayed already, so its own cause is the next one.
        self.source.as_ref()?.source()
    }
}
