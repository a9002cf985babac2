use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::stage::Stage;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $stage:ident, $exit:literal, $class:ident, $remedy:expr;)+) => {
        /// What a finding is. The name is the one in text and JSON.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum FindingKind {
            $($(#[$doc])* $name,)+
        }

        impl FindingKind {
            /// Every kind, in the order of the stages.
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

            /// Returns whether it says that something of the graph is not known or not there: a warning, and an error when
            /// the validation is strict.
            pub fn is_of_completeness(self) -> bool {
                matches!(self.class(), Class::Completeness)
            }

            /// Returns when it is an error.
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
    /// Always.
    Always,
    /// When the validation is strict; else a warning.
    Completeness,
    /// Never.
    Advice,
}

pub(super) const TRANSFER_AGAIN: &str = "compare `sha256sum` of the file with the .sha256 file that was written beside it at \
    the source: if they differ, transfer it again; if they agree, export it again";
const VOLUME_AGAIN: &str = "bring this volume of the same export again, and check it with `sha256sum -c` and the \
    .sha256 file of its name";
const EXPORT_AGAIN: &str = "the bundle was made wrong or changed afterwards; export it again";
const UPSTREAM: &str = "the source registry has it like this; have the image or the referrer pushed again there, then export again";
const HOSTILE: &str =
    "no exporter writes this; do not extract the file, and find out where it comes from";
const RAISE_LIMIT: &str =
    "if a bundle of this size is what you expect, raise the limit that is named";
const NOT_AUTHENTIC: &str = "do not import it; ask who sent it for the bundle and its signature again, and compare \
    the key with the one that they sign with";
const COMPLETE: &str =
    "discover the image's referrers at the source, settle what is missing, and export again";

kinds! {
    /// The file cannot be read.
    Io => Container, 8, Always, "check that the file is there, may be read, and that its medium is sound";
    /// Another volume than the first is named.
    VolumeNotFirst => Container, 2, Always, "name the first volume; the others are found beside it";
    /// A volume is not there.
    VolumeMissing => Container, 8, Always, "bring it into the folder of the first volume, or make a link to it there";
    /// A volume is shorter or longer than it was written.
    VolumeSize => Container, 3, Always, VOLUME_AGAIN;
    /// A volume holds other bytes than it was written with: of another bundle, of another export, or damaged ones.
    VolumeContent => Container, 4, Always, VOLUME_AGAIN;
    /// There is a volume behind the last one of the bundle.
    VolumeUnexpected => Container, 3, Always, "remove it from the folder of the first volume: it is of another export";
    /// Neither a gzip file nor a tar archive.
    NotABundle => Container, 3, Always, "name the bundle file that the export wrote";
    /// Gzip or tar in another encoding than a bundle has.
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
    /// Something else than zeros pads a file.
    TarPadding => Container, 3, Always, TRANSFER_AGAIN;
    /// The archive does not end in two zero blocks.
    TarEnd => Container, 3, Always, TRANSFER_AGAIN;
    /// A file is not in its place.
    Order => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// The first file is not `manifest.yaml`.
    NoManifest => Container, 3, Always, bundle_format::REPACK_REMEDY;
    /// There is something behind the end of the bundle.
    TrailingData => Container, 3, Always, TRANSFER_AGAIN;

    /// A link, a device or another entry that is no file.
    EntryType => Unsafe, 7, Always, HOSTILE;
    /// A path that leads out of a folder, or that two systems read in two ways.
    UnsafePath => Unsafe, 7, Always, HOSTILE;
    /// A path that is there twice.
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
    /// All manifests together are too large to be kept in memory.
    GraphBytes => Limit, 6, Always, RAISE_LIMIT;
    /// A subject has too many referrers.
    ReferrersPerSubject => Limit, 6, Always, RAISE_LIMIT;
    /// Indexes list indexes too deeply.
    IndexDepth => Limit, 6, Always, RAISE_LIMIT;

    /// A key is given, and the bundle is not signed.
    SignatureMissing => Signature, 5, Always, "have it exported with a signing key, or give the signature that came beside it";
    /// The signature is none, or is written in another way than the format has.
    SignatureMalformed => Signature, 5, Always, NOT_AUTHENTIC;
    /// The signature is of another kind: another algorithm, a certificate, an envelope, a later version.
    SignatureUnsupported => Signature, 5, Always, "have it signed with an ECDSA key of the curve P-256";
    /// The signature is not one that the key has made over this `manifest.yaml`.
    SignatureInvalid => Signature, 5, Always, NOT_AUTHENTIC;

    /// `manifest.yaml` is of a version that this release does not know.
    ManifestVersion => Manifest, 3, Always, "update the software on this side to the release that exported the bundle";
    /// A line of `manifest.yaml` is not what the format has in its place.
    ManifestMalformed => Manifest, 3, Always, EXPORT_AGAIN;
    /// `manifest.yaml` says what it says in another encoding than the one the format has.
    ManifestNotCanonical => Manifest, 3, Always, EXPORT_AGAIN;
    /// Statements of `manifest.yaml` contradict each other.
    ManifestInconsistent => Manifest, 3, Always, EXPORT_AGAIN;

    /// `oci-layout` is not the marker of an image layout.
    LayoutMarker => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` is no index.
    IndexMalformed => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` says what it has to say in other bytes than the ones that `manifest.yaml` determines.
    IndexNotCanonical => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` does not list an image or a referrer of the bundle, or lists it otherwise.
    IndexEntryMissing => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` lists something that `manifest.yaml` does not know.
    IndexEntryUnexpected => Layout, 3, Always, EXPORT_AGAIN;
    /// `index.json` and `manifest.yaml` have different digests for one name.
    ReferenceConflict => Layout, 3, Always, EXPORT_AGAIN;
    /// A file that has to be a manifest is none.
    ObjectMalformed => Layout, 3, Always, UPSTREAM;
    /// A manifest of a type that is not carried, such as Docker schema 1.
    ObjectUnsupported => Layout, 3, Always, UPSTREAM;
    /// One document that reads as two types of manifest.
    TypeConfusion => Layout, 3, Always, HOSTILE;
    /// A manifest is of another media type than what points at it says.
    MediaTypeMismatch => Layout, 3, Always, UPSTREAM;
    /// Something that a manifest needs is not in the bundle.
    ObjectMissing => Layout, 4, Always, EXPORT_AGAIN;
    /// Something is of another size than what points at it says.
    ObjectSizeMismatch => Layout, 4, Always, UPSTREAM;
    /// Content that a descriptor embeds is not the content of its digest.
    EmbeddedDataMismatch => Layout, 4, Always, UPSTREAM;
    /// The base that is given is not the bundle that this one is based on.
    BaseMismatch => Layout, 4, Always, "give the bundle that was the base of the export";
    /// A blob that is left out because the base holds it, and the base that is given does not.
    BaseMissing => Layout, 4, Always, EXPORT_AGAIN;
    /// A file that is listed and that no image and no referrer needs.
    UnreferencedObject => Layout, 4, Advice, EXPORT_AGAIN;

    /// A referrer that is listed and not there.
    ReferrerMissing => Digests, 4, Always, EXPORT_AGAIN;
    /// A referrer with other bytes than its digest stands for.
    ReferrerChecksumMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A referrer of another size than the listed one.
    ReferrerSizeMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A file that is listed and not there.
    EntryMissing => Digests, 4, Always, EXPORT_AGAIN;
    /// A file with other bytes than its digest stands for.
    EntryChecksumMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A file of another size than the listed one.
    EntrySizeMismatch => Digests, 4, Always, TRANSFER_AGAIN;
    /// A file or folder that is there and not listed.
    EntryNotListed => Digests, 4, Always, "remove what does not belong to the bundle, or export it again";

    /// A referrer refers to another subject than the one it is listed under.
    SubjectMismatch => Referrers, 4, Always, EXPORT_AGAIN;
    /// A referrer refers to nothing, and no legacy tag explains it.
    ReferrerWithoutSubject => Referrers, 3, Always, EXPORT_AGAIN;
    /// A referrer is of another artifact type than the listed one.
    ArtifactTypeMismatch => Referrers, 4, Always, EXPORT_AGAIN;
    /// A referrer names its subject with another size or media type than the subject has.
    SubjectDescriptorMismatch => Referrers, 4, Completeness, UPSTREAM;
    /// A referrer whose subject the bundle does not hold.
    OrphanedReferrer => Referrers, 11, Completeness, "export the subject as well, or leave its referrers out";
    /// A manifest of the bundle refers to another one, and discovery did not list it.
    UnlistedReferrer => Referrers, 11, Completeness, COMPLETE;
    /// The export was not complete.
    BundleIncomplete => Referrers, 11, Completeness, COMPLETE;
    /// Discovery of the referrers of one subject was not complete.
    DiscoveryIncomplete => Referrers, 11, Completeness, COMPLETE;
    /// Something that discovery could not settle, or found stale or dangling.
    DiscoveryGap => Referrers, 11, Completeness, COMPLETE;
    /// Nobody has looked for referrers of an image.
    ImageNotDiscovered => Referrers, 11, Completeness, COMPLETE;
    /// The number of images without referrers is not the one that `manifest.yaml` gives.
    BareImagesMismatch => Referrers, 11, Completeness, EXPORT_AGAIN;

    /// An image has fewer referrers than a rule of the policy requires.
    RequiredReferrerMissing => Policy, 11, Always, "have it made and pushed at the source, then export again; or change the rule that is named";
    /// An image has the referrers that a rule requires, and they are older than it allows, or have no date.
    ReferrerTooOld => Policy, 11, Always, "have it made anew and pushed at the source, then export again; or change the rule that is named";
    /// An image has a referrer that a rule denies.
    DeniedReferrer => Policy, 11, Always, "have it removed at the source, then export again; or change the rule that is named";
    /// Something that a rule wants signed is not.
    RequiredSignatureMissing => Policy, 11, Always, "have it signed at the source, then export again; a bundle's own signature counts only where the key is given";
    /// A rule that is about no image of the bundle, so it has judged nothing.
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
