//! The ways that a request can take through a script: `route()` is followed, what is known of the request decides conditions, and
//! every other condition is taken both ways. So it does not matter in which route something stands.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::ast::{Call, Expr, Op, Place, Statement, What};

/// Ways that are begun in all; a script with more is read in part.
const MOST: usize = 20_000;
/// Steps that are made on all of them.
const MOST_STEPS: usize = 2_000_000;
/// How deep routes may call one another.
const DEEPEST: usize = 32;

/// What is known of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) has_totag: bool,
}

/// What happens on a way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Call(Call, Place),
    Assign {
        to: String,
        value: Expr,
        at: Place,
    },
    /// A condition that was taken one way.
    Guard {
        condition: Expr,
        holds: bool,
        at: Place,
    },
}

/// One way, from the first statement to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Way {
    pub(crate) events: Vec<Rc<Event>>,
    values: Rc<HashMap<String, Expr>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Exit,
    Return,
    Break,
}

/// Calls that change nothing of what becomes of a request.
const QUIET: &[&str] =
    &["xlog", "log", "script_trace", "setflag", "resetflag", "setbflag", "resetbflag", "sip_trace", "trace"];

pub(crate) struct Walker<'s> {
    /// Bodies of `route[…]` by name; `route` without a name is the empty one.
    routes: HashMap<&'s str, &'s [Statement]>,
    request: Request,
    depth: Cell<usize>,
    begun: Cell<usize>,
    steps: Cell<usize>,
    /// Whether there were more ways than are followed.
    is_cut: Cell<bool>,
}

