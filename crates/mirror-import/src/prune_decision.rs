//! What goes and what stays in one repository, decided from what was seen there.

use std::collections::{BTreeMap, BTreeSet};

use oci_content::{Digest, Tag, TagKind, referrers_tag};

use crate::prune_history::RepositoryHistory;
use crate::prune_report::{Kept, KeptReason};
use crate::prune_target::StoredManifest;

/// What a repository held when it was looked at.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Every tag that the list named, whether or not it was still there when it was read.
    pub(crate) listed: BTreeSet<Tag>,
    /// What each tag stands for.
    pub(crate) tags: BTreeMap<Tag, StoredManifest>,
    /// The manifests that were read.
    pub(crate) nodes: BTreeMap<Digest, StoredManifest>,
    /// The manifests that were asked for and are not there.
    pub(crate) absent: BTreeSet<Digest>,
    /// Subjects and referrers.
    pub(crate) referrers: BTreeSet<(Digest, Digest)>,
    /// What was asked about.
    pub(crate) asked: BTreeSet<Digest>,
}

/// What this run has done in the repository, and what it has learned about the target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// If one of these is there again, it is somebody else's.
    pub(crate) tags: BTreeMap<Tag, Digest>,
    pub(crate) manifests: BTreeSet<Digest>,
    pub(crate) lists: BTreeSet<Tag>,
    /// The manifests that the target refused to delete.
    pub(crate) refused: BTreeSet<Digest>,
    /// The lists that cannot be deleted, because the target deletes no tags.
    pub(crate) stuck: BTreeSet<Tag>,
    /// Whether the target has refused to delete a tag.
    pub(crate) keeps_tags: bool,
}

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deciding<'a> {
    pub(crate) history: &'a RepositoryHistory,
    pub(crate) selected: &'a BTreeSet<Tag>,
    pub(crate) selected_digests: &'a BTreeSet<Digest>,
    pub(crate) done: &'a Done,
}

/// What goes, and what stays although nothing selects it.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    pub(crate) tags: BTreeMap<Tag, Digest>,
    pub(crate) manifests: BTreeSet<Digest>,
    /// The referrers tags of what goes or is gone, once nothing in them is there any more.
    pub(crate) lists: BTreeSet<Tag>,
    /// Entries to take out of lists that stay.
    pub(crate) dead: BTreeMap<Tag, BTreeSet<Digest>>,
    pub(crate) kept: BTreeSet<Kept>,
}

impl Decision {
    pub(crate) fn is_empty(&self) -> bool {
        self.tags.is_empty()
            && self.manifests.is_empty()
            && self.lists.is_empty()
            && self.dead.is_empty()
    }
}

/// The part that a tag plays.
#[derive(Debug)]
enum Role {
    /// It stays, with everything below it.
    Stays,
    /// It is ours and nothing selects it.
    Goes,
    /// It is a legacy tag of ours, which goes with this subject.
    GoesWith(Digest),
    /// It is the list of referrers of this subject, which may be ours.
    Lists(Digest),
}

