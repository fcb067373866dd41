//! What the ways of requests have in common with what roost does.

use std::collections::HashMap;

use crate::ast::{Call, Expr, Item, Op, Place, Statement};
use crate::config::{AFTER, Config, From, ON, Route, Value};
use crate::functions::REWRITES;
use crate::lines::TARGETS;
use crate::report::{Fate, Notes};
use crate::walk::{Event, Request, Walker, Way};

const CHALLENGES: &[&str] = &["www_challenge", "proxy_challenge"];
const CALLER_CHECKS: &[&str] = &["proxy_authorize", "pv_proxy_authorize"];
const PHONE_CHECKS: &[&str] = &["www_authorize", "pv_www_authorize"];
const REGISTERED: &[&str] =
    &["is_registered", "registered", "is_ip_registered", "is_contact_registered", "is_aor_registered"];
const QUERIES: &[&str] = &["avp_db_query", "sql_query", "sql_query_one", "sql_select"];
const REPLIES: &[&str] = &["send_reply", "sl_send_reply", "t_reply"];
const RELAYS: &[&str] = &["t_relay", "forward"];
const ADDRESSES: &[&str] =
    &["check_address", "check_source_address", "allow_trusted", "allow_address", "is_from_gw"];
const SETS: &[&str] = &["ds_select_dst", "ds_select_domain"];

pub(crate) fn take(items: &[Item], config: &mut Config, notes: &mut Notes, differences: &mut Vec<String>) {
    let routes: HashMap<&str, &[Statement]> = items
        .iter()
        .filter_map(|item| match item {
            Item::Route { kind, name, body, .. } if kind == "route" => Some((name.as_str(), body.as_slice())),
            _ => None,
        })
        .collect();
    let failures: HashMap<&str, &[Statement]> = items
        .iter()
        .filter_map(|item| match item {
            Item::Route { kind, name, body, .. } if kind == "failure_route" => {
                Some((name.as_str(), body.as_slice()))
            }
            _ => None,
        })
        .collect();
    let Some(main) = routes.get("").copied() else {
        differences.push("there is no main route: requests are handled as roost does by itself".to_string());
        return;
    };
    let mut follow = |method| {
        let (ways, is_all) = Walker::new(routes.clone(), Request { method, has_totag: false }).ways(main);
        if !is_all {
            differences
                .push(format!("the ways of {method} are too many to be followed all: look at its lines"));
        }
        ways
    };
    let (registers, invites) = (follow("REGISTER"), follow("INVITE"));
    let mut own = Idioms { config, notes, differences };
    own.registration(&registers);
    own.callers(&invites);
    own.anywhere(registers.iter().chain(&invites));
    own.targets(&invites);
    own.diversions(&invites, &failures, &routes);
}

struct Idioms<'a> {
    config: &'a mut Config,
    notes: &'a mut Notes,
    differences: &'a mut Vec<String>,
}

