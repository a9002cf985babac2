//! Random repositories, and what a persona shows of them to a client that asks everything.
//!
//! The model shares no code with the crate: it knows what was put into the registry and which list
//! shows what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use oci_content::{Algorithm, Descriptor, Digest, SourceKind, media_type, referrers_tag};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use test_registry::{Coding, Fault, Framing, Persona, Referrer, Route, TestRegistry, Variant};

use crate::support::APP;

/// A repository and the way in which it is looked at.
#[derive(Clone, Debug)]
pub(crate) struct World {
    persona: Persona,
    variant: Option<Variant>,
    page_size: usize,
    images: Vec<Image>,
    referrers: Vec<Node>,
    legacy: Vec<LegacyLink>,
    lies: Vec<Lie>,
    mishaps: Vec<Mishap>,
    /// The API lists one node only from a later answer on.
    late: Option<(Index, usize)>,
    /// Anonymous users are told that nothing is there, or shown lists without one node.
    pub(crate) hidden: Option<Hidden>,
    pub(crate) depth: Option<u32>,
    /// Whether the children of indexes are asked for.
    pub(crate) children: bool,
    pub(crate) many: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Hidden {
    All { status: u16, code: &'static str },
    One(Index),
}

#[derive(Clone, Copy, Debug)]
enum Image {
    Plain,
    Sha512,
    /// Only its referrers are there.
    Absent,
}

#[derive(Clone, Debug)]
struct Node {
    subject: Index,
    /// Whether the subject is an image, and not any node.
    of_image: bool,
    form: Form,
    listing: Listing,
    fate: Fate,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Typed,
    TypedByConfig,
    Index,
    UntypedIndex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    AsPushed,
    OnlyTag,
    Both,
    NotByTag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    /// The API does not list it any more.
    Hidden,
    /// It is listed, and it is not there.
    Lost,
    /// Its bytes are damaged whenever it is read by digest.
    Damaged,
}

/// A legacy tag, on a manifest of its own or on another one's.
#[derive(Clone, Debug)]
struct LegacyLink {
    subject: Index,
    suffix: &'static str,
    target: Option<Index>,
}

/// An entry of a referrers tag that need not be true.
#[derive(Clone, Debug)]
struct Lie {
    subject: Index,
    target: Option<Index>,
}

/// Something that goes wrong for a while or for ever.
#[derive(Clone, Debug)]
struct Mishap {
    place: Place,
    /// It happens at another host, to which the registry redirects.
    elsewhere: bool,
    what: u8,
    skip: usize,
    times: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Referrers,
    /// Behind a link: the first page has no query.
    LaterPages,
    Tags,
    Manifests,
    ManifestsByDigest,
}

const SUFFIXES: [&str; 6] = ["sig", "att", "sbom", "vex", "x.y-z_1", "SIG"];

const VARIANTS: [Variant; 10] = [
    Variant::Acr,
    Variant::Zot,
    Variant::Ghcr303TooManyRequests,
    Variant::Ghcr303Html,
    Variant::QuayBefore312,
    Variant::EdgeForbidden,
    Variant::EdgeFailedDependency,
    Variant::EdgeUpstreamNotFound,
    Variant::EdgeCachedIndex,
    Variant::EdgeUpstreamLink,
];

impl World {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let persona = prop_oneof![
            3 => select(&Persona::ALL[..]).prop_map(|persona| (persona, None)),
            1 => select(&VARIANTS[..]).prop_map(|variant| (variant.persona(), Some(variant))),
            // Those whose lists have pages.
            2 => select(vec![Persona::SpecFull, Persona::PagedBytes, Persona::Ecr])
                .prop_map(|persona| (persona, None)),
        ];
        let image = prop_oneof![
            6 => Just(Image::Plain),
            1 => Just(Image::Sha512),
            1 => Just(Image::Absent),
        ];
        let content = (
            prop::collection::vec(image, 1..4),
            prop::collection::vec(node(), 0..10),
            prop::collection::vec(legacy(), 0..4),
            prop::collection::vec(lie(), 0..4),
        );
        let look = (
            prop::collection::vec(mishap(), 0..4),
            prop::option::weighted(0.2, (any::<Index>(), 1_usize..4)),
            prop::option::weighted(0.2, hidden()),
            prop_oneof![Just(None), Just(Some(1)), Just(Some(2))],
            any::<bool>(),
            any::<bool>(),
        );
        let page_size = prop_oneof![3 => 1_usize..3, 1 => 3_usize..6];
        let all = (persona, page_size, content, look);
        all.prop_map(|((persona, variant), page_size, content, look)| {
            let (images, referrers, legacy, lies) = content;
            let (mishaps, late, hidden, depth, children, many) = look;
            Self {
                persona,
                variant,
                page_size,
                images,
                referrers,
                legacy,
                lies,
                mishaps,
                late,
                hidden,
                depth,
                children,
                many,
            }
        })
    }
}

fn node() -> impl Strategy<Value = Node> {
    let forms = vec![
        Form::Typed,
        Form::TypedByConfig,
        Form::Index,
        Form::UntypedIndex,
    ];
    let listing = prop_oneof![
        4 => Just(Listing::AsPushed),
        1 => Just(Listing::OnlyTag),
        1 => Just(Listing::Both),
        1 => Just(Listing::NotByTag),
    ];
    let fate = prop_oneof![
        9 => Just(Fate::Kept),
        1 => Just(Fate::Hidden),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Damaged),
    ];
    let all = (any::<Index>(), any::<bool>(), select(forms), listing, fate);
    all.prop_map(|(subject, of_image, form, listing, fate)| Node {
        subject,
        of_image,
        form,
        listing,
        fate,
    })
}

