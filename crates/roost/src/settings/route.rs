//! One `[[route]]`: what it says, whether that makes sense, and the core's rule that it becomes.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::bytes::Regex;
use roost_core::{
    DiversionStyle, Failure, Failures, HeaderEdits, HopUri, Numbers, REQUEST, Reply, Rule, Service,
};
use roost_filter::{Filter, FilterError};
use roost_sip::Method;

use crate::settings::key::{Value, is_host};

/// The name of the tables.
pub(crate) const TABLE: &str = "route";
/// Next hops that a table may have.
const MAX_HOPS: usize = 32;

/// What services are asked by.
const SERVICE_METHODS: &[&str] = &["SUBSCRIBE", "PUBLISH", "MESSAGE"];
/// What may be answered at once.
const REPLY_METHODS: &[&str] = &["INVITE", "SUBSCRIBE", "PUBLISH", "MESSAGE"];
/// Header fields that may be set and removed, beside those of `X-` and `P-`.
const HEADERS: [&str; 6] = ["Alert-Info", "Call-Info", "Organization", "Priority", "Privacy", "User-Agent"];
/// And those of `P-` that may not: `proxy.asserted_identity` is about them.
const IDENTITY: [&str; 2] = ["P-Asserted-Identity", "P-Preferred-Identity"];

fn method(name: &str, all: &[&str]) -> Option<Method> {
    let known = all.iter().find(|known| name.eq_ignore_ascii_case(known))?;
    Some(Method::parse(known.as_bytes()))
}

/// Whether a header field may be set or removed.
fn is_safe(name: &str) -> bool {
    let is_in = |all: &[&str]| all.iter().any(|known| name.eq_ignore_ascii_case(known));
    let is_own =
        name.get(..2).is_some_and(|start| ["X-", "P-"].iter().any(|own| start.eq_ignore_ascii_case(own)));
    is_token(name) && (is_in(&HEADERS) || (is_own && !is_in(&IDENTITY)))
}

/// The name and value of a header line.
fn header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let (name, value) = (name.trim(), value.trim());
    (!value.is_empty() && !value.chars().any(char::is_control)).then_some((name, value))
}

/// `503 Closed for maintenance`
fn reply(text: &str) -> Option<Reply> {
    let (code, phrase) = text.split_once(' ')?;
    let code = code.parse().ok().filter(|code| (400..700).contains(code))?;
    let is_phrase = !phrase.trim().is_empty() && !phrase.chars().any(char::is_control);
    is_phrase.then(|| Reply { code, phrase: phrase.trim().into() })
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte))
}

/// One table as it stands in the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Route {
    pub(crate) prefix: String,
    pub(crate) user: String,
    pub(crate) domain: String,
    pub(crate) when: String,
    pub(crate) hops: Vec<String>,
    pub(crate) strip: u32,
    pub(crate) prepend: String,
    pub(crate) offline: bool,
    pub(crate) on: Vec<String>,
    pub(crate) after: u32,
    pub(crate) diversion: String,
    pub(crate) set_headers: Vec<String>,
    pub(crate) remove_headers: Vec<String>,
    pub(crate) reply: String,
    pub(crate) methods: Vec<String>,
    pub(crate) events: Vec<String>,
    pub(crate) set: u32,
    /// What the file says, by key.
    pub(crate) given: BTreeMap<&'static str, Value>,
}

/// What the core makes of them; all have been checked.
pub(crate) fn rules(routes: &[Route]) -> Vec<Rule> {
    routes.iter().enumerate().filter_map(|(index, route)| route.rule(index as u32 + 1)).collect()
}

