use std::fmt;
use std::str::FromStr;

/// A kind of registry, by the way it behaves towards a client that looks for referrers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Persona {
    /// The specification to the letter: referrers API with filter, sorted tags, bearer tokens. zot and Azure Container
    /// Registry come near.
    SpecFull,
    /// distribution 2.8: no referrers API, every tag in one page in no order.
    Dist2,
}

impl Persona {
    /// Every persona.
    pub const ALL: [Self; 2] = [Self::SpecFull, Self::Dist2];

    /// Returns the name, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SpecFull => "spec-full",
            Self::Dist2 => "dist2",
        }
    }
}

impl fmt::Display for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that no persona has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no persona")]
pub struct UnknownPersona(String);

impl FromStr for Persona {
    type Err = UnknownPersona;

    fn from_str(name: &str) -> Result<Self, UnknownPersona> {
        let found = Self::ALL
            .into_iter()
            .find(|persona| persona.as_str() == name);
        found.ok_or_else(|| UnknownPersona(name.to_owned()))
    }
}