fn legacy() -> impl Strategy<Value = LegacyLink> {
    let all = (
        any::<Index>(),
        select(&SUFFIXES[..]),
        prop::option::of(any::<Index>()),
    );
    all.prop_map(|(subject, suffix, target)| LegacyLink {
        subject,
        suffix,
        target,
    })
}

fn lie() -> impl Strategy<Value = Lie> {
    let all = (any::<Index>(), prop::option::weighted(0.8, any::<Index>()));
    all.prop_map(|(subject, target)| Lie { subject, target })
}

fn hidden() -> impl Strategy<Value = Hidden> {
    let refusals = vec![
        (404, "NAME_UNKNOWN"),
        (404, "MANIFEST_UNKNOWN"),
        (403, "DENIED"),
    ];
    prop_oneof![
        select(refusals).prop_map(|(status, code)| Hidden::All { status, code }),
        any::<Index>().prop_map(Hidden::One),
    ]
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let places = vec![
        Place::Referrers,
        Place::LaterPages,
        Place::Tags,
        Place::Manifests,
        Place::ManifestsByDigest,
    ];
    let skip = prop_oneof![Just(0), 0_usize..8];
    let times = prop_oneof![Just(None), (1_usize..6).prop_map(Some)];
    let all = (
        select(places),
        prop::bool::weighted(0.2),
        any::<u8>(),
        skip,
        times,
    );
    all.prop_map(|(place, elsewhere, what, skip, times)| Mishap {
        place,
        elsewhere,
        what,
        skip,
        times,
    })
}

impl Mishap {
    /// What goes wrong can be told from an answer. A 404 in a manifest's place, or a list that is
    /// another list, cannot, and would make the graph another one.
    fn faults(&self) -> Vec<(Route, Fault)> {
        let (route, faults) = match self.place {
            Place::Referrers => (Route::referrers(), 15),
            Place::LaterPages => (Route::referrers().containing("?"), 16),
            Place::Tags => (Route::tags(), 15),
            Place::Manifests => (Route::manifests(), 15),
            Place::ManifestsByDigest => (Route::manifests().containing("manifests/sha256:"), 18),
        };
        let bytes = u64::from(self.what);
        let fault = match self.what % faults {
            0 => Fault::statuses([429]),
            1 => Fault::statuses([500]),
            2 => Fault::statuses([503]),
            3 => Fault::statuses([429, 200, 502]),
            4 => Fault::reset(),
            5 => Fault::truncate_after(bytes),
            6 => Fault::reset_after(bytes),
            7 => Fault::shorten(bytes),
            8 => Fault::shorten(bytes).framing(Framing::Chunked),
            9 => Fault::truncate_after(bytes).framing(Framing::UntilClose),
            10 => Fault::prefix("\u{feff}"),
            11 => Fault::encoded([Coding::Opaque("zstd")]),
            12 => Fault::encoded([Coding::Gzip]),
            13 => Fault::delay(Duration::from_millis(bytes % 20)),
            14 => Fault::statuses([520]).header("Retry-After", "soon"),
            15 => Fault::statuses([403]),
            16 => Fault::corrupt_byte(bytes),
            _ => Fault::extend(),
        };
        let fault = fault.skip(self.skip);
        let fault = match self.times {
            Some(times) => fault.times(times),
            None => fault.forever(),
        };
        match self.elsewhere {
            true => vec![
                (route.clone(), Fault::redirect_elsewhere(307).forever()),
                (route.elsewhere(), fault),
            ],
            false => vec![(route, fault)],
        }
    }
}

