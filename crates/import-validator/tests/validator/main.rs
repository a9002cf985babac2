//! What the validator says of bundles, right and wrong.

// Clippy takes helper functions for tests only below `cfg(test)`.
#[cfg(test)]
#[cfg(feature = "signature")]
mod corpus;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod delta;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod graph;
#[cfg(test)]
mod lies;
#[cfg(test)]
#[cfg(feature = "policy")]
mod policy;
#[cfg(test)]
#[cfg(feature = "signature")]
mod signature;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod threads;
#[cfg(test)]
#[cfg(feature = "signature")]
mod vectors;
