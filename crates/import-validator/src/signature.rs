use crate::report::Findings;

#[cfg(feature = "signature")]
use bundle_format::{EntryPath, PublicKey, SignatureErrorKind, VerifiedSignature};

#[cfg(feature = "signature")]
use crate::report::FindingKind;

/// What a validation asks of the signature over `manifest.yaml`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignatureCheck {
    /// Where there is one, a signature has to be there, and to be its.
    #[cfg(feature = "signature")]
    pub(crate) key: Option<PublicKey>,
    /// A signature that came beside the bundle, in the place of the one in it.
    #[cfg(feature = "signature")]
    pub(crate) detached: Option<Vec<u8>>,
}

/// What a validation has proved of the signature: nothing, where no key was given.
#[cfg(feature = "signature")]
pub(crate) type Proof = Option<VerifiedSignature>;
#[cfg(not(feature = "signature"))]
pub(crate) type Proof = Option<std::convert::Infallible>;

#[cfg(not(feature = "signature"))]
impl SignatureCheck {
    pub(crate) fn looks_inside(&self) -> bool {
        false
    }

    pub(crate) fn check(&self, _: &[u8], _: Option<Vec<u8>>, _: &mut Findings) -> Option<Proof> {
        Some(None)
    }
}

#[cfg(feature = "signature")]
impl SignatureCheck {
    /// Tells whether the signature in the bundle is the one that counts.
    pub(crate) fn looks_inside(&self) -> bool {
        self.key.is_some() && self.detached.is_none()
    }

    /// Verifies; `None` when there is no proof where one is asked for.
    pub(crate) fn check(
        &self,
        manifest_yaml: &[u8],
        inside: Option<Vec<u8>>,
        findings: &mut Findings,
    ) -> Option<Proof> {
        let Some(key) = &self.key else {
            if self.detached.is_none() {
                return Some(None);
            }
            // A signature that nothing can be compared with proves nothing.
            findings
                .add(FindingKind::SignatureUnsupported)
                .expected("a public key to verify the signature with")
                .found("no key");
            return None;
        };
        let result = match (&self.detached, inside) {
            (Some(detached), _) => key.verify_detached(manifest_yaml, detached),
            (None, Some(inside)) => key.verify(manifest_yaml, &inside),
            (None, None) => {
                findings
                    .add(FindingKind::SignatureMissing)
                    .path(EntryPath::SIGNATURE)
                    .expected(format_args!("a signature by the key {}", key.id()))
                    .found("no such file");
                return None;
            }
        };
        let error = match result {
            Ok(proof) => return Some(Some(proof)),
            Err(error) => error,
        };
        let kind = match error.kind() {
            SignatureErrorKind::Unsupported => FindingKind::SignatureUnsupported,
            SignatureErrorKind::Invalid => FindingKind::SignatureInvalid,
            _ => FindingKind::SignatureMalformed,
        };
        let draft = findings
            .add(kind)
            .expected(format_args!("a signature by the key {}", key.id()))
            .found(&error);
        if self.detached.is_none() {
            draft.path(EntryPath::SIGNATURE);
        }
        None
    }
}
