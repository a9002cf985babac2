use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::stage::Stage;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $stage:ident, $exit:literal, $class:ident, $remedy:expr;)+) => {
        /// The kind of a finding. Its name is the one in text and JSON.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum FindingKind {
            $($(#[$doc])* $name,)+
        }

        impl FindingKind {
            /// All kinds, in the order of the stages.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Returns the name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Returns the stage in which it is found.
            pub fn stage(self) -> Stage {
                match self { $(Self::$name => Stage::$stage,)+ }
            }

            /// Returns the exit code that a command ends with when this is its first error.
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)+ }
            }

            /// Returns whether it says that a part of the graph is unknown or missing: a warning,
            /// and an error if the validation is strict.
            pub fn is_of_completeness(self) -> bool {
                matches!(self.class(), Class::Completeness)
            }

            /// Returns the cases in which it is an error.
            pub(super) fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)+ }
            }

            /// Returns what to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

/// When a kind is an error.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// Always an error.
    Always,
    /// An error if the validation is strict, else a warning.
    Completeness,
    /// A warning, unless the caller refuses it.
    Advice,
}

pub(super) const TRANSFER_AGAIN: &str = "compare `sha256sum` of the file with the .sha256 file that was written beside it at \
    the source: if they differ, transfer it again; if they agree, export it again";
const VOLUME_AGAIN: &str = "copy this volume of the same export again, and check it with `sha256sum -c` and the \
    .sha256 file of its name";
const EXPORT_AGAIN: &str =
    "the bundle was written incorrectly or changed afterwards; export it again";
const UPSTREAM: &str = "the source registry holds it like this; push the image or referrer again there, then export again";
const HOSTILE: &str =
    "no exporter writes this; do not extract the file, and find out where it comes from";
const RAISE_LIMIT: &str = "if you expect a bundle of this size, raise the limit named here";
const NOT_AUTHENTIC: &str = "do not import it; ask who sent it for the bundle and its signature again, and compare \
    the key with the one that they sign with";
const COMPLETE: &str =
    "discover the image's referrers at the source, settle what is missing, and export again";

