use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of statement that a referrer makes, for counts and policies.
///
/// It is derived from the artifact type alone and never decides what is discovered, exported or
/// imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ArtifactCategory {
    /// A statement about how or from what something was built (in-toto, SLSA).
    Attestation,
    /// Anything else.
    Other,
    /// A software bill of materials (CycloneDX, SPDX, Syft).
    Sbom,
    /// A signature (Notary Project, cosign, Sigstore bundle).
    Signature,
    /// A vulnerability exploitability statement (OpenVEX, CSAF, CycloneDX VEX).
    Vex,
}

impl ArtifactCategory {
    /// Every category, in the order of their names.
    pub const ALL: [Self; 5] = [
        Self::Attestation,
        Self::Other,
        Self::Sbom,
        Self::Signature,
        Self::Vex,
    ];

    /// Derives the category from an artifact type.
    pub fn of(artifact_type: &str) -> Self {
        let name = artifact_type.to_ascii_lowercase();
        let has = |needles: &[&str]| needles.iter().any(|needle| name.contains(needle));
        // The order matters: a CycloneDX VEX matches two of them, and an in-toto signature envelope
        // is an attestation.
        if has(&["vex", "csaf"]) {
            Self::Vex
        } else if has(&["cyclonedx", "spdx", "syft", "sbom"]) {
            Self::Sbom
        } else if has(&["in-toto", "attestation", "slsa", "provenance", "dsse"]) {
            Self::Attestation
        } else if has(&[
            "signature",
            "cosign",
            "sigstore",
            "notary",
            "simplesigning",
            ".sig",
        ]) {
            Self::Signature
        } else {
            Self::Other
        }
    }

    /// Returns the name that is used in JSON and in `manifest.yaml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attestation => "attestation",
            Self::Other => "other",
            Self::Sbom => "sbom",
            Self::Signature => "signature",
            Self::Vex => "vex",
        }
    }

    /// Finds a category by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.as_str() == name)
    }
}

impl fmt::Display for ArtifactCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_types_in_use_have_the_category_that_people_expect() {
        use ArtifactCategory::*;
        for (artifact_type, category) in [
            ("application/vnd.cyclonedx+json", Sbom),
            ("application/spdx+json", Sbom),
            ("text/spdx+json", Sbom),
            ("application/vnd.syft+json", Sbom),
            ("application/vnd.in-toto+json", Attestation),
            ("application/vnd.in-toto.provenance+dsse", Attestation),
            ("application/vnd.dsse.envelope.v1+json", Attestation),
            ("application/vnd.cncf.notary.signature", Signature),
            (
                "application/vnd.dev.cosign.simplesigning.v1+json",
                Signature,
            ),
            ("application/vnd.dev.cosign.artifact.sig.v1+json", Signature),
            ("application/vnd.dev.sigstore.bundle.v0.3+json", Signature),
            ("application/vnd.openvex+json", Vex),
            ("application/vnd.csaf+json", Vex),
            ("application/vnd.cyclonedx.vex+json", Vex),
            ("application/vnd.example.report", Other),
        ] {
            assert_eq!(
                ArtifactCategory::of(artifact_type),
                category,
                "{artifact_type}"
            );
        }
    }
}
