//! Conditions: a part of the [Common Expression Language](https://cel.dev) that is read by its grammar, checked against the names
//! that there are, and evaluated without allocating.
//!
//! What is there: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` with a list, `&&`, `||`, `!`, texts, whole numbers, `true`, `false`;
//! `x.startsWith(y)`, `x.endsWith(y)`, `x.contains(y)`, `x.matches(REGEX)`, `size(x)`, `inNetwork(x, "10.0.0.0/8")`,
//! `has(x.y)`, and `header("NAME")` where there are headers.

mod compile;
mod error;
mod eval;

pub use error::FilterError;
pub use eval::{Value, Values};

use crate::eval::Node;

/// What kind of value a name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Switch,
}

/// The names that conditions on one kind of thing may use.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Each with its kind; its place is its index in [`Values::value`].
    pub names: &'static [(&'static str, Kind)],
    /// Whether `header("NAME")` is there.
    pub has_headers: bool,
}

/// A condition.
#[derive(Debug, Clone)]
pub struct Filter {
    text: Box<str>,
    node: Node,
}

impl Filter {
    /// Reads and checks one.
    ///
    /// # Errors
    /// [`FilterError`] says where, and what would be right.
    pub fn compile(text: &str, schema: &Schema) -> Result<Filter, FilterError> {
        Ok(Filter { text: text.into(), node: compile::compile(text, schema)? })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it holds of these values.
    pub fn holds(&self, values: &dyn Values) -> bool {
        self.node.holds(values)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter {}

#[cfg(test)]
mod tests;
