//! A checked condition, and what it says of values.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::bytes::Regex;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    Text(Cow<'a, [u8]>),
    Number(i64),
    Switch(bool),
    /// There is none: no comparison with it holds but `!=`.
    Missing,
}

/// The values of one thing.
pub trait Values {
    /// Of the name with this index in the [`Schema`](crate::Schema).
    fn value(&self, index: usize) -> Value<'_>;

    /// Of the first header field of this name.
    fn header(&self, _name: &str) -> Value<'_> {
        Value::Missing
    }
}

/// Something that holds or does not, or has a value.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Text(Box<[u8]>),
    Number(i64),
    Switch(bool),
    Name(usize),
    Header(Box<str>),
    Size(Box<Node>),
    Has(Box<Node>),
    Not(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Compare(Comparison, Box<[Node; 2]>),
    In(Box<Node>, Vec<Node>),
    Starts(Box<[Node; 2]>),
    Ends(Box<[Node; 2]>),
    Contains(Box<[Node; 2]>),
    Matches(Box<Node>, Regex),
    InNetwork(Box<Node>, IpNet),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, one: &Value<'_>, other: &Value<'_>) -> bool {
        let order = match (one, other) {
            (Value::Text(one), Value::Text(other)) => one.cmp(other),
            (Value::Number(one), Value::Number(other)) => one.cmp(other),
            (Value::Switch(one), Value::Switch(other)) => one.cmp(other),
            _ => return self == Comparison::NotEqual,
        };
        match self {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::NotEqual => order != Ordering::Equal,
            Comparison::Less => order == Ordering::Less,
            Comparison::LessOrEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterOrEqual => order != Ordering::Less,
        }
    }
}

impl Node {
    pub(crate) fn holds(&self, values: &dyn Values) -> bool {
        let both = |[one, other]: &[Node; 2], is_so: fn(&[u8], &[u8]) -> bool| {
            one.is_text(values, |one| other.is_text(values, |other| is_so(one, other)))
        };
        match self {
            Node::And(sides) => sides.iter().all(|side| side.holds(values)),
            Node::Or(sides) => sides.iter().any(|side| side.holds(values)),
            Node::Not(inner) => !inner.holds(values),
            Node::Has(inner) => inner.value(values) != Value::Missing,
            Node::Compare(how, sides) => how.holds(&sides[0].value(values), &sides[1].value(values)),
            Node::In(what, list) => {
                let value = what.value(values);
                list.iter().any(|one| Comparison::Equal.holds(&value, &one.value(values)))
            }
            Node::Starts(sides) => both(sides, <[u8]>::starts_with),
            Node::Ends(sides) => both(sides, <[u8]>::ends_with),
            Node::Contains(sides) => both(sides, |one, other| memchr::memmem::find(one, other).is_some()),
            Node::Matches(what, pattern) => what.is_text(values, |text| pattern.is_match(text)),
            Node::InNetwork(what, network) => what.is_text(values, |text| {
                let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<IpAddr>().ok());
                address.is_some_and(|address| network.contains(&address))
            }),
            _ => self.value(values) == Value::Switch(true),
        }
    }

    /// Whether it is a text of which something is so.
    fn is_text(&self, values: &dyn Values, is_so: impl FnOnce(&[u8]) -> bool) -> bool {
        match self.value(values) {
            Value::Text(text) => is_so(&text),
            _ => false,
        }
    }

    fn value<'v>(&'v self, values: &'v dyn Values) -> Value<'v> {
        match self {
            Node::Text(text) => Value::Text(Cow::Borrowed(text)),
            Node::Number(number) => Value::Number(*number),
            Node::Switch(is_on) => Value::Switch(*is_on),
            Node::Name(index) => values.value(*index),
            Node::Header(name) => values.header(name),
            Node::Size(inner) => match inner.value(values) {
                Value::Text(text) => Value::Number(String::from_utf8_lossy(&text).chars().count() as i64),
                _ => Value::Missing,
            },
            other => Value::Switch(other.holds(values)),
        }
    }
}
