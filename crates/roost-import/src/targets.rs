//! Where a way sends a call, and for whom: what becomes a `[[route]]`. What is understood in part becomes none.

use std::rc::Rc;

use crate::ast::{Call, Expr, Op, Place};
use crate::conditions::{self, Fact, is_plain, said, user_of_pattern};
use crate::config::{AFTER, ON, Route, Value};
use crate::functions::REWRITES;
use crate::lines::TARGETS;
use crate::walk::{Event, Way, take_apart};

pub(crate) const RELAYS: &[&str] = &["t_relay", "forward"];
/// Calls that tell who a caller is by its address.
pub(crate) const ADDRESSES: &[&str] =
    &["check_address", "check_source_address", "allow_trusted", "allow_address", "is_from_gw"];
pub(crate) const SETS: &[&str] = &["ds_select_dst", "ds_select_domain"];
/// Calls that make another number of it that is not known.
const OTHER_NUMBERS: &[&str] =
    &["strip_tail", "rewriteuser", "setuser", "rewriteuserpass", "setuserpass", "subst_user", "subst_uri"];

/// Where a way sends a call, and for whom.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    hop: Hop,
    user: Option<String>,
    /// The condition that says so.
    user_said: Option<Expr>,
    domain: Option<String>,
    /// What of extensions' calls it is for; nothing: numbers that are no extensions.
    pub(crate) on: Vec<&'static str>,
    /// How long their phones ring, in seconds.
    pub(crate) after: Option<i64>,
    strip: i64,
    prepend: String,
    /// Where the number becomes one that is not known before the call.
    other_number: Option<Place>,
    /// Where a dial plan translates it, of which extensions' own numbers are none.
    translated: Option<Place>,
    /// Where it is said.
    pub(crate) places: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq)]
enum Hop {
    /// Host, port, transport.
    At(String, Option<String>, Option<String>),
    /// A set of dispatcher's.
    Set(String),
}

impl Hop {
    fn to_uri(&self) -> Option<String> {
        let Hop::At(host, port, transport) = self else { return None };
        let port = port.as_ref().map_or(String::new(), |port| format!(":{port}"));
        let transport =
            transport.as_ref().map_or(String::new(), |transport| format!(";transport={transport}"));
        Some(format!("sip:{host}{port}{transport}"))
    }
}

/// A target with what else it depends on.
pub(crate) type Found = (Target, Place, Vec<Fact>);

/// The targets of ways, each with what its ways have in common.
pub(crate) fn all_of<'w>(ways: impl Iterator<Item = &'w Way>) -> Vec<Found> {
    let mut groups: Vec<(Target, Place, Vec<Vec<Fact>>)> = Vec::new();
    for (target, at, mut facts) in ways.filter_map(Target::of) {
        // Whether a caller shows a password is decided before an extension's call is.
        let is_about_caller = |fact: &Fact| {
            conditions::asked(&fact.condition).is_some_and(|call| ADDRESSES.contains(&call.name.as_str()))
        };
        facts.retain(|fact| target.on.is_empty() || !is_about_caller(fact));
        match groups.iter_mut().find(|(known, ..)| *known == target) {
            Some((.., all)) if all.contains(&facts) => {}
            Some((.., all)) => all.push(facts),
            None => groups.push((target, at, vec![facts])),
        }
    }
    let one = |(target, at, all): (Target, Place, Vec<Vec<Fact>>)| {
        conditions::simplified(all).into_iter().map(move |facts| (target.clone(), at, facts))
    };
    groups.into_iter().flat_map(one).collect()
}

