//! One `[[route]]`: what it says, whether that makes sense, and the core's rule that it becomes.

use std::collections::BTreeMap;

use regex::bytes::Regex;
use roost_core::{HopUri, Numbers, Rule, Service};
use roost_sip::Method;

use crate::settings::key::{Value, is_host};

/// The name of the tables.
pub(crate) const TABLE: &str = "route";
/// Next hops that a table may have.
const MAX_HOPS: usize = 32;

/// What services are asked by.
const SERVICE_METHODS: [&str; 3] = ["SUBSCRIBE", "PUBLISH", "MESSAGE"];

fn service_method(name: &str) -> Option<Method> {
    let known = SERVICE_METHODS.iter().find(|known| name.eq_ignore_ascii_case(known))?;
    Some(Method::parse(known.as_bytes()))
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
    pub(crate) hops: Vec<String>,
    pub(crate) strip: u32,
    pub(crate) prepend: String,
    pub(crate) offline: bool,
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
        if self.prefix.is_empty() && self.user.is_empty() && self.domain.is_empty() && !is_service {
            let message =
                "a [[route]] needs `prefix`, `user` or `domain`, or `methods` or `events`: what is it for?";
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
        if let Some(name) = self.methods.iter().find(|name| service_method(name).is_none()) {
            let message =
                format!("`route.methods` holds \"{name}\": it may hold {}", SERVICE_METHODS.join(", "));
            return Err(("methods", message));
        }
        if let Some(event) = self.events.iter().find(|event| !is_token(event)) {
            return Err(("events", format!("`route.events` holds \"{event}\", which is no event package")));
        }
        if !is_host(&self.domain) {
            return Err(("domain", format!("`route.domain` must be a host, not \"{}\"", self.domain)));
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

    fn service(&self) -> Option<Service> {
        let methods = self.methods.iter().filter_map(|name| service_method(name));
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
            strip: self.strip as usize,
            prepend: self.prepend.as_str().into(),
            offline: self.offline,
            service: self.service(),
            hops: self.hops.iter().filter_map(|hop| HopUri::parse(hop).ok()).collect(),
        })
    }
}