impl Idioms<'_> {
    fn carry(&mut self, at: Place, section: &'static str, key: &'static str, value: Value) {
        self.config.set(section, key, value, From::Line(at));
        self.carried(at, &format!("{section}.{key}"));
    }

    fn carried(&mut self, at: Place, key: &str) {
        let key = match self.notes.fate(at) {
            Some(Fate::Carried(before)) if !before.split(", ").any(|one| one == key) => {
                format!("{before}, {key}")
            }
            Some(Fate::Carried(before)) => before.clone(),
            _ => key.to_string(),
        };
        self.notes.settle(at, Fate::Carried(key));
    }

    fn registration(&mut self, ways: &[Way]) {
        let saves: Vec<&Way> = ways.iter().filter(|way| way.has_call(&["save"])).collect();
        if saves.is_empty() {
            self.differences.push("the script saves no registration; roost does".to_string());
        }
        if saves.iter().any(|way| !way.has_call(PHONE_CHECKS)) {
            self.differences.push(
                "some registrations were taken without a password; roost always asks for one".to_string(),
            );
        }
        for way in ways {
            for (_, at) in way.calls_of(PHONE_CHECKS) {
                self.notes.settle(at, Fate::Carried("passwords are checked: [auth], [auth_db]".to_string()));
            }
            for (call, at) in way.calls_of(CHALLENGES) {
                self.challenge(call, at);
            }
            for (call, at) in way.calls_of(&["save"]) {
                self.save(call, at);
            }
            self.occupied(way);
        }
        let loads_registrar = self.config.get("registrar", "max_contacts").is_some();
        if loads_registrar && self.config.get("registrar", "exclusive").is_none() {
            self.config.set("registrar", "exclusive", Value::Text("off".to_string()), From::Default);
        }
        let is_checked = |way: &Way| way.has_call(&["db_check_to", "check_to"]) || compares_names(way, "$tU");
        if !saves.is_empty() && !ways.iter().any(is_checked) {
            self.differences.push(
                "9001's password cannot register 9003 (`auth.check_to`); the script did not check that"
                    .to_string(),
            );
        }
    }

    /// `www_challenge(realm, qop)`: 0 and 1, or the word; algorithms come third.
    fn challenge(&mut self, call: &Call, at: Place) {
        let realm = call.arg(0);
        if !realm.is_empty() && !realm.contains('$') {
            self.carry(at, "auth", "realm", Value::Text(realm));
        }
        let qop = match call.arg(1).as_str() {
            "" | "0" => "off",
            _ => "auth",
        };
        self.carry(at, "auth", "qop", Value::Text(qop.to_string()));
        let algorithms = call.arg(2);
        if !algorithms.is_empty() {
            let all = algorithms.split(',').map(|one| one.trim().to_string()).collect();
            self.carry(at, "auth", "algorithms", Value::List(all));
        }
    }

    /// `save("location", "f")`: letters of 2.4, words of 3.x.
    fn save(&mut self, call: &Call, at: Place) {
        let flags = call.arg(1);
        let (mut force, mut path, mut only) = (false, "ignore", false);
        for (name, value) in save_flags(&flags) {
            match name {
                "f" | "force-registration" => force = true,
                "p0" | "path-off" => path = "off",
                "p1" | "path-lazy" => path = "lazy",
                "p2" | "path-strict" => path = "strict",
                "o" | "only-request-contacts" => only = true,
                "c" | "max-contacts" | "min-expires" | "e" | "E" | "max-expires" => {
                    let key = match name {
                        "c" | "max-contacts" => "max_contacts",
                        "e" | "min-expires" => "min_expires",
                        _ => "max_expires",
                    };
                    if let Ok(number) = value.parse() {
                        self.config.replace("registrar", key, Value::Number(number), From::Line(at));
                        self.carried(at, &format!("registrar.{key}"));
                    }
                }
                _ => {}
            }
        }
        self.carry(at, "registrar", "force_registration", Value::Switch(force));
        self.carry(at, "registrar", "path", Value::Text(path.to_string()));
        if only {
            self.carry(at, "registrar", "only_request_contacts", Value::Switch(true));
        }
    }

    /// Refused because it is registered already, without having been saved.
    fn occupied(&mut self, way: &Way) {
        if way.has_call(&["save"]) {
            return;
        }
        let is_refusal = |event: &Event| matches!(event, Event::Call(call, _) if REPLIES.contains(&call.name.as_str()) && call.arg(0).starts_with('4'));
        let Some(refused) = way.events.iter().rposition(is_refusal) else { return };
        let has_asked: Vec<(Place, bool)> = way
            .events
            .iter()
            .take(refused)
            .filter_map(|event| match event {
                Event::Call(call, at) if REGISTERED.contains(&call.name.as_str()) => Some((*at, false)),
                Event::Call(call, at) if QUERIES.contains(&call.name.as_str()) && is_about_bindings(call) => {
                    Some((*at, true))
                }
                _ => None,
            })
            .collect();
        for (at, is_query) in has_asked {
            self.carry(at, "registrar", "exclusive", Value::Text("ip".to_string()));
            if is_query {
                self.carry(at, "registrar", "exclusive_check", Value::Text("database".to_string()));
            }
        }
    }

    fn callers(&mut self, ways: &[Way]) {
        let relays: Vec<&Way> = ways.iter().filter(|way| way.has_call(RELAYS)).collect();
        let is_asked = relays.iter().any(|way| way.has_call(CALLER_CHECKS));
        if is_asked {
            for (_, at) in relays.iter().flat_map(|way| way.calls_of(CALLER_CHECKS)).collect::<Vec<_>>() {
                self.carry(at, "proxy", "authorize", Value::Text("challenge".to_string()));
            }
        } else if !relays.is_empty() {
            self.differences.push(
                "whoever knew an extension could call it; with roost registered phones call as they are and others show a password \
                 (`proxy.authorize`); \"off\" is as it was"
                    .to_string(),
            );
        }
        for (_, at) in ways.iter().flat_map(|way| way.calls_of(CHALLENGES)).collect::<Vec<_>>() {
            self.carried(at, "proxy.authorize");
        }
        for way in relays.iter().filter(|way| !way.has_call(CALLER_CHECKS)) {
            for (ip, at) in sources(way).filter(|_| is_asked) {
                self.config.add("proxy", "trusted", ip, From::Line(at));
                self.carried(at, "proxy.trusted");
            }
        }
    }

    /// What is the same whatever the request.
    fn anywhere<'w>(&mut self, ways: impl Iterator<Item = &'w Way>) {
        for way in ways {
            for (call, at) in way.calls_of(&["do_accounting"]) {
                match call.arg(0).contains("db") {
                    true => self.carry(at, "acc", "db", Value::Switch(true)),
                    false => self.carry(at, "acc", "file", Value::Text("cdr.csv".to_string())),
                }
            }
            for (_, at) in way.calls_of(&["acc_db_request", "acc_log_request", "acc_db_missed"]) {
                self.carry(at, "acc", "db", Value::Switch(true));
            }
            for (_, at) in way.calls_of(&["pike_check_req"]) {
                self.config.set("pike", "reqs_density_per_unit", Value::Number(30), From::Default);
                self.carried(at, "pike.reqs_density_per_unit");
            }
            for (_, at) in way.calls_of(&["db_check_to", "check_to"]) {
                self.carry(at, "auth", "check_to", Value::Switch(true));
            }
            for (_, at) in way.calls_of(&["db_check_from", "check_from"]) {
                self.carry(at, "proxy", "check_from", Value::Switch(true));
            }
            for (call, at) in way.calls_of(ADDRESSES) {
                self.addresses(call, at);
            }
            for (call, at) in way.calls_of(&["alias_db_lookup", "alias_db_find"]) {
                let table = Some(call.arg(0)).filter(|table| is_name(table));
                let table = table.unwrap_or_else(|| "dbaliases".to_string());
                self.carry(at, "alias_db", "table", Value::Text(table));
            }
        }
    }

    /// `check_address(1, "$si")`, `check_source_address(1)`: group 0 is all of them.
    fn addresses(&mut self, call: &Call, at: Place) {
        let group = call.arg(0);
        if !["check_address", "check_source_address"].contains(&call.name.as_str())
            || group.parse::<u32>().is_err()
        {
            let remedy = "write these addresses into the table `address`, or into `proxy.trusted`, and those of gateways as `hops`";
            return self.notes.settle(at, Fate::Missing(remedy.to_string()));
        }
        self.config.set("permissions", "address_table", Value::Text("address".to_string()), From::Default);
        self.carried(at, "permissions.address_table");
        if group != "0" {
            self.config.add("permissions", "groups", group, From::Line(at));
            self.carried(at, "permissions.groups");
        }
    }

    /// Where calls go on that an extension's phones have failed: what the failure routes do that are armed on ways to phones.
    fn diversions(
        &mut self,
        ways: &[Way],
        failures: &HashMap<&str, &[Statement]>,
        routes: &HashMap<&str, &[Statement]>,
    ) {
        let to_phones = ways.iter().filter(|way| way.has_call(RELAYS) && Target::of(way).is_none());
        let armed: Vec<(String, Place, Option<i64>)> = to_phones
            .flat_map(|way| {
                way.calls_of(&["t_on_failure"]).map(|(call, at)| (call.arg(0), at, ring_time(way)))
            })
            .collect();
        for (name, armed_at, after) in armed {
            let Some(body) = failures.get(name.as_str()) else { continue };
            let request = Request { method: "INVITE", has_totag: false };
            let (after_failure, _) = Walker::new(routes.clone(), request).ways(body);
            for way in after_failure.iter().filter_map(till_relayed) {
                let Some((target, at)) = Target::of(&way) else { continue };
                let (on, tests) = failures_of(&way);
                let has_no_answer = on.contains(&"no-answer");
                let target = Target { on, after: after.filter(|_| has_no_answer), ..target };
                self.take(target, at);
                tests.into_iter().chain([armed_at]).for_each(|at| self.carried(at, "route.on"));
            }
        }
    }

    /// Where calls go that are for no extension.
    fn targets(&mut self, ways: &[Way]) {
        let mut found: Vec<(Target, Place)> = Vec::new();
        for way in ways.iter().filter(|way| way.has_call(RELAYS)) {
            if let Some((target, at)) = Target::of(way)
                && !found.iter().any(|(known, _)| *known == target)
            {
                found.push((target, at));
            }
        }
        found.into_iter().for_each(|(target, at)| self.take(target, at));
    }

    /// Makes a `[[route]]` of a target, or joins it with one that differs in what it is for.
    fn take(&mut self, target: Target, at: Place) {
        let places = target.places.clone();
        match target.route() {
            Ok(route) => {
                match self.config.routes.iter_mut().find(|(known, _)| known.is_but_for_failures(&route)) {
                    Some((known, _)) => known.join_failures(route),
                    None => self.config.routes.push((route, at)),
                }
                places.iter().for_each(|at| self.carried(*at, "[[route]]"));
            }
            Err(remedy) => {
                places.iter().for_each(|at| self.notes.settle(*at, Fate::Missing(remedy.clone())));
            }
        }
    }
}