/// Reads what an index lists.
fn child(registry: &TestRegistry, index: &Descriptor) -> Descriptor {
    let bytes = registry.manifest(APP, &index.digest).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let digest: Digest = document["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let bytes = registry.manifest(APP, &digest).unwrap();
    Descriptor::of(media_type::IMAGE_MANIFEST, &bytes)
}

/// An entry of a graph: depth, subject, digest, sources, tag.
pub(crate) type Entry = (u32, Digest, Digest, BTreeSet<SourceKind>, Option<String>);

/// A repository that has been put into a registry, with what it shows.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) registry: TestRegistry,
    pub(crate) roots: Vec<Digest>,
    mishaps: Vec<Mishap>,
    late: Option<(Digest, usize)>,
    children: bool,
    shown: Shown,
}

/// What lists show, whether it is true or not, and what is true.
#[derive(Debug, Default)]
struct Shown {
    api: BTreeMap<Digest, BTreeSet<Digest>>,
    tag: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Legacy tags by subject: tag and digest.
    legacy: BTreeMap<Digest, BTreeMap<String, Digest>>,
    /// What an index lists.
    children: BTreeMap<Digest, Digest>,
    /// The subject that a manifest has, for those that are there.
    subject: BTreeMap<Digest, Option<Digest>>,
    damaged: BTreeSet<Digest>,
    /// Whether a discovery without mishaps may be incomplete.
    may_be_incomplete: bool,
    /// Whether another host says that a manifest is gone, which is no proof.
    is_edge: bool,
}

impl World {
    fn is_edge(&self) -> bool {
        self.persona == Persona::EdgeProxy
    }

    fn has_api(&self) -> bool {
        let edge = [
            Some(Variant::EdgeCachedIndex),
            Some(Variant::EdgeUpstreamLink),
        ];
        let native = [
            Persona::SpecFull,
            Persona::PagedBytes,
            Persona::Minimal,
            Persona::Ecr,
            Persona::HubNow,
            Persona::Quay,
            Persona::Harbor28,
        ];
        native.contains(&self.persona) || edge.contains(&self.variant)
    }

    /// Whether a manifest that a list names and that is gone makes the API say nothing at all.
    fn api_breaks_on_loss(&self) -> bool {
        self.persona == Persona::Harbor28 || self.variant == Some(Variant::Zot)
    }

