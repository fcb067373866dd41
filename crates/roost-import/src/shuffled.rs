//! Scripts that are divided into routes in other ways become the same.

use std::fmt::Write as _;
use std::path::Path;

use crate::ast::{Call, Expr, Item, Op, Span, Statement, What};
use crate::{Imported, Script};

/// Numbers that look random (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) as usize % most.max(1)
    }
}

/// Whether what stands in a route of its own does what it did: nothing leaves it but to end the request.
fn may_move(body: &[Statement]) -> bool {
    body.iter().all(|statement| match &statement.what {
        What::Return(_) | What::Break => false,
        What::If { then, other, .. } => may_move(then) && may_move(other),
        What::Loop { body, .. } | What::Block(body) => may_move(body),
        What::Switch { .. } => false,
        _ => true,
    })
}

/// Moves the end of a body, or of one inside of it, into a route.
fn split(body: &mut Vec<Statement>, dice: &mut Dice, routes: &mut Vec<(String, Vec<Statement>)>) {
    if body.is_empty() {
        return;
    }
    let at = dice.below(body.len());
    if dice.below(3) > 0 {
        match &mut body[at].what {
            What::If { then, other, .. } => {
                return split(if dice.below(2) == 0 { then } else { other }, dice, routes);
            }
            What::Block(body) => return split(body, dice, routes),
            _ => {}
        }
    }
    if may_move(&body[at..]) {
        let span = body[at].span;
        let name = format!("moved_{}", routes.len());
        let moved = body.split_off(at);
        body.push(Statement {
            what: What::Call(Call { name: "route".into(), args: vec![Expr::Word(name.clone())] }),
            span,
        });
        routes.push((name, moved));
    }
}

fn rename(body: &mut [Statement], to: &impl Fn(&str) -> String) {
    for statement in body {
        match &mut statement.what {
            What::Call(call) if call.name == "route" => call.args = vec![Expr::Word(to(&call.arg(0)))],
            What::If { then, other, .. } => {
                rename(then, to);
                rename(other, to);
            }
            What::Loop { body, .. } | What::Block(body) => rename(body, to),
            What::Switch { arms, .. } => arms.iter_mut().for_each(|(_, body)| rename(body, to)),
            _ => {}
        }
    }
}

/// The same script, divided in another way.
fn shuffle(items: &[Item], dice: &mut Dice) -> Vec<Item> {
    let to = |name: &str| if name.is_empty() { String::new() } else { format!("r_{name}_x") };
    let mut routes = Vec::new();
    let mut all: Vec<Item> = items.to_vec();
    for item in &mut all {
        let Item::Route { kind, name, body, .. } = item else { continue };
        for _ in 0..dice.below(6) {
            if kind == "route" {
                split(body, dice, &mut routes);
            }
        }
        rename(body, &to);
        if kind == "route" {
            *name = to(name);
        }
    }
    let (mut others, mut own): (Vec<Item>, Vec<Item>) =
        all.into_iter().partition(|item| !matches!(item, Item::Route { .. }));
    for (name, mut body) in routes {
        rename(&mut body, &to);
        let span = Span { at: crate::ast::Place::default(), end: 0 };
        own.push(Item::Route { kind: "route".into(), name: to(&name), body, span });
    }
    for at in (1..own.len()).rev() {
        own.swap(at, dice.below(at + 1));
    }
    others.extend(own);
    others
}

fn written(items: &[Item]) -> String {
    let mut out = String::new();
    for item in items {
        let _ = match item {
            // Listeners stand without quotes.
            Item::Global { name, value, .. } if ["listen", "socket", "alias"].contains(&name.as_str()) => {
                writeln!(
                    out,
                    "{name}={}",
                    if value.contains(':') { value.clone() } else { format!("\"{value}\"") }
                )
            }
            Item::Global { name, value, .. } => writeln!(out, "{name}={value:?}"),
            Item::Module { name, .. } => writeln!(out, "loadmodule \"{name}\""),
            Item::Param { module, name, value, .. } => {
                writeln!(out, "modparam(\"{module}\", \"{name}\", \"{}\")", value.replace('"', "\\\""))
            }
            Item::Include { .. } => Ok(()),
            Item::Route { kind, name, body, .. } => {
                let name = if name.is_empty() { String::new() } else { format!("[{name}]") };
                writeln!(out, "{kind}{name} {{\n{}}}", block(body))
            }
        };
    }
    out
}