/// A way up to where the request is sent on, if it is.
fn till_relayed(way: &Way) -> Option<Way> {
    let is_relay =
        |event: &Event| matches!(event, Event::Call(call, _) if RELAYS.contains(&call.name.as_str()));
    let at = way.events.iter().position(is_relay)?;
    let mut way = way.clone();
    way.events.truncate(at + 1);
    Some(way)
}

/// How long phones ring, where the way says so before the call is relayed.
fn ring_time(way: &Way) -> Option<i64> {
    way.events.iter().rev().find_map(|event| match event {
        Event::Assign { to, value: Expr::Number(seconds), .. }
            if to == "$T_fr_inv_timeout" || to == "$T_fr_timer" && *seconds > 0 =>
        {
            Some(*seconds)
        }
        _ => None,
    })
}

/// What has happened to a call on a way of a failure route, and where that is asked.
fn failures_of(way: &Way) -> (Vec<&'static str>, Vec<Place>) {
    let (mut all, mut places) = (FAILURES.to_vec(), Vec::new());
    for (fact, holds, at) in way.facts() {
        let pattern = match fact {
            Expr::Call(call) if call.name == "t_check_status" => Some(call.arg(0)),
            Expr::Call(call) if call.name == "t_local_replied" && holds => Some("408".to_string()),
            Expr::Two(Op::Matches | Op::Equal, left, right) if is_status(left) => {
                right.text().or_else(|| match &**right {
                    Expr::Number(code) => Some(code.to_string()),
                    _ => None,
                })
            }
            _ => None,
        };
        let Some(pattern) = pattern.and_then(|pattern| regex::Regex::new(&pattern).ok()) else { continue };
        all.retain(|(_, codes)| codes.iter().any(|code| pattern.is_match(code)) == holds);
        places.push(at);
    }
    (all.into_iter().map(|(name, _)| name).collect(), places)
}