impl<'s> Walker<'s> {
    pub(crate) fn new(routes: HashMap<&'s str, &'s [Statement]>, request: Request) -> Walker<'s> {
        Walker {
            routes,
            request,
            depth: Cell::new(0),
            begun: Cell::new(0),
            steps: Cell::new(0),
            is_cut: Cell::new(false),
        }
    }

    /// All ways through a body, and whether that are all.
    pub(crate) fn ways(&self, body: &[Statement]) -> (Vec<Way>, bool) {
        let ways = self.run(body, Way::default()).into_iter().map(|(way, _)| way).collect();
        (ways, !self.is_cut.get())
    }

    fn run(&self, body: &[Statement], way: Way) -> Vec<(Way, Flow)> {
        let (mut going, mut ended) = (vec![way], Vec::new());
        for statement in body {
            let mut next = Vec::new();
            for way in going {
                for (way, flow) in self.step(statement, way) {
                    match flow {
                        Flow::Next => next.push(way),
                        _ => ended.push((way, flow)),
                    }
                }
            }
            going = next;
        }
        ended.extend(going.into_iter().map(|way| (way, Flow::Next)));
        ended
    }

    /// Whether another step may be made, and another way begun where it begins one.
    fn may_go_on(&self, begins: usize) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.begun.set(self.begun.get() + begins);
        let may = self.steps.get() <= MOST_STEPS && self.begun.get() <= MOST;
        if !may {
            self.is_cut.set(true);
        }
        may
    }

    fn step(&self, statement: &Statement, way: Way) -> Vec<(Way, Flow)> {
        let at = statement.span.at;
        if !self.may_go_on(0) {
            return Vec::new();
        }
        match &statement.what {
            What::Exit | What::Drop => vec![(way, Flow::Exit)],
            What::Break => vec![(way, Flow::Break)],
            What::Return(_) => vec![(way, Flow::Return)],
            What::Block(body) => self.run(body, way),
            What::Call(call) => self.call(call, at, way),
            What::Assign { to, op, value } => self.assign((to, op, value), at, way),
            What::If { condition, then, other } => self.choose(condition, (then, other), at, way),
            What::Loop { condition, body } => {
                let once = condition.clone().unwrap_or(Expr::Nothing);
                behind_break(self.choose(&once, (body, &[]), at, way))
            }
            What::Switch { on, arms } => self.switch(on, arms, at, way),
        }
    }

    fn call(&self, call: &Call, at: Place, mut way: Way) -> Vec<(Way, Flow)> {
        if call.name == "route" {
            return self.route(&call.arg(0), way);
        }
        let call =
            Call { name: call.name.clone(), args: call.args.iter().map(|arg| way.resolve(arg)).collect() };
        for name in ["$retcode", "$rc"] {
            way.set(name, Expr::Call(call.clone()));
        }
        way.events.push(Rc::new(Event::Call(call, at)));
        vec![(way, Flow::Next)]
    }

    /// What follows a return is what follows the call.
    fn route(&self, name: &str, way: Way) -> Vec<(Way, Flow)> {
        let Some(body) = self.routes.get(name).filter(|_| self.depth.get() < DEEPEST) else {
            return vec![(way, Flow::Next)];
        };
        self.depth.set(self.depth.get() + 1);
        let ways = self.run(body, way);
        self.depth.set(self.depth.get() - 1);
        let after = |flow| if flow == Flow::Exit { Flow::Exit } else { Flow::Next };
        ways.into_iter().map(|(way, flow)| (way, after(flow))).collect()
    }

    fn assign(&self, (to, op, value): (&str, &str, &Expr), at: Place, way: Way) -> Vec<(Way, Flow)> {
        let ways = self.ask(value, at, way);
        let one = |(mut way, flow): (Way, Flow)| {
            let mut value = way.resolve(value);
            if op == "+=" || op == ".=" {
                let before = way.resolve(&Expr::Var(to.to_string()));
                value = Expr::Two(Op::Plus, Box::new(before), Box::new(value));
            }
            way.set(to, value.clone());
            way.events.push(Rc::new(Event::Assign { to: to.to_string(), value, at }));
            (way, flow)
        };
        ways.into_iter().map(one).collect()
    }

    /// Makes the calls of an expression.
    fn ask(&self, expr: &Expr, at: Place, way: Way) -> Vec<(Way, Flow)> {
        let mut ways = vec![(way, Flow::Next)];
        for call in calls(expr) {
            if ["is_method", "has_totag"].contains(&call.name.as_str()) {
                continue;
            }
            ways = go_on(ways, |way| self.call(call, at, way));
        }
        ways
    }

    fn choose(
        &self,
        condition: &Expr,
        (then, other): (&[Statement], &[Statement]),
        at: Place,
        way: Way,
    ) -> Vec<(Way, Flow)> {
        go_on(self.ask(condition, at, way), |way| {
            let condition = way.resolve(condition);
            match self.decide(&condition) {
                Some(true) => self.run(then, way),
                Some(false) => self.run(other, way),
                None if is_quiet(then) && is_quiet(other) => vec![(way, Flow::Next)],
                None if !self.may_go_on(1) => Vec::new(),
                None => {
                    let undecided = self.undecided(condition.clone());
                    let branch = |(holds, body)| {
                        let mut way = way.clone();
                        way.guard(&undecided, holds, at);
                        self.run(body, way)
                    };
                    [(true, then), (false, other)].into_iter().flat_map(branch).collect()
                }
            }
        })
    }

    fn switch(
        &self,
        on: &Expr,
        arms: &[(Option<Expr>, Vec<Statement>)],
        at: Place,
        way: Way,
    ) -> Vec<(Way, Flow)> {
        let ways = go_on(self.ask(on, at, way), |way| {
            let (mut all, on) = (Vec::new(), way.resolve(on));
            let is = |label: &Expr| Expr::Two(Op::Equal, Box::new(on.clone()), Box::new(label.clone()));
            // What has no `break` goes on with the next arm.
            let body = |from: usize| -> Vec<Statement> {
                arms.iter().skip(from).flat_map(|(_, body)| body.clone()).collect()
            };
            let mut rest = way;
            for (index, label) in
                arms.iter().enumerate().filter_map(|(at, (label, _))| Some((at, label.as_ref()?)))
            {
                let condition = is(label);
                match self.decide(&condition) {
                    Some(false) => {}
                    Some(true) => {
                        all.extend(self.run(&body(index), rest));
                        return all;
                    }
                    None if !self.may_go_on(1) => return all,
                    None => {
                        let mut taken = rest.clone();
                        taken.guard(&condition, true, at);
                        all.extend(self.run(&body(index), taken));
                        rest.guard(&condition, false, at);
                    }
                }
            }
            match arms.iter().position(|(label, _)| label.is_none()) {
                Some(default) => all.extend(self.run(&body(default), rest)),
                None => all.push((rest, Flow::Next)),
            }
            all
        });
        behind_break(ways)
    }

    /// A condition without those parts that are known.
    fn undecided(&self, condition: Expr) -> Expr {
        match condition {
            Expr::Not(of) => Expr::Not(Box::new(self.undecided(*of))),
            Expr::Two(op @ (Op::And | Op::Or), left, right) => {
                match (self.decide(&left), self.decide(&right)) {
                    (Some(_), _) => self.undecided(*right),
                    (_, Some(_)) => self.undecided(*left),
                    _ => {
                        let (left, right) = (self.undecided(*left), self.undecided(*right));
                        Expr::Two(op, Box::new(left), Box::new(right))
                    }
                }
            }
            other => other,
        }
    }

    /// What a condition is for this request; `None`: it may be either.
    fn decide(&self, condition: &Expr) -> Option<bool> {
        match condition {
            Expr::Not(of) => self.decide(of).map(|is| !is),
            Expr::Two(Op::And, left, right) => match (self.decide(left), self.decide(right)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Expr::Two(Op::Or, left, right) => match (self.decide(left), self.decide(right)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Expr::Two(op, left, right) if is_method(left) => {
                let named = right.text()?;
                let names = named.trim_matches(['^', '$', '(', ')']);
                let is = names.split('|').any(|name| name == self.request.method);
                match op {
                    Op::Equal | Op::Matches => Some(is),
                    Op::Unequal | Op::Differs => Some(!is),
                    _ => None,
                }
            }
            Expr::Two(Op::Above, left, right) if **right == Expr::Number(0) => self.decide(left),
            Expr::Two(Op::Equal | Op::AtLeast, left, right) if **right == Expr::Number(1) => {
                self.decide(left)
            }
            Expr::Two(Op::Below, left, right) if **right == Expr::Number(0) => {
                self.decide(left).map(|is| !is)
            }
            Expr::Call(call) if call.name == "is_method" => {
                Some(call.arg(0).split('|').any(|name| name.trim() == self.request.method))
            }
            Expr::Call(call) if call.name == "has_totag" => Some(self.request.has_totag),
            Expr::Number(number) => Some(*number > 0),
            _ => None,
        }
    }
}

/// What follows on those ways that have not ended.
fn go_on(ways: Vec<(Way, Flow)>, next: impl Fn(Way) -> Vec<(Way, Flow)>) -> Vec<(Way, Flow)> {
    let one = |(way, flow)| if flow == Flow::Next { next(way) } else { vec![(way, flow)] };
    ways.into_iter().flat_map(one).collect()
}

/// A `break` ends what it stands in, and no more.
fn behind_break(ways: Vec<(Way, Flow)>) -> Vec<(Way, Flow)> {
    ways.into_iter().map(|(way, flow)| (way, if flow == Flow::Break { Flow::Next } else { flow })).collect()
}

fn is_method(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(name) if name == "$rm") || matches!(expr, Expr::Word(name) if name == "method")
}

