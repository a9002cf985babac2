//! The result of a discovery as a table and as a tree.

use std::collections::{BTreeMap, HashSet};

use oci_content::{Capability, Digest};
use oci_referrers::{Child, FoldedProblem, ImageTree, Referrer};

use super::{DiscoverArgs, Found, wanted};
use crate::announce::folded_warnings;
use crate::log::escape;
use crate::remedy;
use crate::render::{self, Table, Tree};

impl Found {
    pub(super) fn table(&self, args: &DiscoverArgs) -> String {
        let mut table = Table::new([
            "DEPTH",
            "CATEGORY",
            "ARTIFACT TYPE",
            "DIGEST",
            "SUBJECT",
            "SIZE",
            "FOUND BY",
        ]);
        for referrer in self.shown(args) {
            table.row([
                referrer.depth.to_string(),
                referrer.category.to_string(),
                render::foreign(referrer.artifact_type.as_deref().unwrap_or("-")),
                referrer.digest.to_string(),
                render::short(&referrer.subject),
                referrer.size.to_string(),
                found_by(referrer),
            ]);
        }
        table.to_string()
    }

    pub(crate) fn tree(&self, args: &DiscoverArgs, requests: u64) -> String {
        let Some(subject) = &self.subject else {
            return format!("{}\n", args.reference);
        };
        let children = match self
            .children
            .iter()
            .filter(|child| !child.is_attestation())
            .count()
        {
            0 => String::new(),
            count => format!("  index of {}", render::count(count, "platform")),
        };
        let name = match &self.name {
            Some(name) => format!("  named {name}"),
            None => String::new(),
        };
        let mut tree = Tree::new(format!(
            "{}  {}{children}{name}",
            args.reference,
            render::short(subject)
        ));
        let mut seen = HashSet::new();
        self.branches(&mut tree, subject, args, &mut seen);
        for name in self.manifest.iter().flat_map(ImageTree::names) {
            self.branches(&mut tree, &name, args, &mut seen);
        }
        for child in &self.children {
            tree.push(self.child_branch(child, args, &mut seen));
        }
        let mut text = tree.to_string();
        if args.explain {
            text.push_str(&self.explanation());
        }
        text.push_str(&self.closing(args, requests));
        text
    }

    /// Returns the children of a referrer that is an index.
    fn children_of(&self, referrer: &Digest) -> &[Child] {
        let tree = self.graph.indexes.get(referrer);
        tree.map_or(&[], |tree| &tree.children)
    }

    fn child_branch(&self, child: &Child, args: &DiscoverArgs, seen: &mut HashSet<Digest>) -> Tree {
        let digest = &child.descriptor.digest;
        let platform = child
            .descriptor
            .platform
            .as_ref()
            .map_or("manifest".to_owned(), |platform| {
                render::foreign(&platform.to_string())
            });
        let name = if child.is_attestation() {
            "attestation in the index".to_owned()
        } else {
            platform
        };
        let mut branch = Tree::new(format!("[{name}]  {}", render::short(digest)));
        self.branches(&mut branch, digest, args, seen);
        branch
    }

    fn branches(
        &self,
        tree: &mut Tree,
        subject: &Digest,
        args: &DiscoverArgs,
        seen: &mut HashSet<Digest>,
    ) {
        if !seen.insert(subject.clone()) {
            return;
        }
        for referrer in self.graph.referrers_of(subject) {
            let mut branch = Tree::new(line(referrer, args.explain));
            self.branches(&mut branch, &referrer.digest, args, seen);
            for child in self.children_of(&referrer.digest) {
                let below = self.child_branch(child, args, seen);
                if args.artifact_type.is_empty() || !below.is_leaf() {
                    branch.push(below);
                }
            }
            // A branch that the filter excludes stays if something below it is wanted.
            if wanted(referrer, args) || !branch.is_leaf() {
                tree.push(branch);
            }
        }
    }

    /// Lists the artifact types that were found, for a filter that matches none of them.
    fn types_there(&self) -> String {
        const SHOWN: usize = 10;
        let mut types: BTreeMap<&str, usize> = BTreeMap::new();
        for referrer in &self.graph.referrers {
            *types
                .entry(referrer.artifact_type.as_deref().unwrap_or("-"))
                .or_default() += 1;
        }
        let shown = types.iter().take(SHOWN);
        let shown = shown.map(|(name, count)| format!("{} ({count})", render::foreign(name)));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = match types.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("hint: no referrer has this artifact type; found: {shown}{more}\n")
    }

    fn closing(&self, args: &DiscoverArgs, requests: u64) -> String {
        let mut text = String::from("\n");
        for folded in FoldedProblem::fold(self.errors()) {
            let problem = folded.problem;
            let about = problem
                .digest
                .as_ref()
                .map(|digest| format!(" {}", render::short(digest)))
                .unwrap_or_default();
            let way_out = remedy::of_problem(problem, args.reference.registry());
            let said = escape(&format!("{folded}{way_out}"));
            text.push_str(&format!("error {}{about}: {said}\n", problem.code));
        }
        for (warning, times) in folded_warnings(self.warnings()) {
            let about = warning
                .digest
                .as_ref()
                .map(|digest| format!(" {}", render::short(digest)))
                .unwrap_or_default();
            text.push_str(&format!(
                "warning {}{about}: {}{times}\n",
                warning.code,
                escape(&warning.message)
            ));
        }
        let shown = self.shown(args).count();
        let all = self.graph.referrers.len();
        let number = if shown == all {
            render::count(all, "referrer")
        } else {
            format!("{shown} of {}", render::count(all, "referrer"))
        };
        if shown == 0 && all > 0 {
            text.push_str(&self.types_there());
        }
        if args.reference.registry().is_none() {
            text.push_str(&format!("{}: {number} in the folder\n", self.status()));
            return text;
        }
        let (capability, method) = self
            .root_report()
            .map_or((Capability::Unknown, "-"), |report| {
                (report.capability, report.method.as_str())
            });
        text.push_str(&format!(
            "{}: {number}, method {method}, referrers API {capability}, {}\n",
            self.status(),
            render::count(usize::try_from(requests).unwrap_or(usize::MAX), "request"),
        ));
        text
    }
}

fn line(referrer: &Referrer, explain: bool) -> String {
    let artifact_type = referrer
        .artifact_type
        .as_deref()
        .map_or("(no artifact type)".into(), render::foreign);
    let mut line = format!(
        "{}  {artifact_type}  {}",
        referrer.category,
        render::short(&referrer.digest)
    );
    let suffix = referrer
        .tag
        .as_ref()
        .and_then(|tag| tag.as_str().rsplit('.').next());
    match (suffix, explain) {
        (Some(suffix), true) => line.push_str(&format!("  ({} .{suffix})", found_by(referrer))),
        (None, true) => line.push_str(&format!("  ({})", found_by(referrer))),
        (Some(suffix), false) => line.push_str(&format!("  tag .{suffix}")),
        (None, false) => {}
    }
    line
}

fn found_by(referrer: &Referrer) -> String {
    let names: Vec<_> = referrer
        .sources
        .iter()
        .map(|source| source.as_str())
        .collect();
    names.join(", ")
}