/// What `on` takes, and the answers that are it.
const FAILURES: [(&str, &[&str]); 3] =
    [("busy", &["486", "600"]), ("no-answer", &["408", "480"]), ("refused", &["403", "603"])];

fn is_status(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(name) if ["$T_reply_code", "$rs", "$(<reply>rs)"].contains(&name.as_str()))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `c5f` of 2.4, `max-contacts=5,force-registration` of 3.x.
fn save_flags(flags: &str) -> Vec<(&str, &str)> {
    let is_words = flags.contains('-') || flags.contains(',') || flags.contains('=');
    if is_words {
        return flags
            .split(',')
            .map(|flag| flag.trim().split_once('=').unwrap_or((flag.trim(), "")))
            .collect();
    }
    let (mut all, mut rest) = (Vec::new(), flags);
    while let Some(char) = rest.chars().next() {
        let (_, behind) = rest.split_at(char.len_utf8());
        let digits = behind.len() - behind.trim_start_matches(|char: char| char.is_ascii_digit()).len();
        let (value, behind_value) = behind.split_at(digits);
        // Of `p1` the digit is part of the name.
        let name_end = if char == 'p' { char.len_utf8() + digits } else { char.len_utf8() };
        all.push((&rest[..name_end], value));
        rest = behind_value;
    }
    all
}