    pub(crate) fn build(&self) -> Built {
        let mut builder = TestRegistry::builder(self.persona)
            .without_auth()
            .pull_limit(u64::MAX);
        // A page that is shorter than was asked for, without a link to the next one, is the end of
        // a listing:
        // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags
        if self.persona != Persona::Minimal {
            builder = builder.page_size(self.page_size);
        }
        if let Some(variant) = self.variant {
            builder = builder.variant(variant);
        }
        let registry = builder.start_blocking();
        let mut shown = Shown {
            is_edge: self.is_edge(),
            ..Shown::default()
        };
        let mut nodes: Vec<Descriptor> = Vec::new();
        let mut tagged: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
        let mut lost = Vec::new();
        for (number, image) in self.images.iter().enumerate() {
            let plain = registry.image(APP, &format!("v{number}"));
            nodes.push(match image {
                Image::Plain => {
                    shown.subject.insert(plain.digest.clone(), None);
                    plain
                }
                Image::Sha512 => {
                    let bytes = registry.manifest(APP, &plain.digest).unwrap();
                    let digest = Digest::compute(Algorithm::Sha512, &bytes);
                    registry.delete(APP, &plain.digest);
                    let again = media_type::IMAGE_MANIFEST;
                    let image = registry.put_manifest_as(APP, &digest, again, bytes);
                    shown.subject.insert(digest, None);
                    image
                }
                Image::Absent => {
                    registry.delete(APP, &plain.digest);
                    plain
                }
            });
        }
        let roots: Vec<_> = nodes.iter().map(|image| image.digest.clone()).collect();
        // Whatever else there is, the repository exists.
        registry.image("team/app", "latest");

        for (number, node) in self.referrers.iter().enumerate() {
            let choice = match node.of_image {
                true => roots.len(),
                false => nodes.len(),
            };
            let subject = nodes[node.subject.index(choice)].clone();
            let referrer = Referrer::new(
                &subject,
                "application/vnd.example+json",
                format!("{number}"),
            )
            .annotation("number", number.to_string())
            .without_tag_index();
            let referrer = match node.form {
                Form::Typed => referrer,
                Form::TypedByConfig => referrer.typed_by_config(),
                Form::Index => referrer.as_index(),
                Form::UntypedIndex => referrer.as_untyped_index(),
            };
            let descriptor = registry.put_referrer(APP, referrer);
            let digest = descriptor.digest.clone();
            let by_tag = match node.listing {
                Listing::AsPushed => !self.has_api(),
                Listing::OnlyTag | Listing::Both => true,
                Listing::NotByTag => false,
            };
            let by_api = node.listing != Listing::OnlyTag && node.fate != Fate::Hidden;
            if by_tag {
                tagged
                    .entry(subject.digest.clone())
                    .or_default()
                    .push(descriptor.clone());
            }
            match by_api {
                true => {
                    let listed = shown.api.entry(subject.digest.clone()).or_default();
                    listed.insert(digest.clone());
                }
                false => registry.hide_referrer(APP, &digest),
            }
            match node.fate {
                // At the edge a manifest comes from the upstream, which has lost nothing.
                Fate::Lost if !self.is_edge() => lost.push(digest),
                fate => {
                    if fate == Fate::Damaged && !self.is_edge() {
                        shown.damaged.insert(digest.clone());
                    }
                    shown.subject.insert(digest, Some(subject.digest));
                }
            }
            let child = matches!(node.form, Form::Index | Form::UntypedIndex)
                .then(|| child(&registry, &descriptor));
            if let Some(child) = &child {
                shown.subject.insert(child.digest.clone(), None);
                shown
                    .children
                    .insert(descriptor.digest.clone(), child.digest.clone());
            }
            nodes.push(descriptor);
            nodes.extend(child);
        }

        self.lie(&registry, &nodes, &mut tagged);
        for (subject, entries) in &tagged {
            registry.referrers_tag_index(APP, subject, entries);
            let digests = entries.iter().map(|entry| entry.digest.clone()).collect();
            shown.tag.insert(subject.clone(), digests);
        }
        self.put_legacy(&registry, &nodes, &mut shown);
        for digest in &lost {
            registry.lose(APP, digest);
        }
        self.restrict_api(&mut shown, !lost.is_empty());
        for digest in &shown.damaged {
            let damaged = Fault::corrupt_byte(40).forever();
            registry.fault(Route::manifests().reference(digest), damaged);
        }
        self.hide(&registry, &nodes);
        Built {
            registry,
            roots,
            mishaps: self.mishaps.clone(),
            late: self
                .late
                .as_ref()
                .map(|(index, answers)| (nodes[index.index(nodes.len())].digest.clone(), *answers)),
            children: self.children,
            shown,
        }
    }

    fn hide(&self, registry: &TestRegistry, nodes: &[Descriptor]) {
        let hide = |route: Route, fault: Fault| registry.fault(route.anonymous(), fault.forever());
        match &self.hidden {
            None => {}
            Some(Hidden::All { status, code }) => hide(Route::any(), Fault::error(*status, code)),
            Some(Hidden::One(index)) => {
                let digest = &nodes[index.index(nodes.len())].digest;
                hide(Route::referrers(), Fault::omit([digest]));
                let one = Route::manifests().reference(digest);
                hide(one, Fault::error(404, "MANIFEST_UNKNOWN"));
            }
        }
    }

