use std::collections::HashMap;
use std::fmt;

use oci_content::{Digest, ErrorCode, SourceKind};

use crate::source::Problem;

/// The same problem of any number of subjects, as one line for people.
///
/// A registry that refuses one request usually refuses all of its kind. Displays as the message and
/// the subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoldedProblem<'a> {
    /// The first of the problems.
    pub problem: &'a Problem,
    /// What happened, with `…` in place of the digest of the subject if there are several subjects.
    pub message: String,
    /// The subjects, in the order of the problems.
    pub subjects: Vec<&'a Digest>,
}

impl<'a> FoldedProblem<'a> {
    /// Groups problems that say the same about different subjects, in the order of the first
    /// problem of each group.
    pub fn fold(problems: impl IntoIterator<Item = &'a Problem>) -> Vec<Self> {
        type Key<'a> = (ErrorCode, Option<&'a Digest>, Option<SourceKind>, String);
        let mut folded: Vec<Self> = Vec::new();
        let mut places: HashMap<Key<'a>, usize> = HashMap::new();
        for problem in problems {
            let message = without_subject(problem);
            let key = (
                problem.code,
                problem.digest.as_ref(),
                problem.source,
                message,
            );
            let place = *places.entry(key).or_insert(folded.len());
            if let Some(known) = folded.get_mut(place) {
                known.message = without_subject(problem);
                known.subjects.extend(problem.subject.as_ref());
            } else {
                folded.push(Self {
                    problem,
                    message: problem.message.clone(),
                    subjects: problem.subject.iter().collect(),
                });
            }
        }
        folded
    }
}

fn without_subject(problem: &Problem) -> String {
    match &problem.subject {
        Some(subject) => problem.message.replace(subject.encoded(), "…"),
        None => problem.message.clone(),
    }
}

impl fmt::Display for FoldedProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        f.write_str(&self.message)?;
        match *self.subjects {
            [] => Ok(()),
            [subject] => write!(f, " (subject {subject})"),
            _ => {
                write!(f, " ({} subjects: ", self.subjects.len())?;
                for (place, subject) in self.subjects.iter().take(SHOWN).enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    write!(f, "{comma}{subject}")?;
                }
                match self.subjects.len().saturating_sub(SHOWN) {
                    0 => f.write_str(")"),
                    more => write!(f, " and {more} more)"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_many_subjects_is_one_line() {
        let subjects: Vec<_> = (0..12_u8).map(|number| Digest::of(&[number])).collect();
        let problem = |message: String, subject: &Digest| {
            let mut problem = Problem::new(ErrorCode::Denied, message);
            problem.subject = Some(subject.clone());
            problem
        };
        let mut problems: Vec<_> = subjects
            .iter()
            .map(|subject| problem("the API is denied".into(), subject))
            .collect();
        problems.extend(
            subjects[..2]
                .iter()
                .map(|subject| problem(format!("/referrers/{subject} answered 403"), subject)),
        );
        problems.push(problem("alone".into(), &subjects[0]));
        let folded = FoldedProblem::fold(&problems);
        let lines: Vec<_> = folded.iter().map(ToString::to_string).collect();
        let [a, b, c] = [0, 1, 2].map(|place| &subjects[place]);
        assert_eq!(
            lines,
            [
                format!("the API is denied (12 subjects: {a}, {b}, {c} and 9 more)"),
                format!("/referrers/sha256:… answered 403 (2 subjects: {a}, {b})"),
                format!("alone (subject {a})"),
            ]
        );
        assert_eq!(folded[0].subjects.len(), 12);
    }
}