impl Target {
    /// The last that a way says of where it goes; `None`: to a binding.
    pub(crate) fn of(way: &Way) -> Option<Found> {
        let mut target = Target {
            hop: Hop::Set(String::new()),
            user: None,
            user_said: None,
            domain: None,
            on: Vec::new(),
            after: None,
            strip: 0,
            prepend: String::new(),
            other_number: None,
            translated: None,
            places: Vec::new(),
        };
        let (mut found, mut facts): (Option<(Hop, Place)>, Vec<Fact>) = (None, Vec::new());
        for event in &way.events {
            match &**event {
                Event::Assign { to, value, at } if to == "$rU" => match target.take_user(value) {
                    true => target.places.push(*at),
                    false => target.other_number = Some(*at),
                },
                Event::Assign { to, value, at } if TARGETS.contains(&to.as_str()) => {
                    target.take_assigned(to, value, *at, &mut found);
                }
                Event::Assign { .. } => {}
                Event::Call(call, at) => {
                    if let Some(hop) = target.take_call(call, *at, found.as_ref()) {
                        found = Some((hop, *at));
                        target.places.push(*at);
                    } else if is_target(&call.name) {
                        target.places.push(*at);
                    }
                }
                Event::Guard { condition, holds, at } => {
                    let mut parts = Vec::new();
                    take_apart(condition, *holds, *at, &mut parts);
                    for (part, holds, at) in parts {
                        let is_lookup = conditions::asked(part).is_some_and(|call| call.name == "lookup");
                        match is_lookup {
                            // The binding's Contact takes the place of what was said before.
                            true if holds => (found, target.places) = (None, Vec::new()),
                            true => target.on = vec!["offline"],
                            false => {
                                target.take_fact(Fact { condition: part.clone(), holds, at }, &mut facts)
                            }
                        }
                    }
                }
            }
        }
        let (hop, at) = found?;
        target.hop = hop;
        Some((target, at, facts))
    }

