use oci_content::Digest;
use serde::{Deserialize, Serialize};

/// What the ledger said about a bundle; part of the receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LedgerReport {
    /// How the bundle compares with the record.
    pub verdict: LedgerVerdict,
    /// The SHA-256 of the public key (`SubjectPublicKeyInfo`, DER) that verified the bundle; `None`
    /// if no key did.
    pub key: Option<Digest>,
    /// The sequence that was recorded before this import.
    pub recorded_sequence: Option<u64>,
    /// The digest of the `manifest.yaml` that was recorded before this import.
    pub recorded_manifest: Option<Digest>,
    /// For a delta that goes forward, whether its base is the recorded bundle. This decides
    /// nothing: the import looks at the target for what the base holds.
    pub base_recorded: Option<bool>,
    /// Other series that the target has had, if the bundle was compared with no record: it has no
    /// sequence, no key verified it, or it is the first of its series. At most 16, sorted by
    /// stream.
    pub other_series: Vec<KnownSeries>,
}

/// A series that a target has had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KnownSeries {
    /// The stream.
    pub stream: String,
    /// The highest sequence.
    pub sequence: u64,
    /// The key that signed the bundle with that sequence.
    pub key: Digest,
}

/// How a bundle compares with the record of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LedgerVerdict {
    /// No key verified the bundle, so nothing is recorded.
    Unverified,
    /// The bundle has no sequence, so nothing is recorded.
    Unnumbered,
    /// Nothing was recorded for the bundle's key, stream and target.
    First,
    /// The bundle's sequence is above the recorded one.
    Newer,
    /// The bundle is the recorded one.
    Same,
    /// The bundle's sequence is below the recorded one.
    Rollback,
    /// The bundle has the recorded sequence and is a different bundle.
    Fork,
}
