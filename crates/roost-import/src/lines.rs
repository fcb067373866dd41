//! What becomes of each statement, as far as its own text says so.

use crate::ast::{Expr, Item, Place, Span, Statement, What};
use crate::functions::function;
use crate::report::{Fate, Notes};
use crate::walk::calls;

/// Variables that say where a request goes.
pub(crate) const TARGETS: [&str; 8] = ["$du", "$ru", "$rU", "$rd", "$rp", "$dd", "$dp", "$fs"];

pub(crate) fn note_all(items: &[Item], notes: &mut Notes) {
    for item in items {
        match item {
            Item::Route { kind, body, span, .. } => {
                notes.note(span.at, Fate::Unneeded(kind_of_route(kind).to_string()));
                statements(body, notes);
            }
            Item::Include { span, .. } => {
                notes.note(span.at, Fate::Unneeded("read, see its own lines".to_string()))
            }
            _ => {}
        }
    }
}

fn kind_of_route(kind: &str) -> &'static str {
    match kind {
        "route" => "its ways were followed",
        "branch_route" => "each branch is forwarded by itself",
        "onreply_route" => "responses are forwarded",
        "failure_route" => "the next contact or hop is tried",
        "local_route" => "requests of its own are built in",
        "error_route" => "malformed requests are answered with 400",
        "startup_route" => "nothing is run at the start",
        "timer_route" => "nothing is run by time",
        "event_route" => "MI event_subscribe, [[webhook]]",
        _ => "not followed",
    }
}

fn statements(body: &[Statement], notes: &mut Notes) {
    for statement in body {
        note(statement, notes);
    }
}

/// Notes a fate at every line of something.
pub(crate) fn note_span(span: Span, fate: &Fate, notes: &mut Notes) {
    for line in span.at.line..=span.end {
        notes.note(Place { line, ..span.at }, fate.clone());
    }
}

fn note(statement: &Statement, notes: &mut Notes) {
    let at = statement.span.at;
    let condition = || Fate::Unneeded("a condition: what depends on it has its own line".to_string());
    match &statement.what {
        What::If { condition: tested, then, other } => {
            notes.note(at, condition());
            expr(tested, at, notes);
            statements(then, notes);
            statements(other, notes);
        }
        What::Loop { condition: tested, body } => {
            notes.note(at, condition());
            tested.iter().for_each(|tested| expr(tested, at, notes));
            statements(body, notes);
        }
        What::Switch { on, arms } => {
            notes.note(at, condition());
            expr(on, at, notes);
            arms.iter().for_each(|(_, body)| statements(body, notes));
        }
        What::Block(body) => statements(body, notes),
        What::Assign { to, value, .. } => {
            let is_target = TARGETS.iter().any(|target| to == target) || to.starts_with("$(ru");
            let fate = match is_target {
                true => {
                    Fate::Missing("where this sends a request is not clear: write a [[route]]".to_string())
                }
                false => Fate::Unneeded(
                    "a variable of the script: what depends on it has its own line".to_string(),
                ),
            };
            note_span(statement.span, &fate, notes);
            expr(value, at, notes);
        }
        What::Call(call) => {
            // A route that is called was followed.
            let fate = match call.name.as_str() {
                "route" => Fate::Unneeded("its ways were followed".to_string()),
                name => function(name),
            };
            note_span(statement.span, &fate, notes);
            call.args.iter().for_each(|arg| expr(arg, at, notes));
        }
        What::Exit | What::Drop | What::Break | What::Return(_) => {
            notes.note(at, Fate::Unneeded("the end of a way".to_string()));
        }
    }
}

fn expr(expr: &Expr, at: Place, notes: &mut Notes) {
    for call in calls(expr) {
        notes.note(at, function(&call.name));
    }
}