/// Whether a way compares the digest user with this one.
fn compares_names(way: &Way, with: &str) -> bool {
    let is = |expr: &Expr, name: &str| matches!(expr, Expr::Var(var) if var == name);
    way.facts().iter().any(|(fact, ..)| match fact {
        Expr::Two(Op::Equal | Op::Unequal, left, right) => {
            is(left, "$au") && is(right, with) || is(left, with) && is(right, "$au")
        }
        _ => false,
    })
}

fn is_about_bindings(call: &Call) -> bool {
    let text: Vec<String> = call.args.iter().filter_map(Expr::text).collect();
    text.join(" ").to_ascii_lowercase().contains("location")
}

/// Addresses that a way is for alone.
fn sources(way: &Way) -> impl Iterator<Item = (String, Place)> {
    way.facts().into_iter().filter_map(|(fact, holds, at)| match fact {
        Expr::Two(Op::Equal, left, right) if holds => {
            let is_source = matches!(&**left, Expr::Var(name) if name == "$si" || name == "$socket_in(ip)")
                || matches!(&**left, Expr::Word(name) if name == "src_ip");
            let ip = right.text().filter(|ip| ip.parse::<std::net::IpAddr>().is_ok());
            ip.filter(|_| is_source).map(|ip| (ip, at))
        }
        _ => None,
    })
}

/// Where a way sends a call, and for whom.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    hop: Hop,
    user: Option<String>,
    domain: Option<String>,
    /// What of extensions' calls it is for; nothing: numbers that are no extensions.
    on: Vec<&'static str>,
    /// How long their phones ring, in seconds.
    after: Option<i64>,
    strip: i64,
    prepend: String,
    /// Where it is said.
    places: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq)]
enum Hop {
    Uri(String),
    /// A set of dispatcher's.
    Set(String),
}

impl Target {
    /// The last that a way says of where it goes; `None`: to a binding.
    fn of(way: &Way) -> Option<(Target, Place)> {
        let mut target = Target {
            hop: Hop::Uri(String::new()),
            user: None,
            domain: None,
            on: Vec::new(),
            after: None,
            strip: 0,
            prepend: String::new(),
            places: Vec::new(),
        };
        let mut found: Option<(Hop, Place)> = None;
        for event in &way.events {
            match event {
                Event::Assign { to, value, at } if to == "$rU" => {
                    let is_known = target.take_user(value);
                    target.places.extend(is_known.then_some(*at));
                }
                Event::Assign { to, value, at } if TARGETS.contains(&to.as_str()) => {
                    if let Some(hop) = hop(to, value) {
                        found = Some((Hop::Uri(hop), *at));
                        target.places.push(*at);
                    }
                }
                Event::Call(call, at) => {
                    if let Some(hop) = target.take_call(call) {
                        found = Some((hop, *at));
                    }
                    if is_target(&call.name) {
                        target.places.push(*at);
                    }
                }
                _ => {}
            }
        }
        let (hop, at) = found?;
        target.hop = hop;
        for (fact, holds, _) in way.facts() {
            target.take_fact(fact, holds);
        }
        Some((target, at))
    }