fn is_quiet(body: &[Statement]) -> bool {
    body.iter().all(|statement| match &statement.what {
        What::Call(call) => QUIET.contains(&call.name.as_str()),
        What::Block(body) => is_quiet(body),
        What::If { condition, then, other } => {
            calls(condition).is_empty() && is_quiet(then) && is_quiet(other)
        }
        _ => false,
    })
}

/// The calls in an expression, from left to right.
pub(crate) fn calls(expr: &Expr) -> Vec<&Call> {
    match expr {
        Expr::Call(call) => vec![call],
        Expr::Not(of) | Expr::Negative(of) => calls(of),
        Expr::Two(_, left, right) => calls(left).into_iter().chain(calls(right)).collect(),
        _ => Vec::new(),
    }
}

impl Way {
    fn set(&mut self, name: &str, value: Expr) {
        Rc::make_mut(&mut self.values).insert(name.to_string(), value);
    }

    fn guard(&mut self, condition: &Expr, holds: bool, at: Place) {
        self.events.push(Rc::new(Event::Guard { condition: condition.clone(), holds, at }));
    }

    /// An expression with what is known of its variables.
    fn resolve(&self, expr: &Expr) -> Expr {
        match expr {
            Expr::Var(name) => self.values.get(name).cloned().unwrap_or_else(|| expr.clone()),
            Expr::Not(of) => Expr::Not(Box::new(self.resolve(of))),
            Expr::Negative(of) => Expr::Negative(Box::new(self.resolve(of))),
            Expr::Two(op, left, right) => {
                Expr::Two(*op, Box::new(self.resolve(left)), Box::new(self.resolve(right)))
            }
            Expr::Text(text) if text.contains("$var(") || text.contains("$avp(") => {
                let mut text = text.clone();
                for (name, value) in self.values.iter() {
                    if let Some(value) = value.text().filter(|_| text.contains(name.as_str())) {
                        text = text.replace(name.as_str(), &value);
                    }
                }
                Expr::Text(text)
            }
            _ => expr.clone(),
        }
    }

    /// The calls of this name.
    pub(crate) fn calls_of<'w>(&'w self, names: &'w [&str]) -> impl Iterator<Item = (&'w Call, Place)> {
        self.events.iter().filter_map(|event| match &**event {
            Event::Call(call, at) if names.contains(&call.name.as_str()) => Some((call, *at)),
            _ => None,
        })
    }

    pub(crate) fn has_call(&self, names: &[&str]) -> bool {
        self.calls_of(names).next().is_some()
    }

    /// What each part of a condition was on this way, as far as that is known: each simple condition with whether it holds.
    pub(crate) fn facts(&self) -> Vec<(&Expr, bool, Place)> {
        let mut facts = Vec::new();
        for event in &self.events {
            if let Event::Guard { condition, holds, at } = &**event {
                take_apart(condition, *holds, *at, &mut facts);
            }
        }
        facts
    }
}

/// The parts of a condition that is known to hold, or not to.
pub(crate) fn take_apart<'e>(
    condition: &'e Expr,
    holds: bool,
    at: Place,
    facts: &mut Vec<(&'e Expr, bool, Place)>,
) {
    match condition {
        Expr::Not(of) => take_apart(of, !holds, at, facts),
        Expr::Two(Op::And, left, right) if holds => {
            take_apart(left, true, at, facts);
            take_apart(right, true, at, facts);
        }
        Expr::Two(Op::Or, left, right) if !holds => {
            take_apart(left, false, at, facts);
            take_apart(right, false, at, facts);
        }
        Expr::Two(Op::Above, left, right) if **right == Expr::Number(0) => take_apart(left, holds, at, facts),
        Expr::Two(Op::Below, left, right) if **right == Expr::Number(0) => {
            take_apart(left, !holds, at, facts)
        }
        _ => facts.push((condition, holds, at)),
    }
}