    fn lie(
        &self,
        registry: &TestRegistry,
        nodes: &[Descriptor],
        tagged: &mut BTreeMap<Digest, Vec<Descriptor>>,
    ) {
        for (number, lie) in self.lies.iter().enumerate() {
            let subject = &nodes[lie.subject.index(nodes.len())];
            let entry = match &lie.target {
                Some(target) => nodes[target.index(nodes.len())].clone(),
                None => Descriptor::of(media_type::IMAGE_MANIFEST, &number.to_be_bytes()),
            };
            let entries = tagged.entry(subject.digest.clone()).or_default();
            entries.push(entry);
        }
        // A tag that is cut can hold another subject's entries.
        let stranger = Descriptor::of(media_type::IMAGE_MANIFEST, b"another subject");
        let stranger = Referrer::new(&stranger, "a/b", "stranger").without_tag_index();
        let stranger = registry.put_referrer(APP, stranger);
        let cut = tagged.iter_mut();
        for (_, entries) in cut.filter(|(subject, _)| subject.algorithm() == Algorithm::Sha512) {
            entries.push(stranger.clone());
        }
    }

    fn put_legacy(&self, registry: &TestRegistry, nodes: &[Descriptor], shown: &mut Shown) {
        for (number, link) in self.legacy.iter().enumerate() {
            let subject = &nodes[link.subject.index(nodes.len())].digest;
            if subject.algorithm() == Algorithm::Sha512 {
                continue;
            }
            let target = match &link.target {
                Some(target) => nodes[target.index(nodes.len())].digest.clone(),
                None => {
                    registry
                        .legacy(APP, subject, link.suffix, number.to_string())
                        .digest
                }
            };
            // What a tag holds is known by its bytes, so it has a SHA-256 digest.
            if target.algorithm() == Algorithm::Sha512 {
                continue;
            }
            if link.target.is_none() {
                shown.subject.insert(target.clone(), None);
            }
            let tag = format!("{}.{}", referrers_tag(subject), link.suffix);
            registry.tag(APP, &tag, &target);
            let held = shown.legacy.entry(subject.clone()).or_default();
            // The image itself says nothing about the image.
            match target == *subject {
                true => held.remove(&tag),
                false => held.insert(tag, target),
            };
        }
    }

    /// Takes off what the persona's API does not show, and adds what it shows beside its own.
    fn restrict_api(&self, shown: &mut Shown, any_lost: bool) {
        if !self.has_api() || (self.api_breaks_on_loss() && any_lost) {
            shown.api.clear();
        }
        if self.persona == Persona::Quay {
            for (subject, entries) in &shown.tag {
                shown
                    .api
                    .entry(subject.clone())
                    .or_default()
                    .extend(entries.iter().cloned());
            }
        }
        if matches!(self.persona, Persona::Quay | Persona::Harbor28) {
            let there = &shown.subject;
            shown.api.retain(|subject, _| there.contains_key(subject));
        }
        shown.may_be_incomplete = matches!(
            (self.persona, self.variant),
            // The API is denied, or does not answer; a page leads elsewhere; a listing breaks.
            (Persona::Harbor27 | Persona::ArtifactoryOld, _)
                | (
                    _,
                    Some(
                        Variant::EdgeForbidden
                            | Variant::EdgeFailedDependency
                            | Variant::EdgeUpstreamLink
                            | Variant::Ghcr303TooManyRequests
                    )
                )
        );
    }
}

impl Built {
    /// Makes everything go wrong that the world has planned.
    pub(crate) fn begin_mishaps(&self) {
        // Some wait for requests that this world has no reason for.
        self.registry.allow_unused_faults();
        if let Some((digest, answers)) = &self.late {
            let late = Fault::omit([digest]).times(*answers);
            self.registry.fault(Route::referrers(), late);
        }
        for (route, fault) in self.mishaps.iter().flat_map(Mishap::faults) {
            self.registry.fault(route, fault);
        }
    }

