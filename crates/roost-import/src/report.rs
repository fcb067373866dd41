//! What became of each line.

use crate::ast::Place;

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A comment, an empty line, a brace.
    Nothing,
    /// There is nothing to carry over: why.
    Unneeded(String),
    /// It stands in the configuration: where.
    Carried(String),
    /// It is not carried over: what to do.
    Missing(String),
}

/// A line of the old script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file that it is of.
    pub file: String,
    /// From 1.
    pub number: usize,
    pub text: String,
    pub fate: Fate,
}

/// What is known of lines so far. Of several things on a line the weightiest counts: what is missing, then what is carried.
#[derive(Debug, Default)]
pub(crate) struct Notes(std::collections::BTreeMap<Place, Fate>);

impl Notes {
    pub(crate) fn note(&mut self, at: Place, fate: Fate) {
        let slot = self.0.entry(at).or_insert(Fate::Nothing);
        if rank(&fate) > rank(slot) {
            *slot = fate;
        }
    }

    /// In place of what was noted.
    pub(crate) fn settle(&mut self, at: Place, fate: Fate) {
        self.0.insert(at, fate);
    }

    pub(crate) fn fate(&self, at: Place) -> Option<&Fate> {
        self.0.get(&at)
    }
}

fn rank(fate: &Fate) -> u8 {
    match fate {
        Fate::Nothing => 0,
        Fate::Unneeded(_) => 1,
        Fate::Carried(_) => 2,
        Fate::Missing(_) => 3,
    }
}
