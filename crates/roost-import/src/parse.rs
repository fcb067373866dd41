//! From text to the syntax tree; the grammar is `opensips.pest`.

use pest::Parser as _;
use pest::iterators::Pair;
use pest::pratt_parser::{Assoc, Op as Infix, PrattParser};

use crate::ImportError;
use crate::ast::{Call, Expr, Item, Op, Place, Span, Statement, What};

#[derive(pest_derive::Parser)]
#[grammar = "opensips.pest"]
struct Grammar;

/// Reads one file, whose number `file` is; `name` stands in errors.
pub(crate) fn parse(text: &str, file: usize, name: &str) -> Result<Vec<Item>, ImportError> {
    let text = without_preprocessor(text);
    if let Some(line) = too_deep(&text) {
        let shown = text.lines().nth(line - 1).unwrap_or_default().trim().to_string();
        let what = format!("more than {DEEPEST} brackets are open");
        return Err(ImportError::Syntax { file: name.to_string(), line, what, shown });
    }
    let mut parsed = Grammar::parse(Rule::file, &text).map_err(|error| {
        let error = error.renamed_rules(|rule| format!("{rule:?}").replace('_', " "));
        let (line, _) = match error.line_col {
            pest::error::LineColLocation::Pos(at) | pest::error::LineColLocation::Span(at, _) => at,
        };
        let shown = text.lines().nth(line - 1).unwrap_or_default().trim().to_string();
        ImportError::Syntax { file: name.to_string(), line, what: error.variant.message().to_string(), shown }
    })?;
    let reader = Reader { file, pratt: pratt() };
    let items = parsed.next().map(Pair::into_inner).into_iter().flatten();
    Ok(items.filter_map(|pair| reader.item(pair)).collect())
}

/// Brackets within brackets, and negations one after the other; a text with more would be more than the parser's stack holds.
const DEEPEST: usize = 100;

/// The line where there are more; whether they stand in a text or a comment is not looked at.
fn too_deep(text: &str) -> Option<usize> {
    let (mut open, mut negations) = (0_usize, 0_usize);
    for (index, line) in text.lines().enumerate() {
        for byte in line.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
            negations = if byte == b'!' { negations + 1 } else { 0 };
            match byte {
                b'(' | b'{' | b'[' => open += 1,
                b')' | b'}' | b']' => open = open.saturating_sub(1),
                _ => {}
            }
            if open > DEEPEST || negations > DEEPEST {
                return Some(index + 1);
            }
        }
    }
    None
}

/// `#!define` and m4's `define(`A', `B')` put their text where their name stands.
fn without_preprocessor(text: &str) -> String {
    let mut defines: Vec<(String, String)> = Vec::new();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let defined = defined(line);
        match defined {
            Some(define) => defines.push(define),
            None => out.push_str(&substituted(line, &defines)),
        }
        out.push('\n');
    }
    out
}

fn defined(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("#!define").or_else(|| line.strip_prefix("!!define")) {
        let (name, value) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
        return (!name.is_empty()).then(|| (name.to_string(), value.trim().to_string()));
    }
    let inside = line.strip_prefix("define(")?.trim_end_matches("dnl").trim().strip_suffix(')')?;
    let (name, value) = inside.split_once(',')?;
    let unquoted = |text: &str| text.trim().trim_start_matches('`').trim_end_matches('\'').to_string();
    Some((unquoted(name), unquoted(value)))
}

fn substituted(line: &str, defines: &[(String, String)]) -> String {
    let mut line = line.to_string();
    for (name, value) in defines {
        let mut at = 0;
        while let Some(found) = line[at..].find(name.as_str()).map(|found| found + at) {
            let is_part =
                |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let before = found.checked_sub(1).and_then(|before| line.as_bytes().get(before).copied());
            let is_whole = !is_part(before) && !is_part(line.as_bytes().get(found + name.len()).copied());
            match is_whole {
                true => {
                    line.replace_range(found..found + name.len(), value);
                    at = found + value.len();
                }
                false => at = found + name.len(),
            }
        }
    }
    line
}