    /// Returns what a discovery finds that sees no list of the API with what is late, or
    /// `without_api` no such list at all; `None` where that is no difference.
    pub(crate) fn least(&self, depth: Option<u32>, without_api: bool) -> Option<BTreeSet<Entry>> {
        let late = self.late.as_ref().map(|(digest, _)| digest);
        let unlisted = |digest: &Digest| without_api || late == Some(digest);
        (without_api || late.is_some()).then(|| self.walk(depth, unlisted).0)
    }

    /// Returns what a discovery to `depth` finds, and whether it must be complete.
    pub(crate) fn expected(&self, depth: Option<u32>) -> (BTreeSet<Entry>, bool) {
        self.walk(depth, |_| false)
    }

    /// `unlisted`: what the API does not list.
    fn walk(
        &self,
        depth: Option<u32>,
        unlisted: impl Fn(&Digest) -> bool,
    ) -> (BTreeSet<Entry>, bool) {
        let mut entries = BTreeSet::new();
        let mut complete = !self.shown.may_be_incomplete;
        let mut depths: BTreeMap<Digest, u32> = BTreeMap::new();
        let mut queue: VecDeque<Digest> = VecDeque::new();
        for root in &self.roots {
            depths.insert(root.clone(), 0);
            queue.push_back(root.clone());
        }
        while let Some(subject) = queue.pop_front() {
            let level = depths[&subject] + 1;
            for (digest, sources, tag) in self.shown.entries_of(&subject, &unlisted, &mut complete)
            {
                entries.insert((level, subject.clone(), digest.clone(), sources, tag));
                if depth.is_some_and(|depth| level >= depth) {
                    continue;
                }
                // What an index lists is as far away as the index.
                let below = self.shown.children.get(&digest).filter(|_| self.children);
                for digest in [Some(&digest), below].into_iter().flatten() {
                    if !depths.contains_key(digest) {
                        depths.insert(digest.clone(), level);
                        queue.push_back(digest.clone());
                    }
                }
            }
        }
        (entries, complete)
    }

    /// Returns whether a referrer of a subject exists: by its own word, or by a tag's name.
    pub(crate) fn exists(&self, subject: &Digest, digest: &Digest) -> bool {
        let own = self.shown.subject.get(digest);
        let tags = self.shown.legacy.get(subject);
        own == Some(&Some(subject.clone()))
            || own.is_some() && tags.is_some_and(|tags| tags.values().any(|held| held == digest))
    }
}

impl Shown {
    fn entries_of(
        &self,
        subject: &Digest,
        unlisted: impl Fn(&Digest) -> bool,
        complete: &mut bool,
    ) -> Vec<(Digest, BTreeSet<SourceKind>, Option<String>)> {
        let mut named: BTreeMap<&Digest, BTreeSet<SourceKind>> = BTreeMap::new();
        for (lists, source) in [
            (&self.api, SourceKind::ReferrersApi),
            (&self.tag, SourceKind::ReferrersTag),
        ] {
            for digest in lists.get(subject).into_iter().flatten() {
                if source == SourceKind::ReferrersApi && unlisted(digest) {
                    continue;
                }
                named.entry(digest).or_default().insert(source);
            }
        }
        let mut tags: BTreeMap<&Digest, Vec<&String>> = BTreeMap::new();
        for (tag, digest) in self.legacy.get(subject).into_iter().flatten() {
            if self.subject.contains_key(digest) {
                tags.entry(digest).or_default().push(tag);
            }
        }
        let mut entries = Vec::new();
        for (digest, mut sources) in named {
            let Some(own) = self.subject.get(digest) else {
                *complete &= !self.is_edge;
                continue;
            };
            let tags = tags.get(digest);
            // What a tag holds is read by the tag.
            if self.damaged.contains(digest) && tags.is_none() {
                *complete = false;
                continue;
            }
            if own.as_ref() != Some(subject) {
                continue;
            }
            let tag = tags.map(|tags| tags[0].clone());
            if tag.is_some() {
                sources.insert(SourceKind::LegacyTag);
            }
            entries.push((digest.clone(), sources, tag));
        }
        for (digest, tags) in tags {
            let taken = entries.iter().any(|(known, ..)| known == digest);
            for tag in tags.into_iter().skip(usize::from(taken)) {
                let sources = BTreeSet::from([SourceKind::LegacyTag]);
                entries.push((digest.clone(), sources, Some(tag.clone())));
            }
        }
        entries
    }
}
