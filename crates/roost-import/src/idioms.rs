//! What the ways of requests have in common with what roost does.

use std::collections::HashMap;
use std::rc::Rc;

use crate::ReadSets;
use crate::ast::{Call, Expr, Item, Op, Place, Statement};
use crate::conditions::{Fact, asked, is_plain, sources};
use crate::config::{Config, From, Value};
use crate::report::{Fate, Notes};
use crate::targets::{self, ADDRESSES, RELAYS, SETS, Target, leads_elsewhere, till_relayed};
use crate::walk::{Event, Request, Walker, Way};

const CHALLENGES: &[&str] = &["www_challenge", "proxy_challenge"];
const CALLER_CHECKS: &[&str] = &["proxy_authorize"];
const PHONE_CHECKS: &[&str] = &["www_authorize"];
/// Those whose passwords stand elsewhere.
const OTHER_CHECKS: &[&str] = &[
    "pv_www_authorize",
    "pv_proxy_authorize",
    "aaa_www_authorize",
    "aaa_proxy_authorize",
    "radius_www_authorize",
    "radius_proxy_authorize",
];
const REGISTERED: &[&str] =
    &["is_registered", "registered", "is_ip_registered", "is_contact_registered", "is_aor_registered"];
const QUERIES: &[&str] = &["avp_db_query", "sql_query", "sql_query_one", "sql_select"];
const REPLIES: &[&str] = &["send_reply", "sl_send_reply", "t_reply"];