fn pratt() -> PrattParser<Rule> {
    let left = |rule| Infix::infix(rule, Assoc::Left);
    PrattParser::new()
        .op(left(Rule::or))
        .op(left(Rule::and))
        .op(left(Rule::equal)
            | left(Rule::unequal)
            | left(Rule::matches)
            | left(Rule::differs)
            | left(Rule::at_least)
            | left(Rule::at_most)
            | left(Rule::above)
            | left(Rule::below))
        .op(left(Rule::bit_or) | left(Rule::bit_and) | left(Rule::bit_xor) | left(Rule::shift))
        .op(left(Rule::plus) | left(Rule::minus))
        .op(left(Rule::times) | left(Rule::over) | left(Rule::rest))
        .op(Infix::prefix(Rule::not) | Infix::prefix(Rule::negative))
}

struct Reader {
    file: usize,
    pratt: PrattParser<Rule>,
}

impl Reader {
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        let (line, _) = span.start_pos().line_col();
        let text = span.as_str().trim_end();
        Span { at: Place { file: self.file, line }, end: line + text.matches('\n').count() }
    }

    fn item(&self, pair: Pair<'_, Rule>) -> Option<Item> {
        let (rule, span, text) = (pair.as_rule(), self.span(&pair), pair.as_str());
        let mut inner = pair.into_inner();
        let mut next = || inner.next();
        Some(match rule {
            Rule::include => {
                let is_optional = text.starts_with("import");
                Item::Include { file: plain(&next()?), is_optional, span }
            }
            Rule::module => Item::Module { name: plain(&next()?), span },
            Rule::param => {
                let (module, name) = (plain(&next()?), plain(&next()?));
                let value = next()?.into_inner().next()?;
                Item::Param { module, name, value: plain(&value), span }
            }
            Rule::listener | Rule::global => {
                let (name, value) = (next()?, next()?);
                Item::Global { name: name.as_str().to_string(), value: plain(&value), span }
            }
            Rule::route => {
                let kind = next()?.as_str().to_string();
                let mut then = next()?;
                let mut name = String::new();
                if then.as_rule() == Rule::route_name {
                    name = then.as_str().split(',').next().unwrap_or_default().trim().to_string();
                    then = next()?;
                }
                Item::Route {
                    kind,
                    name: name.trim_matches(['"', '\'']).to_string(),
                    body: self.block(then),
                    span,
                }
            }
            _ => return None,
        })
    }

    fn block(&self, pair: Pair<'_, Rule>) -> Vec<Statement> {
        pair.into_inner().filter_map(|pair| self.statement(pair)).collect()
    }

    /// A body of a condition: its statements, whether or not they stand in braces.
    fn body(&self, pair: Pair<'_, Rule>) -> Vec<Statement> {
        let all: Vec<_> = pair.into_inner().filter_map(|pair| self.statement(pair)).collect();
        match all.as_slice() {
            [Statement { what: What::Block(inner), .. }] => inner.clone(),
            _ => all,
        }
    }

    fn statement(&self, pair: Pair<'_, Rule>) -> Option<Statement> {
        let span = self.span(&pair);
        let inner = pair.into_inner().next()?;
        Some(Statement { what: self.what(inner)?, span })
    }

    fn what(&self, pair: Pair<'_, Rule>) -> Option<What> {
        let rule = pair.as_rule();
        if rule == Rule::block {
            return Some(What::Block(self.block(pair)));
        }
        if rule == Rule::call {
            return Some(What::Call(self.call(pair)?));
        }
        if rule == Rule::include {
            let file = Expr::Text(plain(&pair.into_inner().next()?));
            return Some(What::Call(Call { name: "include_file".to_string(), args: vec![file] }));
        }
        let is_key = |pair: &Pair<'_, Rule>| format!("{:?}", pair.as_rule()).starts_with("key_");
        let mut inner = pair.into_inner().filter(|pair| !is_key(pair));
        Some(match rule {
            Rule::condition => {
                let condition = self.expr(inner.next()?)?;
                let then = self.body(inner.next()?);
                What::If {
                    condition,
                    then,
                    other: inner.next().map_or_else(Vec::new, |pair| self.body(pair)),
                }
            }
            Rule::repeat => {
                let condition = self.expr(inner.next()?);
                What::Loop { condition, body: self.body(inner.next()?) }
            }
            Rule::walk => What::Loop { condition: None, body: self.body(inner.nth(2)?) },
            Rule::switch => {
                let on = self.expr(inner.next()?)?;
                What::Switch { on, arms: inner.map(|arm| self.arm(arm)).collect() }
            }
            Rule::assign => {
                let (to, op, value) = (inner.next()?, inner.next()?, inner.next()?);
                What::Assign {
                    to: to.as_str().to_string(),
                    op: op.as_str().to_string(),
                    value: self.expr(value)?,
                }
            }
            Rule::jump => {
                let word = inner.next()?.as_str().to_string();
                let value = inner.next().and_then(|pair| self.expr(pair));
                match word.as_str() {
                    "exit" => What::Exit,
                    "drop" => What::Drop,
                    "break" => What::Break,
                    _ => What::Return(value),
                }
            }
            _ => return None,
        })
    }

    fn arm(&self, pair: Pair<'_, Rule>) -> (Option<Expr>, Vec<Statement>) {
        let (mut label, mut body) = (None, Vec::new());
        for pair in pair.into_inner() {
            match pair.as_rule() {
                Rule::label => {
                    let of = pair.into_inner().find(|pair| pair.as_rule() == Rule::expr);
                    label = of.and_then(|pair| self.expr(pair));
                }
                _ => body.extend(self.statement(pair)),
            }
        }
        (label, body)
    }

    fn call(&self, pair: Pair<'_, Rule>) -> Option<Call> {
        let mut inner = pair.into_inner();
        let name = inner.next()?.as_str().to_string();
        let arg = |pair: Pair<'_, Rule>| {
            pair.into_inner().next().and_then(|pair| self.expr(pair)).unwrap_or(Expr::Nothing)
        };
        let mut args: Vec<Expr> = inner.map(arg).collect();
        if args == [Expr::Nothing] {
            args.clear();
        }
        Some(Call { name, args })
    }

    fn expr(&self, pair: Pair<'_, Rule>) -> Option<Expr> {
        let two = |left: Option<Expr>, op: Pair<'_, Rule>, right: Option<Expr>| {
            let op = match op.as_rule() {
                Rule::or => Op::Or,
                Rule::and => Op::And,
                Rule::equal => Op::Equal,
                Rule::unequal => Op::Unequal,
                Rule::matches => Op::Matches,
                Rule::differs => Op::Differs,
                Rule::above => Op::Above,
                Rule::at_least => Op::AtLeast,
                Rule::below => Op::Below,
                Rule::at_most => Op::AtMost,
                Rule::plus => Op::Plus,
                _ => Op::Other,
            };
            Some(Expr::Two(op, Box::new(left?), Box::new(right?)))
        };
        let mut parser = self
            .pratt
            .map_primary(|pair| self.primary(pair))
            .map_prefix(|op, of| match op.as_rule() {
                Rule::not => Some(Expr::Not(Box::new(of?))),
                _ => Some(Expr::Negative(Box::new(of?))),
            })
            .map_infix(two);
        parser.parse(pair.into_inner())
    }

    fn primary(&self, pair: Pair<'_, Rule>) -> Option<Expr> {
        Some(match pair.as_rule() {
            Rule::expr => self.expr(pair)?,
            Rule::call => Expr::Call(self.call(pair)?),
            Rule::texts => Expr::Text(pair.into_inner().map(|text| plain(&text)).collect()),
            Rule::ipv6 => Expr::Word(pair.as_str().trim_matches(['[', ']']).to_string()),
            Rule::number => Expr::Number(number(pair.as_str())?),
            Rule::var => Expr::Var(pair.as_str().to_string()),
            _ => Expr::Word(pair.as_str().to_string()),
        })
    }
}

fn number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A string without its quotes, anything else as it is.
fn plain(pair: &Pair<'_, Rule>) -> String {
    let text = pair.as_str();
    match pair.as_rule() {
        Rule::string => {
            let inside = text.get(1..text.len() - 1).unwrap_or_default();
            match text.starts_with('"') {
                true => inside.replace("\\\"", "\"").replace("\\\\", "\\"),
                false => inside.to_string(),
            }
        }
        _ => text.trim().to_string(),
    }
}
