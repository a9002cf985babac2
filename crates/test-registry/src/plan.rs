use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use http::request::Parts;

use crate::fault::Fault;
use crate::route::{Asked, Route};
use crate::unused::UnusedFault;

/// The planned faults, in the order in which they were planned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    planned: Arc<Mutex<Vec<Planned>>>,
    may_stay_unused: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Planned {
    route: Route,
    fault: Fault,
    at: &'static Location<'static>,
    /// The counts, by path if each path has its own.
    counts: HashMap<String, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    skipped: usize,
    used: usize,
}

/// A fault that happens to the current request.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) fault: Fault,
    /// The number of requests that it has happened to before.
    pub(crate) used: usize,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Vec<Planned>> {
        // Nothing that happens under the lock can panic.
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&self, route: Route, fault: Fault, at: &'static Location<'static>) {
        self.lock().push(Planned {
            route,
            fault,
            at,
            counts: HashMap::new(),
        });
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn allow_unused(&self) {
        self.may_stay_unused.store(true, Ordering::Relaxed);
    }

    pub(crate) fn unused(&self) -> Vec<UnusedFault> {
        self.lock().iter().filter_map(Planned::unused).collect()
    }

    /// Fails the test if faults are unused and that is not allowed.
    #[track_caller]
    pub(crate) fn verify(&self) {
        let unused = self.unused();
        if unused.is_empty() || self.may_stay_unused.load(Ordering::Relaxed) {
            return;
        }
        let lines: Vec<_> = unused.iter().map(|fault| format!("\n  {fault}")).collect();
        panic!("faults were planned that did not happen:{}", lines.concat());
    }

    /// Takes the first fault that matches this request and is not used up.
    pub(crate) fn due(&self, parts: &Parts, asked: Asked) -> Option<Due> {
        for planned in self.lock().iter_mut() {
            if !planned.route.matches(parts, asked) {
                continue;
            }
            let fault = &planned.fault;
            if parts.method == Method::HEAD && fault.action.is_of_body() {
                continue;
            }
            let key = if fault.per_path {
                parts.uri.path().to_owned()
            } else {
                String::new()
            };
            let count = planned.counts.entry(key).or_default();
            if fault.times.is_some_and(|times| count.used >= times) {
                continue;
            }
            if count.skipped < fault.skip {
                count.skipped += 1;
                continue;
            }
            count.used += 1;
            return Some(Due {
                fault: fault.clone(),
                used: count.used - 1,
            });
        }
        None
    }
}

impl Planned {
    fn unused(&self) -> Option<UnusedFault> {
        let most = |count: fn(&Count) -> usize| self.counts.values().map(count).max().unwrap_or(0);
        let happened = most(|count| count.used);
        let wanted = self.fault.times.unwrap_or(1);
        (happened < wanted).then(|| UnusedFault {
            at: self.at.to_string(),
            route: self.route.to_string(),
            fault: format!("{:?}", self.fault.action),
            happened,
            wanted,
            skipped: most(|count| count.skipped),
            skip: self.fault.skip,
        })
    }
}
