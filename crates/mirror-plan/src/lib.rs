//! Decides what is mirrored: resolves images, discovers everything that refers to them, and pins it
//! all by digest.
//!
//! A [`Planner`] probes the registries, resolves each image once, walks its manifests and discovers
//! its referrers and those of its children. Images can also be in image layout folders. The [result](Found) becomes a [`MirrorPlan`]: the
//! graph, where each object comes from, and what could not be settled.
//!
//! # Scope
//!
//! It knows registries and folders, but neither bundles nor targets. It transfers no blobs except the documents
//! whose dates a policy needs, prints nothing and reads no configuration file; a [`PlanObserver`]
//! receives events. It needs a tokio runtime for its timeouts and spawns nothing on it.

mod content;
mod error;
mod folder;
mod found;
mod job_name;
mod judge;
mod lock;
mod observer;
mod origin;
mod plan;
mod planner;
mod policy;
mod request;
mod selection;

pub use content::{Content, Piece};
pub use error::{PlanError, PlanErrorKind, PlanRemedy};
pub use found::FoundImage;
pub use job_name::{JobName, JobNameError};
pub use lock::{JobLock, LockDifference, LockFile, LockFileError};
pub use observer::{PlanEvent, PlanObserver};
pub use origin::Origin;
pub use plan::{Known, MirrorPlan};
pub use planner::{Found, Planner};
pub use request::{Held, PlanRequest};
pub use selection::{
    ImageRule, JudgedTag, RepositoryGlob, RepositoryGlobError, RepositoryTags, Selected, Selector,
    TagOrder, TagPattern, TagPatternError, TagRule, TagVerdict, VersionRange, VersionRangeError,
};