impl Deciding<'_> {
    /// Returns whether a manifest is ours.
    pub(crate) fn is_ours(&self, digest: &Digest) -> bool {
        self.history.made.contains(digest) && !self.done.manifests.contains(digest)
    }

    /// Returns whether a tag with this digest is ours.
    pub(crate) fn is_our_tag(&self, tag: &Tag, digest: &Digest) -> bool {
        self.history.tags.get(tag) == Some(digest) && !self.done.tags.contains_key(tag)
    }

    /// Returns what is wanted by digest: what is selected or pinned, and what selected tags were.
    pub(crate) fn wanted_digests(&self) -> impl Iterator<Item = &Digest> {
        let history = self.history;
        let last = self.selected.iter();
        let last = last.filter_map(|tag| history.last.get(tag));
        last.chain(self.selected_digests).chain(&history.pinned)
    }

    /// Returns what is kept whatever anybody else has done: what is selected or pinned.
    pub(crate) fn wanted(&self, view: &View) -> BTreeSet<Digest> {
        let selected = view.tags.iter();
        let selected = selected.filter(|(tag, _)| self.selected.contains(*tag));
        let selected = selected.map(|(_, held)| &held.digest);
        self.below(view, selected.chain(self.wanted_digests()))
    }

    /// Returns what stays and what other people's referrers need, as far as it was read.
    pub(crate) fn reach(&self, view: &View) -> BTreeSet<Digest> {
        let named = self.named(view);
        let tagged = self.staying(view).map(|(_, held)| &held.digest);
        let roots = tagged.chain(&named);
        let roots = roots.chain(self.foreign(view).map(|(_, referrer)| referrer));
        let wanted = self.wanted(view);
        self.below(view, roots.chain(&wanted))
    }

    /// Returns the tags that stay, with what they hold.
    fn staying<'v>(&self, view: &'v View) -> impl Iterator<Item = (&'v Tag, &'v StoredManifest)> {
        let tags = view.tags.iter();
        tags.filter(|(tag, held)| matches!(self.role(tag, held), Role::Stays))
    }

    /// Returns what is not ours and has a list or a legacy tag that stays, or a referrer of ours:
    /// referrers go with their subject only.
    pub(crate) fn named(&self, view: &View) -> BTreeSet<Digest> {
        let subjects = self.staying(view).filter_map(|(tag, _)| match tag.kind() {
            TagKind::Referrers { subject, .. } => subject,
            TagKind::Legacy(legacy) => Some(legacy.subject().clone()),
            _ => None,
        });
        let ours = view.nodes.values();
        let ours = ours.filter(|node| self.is_ours(&node.digest));
        let subjects = subjects.chain(ours.filter_map(|node| node.subject.clone()));
        subjects
            .filter(|subject| !self.is_ours(subject) && !self.is_gone(view, subject))
            .collect()
    }

    /// Returns the referrers of other people, with their subjects.
    fn foreign<'v>(&self, view: &'v View) -> impl Iterator<Item = &'v (Digest, Digest)> {
        let edges = view.referrers.iter();
        edges.filter(|(_, referrer)| !self.is_ours(referrer) && view.nodes.contains_key(referrer))
    }

    /// Returns whether there is a tag of ours that nothing selects.
    pub(crate) fn any_tag_goes(&self, view: &View) -> bool {
        let mut tags = view.tags.iter();
        tags.any(|(tag, held)| matches!(self.role(tag, held), Role::Goes))
    }

    /// Returns `roots` with everything that they hold or refer to, and what refers to that and is
    /// ours.
    fn below<'v>(
        &self,
        view: &View,
        roots: impl IntoIterator<Item = &'v Digest>,
    ) -> BTreeSet<Digest> {
        let mut referrers: BTreeMap<Digest, Vec<&Digest>> = BTreeMap::new();
        for node in view
            .nodes
            .values()
            .filter(|node| self.is_ours(&node.digest))
        {
            if let Some(subject) = &node.subject {
                referrers
                    .entry(subject.clone())
                    .or_default()
                    .push(&node.digest);
            }
        }
        for (tag, held) in &view.tags {
            if let Role::GoesWith(subject) = self.role(tag, held) {
                referrers.entry(subject).or_default().push(&held.digest);
            }
        }
        let mut below = BTreeSet::new();
        let mut left: Vec<&Digest> = roots.into_iter().collect();
        while let Some(digest) = left.pop() {
            if !below.insert(digest.clone()) {
                continue;
            }
            if let Some(node) = view.nodes.get(digest) {
                left.extend(node.entries.iter().flatten());
                left.extend(&node.subject);
            }
            left.extend(referrers.get(digest).into_iter().flatten());
            let known = self.history.referrers.get(digest);
            left.extend(known.into_iter().flat_map(BTreeMap::keys));
        }
        below
    }

    fn role(&self, tag: &Tag, held: &StoredManifest) -> Role {
        if self.selected.contains(tag) || self.history.pinned_tags.contains(tag) {
            return Role::Stays;
        }
        match tag.kind() {
            TagKind::Referrers { subject, .. } if held.entries.is_some() => {
                let made = &self.history.made;
                let subject = match subject {
                    Some(subject) => made.contains(&subject).then_some(subject),
                    // The name has only the first half of the digest.
                    None => made.iter().find(|own| referrers_tag(own) == *tag).cloned(),
                };
                // GitLab resolves the tag of a subject without a list to the subject itself.
                let subject = subject.filter(|subject| *subject != held.digest);
                subject.map_or(Role::Stays, Role::Lists)
            }
            TagKind::Legacy(legacy) if self.is_our_tag(tag, &held.digest) => {
                let subject = legacy.subject().clone();
                if self.history.made.contains(&subject) {
                    Role::GoesWith(subject)
                } else {
                    Role::Stays
                }
            }
            _ if self.is_our_tag(tag, &held.digest) => Role::Goes,
            _ => Role::Stays,
        }
    }

    /// Decides.
    pub(crate) fn decide(&self, view: &View) -> Decision {
        let mut decision = Decision::default();
        let mut staying: BTreeSet<Tag> = BTreeSet::new();
        // On a target that deletes no tags, a tag that has to stay keeps more than was known.
        loop {
            let kept = self.kept(view, &staying, &mut decision);
            let ours = view.nodes.keys().filter(|digest| self.is_ours(digest));
            decision.manifests = ours
                .filter(|digest| !kept.contains(*digest))
                .cloned()
                .collect();
            decision.tags = self.going(view, &staying, &decision);
            if !self.done.keeps_tags {
                break;
            }
            let shared: Vec<(Tag, Digest)> = decision
                .tags
                .iter()
                .filter(|(_, digest)| !decision.manifests.contains(*digest))
                .map(|(tag, digest)| (tag.clone(), digest.clone()))
                .collect();
            if shared.is_empty() {
                break;
            }
            for (tag, digest) in shared {
                decision.keep(Some(tag.clone()), digest, KeptReason::Shared, None);
                staying.insert(tag);
            }
        }
        self.judge_lists(view, &mut decision);
        self.explain(view, &mut decision);
        decision
    }

    /// Returns what has to stay, and records what somebody else's referrers keep.
    fn kept(
        &self,
        view: &View,
        staying: &BTreeSet<Tag>,
        decision: &mut Decision,
    ) -> BTreeSet<Digest> {
        let mut roots: BTreeSet<&Digest> = BTreeSet::new();
        let wanted = self.wanted(view);
        let named = self.named(view);
        roots.extend(&wanted);
        roots.extend(&named);
        roots.extend(&self.done.refused);
        let claims = self.claims(view);
        for (tag, held) in &view.tags {
            if staying.contains(tag) || matches!(self.role(tag, held), Role::Stays) {
                roots.insert(&held.digest);
            }
        }
        let mut kept = self.below(view, roots.iter().copied());
        let claimed = claims.iter().filter(|(subject, _)| {
            let is_there = view.nodes.contains_key(subject);
            is_there && self.is_ours(subject) && !kept.contains(subject)
        });
        let claimed: BTreeMap<&Digest, &Digest> =
            claimed.map(|(subject, by)| (subject, *by)).collect();
        let whole = self.above(view, &claimed, &kept);
        for (tag, held) in &view.tags {
            if let Some(by) = whole.get(&held.digest)
                && matches!(self.role(tag, held), Role::Goes | Role::GoesWith(_))
            {
                let reason = KeptReason::ForeignReferrer;
                let by = Some((*by).clone());
                decision.keep(Some(tag.clone()), held.digest.clone(), reason, by);
            }
        }
        for (subject, by) in &claimed {
            let reason = KeptReason::ForeignReferrer;
            decision.keep(None, (*subject).clone(), reason, Some((*by).clone()));
        }
        roots.extend(whole.keys().copied());
        roots.extend(claims.iter().map(|(_, by)| *by));
        kept = self.below(view, roots);
        // A list stays itself, without being a reason to keep what it names.
        let lists = view.tags.iter();
        let lists = lists.filter(|(tag, held)| matches!(self.role(tag, held), Role::Lists(_)));
        kept.extend(lists.map(|(_, held)| held.digest.clone()));
        kept
    }

    /// Returns what refers to something and is not ours, with its subject: by discovery, in a list,
    /// or by a legacy tag.
    fn claims<'v>(&self, view: &'v View) -> Vec<(Digest, &'v Digest)> {
        let found = self.foreign(view);
        let found = found.map(|(subject, referrer)| (subject.clone(), referrer));
        let mut claims: Vec<(Digest, &Digest)> = found.collect();
        for (tag, held) in &view.tags {
            match (tag.kind(), self.role(tag, held)) {
                (TagKind::Legacy(legacy), Role::Stays) => {
                    claims.push((legacy.subject().clone(), &held.digest));
                }
                (_, Role::Lists(subject)) => {
                    let entries = held.entries.iter().flatten();
                    let there = entries
                        .filter(|entry| !self.is_ours(entry) && !view.absent.contains(*entry));
                    claims.extend(there.map(|entry| (subject.clone(), entry)));
                }
                _ => {}
            }
        }
        claims
    }

    /// Returns what holds or is referred to by something that is claimed, to the top, so that it
    /// can be found as before; each with the claim.
    fn above<'v>(
        &self,
        view: &'v View,
        claimed: &BTreeMap<&'v Digest, &'v Digest>,
        kept: &BTreeSet<Digest>,
    ) -> BTreeMap<&'v Digest, &'v Digest> {
        let mut parents: BTreeMap<&Digest, Vec<&'v Digest>> = BTreeMap::new();
        for node in view
            .nodes
            .values()
            .filter(|node| self.is_ours(&node.digest))
        {
            for entry in node.entries.iter().flatten() {
                parents.entry(entry).or_default().push(&node.digest);
            }
        }
        for (tag, held) in &view.tags {
            if let Role::GoesWith(subject) = self.role(tag, held)
                && let Some((subject, _)) = view.nodes.get_key_value(&subject)
            {
                parents.entry(&held.digest).or_default().push(subject);
            }
        }
        let mut above = BTreeMap::new();
        let mut left: Vec<(&Digest, &Digest)> = claimed
            .iter()
            .map(|(subject, by)| (*subject, *by))
            .collect();
        while let Some((digest, by)) = left.pop() {
            if kept.contains(digest) || above.contains_key(digest) {
                continue;
            }
            above.insert(digest, by);
            let subject = view
                .nodes
                .get(digest)
                .and_then(|node| node.subject.as_ref());
            let over = parents.get(digest).into_iter().flatten().copied();
            left.extend(over.chain(subject).map(|digest| (digest, by)));
        }
        above
    }

    /// Returns the tags that go.
    fn going(
        &self,
        view: &View,
        staying: &BTreeSet<Tag>,
        decision: &Decision,
    ) -> BTreeMap<Tag, Digest> {
        let kept: BTreeSet<&Tag> = decision
            .kept
            .iter()
            .filter_map(|kept| kept.tag.as_ref())
            .collect();
        let going = view.tags.iter().filter(|(tag, held)| {
            !staying.contains(*tag)
                && !kept.contains(tag)
                && match self.role(tag, held) {
                    Role::Goes => true,
                    Role::GoesWith(subject) => {
                        decision.manifests.contains(&subject) || self.is_gone(view, &subject)
                    }
                    Role::Stays | Role::Lists(_) => false,
                }
        });
        going
            .map(|(tag, held)| (tag.clone(), held.digest.clone()))
            .collect()
    }

    fn is_gone(&self, view: &View, digest: &Digest) -> bool {
        view.absent.contains(digest)
            || (self.done.manifests.contains(digest) && !view.nodes.contains_key(digest))
    }

    /// Decides which lists go, and what lists that stay are to lose.
    fn judge_lists(&self, view: &View, decision: &mut Decision) {
        for (tag, held) in &view.tags {
            let Role::Lists(subject) = self.role(tag, held) else {
                continue;
            };
            if self.done.stuck.contains(tag) {
                continue;
            }
            let entries = held.entries.iter().flatten();
            let (dead, left): (Vec<&Digest>, Vec<&Digest>) =
                entries.partition(|entry| self.is_gone(view, entry));
            let goes = decision.manifests.contains(&subject) || self.is_gone(view, &subject);
            if left.is_empty() && (goes || dead.iter().any(|entry| self.was_ours(entry))) {
                decision.lists.insert(tag.clone());
                continue;
            }
            // While its subject goes, the list is needed as it is until nothing is left.
            if !decision.manifests.contains(&subject) {
                let dead: BTreeSet<Digest> = dead
                    .into_iter()
                    .filter(|entry| self.was_ours(entry))
                    .cloned()
                    .collect();
                let is_waiting = left.iter().any(|entry| decision.manifests.contains(*entry));
                if !dead.is_empty() && !is_waiting {
                    decision.dead.insert(tag.clone(), dead);
                }
            }
        }
    }

    /// Returns the lists of what refers to a manifest of ours.
    pub(crate) fn lists_of<'v>(
        &self,
        view: &'v View,
        subject: &'v Digest,
    ) -> impl Iterator<Item = &'v Tag> {
        let this = *self;
        view.tags.iter().filter_map(move |(tag, held)| {
            let own = matches!(this.role(tag, held), Role::Lists(own) if own == *subject);
            own.then_some(tag)
        })
    }

    /// Returns what a tag lists the referrers of, if it is the list of a subject of ours.
    pub(crate) fn subject_of(&self, list: &Tag, held: &StoredManifest) -> Option<Digest> {
        match self.role(list, held) {
            Role::Lists(subject) => Some(subject),
            _ => None,
        }
    }

    /// Returns what the lists of our subjects name and is not ours.
    pub(crate) fn listed(&self, view: &View) -> BTreeSet<Digest> {
        let lists = view.tags.iter();
        let lists = lists.filter(|(tag, held)| matches!(self.role(tag, held), Role::Lists(_)));
        let entries = lists.flat_map(|(_, held)| held.entries.iter().flatten());
        entries
            .filter(|entry| !self.is_ours(entry))
            .cloned()
            .collect()
    }

    fn was_ours(&self, digest: &Digest) -> bool {
        self.history.made.contains(digest)
    }

    /// Records why what is not selected stays.
    fn explain(&self, view: &View, decision: &mut Decision) {
        for (tag, made) in &self.history.tags {
            if self.selected.contains(tag) {
                continue;
            }
            let Some(held) = view.tags.get(tag) else {
                continue;
            };
            let digest = held.digest.clone();
            if self.history.pinned_tags.contains(tag) {
                decision.keep(Some(tag.clone()), digest, KeptReason::OtherJob, None);
            } else if held.digest != *made {
                decision.keep(Some(tag.clone()), digest, KeptReason::Moved, None);
            }
        }
        for digest in &self.done.refused {
            if view.nodes.contains_key(digest) {
                decision.keep(None, digest.clone(), KeptReason::Refused, None);
            }
        }
    }

    /// Returns the manifests that can go now: nothing else that goes names them.
    pub(crate) fn free(&self, view: &View, decision: &Decision) -> BTreeSet<Digest> {
        let mut named: BTreeSet<&Digest> = BTreeSet::new();
        let going = decision.manifests.iter();
        for node in going.filter_map(|digest| view.nodes.get(digest)) {
            named.extend(node.entries.iter().flatten());
            named.extend(&node.subject);
        }
        let mut free = decision.manifests.clone();
        free.retain(|digest| !named.contains(digest));
        let mut held_back = BTreeSet::new();
        for (tag, held) in &view.tags {
            if let Role::GoesWith(subject) = self.role(tag, held)
                && decision.manifests.contains(&held.digest)
            {
                held_back.insert(subject);
            }
        }
        // The names of legacy tags can form a circle; then they hold nothing back.
        if free.iter().all(|digest| held_back.contains(digest)) {
            return free;
        }
        free.retain(|digest| !held_back.contains(digest));
        free
    }
}

impl Decision {
    fn keep(&mut self, tag: Option<Tag>, digest: Digest, reason: KeptReason, by: Option<Digest>) {
        self.kept.insert(Kept {
            tag,
            digest,
            reason,
            by,
        });
    }
}
