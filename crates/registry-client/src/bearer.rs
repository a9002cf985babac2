//! A token service, and the scopes of the tokens that are requested from it.

use url::Url;

use crate::call::{Access, Call};
use crate::challenge::MAX_SCOPES;
use crate::observer::Endpoint;

/// A token service, and the scopes of its tokens.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    /// The scopes of the registry's challenges.
    theirs: Vec<String>,
    pub(crate) ask: Ask,
    /// Whether a challenge of this repository has been seen.
    pub(crate) met: bool,
    /// Scopes from challenges that did not help: placeholders.
    pub(crate) useless: Vec<String>,
}

/// The scopes that a token is requested for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// What the request needs.
    Ours,
    /// Only what reading needs, although the repository is to be written: the service refuses write
    /// access.
    Read,
    /// Ours and those from the challenges.
    Both,
    /// Those from the challenges: the service refuses ours.
    Theirs,
}

impl Bearer {
    pub(crate) fn new(realm: Url, service: Option<String>) -> Self {
        Self {
            realm,
            service,
            theirs: Vec::new(),
            ask: Ask::Ours,
            met: false,
            useless: Vec::new(),
        }
    }

    /// Returns the sets of scopes to try; each is used if the service refuses the ones before it.
    ///
    /// What the request needs comes first, and the scopes of a challenge only if that was not
    /// enough. So a placeholder does no harm, and nothing is requested that the registry did not
    /// insist on. They are requested verbatim, as containerd, oras and go-containerregistry do: the
    /// registry, which receives the token, requires them, and the token service grants no more than
    /// the user has.
    pub(crate) fn choices(&self, call: &Call<'_>) -> Vec<(Ask, Vec<String>)> {
        let wanted = match call.access {
            Access::Pull if call.for_push => Access::Push,
            access => access,
        };
        let ours = scopes(call, wanted);
        let order = match self.ask {
            Ask::Ours => [Ask::Ours, Ask::Read, Ask::Both, Ask::Theirs],
            Ask::Read => [Ask::Read, Ask::Ours, Ask::Both, Ask::Theirs],
            Ask::Both => [Ask::Both, Ask::Theirs, Ask::Ours, Ask::Read],
            Ask::Theirs => [Ask::Theirs, Ask::Both, Ask::Ours, Ask::Read],
        };
        let mut choices: Vec<(Ask, Vec<String>)> = Vec::new();
        for ask in order {
            let scopes = match ask {
                Ask::Ours => ours.clone(),
                Ask::Read => scopes(call, call.access),
                Ask::Both => union(&ours, &self.theirs),
                Ask::Theirs if self.theirs.is_empty() => continue,
                Ask::Theirs => self.theirs.clone(),
            };
            if choices.iter().all(|(_, known)| *known != scopes) {
                choices.push((ask, scopes));
            }
        }
        choices
    }

    /// Adds the scopes of a challenge; only the latest are kept.
    pub(crate) fn learn(&mut self, scopes: &[String]) {
        for scope in scopes {
            if !self.theirs.contains(scope) && !self.useless.contains(scope) {
                self.theirs.push(scope.clone());
            }
        }
        keep_last(&mut self.theirs);
    }

    /// Remembers the choice that the token service accepted.
    pub(crate) fn settle(&mut self, ask: Ask) {
        if matches!(self.ask, Ask::Both | Ask::Theirs) && matches!(ask, Ask::Ours | Ask::Read) {
            self.discard();
        }
        self.ask = ask;
    }

    /// Drops the scopes of the challenges, which the token service refuses.
    pub(crate) fn discard(&mut self) {
        self.ask = Ask::Ours;
        self.useless.append(&mut self.theirs);
        keep_last(&mut self.useless);
    }

    /// Removes scopes that did not help with the registry either.
    pub(crate) fn narrow(&mut self, before: Ask, added: &[String]) {
        self.ask = before;
        self.theirs.retain(|scope| !added.contains(scope));
        self.useless.extend_from_slice(added);
        keep_last(&mut self.useless);
    }
}

fn keep_last(scopes: &mut Vec<String>) {
    let surplus = scopes.len().saturating_sub(MAX_SCOPES);
    scopes.drain(..surplus);
}

/// Adds `more` to `scopes`, merging those for the same resource.
pub(crate) fn union(scopes: &[String], more: &[String]) -> Vec<String> {
    let mut all = scopes.to_vec();
    for scope in more {
        let same = scope.rsplit_once(':').and_then(|(resource, actions)| {
            let found = all.iter_mut().find(|known| {
                let known = known.rsplit_once(':');
                known.is_some_and(|(known, _)| known == resource)
            });
            Some((found?, actions))
        });
        let Some((known, actions)) = same else {
            if !all.contains(scope) {
                all.push(scope.clone());
            }
            continue;
        };
        for action in actions.split(',') {
            let (_, has) = known.rsplit_once(':').unwrap_or_default();
            if !action.is_empty() && !has.split(',').any(|has| has == action) {
                known.push(',');
                known.push_str(action);
            }
        }
    }
    all
}

fn scopes(call: &Call<'_>, access: Access) -> Vec<String> {
    let Some(repository) = call.repository else {
        // <https://distribution.github.io/distribution/spec/auth/scope/#resource-scope-grammar>
        let catalog = (call.endpoint == Endpoint::Catalog).then(|| "registry:catalog:*".to_owned());
        return catalog.into_iter().collect();
    };
    let mut scopes = vec![format!("repository:{repository}:{}", access.actions())];
    scopes.extend(
        call.mount_from
            .filter(|from| *from != repository)
            .map(|from| format!("repository:{from}:pull")),
    );
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_one_resource_are_made_one() {
        let of = |scopes: &[&str]| -> Vec<String> {
            scopes.iter().map(|&scope| scope.to_owned()).collect()
        };
        for (scopes, more, expected) in [
            (
                &["repository:a:pull"][..],
                &[][..],
                &["repository:a:pull"][..],
            ),
            (
                &["repository:a:pull"],
                &["repository:a:pull"],
                &["repository:a:pull"],
            ),
            (
                &["repository:a:pull"],
                &["repository:a:push,pull"],
                &["repository:a:pull,push"],
            ),
            (
                &["repository:a:pull,push"],
                &["repository:a:pull"],
                &["repository:a:pull,push"],
            ),
            (
                &["repository:a:pull"],
                &["repository:h.test:5000/a:pull", "registry:catalog:*"],
                &[
                    "repository:a:pull",
                    "repository:h.test:5000/a:pull",
                    "registry:catalog:*",
                ],
            ),
            (&[], &["aws", "aws"], &["aws"]),
            (
                &["repository:a:pull"],
                &["repository:a:"],
                &["repository:a:pull"],
            ),
        ] {
            assert_eq!(
                union(&of(scopes), &of(more)),
                of(expected),
                "{scopes:?} {more:?}"
            );
        }
    }
}