kinds! {
    /// The file cannot be read.
    Io => Container, 8, Always, "check that the file exists, that it can be read, and that its medium is intact";
    /// A volume other than the first is named.
    VolumeNotFirst => Container, 2, Always, "name the first volume; the others are found beside it";
    /// A volume is missing.
    VolumeMissing => Container, 8, Always, "put it into the folder of the first volume, or link to it there";
    /// A volume is shorter or longer than it was written.
    VolumeSize => Container, 3, Always, VOLUME_AGAIN;
    /// The bytes of a volume are not those that were written: it belongs to another bundle or
    /// export, or is damaged.
    VolumeContent => Container, 4, Always, VOLUME_AGAIN;
    /// There is a volume after the last one of the bundle.
    VolumeUnexpected => Container, 3, Always, "remove it from the folder of the first volume: it belongs to another export";
    /// Neither a gzip file nor a tar archive.
    NotABundle => Container, 3, Always, "name the bundle file that the export wrote";
    /// Gzip or tar in an encoding that a bundle does not use.
    NotCanonical => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// The file ends before the bundle does.
    Truncated => Container, 3, Always, TRANSFER_AGAIN;
    /// The framing of a stored block contradicts itself.
    GzipBlock => Container, 3, Always, TRANSFER_AGAIN;
    /// The checksum or the length in the gzip trailer is wrong.
    GzipChecksum => Container, 3, Always, TRANSFER_AGAIN;
    /// A tar header is damaged.
    TarHeader => Container, 3, Always, TRANSFER_AGAIN;
    /// A pax or GNU header changes another entry.
    TarExtension => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// The padding after a file is not all zeros.
    TarPadding => Container, 3, Always, TRANSFER_AGAIN;
    /// The archive does not end in two zero blocks.
    TarEnd => Container, 3, Always, TRANSFER_AGAIN;
    /// A file is out of order.
    Order => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// The first file is not `manifest.yaml`.
    NoManifest => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// There is data after the end of the bundle.
    TrailingData => Container, 3, Always, TRANSFER_AGAIN;

    /// A link, a device or another entry that is not a file.
    EntryType => Unsafe, 7, Always, HOSTILE;
    /// A path that leads out of a folder, or that systems read differently.
    UnsafePath => Unsafe, 7, Always, HOSTILE;
    /// A path that occurs twice.
    DuplicatePath => Unsafe, 7, Always, HOSTILE;

    /// `manifest.yaml` is too large.
    ManifestBytes => Limit, 6, Always, RAISE_LIMIT;
    /// The signature is too large.
    SignatureBytes => Limit, 6, Always, RAISE_LIMIT;
    /// There are too many files.
    Entries => Limit, 6, Always, RAISE_LIMIT;
    /// A file is too large.
    EntryBytes => Limit, 6, Always, RAISE_LIMIT;
    /// All files together are too large.
    TotalBytes => Limit, 6, Always, RAISE_LIMIT;
    /// `index.json` is too large.
    IndexBytes => Limit, 6, Always, RAISE_LIMIT;
    /// A manifest is larger than any registry takes.
    ObjectBytes => Limit, 6, Always, UPSTREAM;
    /// All manifests together are too large to keep in memory.
    GraphBytes => Limit, 6, Always, RAISE_LIMIT;
    /// A subject has too many referrers.
    ReferrersPerSubject => Limit, 6, Always, RAISE_LIMIT;
    /// Indexes list indexes too deeply.
    IndexDepth => Limit, 6, Always, RAISE_LIMIT;

    /// A key is given, and the bundle is not signed.
    SignatureMissing => Signature, 5, Always, "have it exported with a signing key, or give the signature that came beside it";
    /// The file is not a signature, or is not in the encoding of the format.
    SignatureMalformed => Signature, 5, Always, NOT_AUTHENTIC;
    /// The signature is of a kind that is not supported: another algorithm, a certificate, an
    /// envelope, a later version.
    SignatureUnsupported => Signature, 5, Always, "have it signed with an ECDSA key of the curve P-256";
    /// The key did not make the signature over this `manifest.yaml`.
    SignatureInvalid => Signature, 5, Always, NOT_AUTHENTIC;

    /// `manifest.yaml` is of a version that this release does not know.
    ManifestVersion => Manifest, 3, Always, "update the software on this side to the release that exported the bundle";
    /// A line of `manifest.yaml` is not what the format requires there.
    ManifestMalformed => Manifest, 3, Always, EXPORT_AGAIN;
    /// `manifest.yaml` is not in the one encoding of the format.
    ManifestNotCanonical => Manifest, 3, Always, EXPORT_AGAIN;
    /// Statements of `manifest.yaml` contradict each other.
    ManifestInconsistent => Manifest, 3, Always, EXPORT_AGAIN;

    /// `oci-layout` is not the marker of an image layout.
    LayoutMarker => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` is not an index.
    IndexMalformed => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` lists the right content in other bytes than `manifest.yaml` determines.
    IndexNotCanonical => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` does not list an image or a referrer of the bundle, or lists it differently.
    IndexEntryMissing => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` lists something that `manifest.yaml` does not know.
    IndexEntryUnexpected => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` and `manifest.yaml` have different digests for one name.
    ReferenceConflict => Layout, 3, Always, EXPORT_AGAIN;
    /// A file that has to be a manifest is not one.
    ObjectMalformed => Layout, 3, Always, UPSTREAM;
    /// A manifest of a type that is not carried, such as Docker schema 1.
    ObjectUnsupported => Layout, 3, Always, UPSTREAM;
    /// One document that reads as two types of manifest.
    TypeConfusion => Layout, 3, Always, HOSTILE;
    /// The media type of a manifest is not the one in the descriptor that points at it.
    MediaTypeMismatch => Layout, 3, Always, UPSTREAM;
    /// Content that a manifest needs is not in the bundle.
    ObjectMissing => Layout, 4, Always, EXPORT_AGAIN;
    /// The size of content is not the one in the descriptor that points at it.
    ObjectSizeMismatch => Layout, 4, Always, UPSTREAM;
    /// The content that a descriptor embeds does not match its digest.
    EmbeddedDataMismatch => Layout, 4, Always, UPSTREAM;
    /// The given base is not the bundle that this one is based on.
    BaseMismatch => Layout, 4, Always, "give the bundle that was the base of the export";
    /// A blob is left to the base, and the given base does not hold it.
    BaseMissing => Layout, 4, Always, EXPORT_AGAIN;
    /// A listed file that no image and no referrer needs.
    UnreferencedObject => Layout, 4, Advice, EXPORT_AGAIN;

    /// A listed referrer is missing.
    ReferrerMissing => Digests, 4, Always, EXPORT_AGAIN;
    /// The bytes of a referrer do not match its digest.
    ReferrerChecksumMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// The size of a referrer is not the listed one.
    ReferrerSizeMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A listed file is missing.
    EntryMissing => Digests, 4, Always, EXPORT_AGAIN;
    /// The bytes of a file do not match its digest.
    EntryChecksumMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// The size of a file is not the listed one.
    EntrySizeMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A file or folder is present and not listed.
    EntryNotListed => Digests, 4, Always, "remove what does not belong in the bundle, or export it again";

    /// The subject of a referrer is not the one it is listed under.
    SubjectMismatch => Referrers, 4, Always, EXPORT_AGAIN;
    /// A referrer has no subject, and no legacy tag explains it.
    ReferrerWithoutSubject => Referrers, 3, Always, EXPORT_AGAIN;
    /// The artifact type of a referrer is not the listed one.
    ArtifactTypeMismatch => Referrers, 4, Always, EXPORT_AGAIN;
    /// A referrer gives a size or media type for its subject that the subject does not have.
    SubjectDescriptorMismatch => Referrers, 4, Completeness, UPSTREAM;
    /// The bundle does not hold the subject of a referrer.
    OrphanedReferrer => Referrers, 11, Completeness, "export the subject as well, or leave its referrers out";
    /// A manifest of the bundle refers to another one, but discovery did not list it.
    UnlistedReferrer => Referrers, 11, Completeness, COMPLETE;
    /// The export was not complete.
    BundleIncomplete => Referrers, 11, Completeness, COMPLETE;
    /// Discovery of the referrers of one subject was not complete.
    DiscoveryIncomplete => Referrers, 11, Completeness, COMPLETE;
    /// Discovery could not settle something, or found it stale or dangling.
    DiscoveryGap => Referrers, 11, Completeness, COMPLETE;
    /// The referrers of an image were not looked for.
    ImageNotDiscovered => Referrers, 11, Completeness, COMPLETE;
    /// The number of images without referrers is not the one that `manifest.yaml` gives.
    BareImagesMismatch => Referrers, 11, Completeness, EXPORT_AGAIN;

    /// An image has fewer referrers than a rule of the policy requires.
    RequiredReferrerMissing => Policy, 11, Always, "create and push it at the source, then export again; or change the rule named here";
    /// An image has the referrers that a rule requires, but they are older than it allows or have
    /// no date.
    ReferrerTooOld => Policy, 11, Always, "create a new one and push it at the source, then export again; or change the rule named here";
    /// An image has a referrer that a rule denies.
    DeniedReferrer => Policy, 11, Always, "remove it at the source, then export again; or change the rule named here";
    /// Content that a rule requires to be signed is not.
    RequiredSignatureMissing => Policy, 11, Always, "have it signed at the source, then export again; a bundle's own signature counts only where the key is given";
    /// A rule applies to no image of the bundle, so it judged nothing.
    PolicyRuleUnused => Policy, 11, Advice, "compare the patterns of the rule with the repositories of the bundle, and with those that an import goes into; `unused: allow` says that a rule need not meet an image";
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for FindingKind {
    type Err = UnknownFindingKind;

    fn from_str(name: &str) -> Result<Self, UnknownFindingKind> {
        let mut kinds = Self::ALL.iter();
        let kind = kinds.find(|kind| kind.as_str() == name).copied();
        kind.ok_or_else(|| UnknownFindingKind {
            name: oci_content::bounded(name, 64).into_owned(),
        })
    }
}

impl<'de> Deserialize<'de> for FindingKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}

/// A name that no [`FindingKind`] of this version has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a kind of finding that this version knows")]
pub struct UnknownFindingKind {
    name: String,
}