fn block(body: &[Statement]) -> String {
    body.iter().map(|statement| one(statement) + "\n").collect()
}

fn one(statement: &Statement) -> String {
    match &statement.what {
        What::If { condition, then, other } => {
            let other =
                if other.is_empty() { String::new() } else { format!(" else {{\n{}}}", block(other)) };
            format!("if ({}) {{\n{}}}{other}", expr(condition), block(then))
        }
        What::Loop { condition, body } => {
            format!("while ({}) {{\n{}}}", condition.as_ref().map_or("1".into(), expr), block(body))
        }
        What::Switch { on, arms } => {
            let arm = |(label, body): &(Option<Expr>, Vec<Statement>)| {
                let label =
                    label.as_ref().map_or("default:".into(), |label| format!("case {}:", expr(label)));
                format!("{label}\n{}", block(body))
            };
            format!("switch ({}) {{\n{}}}", expr(on), arms.iter().map(arm).collect::<String>())
        }
        What::Assign { to, op, value } => format!("{to} {op} {};", expr(value)),
        What::Call(call) => format!("{};", called(call)),
        What::Block(body) => format!("{{\n{}}}", block(body)),
        What::Exit => "exit;".into(),
        What::Drop => "drop();".into(),
        What::Break => "break;".into(),
        What::Return(value) => format!("return({});", value.as_ref().map_or("1".into(), expr)),
    }
}

fn called(call: &Call) -> String {
    format!("{}({})", call.name, call.args.iter().map(expr).collect::<Vec<_>>().join(", "))
}

fn expr(of: &Expr) -> String {
    match of {
        Expr::Var(text) | Expr::Word(text) => text.clone(),
        Expr::Text(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        Expr::Number(number) => number.to_string(),
        Expr::Call(call) => called(call),
        Expr::Not(of) => format!("!({})", expr(of)),
        Expr::Negative(of) => format!("-{}", expr(of)),
        Expr::Two(op, left, right) => {
            let op = match op {
                Op::Or => "||",
                Op::And => "&&",
                Op::Equal => "==",
                Op::Unequal => "!=",
                Op::Matches => "=~",
                Op::Differs => "!~",
                Op::Above => ">",
                Op::AtLeast => ">=",
                Op::Below => "<",
                Op::AtMost => "<=",
                Op::Other => "*",
                Op::Plus => "+",
            };
            format!("({} {op} {})", expr(left), expr(right))
        }
        Expr::Nothing => String::new(),
    }
}

/// Keys and tables, without where they come from.
fn keys(imported: &Imported) -> Vec<String> {
    let lines = imported
        .toml
        .lines()
        .skip(1)
        .map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_string());
    let mut keys: Vec<String> = lines.collect();
    keys.push(imported.differences.join("\n"));
    keys
}

#[test]
fn moving_renaming_and_splitting_routes_changes_nothing() {
    for name in ["plan-b", "gateways-2.4", "residential-3.4", "dispatcher-3.1"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/scripts/{name}.cfg"));
        let mut script = Script::default();
        script.read(&path, &mut Vec::new()).unwrap();
        let expected = keys(&script.imported(&|_| Vec::new()));
        for seed in 0..100 {
            let text = written(&shuffle(&script.items, &mut Dice(seed)));
            let items = crate::parse::parse(&text, 0, name).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let shuffled = Script { files: vec![(format!("{name}.cfg"), text.clone())], items };
            assert_eq!(keys(&shuffled.imported(&|_| Vec::new())), expected, "{name}, seed {seed}:\n{text}");
        }
    }
}