    /// `$rU = $(rU{s.substr,1,0})`, `"00" + $rU`.
    fn take_user(&mut self, value: &Expr) -> bool {
        match value {
            Expr::Var(text) => {
                let count = text
                    .split_once("{s.substr,")
                    .and_then(|(_, rest)| rest.split(',').next()?.parse::<i64>().ok());
                self.strip += count.unwrap_or(0);
                count.is_some()
            }
            Expr::Two(Op::Plus, left, right) => {
                let Some(front) = left.text() else { return false };
                self.prepend.insert_str(0, &front);
                matches!(&**right, Expr::Var(name) if name == "$rU") || self.take_user(right)
            }
            Expr::Text(text) => match text.strip_suffix("$rU") {
                Some(front) => {
                    self.prepend.insert_str(0, front);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    fn take_call(&mut self, call: &Call) -> Option<Hop> {
        match call.name.as_str() {
            "strip" => self.strip += call.arg(0).parse().unwrap_or(0),
            "prefix" => self.prepend.insert_str(0, &call.arg(0)),
            "rewriteuri" | "seturi" => return hop("$ru", call.args.first()?).map(Hop::Uri),
            "rewritehostport" | "sethostport" | "rewritehost" | "sethost" => {
                return Some(Hop::Uri(format!("sip:{}", call.arg(0)))).filter(|_| !call.arg(0).contains('$'));
            }
            "setdsturi" => return hop("$du", call.args.first()?).map(Hop::Uri),
            name if SETS.contains(&name) => return Some(Hop::Set(call.arg(0))),
            _ => {}
        }
        None
    }

    fn take_fact(&mut self, fact: &Expr, holds: bool) {
        match fact {
            Expr::Call(call) if call.name == "lookup" && !holds => self.on = vec!["offline"],
            Expr::Two(op @ (Op::Matches | Op::Equal), left, right) if holds => {
                let (Some(value), subject) = (right.text(), subject(left)) else { return };
                match (subject, op) {
                    (Subject::User, Op::Matches) => self.user = Some(value),
                    (Subject::User, _) => self.user = Some(format!("^{}$", escaped(&value))),
                    (Subject::Uri, Op::Matches) => self.user = user_of_pattern(&value).or(self.user.take()),
                    (Subject::Domain, Op::Equal) => self.domain = Some(value),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn route(self) -> Result<Route, String> {
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
        match &self.hop {
            Hop::Uri(uri) => keys.push(("hops", Value::List(vec![uri.clone()]))),
            Hop::Set(set) => {
                return Err(format!(
                    "write a [[route]] with {}, and as `hops` what `SELECT destination FROM dispatcher WHERE setid = {set} ORDER BY priority \
                     DESC` gives; `set = {set}`",
                    keys.iter()
                        .map(|(key, value)| format!("`{key} = {value}`"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ));
            }
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

/// Whether a call says where a request goes.
fn is_target(name: &str) -> bool {
    REWRITES.contains(&name) || SETS.contains(&name) || name == "setdsturi"
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
            "$rU" | "$(ru{uri.user})" | "$tU" | "$oU" => Subject::User,
            "$ru" | "$ou" => Subject::Uri,
            "$rd" | "$(ru{uri.host})" => Subject::Domain,
            _ => Subject::Other,
        },
        Expr::Word(name) if name == "uri" => Subject::Uri,
        _ => Subject::Other,
    }
}

/// `sip:0[0-9]+@` is about users that begin with 0.
fn user_of_pattern(pattern: &str) -> Option<String> {
    let inside = pattern.trim_start_matches('^').strip_prefix("sip:")?;
    let inside = inside.split('@').next()?;
    Some(format!("^{}", inside.trim_end_matches(".*")))
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

/// The next hop that an assignment names; `None` where that is not known before the call.
fn hop(to: &str, value: &Expr) -> Option<String> {
    let text = flat(value)?;
    let host = match to {
        "$rd" | "$dd" => text,
        "$rp" | "$dp" | "$fs" => return None,
        _ => {
            let rest = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:"))?;
            rest.split_once('@').map_or(rest, |(_, host)| host).to_string()
        }
    };
    let host = host.split(';').next().unwrap_or(&host).to_string();
    (!host.is_empty() && !host.contains('$')).then(|| format!("sip:{host}"))
}

/// A text that is put together, with variables as they are named.
fn flat(value: &Expr) -> Option<String> {
    match value {
        Expr::Var(name) => Some(name.clone()),
        Expr::Two(Op::Plus, left, right) => Some(flat(left)? + &flat(right)?),
        other => other.text(),
    }
}
