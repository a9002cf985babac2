//! A token service, and which scopes a token of it is asked for.

use url::Url;

use crate::call::{Access, Call};
use crate::challenge::MAX_SCOPES;

/// A token service, and the scopes that its tokens are asked for with.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    /// The scopes of the registry's challenges.
    theirs: Vec<String>,
    pub(crate) ask: Ask,
    /// A challenge of this repository has been seen.
    pub(crate) met: bool,
    /// Scopes of challenges that opened nothing: placeholders.
    pub(crate) useless: Vec<String>,
}

/// Which scopes a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// What the request needs.
    Ours,
    /// To read, although the repository is to be written: the service refuses to let us write.
    Read,
    /// Ours and those of the challenges.
    Both,
    /// Those of the challenges: the service refuses ours.
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

    /// Returns the sets of scopes to ask for, each for when the service refuses those before it.
    ///
    /// What the request needs comes first, and a challenge's scopes only when that did not do: a placeholder does
    /// no harm, and nothing is asked for that the registry did not insist on. They are asked for as they stand, as
    /// containerd, oras and go-containerregistry do: the registry, which is who the token is shown to, says that
    /// it requires them, and the token service gives no more than the user has.
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

    /// Adds the scopes of a challenge, of which the latest are kept.
    pub(crate) fn learn(&mut self, scopes: &[String]) {
        for scope in scopes {
            if !self.theirs.contains(scope) && !self.useless.contains(scope) {
                self.theirs.push(scope.clone());
            }
        }
        keep_last(&mut self.theirs);
    }

    /// Takes over the choice that the token service took.
    pub(crate) fn settle(&mut self, ask: Ask) {
        if matches!(self.ask, Ask::Both | Ask::Theirs) && matches!(ask, Ask::Ours | Ask::Read) {
            self.discard();
        }
        self.ask = ask;
    }

    /// Gives up the challenges' scopes, which the token service refuses.
    pub(crate) fn discard(&mut self) {
        self.ask = Ask::Ours;
        self.useless.append(&mut self.theirs);
        keep_last(&mut self.useless);
    }

    /// Takes back scopes with which the registry refused as well.
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

/// Adds `more` to `scopes`: what names the same resource is made one.
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
        return Vec::new();
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
