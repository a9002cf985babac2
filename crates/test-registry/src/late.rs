use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oci_content::Digest;

/// The delay until pushed content appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lateness {
    /// After this time.
    Time(Duration),
    /// After this many lookups.
    Reads(usize),
}

/// Content that was pushed and has not appeared yet.
#[derive(Debug, Default)]
pub(crate) struct Late {
    pub(crate) referrers: Option<Lateness>,
    pub(crate) tags: Option<Lateness>,
    pushed: Mutex<HashMap<Pushed, Unseen>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pushed {
    Referrer {
        repository: String,
        subject: Digest,
        digest: Digest,
    },
    Tag {
        repository: String,
        tag: String,
    },
}

#[derive(Debug)]
struct Unseen {
    lateness: Lateness,
    since: Instant,
    reads: usize,
    /// The previous value of a tag.
    before: Option<Digest>,
}

/// The state of a tag for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Now,
    Before(Digest),
    Nothing,
}

impl Unseen {
    fn is_over(&self) -> bool {
        match self.lateness {
            Lateness::Time(time) => self.since.elapsed() >= time,
            Lateness::Reads(reads) => self.reads >= reads,
        }
    }
}

impl Late {
    fn lock(&self) -> MutexGuard<'_, HashMap<Pushed, Unseen>> {
        // Nothing that happens under the lock can panic.
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        pushed.retain(|_, unseen| !unseen.is_over());
        pushed
    }

    pub(crate) fn push_referrer(&self, repository: &str, subject: Digest, digest: Digest) {
        let key = Pushed::Referrer {
            repository: repository.to_owned(),
            subject,
            digest,
        };
        self.push(self.referrers, key, None);
    }

    /// Records that a tag was pushed that pointed at `before`.
    pub(crate) fn push_tag(&self, repository: &str, tag: &str, before: Option<Digest>) {
        self.push(self.tags, tag_key(repository, tag), before);
    }

    fn push(&self, lateness: Option<Lateness>, key: Pushed, before: Option<Digest>) {
        let Some(lateness) = lateness else { return };
        let mut pushed = self.lock();
        // If the previous value had not appeared either, readers have not seen it.
        let before = match pushed.remove(&key) {
            Some(unseen) => unseen.before,
            None => before,
        };
        let unseen = Unseen {
            lateness,
            since: Instant::now(),
            reads: 0,
            before,
        };
        pushed.insert(key, unseen);
    }

    /// Looks a tag up, which counts.
    pub(crate) fn read_tag(&self, repository: &str, tag: &str) -> Seen {
        match self.lock().get_mut(&tag_key(repository, tag)) {
            None => Seen::Now,
            Some(unseen) => {
                unseen.reads += 1;
                unseen.before.clone().map_or(Seen::Nothing, Seen::Before)
            }
        }
    }

    /// Looks the referrers of a subject up, which counts, and returns the digests that have not
    /// appeared.
    pub(crate) fn read_referrers(&self, repository: &str, subject: &str) -> Vec<String> {
        let mut pushed = self.lock();
        let unseen = pushed.iter_mut().filter_map(|(key, unseen)| match key {
            Pushed::Referrer {
                repository: of,
                subject: to,
                digest,
            } if of == repository && to.to_string() == subject => {
                unseen.reads += 1;
                Some(digest.to_string())
            }
            _ => None,
        });
        unseen.collect()
    }

    /// Returns the tags of a repository that have not appeared.
    pub(crate) fn unseen_tags(&self, repository: &str) -> Vec<String> {
        let pushed = self.lock();
        let unseen = pushed.iter().filter_map(|(key, unseen)| match key {
            Pushed::Tag {
                repository: of,
                tag,
            } if of == repository && unseen.before.is_none() => Some(tag.clone()),
            _ => None,
        });
        unseen.collect()
    }
}

fn tag_key(repository: &str, tag: &str) -> Pushed {
    Pushed::Tag {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
    }
}