pub(crate) fn take(
    items: &[Item],
    sets: &ReadSets<'_>,
    config: &mut Config,
    notes: &mut Notes,
    differences: &mut Vec<String>,
) {
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
    let sets = match config.get("", "database") {
        Some(Value::Text(database)) if invites.iter().any(|way| way.has_call(SETS)) => sets(database),
        _ => Vec::new(),
    };
    let mut own = Idioms { config, notes, differences, sets };
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
    /// Dispatcher's, as far as they are known.
    sets: Vec<(u32, String)>,
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
        if saves.iter().any(|way| !way.has_call(PHONE_CHECKS) && !way.has_call(OTHER_CHECKS)) {
            self.differences.push(
                "some registrations were taken without a password; roost always asks for one".to_string(),
            );
        }
        for way in ways {
            for (call, at) in way.calls_of(PHONE_CHECKS) {
                let fate = match other_table(&call.arg(1), "subscriber") {
                    Some(remedy) => Fate::Missing(remedy),
                    None => Fate::Carried("passwords are checked: [auth], [auth_db]".to_string()),
                };
                self.notes.settle(at, fate);
            }
            for (call, at) in way.calls_of(CHALLENGES) {
                self.challenge(call, at);
            }
            for (call, at) in way.calls_of(&["save"]) {
                self.save(call, at);
                if let Some(remedy) = other_table(&call.arg(0), "location") {
                    self.notes.settle(at, Fate::Missing(remedy));
                }
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
        let is_refusal = |event: &Rc<Event>| matches!(&**event, Event::Call(call, _) if REPLIES.contains(&call.name.as_str()) && call.arg(0).starts_with('4'));
        let Some(refused) = way.events.iter().rposition(is_refusal) else { return };
        // Other questions may stand beside the one that it was refused for.
        let is_registered = way.calls_of(REGISTERED).any(|(call, _)| was_registered(way, call));
        let has_asked: Vec<(Place, bool)> = way
            .events
            .iter()
            .take(refused)
            .filter_map(|event| match &**event {
                Event::Call(call, at) if REGISTERED.contains(&call.name.as_str()) => {
                    is_registered.then_some((*at, false))
                }
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
            for (call, at) in relays.iter().flat_map(|way| way.calls_of(CALLER_CHECKS)).collect::<Vec<_>>() {
                self.carry(at, "proxy", "authorize", Value::Text("challenge".to_string()));
                if let Some(remedy) = other_table(&call.arg(1), "subscriber") {
                    self.notes.settle(at, Fate::Missing(remedy));
                }
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
        for way in
            relays.iter().filter(|way| is_asked && !way.has_call(CALLER_CHECKS) && !leads_elsewhere(way))
        {
            for (sources, at) in trusted(way) {
                for source in sources {
                    self.config.add("proxy", "trusted", source, From::Line(at));
                }
                self.carried(at, "proxy.trusted");
            }
        }
        self.addresses(ways, is_asked);
    }

    /// `check_address(1, "$si")`, `check_source_address(1)`; group 0 is all of them. It is trust where callers from there show no
    /// password and all others do; a list of those who are kept out, or who must show one, too, is none.
    fn addresses(&mut self, ways: &[Way], is_asked: bool) {
        let relayed: Vec<&Way> = ways.iter().filter(|way| way.has_call(RELAYS)).collect();
        let mut seen: Vec<Place> = Vec::new();
        for (call, at) in ways.iter().flat_map(|way| way.calls_of(ADDRESSES)) {
            if seen.contains(&at) {
                continue;
            }
            seen.push(at);
            let held = |way: &Way| {
                let facts = way.facts();
                facts
                    .into_iter()
                    .find(|(fact, _, place)| *place == at && asked(fact) == Some(call))
                    .map(|(_, holds, _)| holds)
            };
            let of = |holds: bool| relayed.iter().filter(move |way| held(way) == Some(holds));
            let is_free = of(true).count() > 0 && of(true).all(|way| !way.has_call(CALLER_CHECKS));
            let is_trust = is_free && of(false).all(|way| is_asked && way.has_call(CALLER_CHECKS));
            let group = call.arg(0);
            let is_of_source = call.name == "check_source_address"
                || call.name == "check_address" && call.arg(1) == "$si"
                || call.name == "check_address" && call.args.get(1) == Some(&Expr::Var("$si".to_string()));
            if !is_trust || !is_of_source || group.parse::<u32>().is_err() {
                let remedy = "not a list of those who need no password, or not sure to be one: `proxy.trusted`, or `[permissions] address_table` and `groups`, name those; `when` of a [[route]] with `reply` keeps others out";
                self.notes.settle(at, Fate::Missing(remedy.to_string()));
                continue;
            }
            self.config.set(
                "permissions",
                "address_table",
                Value::Text("address".to_string()),
                From::Default,
            );
            self.carried(at, "permissions.address_table");
            if group != "0" {
                self.config.add("permissions", "groups", group, From::Line(at));
                self.carried(at, "permissions.groups");
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
            for (_, at) in way.calls_of(&["db_check_to", "check_to", "db_is_to_authorized"]) {
                self.carry(at, "auth", "check_to", Value::Switch(true));
            }
            for (_, at) in way.calls_of(&["db_check_from", "check_from", "db_is_from_authorized"]) {
                self.carry(at, "proxy", "check_from", Value::Switch(true));
            }
            for (call, at) in way.calls_of(&["serialize_branches"]) {
                self.carry(at, "proxy", "serial_fork", Value::Switch(call.arg(0) != "0"));
            }
            for (_, at) in way.calls_of(&["force_rport"]) {
                self.carry(at, "nathelper", "force_rport", Value::Switch(true));
            }
            for (call, at) in way.calls_of(&["alias_db_lookup", "alias_db_find"]) {
                let table = Some(call.arg(0)).filter(|table| is_name(table));
                let table = table.unwrap_or_else(|| "dbaliases".to_string());
                self.carry(at, "alias_db", "table", Value::Text(table));
            }
        }
    }

    /// Where calls go on that an extension's phones have failed: what the failure routes do that are armed on ways to phones.
    fn diversions(
        &mut self,
        ways: &[Way],
        failures: &HashMap<&str, &[Statement]>,
        routes: &HashMap<&str, &[Statement]>,
    ) {
        let to_phones = ways.iter().filter(|way| way.has_call(RELAYS) && !leads_elsewhere(way));
        let armed: Vec<(String, Place, Option<i64>)> = to_phones
            .flat_map(|way| {
                way.calls_of(&["t_on_failure"]).map(|(call, at)| (call.arg(0), at, ring_time(way)))
            })
            .collect();
        for (name, armed_at, after) in armed {
            let Some(body) = failures.get(name.as_str()) else { continue };
            let request = Request { method: "INVITE", has_totag: false };
            let (after_failure, _) = Walker::new(routes.clone(), request).ways(body);
            let relayed: Vec<Way> = after_failure.iter().filter_map(till_relayed).collect();
            for way in &relayed {
                let Some((mut target, at, facts)) = Target::of(way) else { continue };
                let (on, tests) = failures_of(way);
                let has_no_answer = on.contains(&"no-answer");
                (target.on, target.after) = (on, after.filter(|_| has_no_answer));
                self.take(target, at, &facts);
                tests.into_iter().chain([armed_at]).for_each(|at| self.carried(at, "route.on"));
            }
        }
    }

    /// Where calls go that are for no extension.
    fn targets(&mut self, ways: &[Way]) {
        let relayed = ways.iter().filter(|way| way.has_call(RELAYS));
        let found = targets::all_of(relayed);
        let is_first = |target: &Target| target.on.is_empty();
        if found.iter().any(|(target, ..)| is_first(target)) {
            self.differences.push(
                "numbers that a [[route]] takes and that are extensions ring at their phones: extensions come first".to_string(),
            );
        }
        // What a route before takes comes to no other.
        let mut taken: Vec<Expr> = Vec::new();
        for (target, at, mut facts) in found {
            facts.retain(|fact| fact.holds || !taken.contains(&fact.condition));
            let takes = target.takes_all(&facts).cloned();
            if self.take(target, at, &facts) {
                taken.extend(takes);
            }
        }
    }

    /// Makes a `[[route]]` of a target, or joins it with one that differs in what it is for; whether there is one.
    fn take(&mut self, target: Target, at: Place, facts: &[Fact]) -> bool {
        let places = target.places.clone();
        match target.route(facts, &self.sets) {
            Ok(route) => {
                match self.config.routes.iter_mut().find(|(known, _)| known.is_but_for_failures(&route)) {
                    Some((known, _)) => known.join_failures(route),
                    None => self.config.routes.push((route, at)),
                }
                places.iter().for_each(|at| self.carried(*at, "[[route]]"));
                true
            }
            // One way may be understood where another is not: that has to be done by hand.
            Err(remedy) => {
                places.iter().for_each(|at| self.notes.settle(*at, Fate::Missing(remedy.clone())));
                false
            }
        }
    }
}

/// Whether a way is for those alone that are registered by what was asked.
fn was_registered(way: &Way, call: &Call) -> bool {
    way.facts().iter().any(|(fact, holds, _)| *holds && asked(fact) == Some(call))
}

/// What to do about another table than the one that there is.
fn other_table(named: &str, usual: &str) -> Option<String> {
    (!named.is_empty() && named != usual && is_name(named)).then(|| {
        format!("the table is `{usual}`, not {named}: make a view of that name, or bring its rows over by `roost db copy`")
    })
}

/// Addresses that a way is for alone, where nothing else counts for it.
fn trusted(way: &Way) -> Vec<(Vec<String>, Place)> {
    let facts = way.facts();
    let is_other =
        |(fact, holds, _): &(&Expr, bool, Place)| *holds && !is_plain(fact) && sources(fact).is_none();
    if facts.iter().any(is_other) {
        return Vec::new();
    }
    facts
        .into_iter()
        .filter(|(_, holds, _)| *holds)
        .filter_map(|(fact, _, at)| Some((sources(fact)?, at)))
        .collect()
}

/// How long phones ring, where the way says so before the call is relayed.
fn ring_time(way: &Way) -> Option<i64> {
    way.events.iter().rev().find_map(|event| match &**event {
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
