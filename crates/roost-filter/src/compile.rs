//! Reads a condition: the grammar is CEL's own, and what it makes of a text is checked against the names that there are.

use cel::Program;
use cel::common::ast::{CallExpr, Expr, IdedExpr, ListExpr, LiteralValue, operators};
use ipnet::IpNet;
use regex::bytes::RegexBuilder;

use crate::error::FilterError;
use crate::eval::{Comparison, Node};
use crate::{Kind, Schema};

/// The longest text of a condition, in bytes.
const MAX_TEXT: usize = 4_096;
/// How deep expressions may stand in one another.
const MAX_DEPTH: usize = 64;
/// What the automaton of one regular expression may need, in bytes.
const MAX_REGEX: usize = 1 << 20;

const COMPARISONS: [(&str, Comparison); 6] = [
    (operators::EQUALS, Comparison::Equal),
    (operators::NOT_EQUALS, Comparison::NotEqual),
    (operators::LESS, Comparison::Less),
    (operators::LESS_EQUALS, Comparison::LessOrEqual),
    (operators::GREATER, Comparison::Greater),
    (operators::GREATER_EQUALS, Comparison::GreaterOrEqual),
];

/// What an expression is, with its kind.
type Typed = (Node, Kind);

pub(crate) fn compile(text: &str, schema: &Schema) -> Result<Node, FilterError> {
    if text.len() > MAX_TEXT {
        let message = format!("a condition may have {MAX_TEXT} bytes");
        return Err(FilterError { line: 1, column: 1, message });
    }
    // The parser goes as deep as its text does.
    if depth(text) > MAX_DEPTH {
        let message = format!("more than {MAX_DEPTH} brackets and signs stand in one another");
        return Err(FilterError { line: 1, column: 1, message });
    }
    let program = Program::compile(text).map_err(|errors| {
        let first = errors.errors.first();
        let at = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
        let (line, column) = first.map_or((1, 1), |error| (at(error.pos.0), at(error.pos.1)));
        let message = first.map_or_else(String::new, |error| plain(&error.msg));
        FilterError { line, column, message }
    })?;
    let reader = Reader { text, schema, program: &program };
    let whole = program.expression();
    match reader.read(whole, 0)? {
        (node, Kind::Switch) => Ok(node),
        (_, kind) => Err(reader.error(whole, format!("this is {}, and neither true nor false", named(kind)))),
    }
}

/// How deep brackets and signs stand in one another, at most.
fn depth(text: &str) -> usize {
    let (mut open, mut signs, mut most) = (0_usize, 0, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => (open, signs) = (open + 1, 0),
            b')' | b']' | b'}' => (open, signs) = (open.saturating_sub(1), 0),
            b'!' | b'-' => signs += 1,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => signs = 0,
        }
        most = most.max(open + signs);
    }
    most
}

/// The parser's message without the list of all that could stand there.
fn plain(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    message.split(" expecting {").next().unwrap_or(message).replace("'<EOF>'", "the end")
}

fn named(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a text",
        Kind::Number => "a number",
        Kind::Switch => "true or false",
    }
}

struct Reader<'a> {
    text: &'a str,
    schema: &'a Schema,
    program: &'a Program,
}

