use std::fmt;

use crate::log::escape;

/// A tree of lines for a terminal.
#[derive(Debug)]
pub(crate) struct Tree {
    line: String,
    children: Vec<Self>,
}

impl Tree {
    /// Creates a tree of one line; line ends in it are foreign and escaped.
    pub(crate) fn new(line: impl AsRef<str>) -> Self {
        Self {
            line: escape(line.as_ref()),
            children: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, child: Self) {
        self.children.push(child);
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        for (place, child) in self.children.iter().enumerate() {
            let last = place + 1 == self.children.len();
            let (branch, below) = if last {
                ("└── ", "    ")
            } else {
                ("├── ", "│   ")
            };
            writeln!(f, "{indent}{branch}{}", child.line)?;
            child.write(f, &format!("{indent}{below}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.line)?;
        self.write(f, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_writes_a_line_of_the_tree() {
        let mut tree = Tree::new("root");
        tree.push(Tree::new("a/b\nall is well"));
        assert_eq!(tree.to_string(), "root\n└── a/b\\u{a}all is well\n");
    }

    #[test]
    fn branches_connect() {
        let mut tree = Tree::new("root");
        let mut first = Tree::new("first");
        first.push(Tree::new("below"));
        tree.push(first);
        tree.push(Tree::new("last"));
        assert_eq!(
            tree.to_string(),
            "root\n├── first\n│   └── below\n└── last\n"
        );
    }
}
