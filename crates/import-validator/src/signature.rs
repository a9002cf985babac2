use crate::report::Findings;

#[cfg(feature = "signature")]
use bundle_format::{
    EntryPath, PublicKey, SignatureError, SignatureErrorKind, VerifiedSignature,
    check_signature_form,
};

#[cfg(feature = "signature")]
use crate::report::FindingKind;

/// What a validation demands of the signature over `manifest.yaml`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignatureCheck {
    /// If there are any, the bundle must have a signature by one of them.
    #[cfg(feature = "signature")]
    pub(crate) keys: Vec<PublicKey>,
    /// A signature from beside the bundle, which replaces the one in it.
    #[cfg(feature = "signature")]
    pub(crate) detached: Option<Vec<u8>>,
}

/// What a validation has proved about the signature: nothing without a key.
#[cfg(feature = "signature")]
pub(crate) type Proof = Option<VerifiedSignature>;
#[cfg(not(feature = "signature"))]
pub(crate) type Proof = Option<std::convert::Infallible>;

#[cfg(not(feature = "signature"))]
impl SignatureCheck {
    pub(crate) fn looks_inside(&self) -> bool {
        false
    }

    pub(crate) fn is_required(&self) -> bool {
        false
    }

    pub(crate) fn check(&self, _: &[u8], _: Option<Vec<u8>>, _: &mut Findings) -> Option<Proof> {
        Some(None)
    }
}

#[cfg(feature = "signature")]
impl SignatureCheck {
    /// Returns whether the signature in the bundle is checked: always, with the feature
    /// `signature`.
    pub(crate) fn looks_inside(&self) -> bool {
        true
    }

    /// Returns whether nothing may be parsed before its signature has been verified.
    pub(crate) fn is_required(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Checks the form of the signature in the bundle, and verifies the one that counts. Returns
    /// `None` if a required proof is missing, or the file is not a signature.
    pub(crate) fn check(
        &self,
        manifest_yaml: &[u8],
        inside: Option<Vec<u8>>,
        findings: &mut Findings,
    ) -> Option<Proof> {
        if let Some(inside) = &inside
            && let Err(error) = check_signature_form(manifest_yaml, inside)
        {
            findings
                .add(kind_of(&error))
                .path(EntryPath::SIGNATURE)
                .expected(self.wanted())
                .found(error);
            return None;
        }
        if self.keys.is_empty() {
            if self.detached.is_none() {
                return Some(None);
            }
            // A signature without a key proves nothing.
            findings
                .add(FindingKind::SignatureUnsupported)
                .expected("a public key to verify the signature with")
                .found("no key");
            return None;
        }
        if self.detached.is_none() && inside.is_none() {
            findings
                .add(FindingKind::SignatureMissing)
                .path(EntryPath::SIGNATURE)
                .expected(self.wanted())
                .found("no such file");
            return None;
        }
        let inside = inside.unwrap_or_default();
        let verify = |key: &PublicKey| match &self.detached {
            Some(detached) => key.verify_detached(manifest_yaml, detached),
            None => key.verify(manifest_yaml, &inside),
        };
        let mut results = self.keys.iter().map(verify);
        let error = match results.find_map(Result::ok) {
            Some(proof) => {
                findings.signed_by = Some(proof.key_id().clone());
                return Some(Some(proof));
            }
            // All errors other than the wrong key are the same for every key.
            None => self.keys.first().map(verify)?.err()?,
        };
        let kind = kind_of(&error);
        let draft =
            findings
                .add(kind)
                .expected(self.wanted())
                .found(match (kind, self.keys.len()) {
                    (FindingKind::SignatureInvalid, 2..) => {
                        "none of these keys made it over this manifest.yaml".to_owned()
                    }
                    _ => error.to_string(),
                });
        if self.detached.is_none() {
            draft.path(EntryPath::SIGNATURE);
        }
        None
    }

    fn wanted(&self) -> String {
        let ids: Vec<_> = self.keys.iter().map(|key| key.id().to_string()).collect();
        match &*ids {
            [] => "a signature in the form that a bundle uses".to_owned(),
            [id] => format!("a signature by the key {id}"),
            ids => format!("a signature by one of the keys {}", ids.join(", ")),
        }
    }
}

#[cfg(feature = "signature")]
fn kind_of(error: &SignatureError) -> FindingKind {
    match error.kind() {
        SignatureErrorKind::Unsupported => FindingKind::SignatureUnsupported,
        SignatureErrorKind::Invalid => FindingKind::SignatureInvalid,
        _ => FindingKind::SignatureMalformed,
    }
}