impl Reader<'_> {
    fn error(&self, at: &IdedExpr, message: impl Into<String>) -> FilterError {
        // Of a call the parser names its bracket or sign.
        let (start, _) = self.program.source_info().offset_for(at.id).unwrap_or((0, 0));
        let before: String = self.text.chars().take(start as usize).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        FilterError { line, column, message: message.into() }
    }

    fn read(&self, at: &IdedExpr, depth: usize) -> Result<Typed, FilterError> {
        if depth > MAX_DEPTH {
            return Err(self.error(at, "too much stands in one another"));
        }
        match &at.expr {
            Expr::Literal(literal) => self.literal(at, literal),
            Expr::Ident(_) => self.name(at),
            Expr::Select(select) if select.test => {
                let whole = dotted(&select.operand.expr).map(|name| format!("{name}.{}", select.field));
                let (node, _) = self.named(at, whole)?;
                Ok((Node::Has(Box::new(node)), Kind::Switch))
            }
            Expr::Select(_) => self.name(at),
            Expr::Call(call) => self.call(at, call, depth + 1),
            Expr::List(_) => Err(self.error(at, "a list stands behind `in`")),
            _ => Err(self
                .error(at, "this is not there: conditions have comparisons, &&, ||, ! and a few functions")),
        }
    }

    fn literal(&self, at: &IdedExpr, literal: &LiteralValue) -> Result<Typed, FilterError> {
        Ok(match literal {
            LiteralValue::String(text) => (Node::Text(text.inner().as_bytes().into()), Kind::Text),
            LiteralValue::Int(number) => (Node::Number(*number.inner()), Kind::Number),
            LiteralValue::Boolean(is_on) => (Node::Switch(*is_on.inner()), Kind::Switch),
            _ => return Err(self.error(at, "values are texts, whole numbers, true and false")),
        })
    }

    fn name(&self, at: &IdedExpr) -> Result<Typed, FilterError> {
        self.named(at, dotted(&at.expr))
    }

    fn named(&self, at: &IdedExpr, name: Option<String>) -> Result<Typed, FilterError> {
        let name = name.ok_or_else(|| self.error(at, "this is no name"))?;
        let found = self.schema.names.iter().position(|(known, _)| *known == name);
        let found = found.and_then(|index| Some((index, self.schema.names.get(index)?.1)));
        match found {
            Some((index, kind)) => Ok((Node::Name(index), kind)),
            None => {
                let known: Vec<_> = self.schema.names.iter().map(|(known, _)| *known).collect();
                let headers = if self.schema.has_headers { ", header(\"NAME\")" } else { "" };
                let message = format!("there is no `{name}`; there are {}{headers}", known.join(", "));
                Err(self.error(at, message))
            }
        }
    }

    fn call(&self, at: &IdedExpr, call: &CallExpr, depth: usize) -> Result<Typed, FilterError> {
        let CallExpr { func_name, target, args } = call;
        let switch = |node: Node| Ok((node, Kind::Switch));
        match (func_name.as_str(), target.as_deref(), args.as_slice()) {
            (operators::LOGICAL_NOT, None, [inner]) => {
                switch(Node::Not(Box::new(self.of_kind(inner, Kind::Switch, depth)?)))
            }
            (operators::LOGICAL_AND, None, sides) => self.joined(sides, Node::And, true, depth),
            (operators::LOGICAL_OR, None, sides) => self.joined(sides, Node::Or, false, depth),
            (operators::NEGATE, None, [inner]) => match self.read(inner, depth)? {
                (Node::Number(number), _) => Ok((Node::Number(number.wrapping_neg()), Kind::Number)),
                _ => Err(self.error(at, "a sign stands before a whole number")),
            },
            (operators::IN, None, [what, list]) => self.in_list(what, list, depth),
            ("size", None, [inner]) | ("size", Some(inner), []) => {
                Ok((Node::Size(Box::new(self.of_kind(inner, Kind::Text, depth)?)), Kind::Number))
            }
            ("startsWith", Some(one), [other]) => switch(Node::Starts(self.texts(one, other, depth)?)),
            ("endsWith", Some(one), [other]) => switch(Node::Ends(self.texts(one, other, depth)?)),
            ("contains", Some(one), [other]) => switch(Node::Contains(self.texts(one, other, depth)?)),
            ("matches", Some(one), [other]) | ("matches", None, [one, other]) => {
                switch(self.matches(one, other, depth)?)
            }
            ("inNetwork", None, [what, network]) => switch(self.in_network(what, network, depth)?),
            ("header", None, [name]) if self.schema.has_headers => match &name.expr {
                Expr::Literal(LiteralValue::String(name)) => {
                    Ok((Node::Header(name.inner().into()), Kind::Text))
                }
                _ => Err(self.error(name, "header(\"NAME\") takes the name of a header field as a text")),
            },
            (name, None, [one, other]) if COMPARISONS.iter().any(|(known, _)| *known == name) => {
                self.comparison(at, name, (one, other), depth)
            }
            (name, ..) => {
                let shown = name.trim_matches('_');
                let message = format!(
                    "there is no `{shown}` with these arguments; there are ==, !=, <, <=, >, >=, in, &&, ||, !, startsWith, \
                     endsWith, contains, matches, size, inNetwork, has"
                );
                Err(self.error(at, message))
            }
        }
    }

    /// Sides of `&&` or `||`: two, or more where the parser has put a chain into one.
    fn joined(
        &self,
        sides: &[IdedExpr],
        join: fn(Box<[Node; 2]>) -> Node,
        nothing: bool,
        depth: usize,
    ) -> Result<Typed, FilterError> {
        let mut whole = None;
        for side in sides {
            let side = self.of_kind(side, Kind::Switch, depth)?;
            whole = Some(match whole {
                Some(before) => join(Box::new([before, side])),
                None => side,
            });
        }
        Ok((whole.unwrap_or(Node::Switch(nothing)), Kind::Switch))
    }

    fn of_kind(&self, at: &IdedExpr, wanted: Kind, depth: usize) -> Result<Node, FilterError> {
        match self.read(at, depth)? {
            (node, kind) if kind == wanted => Ok(node),
            (_, kind) => Err(self.error(at, format!("this is {}, not {}", named(kind), named(wanted)))),
        }
    }

    fn texts(&self, one: &IdedExpr, other: &IdedExpr, depth: usize) -> Result<Box<[Node; 2]>, FilterError> {
        Ok(Box::new([self.of_kind(one, Kind::Text, depth)?, self.of_kind(other, Kind::Text, depth)?]))
    }

    fn comparison(
        &self,
        at: &IdedExpr,
        name: &str,
        (one, other): (&IdedExpr, &IdedExpr),
        depth: usize,
    ) -> Result<Typed, FilterError> {
        let (one, kind) = self.read(one, depth)?;
        let (other, other_kind) = self.read(other, depth)?;
        if kind != other_kind {
            let message = format!("{} is compared with {}", named(kind), named(other_kind));
            return Err(self.error(at, message));
        }
        let found = COMPARISONS.iter().find(|(known, _)| *known == name);
        let how = found.map_or(Comparison::Equal, |(_, how)| *how);
        Ok((Node::Compare(how, Box::new([one, other])), Kind::Switch))
    }

    fn in_list(&self, what: &IdedExpr, list: &IdedExpr, depth: usize) -> Result<Typed, FilterError> {
        let (node, kind) = self.read(what, depth)?;
        let Expr::List(ListExpr { elements, .. }) = &list.expr else {
            return Err(self.error(list, "a list stands behind `in`, such as [\"8001\", \"8002\"]"));
        };
        let list = elements.iter().map(|one| self.of_kind(one, kind, depth)).collect::<Result<_, _>>()?;
        Ok((Node::In(Box::new(node), list), Kind::Switch))
    }

    /// A text that stands in the condition itself.
    fn fixed<'t>(&self, at: &'t IdedExpr, what: &str) -> Result<&'t str, FilterError> {
        match &at.expr {
            Expr::Literal(LiteralValue::String(text)) => Ok(text.inner()),
            _ => Err(self.error(at, format!("{what} is a text in quotes"))),
        }
    }

    fn matches(&self, what: &IdedExpr, pattern: &IdedExpr, depth: usize) -> Result<Node, FilterError> {
        let text = self.fixed(pattern, "a regular expression")?;
        let built = RegexBuilder::new(text).size_limit(MAX_REGEX).build();
        let regex = built.map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
            self.error(pattern, format!("this is no regular expression: {why}"))
        })?;
        Ok(Node::Matches(Box::new(self.of_kind(what, Kind::Text, depth)?), regex))
    }

    fn in_network(&self, what: &IdedExpr, network: &IdedExpr, depth: usize) -> Result<Node, FilterError> {
        let text = self.fixed(network, "a network")?;
        let parsed =
            text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| IpNet::from(address)));
        let network = parsed.map_err(|_| {
            self.error(network, format!("\"{text}\" is no network, such as \"10.0.0.0/8\", and no address"))
        })?;
        Ok(Node::InNetwork(Box::new(self.of_kind(what, Kind::Text, depth)?), network))
    }
}

/// `a.b.c`
fn dotted(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => {
            Some(format!("{}.{}", dotted(&select.operand.expr)?, select.field))
        }
        _ => None,
    }
}