    /// `$rU = $(rU{s.substr,1,0})`, `"00" + $rU`; whether it is understood.
    fn take_user(&mut self, value: &Expr) -> bool {
        match value {
            Expr::Var(text) if text == "$rU" => true,
            Expr::Var(text) => {
                let inside = ["$(rU{s.substr,", "$(ru{uri.user}{s.substr,"]
                    .iter()
                    .find_map(|front| text.strip_prefix(front));
                let count = inside.and_then(|rest| rest.strip_suffix(",0})")?.parse::<i64>().ok());
                let Some(count) = count.filter(|count| *count >= 0) else { return false };
                self.strip += count;
                true
            }
            Expr::Two(Op::Plus, left, right) => {
                let Some(front) = left.text().filter(|front| !front.contains('$')) else { return false };
                self.prepend.insert_str(0, &front);
                self.take_user(right)
            }
            Expr::Text(text) => match text.strip_suffix("$rU") {
                Some(front) if !front.contains('$') => {
                    self.prepend.insert_str(0, front);
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn take_assigned(&mut self, to: &str, value: &Expr, at: Place, found: &mut Option<(Hop, Place)>) {
        if to == "$rp" || to == "$dp" {
            if let (Some((Hop::At(_, port, _), _)), Some(number)) = (found, value.text()) {
                *port = Some(number);
                self.places.push(at);
            }
            return;
        }
        let Some((hop, user)) = hop(to, value) else { return };
        // `$ru = "sip:vm@10.0.0.1"`: the number is another one.
        if to == "$ru" && user.is_some_and(|user| user != "$rU" && user != "$oU") {
            self.other_number = Some(at);
        }
        *found = Some((hop, at));
        self.places.push(at);
    }

    fn take_call(&mut self, call: &Call, at: Place, before: Option<&(Hop, Place)>) -> Option<Hop> {
        let known = Some(call.arg(0)).filter(|text| !text.is_empty() && !text.contains('$'));
        match call.name.as_str() {
            "strip" => match known.and_then(|count| count.parse::<i64>().ok()) {
                Some(count) => self.strip += count,
                None => self.other_number = Some(at),
            },
            "prefix" => match known {
                Some(front) => self.prepend.insert_str(0, &front),
                None => self.other_number = Some(at),
            },
            "rewriteuri" | "seturi" => {
                let (hop, user) = hop("$ru", call.args.first()?)?;
                if user.is_some_and(|user| user != "$rU") {
                    self.other_number = Some(at);
                }
                return Some(hop);
            }
            "rewritehostport" | "sethostport" | "rewritehost" | "sethost" => {
                return at_host(&known?);
            }
            "rewriteport" | "setport" => {
                let Some((Hop::At(host, _, transport), _)) = before else { return None };
                return Some(Hop::At(host.clone(), Some(known?), transport.clone()));
            }
            "setdsturi" => return hop("$du", call.args.first()?).map(|(hop, _)| hop),
            name if SETS.contains(&name) => return Some(Hop::Set(call.arg(0))),
            "dp_translate" | "dp_apply" => self.translated = Some(at),
            name if OTHER_NUMBERS.contains(&name) => self.other_number = Some(at),
            name if RELAYS.contains(&name) => {
                let to = [call.arg(0), call.arg(1)]
                    .into_iter()
                    .find(|text| text.contains(':') && !text.contains('$'))?;
                let (transport, rest) = to.split_once(':')?;
                let Hop::At(host, port, told) = at_host(rest)? else { return None };
                let transport = match transport {
                    "sip" => told,
                    "sips" => Some("tls".to_string()),
                    "udp" => None,
                    "tcp" | "tls" | "ws" | "wss" => Some(transport.to_string()),
                    _ => return None,
                };
                return Some(Hop::At(host, port, transport));
            }
            _ => {}
        }
        None
    }

    /// The first number that a way is for is the route's; everything else that roost does not decide is a condition.
    fn take_fact(&mut self, fact: Fact, facts: &mut Vec<Fact>) {
        if let (Expr::Two(op @ (Op::Matches | Op::Equal), left, right), true) = (&fact.condition, fact.holds)
            && let Some(value) = right.text()
        {
            let user = match (subject(left), op) {
                (Subject::User, Op::Matches) => Some(value.clone()),
                (Subject::User, _) => Some(format!("^{}$", escaped(&value))),
                (Subject::Uri, Op::Matches) => user_of_pattern(&value),
                _ => None,
            };
            let is_regex = user.as_deref().is_some_and(|user| regex::Regex::new(user).is_ok());
            if is_regex && self.user.is_none() {
                (self.user, self.user_said) = (user, Some(fact.condition));
                return;
            }
            if subject(left) == Subject::Domain && *op == Op::Equal && self.domain.is_none() {
                self.domain = Some(value);
                return;
            }
        }
        if !is_plain(&fact.condition) {
            facts.push(fact);
        }
    }

    /// # Errors
    /// What to do instead, where it cannot be written.
    pub(crate) fn route(self, facts: &[Fact], sets: &[(u32, String)]) -> Result<Route, String> {
        let mut keys: Vec<(&'static str, Value)> = Vec::new();
        let text = |text: &str| Value::Text(text.to_string());
        match self.user.as_deref().map(|user| (prefix_of(user), user)) {
            Some((Some(prefix), _)) => keys.push(("prefix", text(prefix))),
            Some((None, user)) => keys.push(("user", text(user))),
            None if self.domain.is_none() => keys.push(("user", text("."))),
            None => {}
        }
        if let Some(domain) = &self.domain {
            keys.push(("domain", text(domain)));
        }
        let shown = |keys: &[(&'static str, Value)]| {
            keys.iter().map(|(key, value)| format!("`{key} = {value}`")).collect::<Vec<_>>().join(", ")
        };
        if let Some(line) = self.other_number_line() {
            return Err(format!(
                "the number becomes another one in line {line}: write a [[route]] with {}, `strip` and `prepend`",
                shown(&keys)
            ));
        }
        let clauses: Option<Vec<String>> = facts.iter().map(said).collect();
        let Some(clauses) = clauses else {
            let lines = facts.iter().filter(|fact| said(fact).is_none()).map(|fact| fact.at.line.to_string());
            return Err(format!(
                "it depends on line {}, which `when` cannot say: write a [[route]] with {} and a `when` of your own",
                lines.collect::<Vec<_>>().join(", "),
                shown(&keys)
            ));
        };
        if !clauses.is_empty() {
            keys.push(("when", text(&clauses.join(" && "))));
        }
        let known = self.hops_of_set(sets);
        match (&self.hop, self.hop.to_uri()) {
            (Hop::Set(_), _) if known.is_some() => keys.extend(known.into_iter().flatten()),
            (_, Some(uri)) => keys.push(("hops", Value::List(vec![uri]))),
            (Hop::Set(set), None) => {
                return Err(format!(
                    "write a [[route]] with {}, and as `hops` what `SELECT destination FROM dispatcher WHERE setid = {set} ORDER BY priority \
                     DESC` gives; `set = {set}`",
                    shown(&keys)
                ));
            }
            (Hop::At(..), None) => {}
        }
        if self.strip > 0 {
            keys.push(("strip", Value::Number(self.strip)));
        }
        if !self.prepend.is_empty() {
            keys.push(("prepend", text(&self.prepend)));
        }
        if !self.on.is_empty() {
            keys.push((ON, Value::List(self.on.iter().map(ToString::to_string).collect())));
        }
        if let Some(after) = self.after {
            keys.push((AFTER, Value::Number(after)));
        }
        Ok(Route { keys })
    }
}

impl Target {
    /// Where the number becomes one that is not known; an extension's own is none that a dial plan translates.
    fn other_number_line(&self) -> Option<usize> {
        let at = self.other_number.or(self.translated.filter(|_| self.on.is_empty()));
        at.map(|at| at.line)
    }

    /// The hops of dispatcher's set, where they are known, and its number.
    fn hops_of_set(&self, sets: &[(u32, String)]) -> Option<[(&'static str, Value); 2]> {
        let Hop::Set(set) = &self.hop else { return None };
        let number = set.parse::<u32>().ok()?;
        let own = sets.iter().filter(|(of, _)| *of == number);
        let uri = |destination: &String| hop("$du", &Expr::Text(destination.clone()))?.0.to_uri();
        let hops: Vec<String> = own.filter_map(|(_, destination)| uri(destination)).collect();
        (!hops.is_empty()).then(|| [("hops", Value::List(hops)), ("set", Value::Number(i64::from(number)))])
    }

    /// The condition that is all that its route depends on.
    pub(crate) fn takes_all(&self, facts: &[Fact]) -> Option<&Expr> {
        self.user_said.as_ref().filter(|_| facts.is_empty() && self.on.is_empty() && self.domain.is_none())
    }
}

/// Whether a call says where a request goes.
fn is_target(name: &str) -> bool {
    REWRITES.contains(&name) || SETS.contains(&name) || name == "setdsturi"
}

/// Whether a way is for somewhere else than a binding.
pub(crate) fn leads_elsewhere(way: &Way) -> bool {
    Target::of(way).is_some()
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    User,
    Uri,
    Domain,
    Other,
}

fn subject(expr: &Expr) -> Subject {
    match expr {
        Expr::Var(name) => match name.as_str() {
            "$rU" | "$(ru{uri.user})" | "$oU" => Subject::User,
            "$ru" | "$ou" => Subject::Uri,
            "$rd" | "$(ru{uri.host})" => Subject::Domain,
            _ => Subject::Other,
        },
        Expr::Word(name) if name == "uri" => Subject::Uri,
        _ => Subject::Other,
    }
}

/// `^00`: a prefix of digits.
fn prefix_of(user: &str) -> Option<&str> {
    let digits = user.strip_prefix('^')?.trim_end_matches(".*");
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|char| if char.is_ascii_alphanumeric() { vec![char] } else { vec!['\\', char] })
        .collect()
}

/// The next hop that an assignment names, and the user in front of it; `None` where that is not known before the call.
fn hop(to: &str, value: &Expr) -> Option<(Hop, Option<String>)> {
    let text = flat(value)?;
    if to == "$rd" || to == "$dd" {
        return Some((at_host(&text)?, None));
    }
    if to == "$fs" {
        return None;
    }
    let (is_secure, rest) = match text.strip_prefix("sips:") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("sip:")?),
    };
    let (user, host) =
        rest.split_once('@').map_or((None, rest), |(user, host)| (Some(user.to_string()), host));
    let Hop::At(host, port, transport) = at_host(host)? else { return None };
    let transport = if is_secure { Some("tls".to_string()) } else { transport };
    Some((Hop::At(host, port, transport), user))
}

/// `10.0.0.1:5070;transport=tcp`.
fn at_host(text: &str) -> Option<Hop> {
    let mut parts = text.split(';');
    let host = parts.next()?;
    let transport = parts.find_map(|param| param.strip_prefix("transport=")).map(str::to_ascii_lowercase);
    let (host, port) = match host.rsplit_once(':') {
        Some((front, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !port.is_empty() => {
            (front, Some(port.to_string()))
        }
        _ => (host, None),
    };
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || [b'.', b'-', b'_', b'[', b']', b':'].contains(&byte);
    let is_sound = !host.is_empty() && host.bytes().all(is_host);
    is_sound.then(|| Hop::At(host.to_string(), port, transport.filter(|one| one != "udp")))
}

/// A text that is put together, with variables as they are named.
fn flat(value: &Expr) -> Option<String> {
    match value {
        Expr::Var(name) => Some(name.clone()),
        Expr::Two(Op::Plus, left, right) => Some(flat(left)? + &flat(right)?),
        other => other.text(),
    }
}

/// A way up to where the request is sent on, if it is.
pub(crate) fn till_relayed(way: &Way) -> Option<Way> {
    let is_relay =
        |event: &Rc<Event>| matches!(&**event, Event::Call(call, _) if RELAYS.contains(&call.name.as_str()));
    let at = way.events.iter().position(is_relay)?;
    let mut way = way.clone();
    way.events.truncate(at + 1);
    Some(way)
}
