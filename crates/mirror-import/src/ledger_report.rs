use oci_content::Digest;
use serde::{Deserialize, Serialize};

/// What the ledger said about a bundle; part of the receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct LedgerReport {
    /// What the bundle is to the record.
    pub verdict: LedgerVerdict,
    /// The SHA-256 of the public key (`SubjectPublicKeyInfo`, DER) that verified the bundle; none if no key did.
    pub key: Option<Digest>,
    /// The sequence that was recorded before this import.
    pub recorded_sequence: Option<u64>,
    /// The digest of the `manifest.yaml` that was recorded before this import.
    pub recorded_manifest: Option<Digest>,
    /// Of a delta that goes forward, whether its base is the recorded bundle. It decides nothing: what the base holds is looked for at
    /// the target.
    pub base_recorded: Option<bool>,
    /// Other series that the target has had, where this bundle is held against none of them: it has no sequence, no key verified
    /// it, or it is the first of its own. At most 16, by stream.
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
    /// The key that signed it.
    pub key: Digest,
}

/// What a bundle is to the record of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LedgerVerdict {
    /// No key verified it, so nothing is recorded.
    Unverified,
    /// Its sequence is 0, so nothing is recorded.
    Unnumbered,
    /// Nothing was recorded for its key, stream and target.
    First,
    /// Its sequence is above the recorded one.
    Newer,
    /// It is the recorded one.
    Same,
    /// Its sequence is below the recorded one.
    Rollback,
    /// Its sequence is the recorded one, and it is another bundle.
    Fork,
}