impl Route {
    /// What no single key can know, and which key it is about.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        let is_service = !self.methods.is_empty() || !self.events.is_empty();
        let is_for_all = is_service || !self.reply.is_empty() || !self.when.is_empty();
        if self.prefix.is_empty() && self.user.is_empty() && self.domain.is_empty() && !is_for_all {
            let message = "a [[route]] needs `prefix`, `user` or `domain`, or `methods`, `events` or `when`: what is it for?";
            return Err(("", message.to_string()));
        }
        if !self.prefix.is_empty() && !self.user.is_empty() {
            let message = "`prefix` and `user` in one [[route]]: write two, or one regular expression";
            return Err(("user", message.to_string()));
        }
        for (key, text) in [("prefix", &self.prefix), ("prepend", &self.prepend)] {
            if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+*#-_.!~".contains(&byte)) {
                let message = format!("`route.{key}` may hold letters, digits and +*#-_.!~, not \"{text}\"");
                return Err((key, message));
            }
        }
        if let Err(error) = Regex::new(&self.user) {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            return Err(("user", format!("`route.user` is not a regular expression: {why}")));
        }
        if let Some(name) = self.methods.iter().find(|name| method(name, self.methods_taken()).is_none()) {
            let message =
                format!("`route.methods` holds \"{name}\": it may hold {}", self.methods_taken().join(", "));
            return Err(("methods", message));
        }
        if let Some(event) = self.events.iter().find(|event| !is_token(event)) {
            return Err(("events", format!("`route.events` holds \"{event}\", which is no event package")));
        }
        if let Err(error) = self.condition().transpose() {
            return Err(("when", format!("`route.when`: {error}")));
        }
        if !is_host(&self.domain) {
            return Err(("domain", format!("`route.domain` must be a host, not \"{}\"", self.domain)));
        }
        self.check_headers()?;
        self.check_on()?;
        if !self.reply.is_empty() {
            return self.check_reply();
        }
        if self.hops.is_empty() || self.hops.len() > MAX_HOPS {
            let message = format!(
                "`route.hops` must name 1 to {MAX_HOPS} next hops, such as hops = [\"sip:10.0.0.5:5060\"]"
            );
            return Err(("hops", message));
        }
        for hop in &self.hops {
            HopUri::parse(hop).map_err(|error| ("hops", format!("`route.hops`: \"{hop}\" {error}")))?;
        }
        Ok(())
    }

    fn condition(&self) -> Option<Result<Filter, FilterError>> {
        (!self.when.is_empty()).then(|| Filter::compile(&self.when, &REQUEST))
    }

    fn check_headers(&self) -> Result<(), (&'static str, String)> {
        let known = || format!("X-…, P-…, {}", HEADERS.join(", "));
        for line in &self.set_headers {
            let Some((name, _)) = header(line) else {
                let message = format!(
                    "`route.set_headers` holds \"{line}\": write \"NAME: VALUE\", such as \"X-Tenant: acme\""
                );
                return Err(("set_headers", message));
            };
            if !is_safe(name) {
                let message = format!("`route.set_headers` may set {}, not {name}", known());
                return Err(("set_headers", message));
            }
        }
        match self.remove_headers.iter().find(|name| !is_safe(name)) {
            Some(name) => {
                let message = format!("`route.remove_headers` may remove {}, not {name}", known());
                Err(("remove_headers", message))
            }
            None => Ok(()),
        }
    }

    fn check_on(&self) -> Result<(), (&'static str, String)> {
        let has_no_answer = self.failures().has(Failure::NoAnswer);
        let is_before = !self.methods.is_empty() || !self.events.is_empty() || !self.reply.is_empty();
        let is_known = |name: &&String| Failure::NAMED.iter().any(|(known, _)| known == name);
        if let Some(name) = self.on.iter().find(|name| !is_known(name)) {
            let known = Failure::NAMED.map(|(known, _)| known).join(", ");
            return Err(("on", format!("`route.on` holds \"{name}\": it may hold {known}")));
        }
        match () {
            () if self.after > 0 && !has_no_answer => {
                Err(("after", "`route.after` counts with on = [\"no-answer\"] only".to_string()))
            }
            () if !self.on.is_empty() && is_before => {
                let message = "`route.on` is for calls of extensions; `methods`, `events` and `reply` count before those are looked up";
                Err(("on", message.to_string()))
            }
            () => Ok(()),
        }
    }

    fn check_reply(&self) -> Result<(), (&'static str, String)> {
        match () {
            () if !self.hops.is_empty() => Err((
                "reply",
                "`reply` and `hops` in one [[route]]: a request is answered or sent on".to_string(),
            )),
            () if reply(&self.reply).is_none() => {
                let message = format!(
                    "`route.reply` must be a status code from 400 to 699 and a text, such as \"503 Closed for maintenance\", not \"{}\"",
                    self.reply
                );
                Err(("reply", message))
            }
            () => Ok(()),
        }
    }

    fn methods_taken(&self) -> &'static [&'static str] {
        if self.reply.is_empty() { SERVICE_METHODS } else { REPLY_METHODS }
    }

    fn failures(&self) -> Failures {
        let named = |name: &String| Failure::NAMED.iter().find(|(known, _)| known == name);
        let given = self.on.iter().filter_map(named).map(|(_, failure)| *failure);
        let offline = self.offline.then_some(Failure::Offline);
        given.chain(offline).fold(Failures::NONE, Failures::and)
    }

    fn headers(&self) -> HeaderEdits {
        let set = || self.set_headers.iter().filter_map(|line| header(line));
        let removed = self.remove_headers.iter().map(String::as_str).chain(set().map(|(name, _)| name));
        let added: String = set().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        HeaderEdits { remove: removed.map(Into::into).collect(), add: added.into() }
    }

    fn service(&self) -> Option<Service> {
        let methods = self.methods.iter().filter_map(|name| method(name, self.methods_taken()));
        let methods = methods.fold(0, |set, method| set | method.bit());
        let is_service = methods != 0 || !self.events.is_empty();
        is_service.then(|| Service {
            methods: if methods == 0 { Method::Subscribe.bit() | Method::Publish.bit() } else { methods },
            events: self.events.iter().map(|event| event.to_ascii_lowercase().into()).collect(),
        })
    }

    fn rule(&self, place: u32) -> Option<Rule> {
        let numbers = match (self.prefix.as_str(), self.user.as_str()) {
            ("", "") => Numbers::Any,
            ("", user) => Numbers::Pattern(Regex::new(user).ok()?),
            (prefix, _) => Numbers::Prefix(prefix.into()),
        };
        Some(Rule {
            set: if self.set == 0 { place } else { self.set },
            numbers,
            domain: (!self.domain.is_empty()).then(|| self.domain.to_ascii_lowercase().into()),
            when: self.condition().and_then(Result::ok).map(Arc::new),
            strip: self.strip as usize,
            prepend: self.prepend.as_str().into(),
            on: self.failures(),
            after_s: self.after,
            diversion: match self.diversion.as_str() {
                "diversion" => DiversionStyle::Diversion,
                "history-info" => DiversionStyle::HistoryInfo,
                _ => DiversionStyle::Off,
            },
            headers: self.headers(),
            service: self.service(),
            reply: reply(&self.reply),
            hops: self.hops.iter().filter_map(|hop| HopUri::parse(hop).ok()).collect(),
        })
    }
}
