//! Destinations beyond extensions (`[[route]]`): which numbers go to which next hops, and which of those are up.
//!
//! [`NextHops`] is a picture that all shards share and none changes: shard 0 watches the hops (`dispatch/monitor.rs`), and
//! gives every shard a new picture when one goes down, comes back, or moves.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use roost_filter::Values;
use roost_sip::Method;

use crate::contract::hop_uri::{HopUri, Name};
use crate::contract::rule::{DiversionStyle, Failure, Failures, Rule};
use crate::contract::rule_index::RuleIndex;

/// One address that a [`Name`] leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub remote: SocketAddr,
    /// The address of ours that leads there, where it is known.
    pub local: Option<IpAddr>,
    /// The connection that leads there ([`Flow::connection`](crate::Flow)): 0 for any, or a number that stands for those
    /// whose peer has proven the name.
    pub connection: u64,
}

/// A next hop's state, by OpenSIPS's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopState {
    /// It is used.
    Active,
    /// It does not answer: it is pinged, and used again once it does.
    Probing,
    /// An operator has taken it out: it is neither pinged nor used.
    Inactive,
}

impl HopState {
    /// As `ds_list` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            HopState::Active => "Active",
            HopState::Probing => "Probing",
            HopState::Inactive => "Inactive",
        }
    }
}

/// A next hop of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    pub set: u32,
    pub uri: HopUri,
    pub state: HopState,
    /// Its addresses, as far as they are known.
    pub addresses: Vec<HopAddress>,
    /// How often in a row its name led nowhere.
    pub(crate) lost: u32,
}

/// An address of a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopAddress {
    pub address: Address,
    /// How many pings and calls in a row it has not answered.
    pub failures: u32,
}

/// A hop of one reading of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopId {
    pub(crate) version: u32,
    pub(crate) index: u16,
}

/// A rule of one reading of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuleId {
    version: u32,
    index: u16,
}

/// All rules and their hops.
#[derive(Debug, Clone, Default)]
pub struct NextHops {
    /// Counts the reloads: a hop is known by its index in one of them.
    pub(crate) version: u32,
    rules: Arc<[Rule]>,
    index: Arc<RuleIndex>,
    /// Why calls of extensions are diverted by any rule.
    diverts: Failures,
    has_first: bool,
    /// The hops of each rule, as indices into `hops`.
    hops_of: Arc<[Vec<u16>]>,
    pub(crate) hops: Vec<Hop>,
    /// The addresses of all hops, sorted.
    trusted: Vec<IpAddr>,
}

impl NextHops {
    /// From the rules in their order. All hops are up until they are known not to be.
    pub(crate) fn new(rules: Arc<[Rule]>, version: u32) -> NextHops {
        let mut hops: Vec<Hop> = Vec::new();
        let mut index_of = |set: u32, uri: &HopUri| {
            let known = hops.iter().position(|hop| hop.set == set && hop.uri == *uri);
            let at = known.unwrap_or(hops.len());
            if known.is_none() {
                let address = uri.name.address().map(|remote| Address { remote, local: None, connection: 0 });
                let addresses =
                    address.map(|address| HopAddress { address, failures: 0 }).into_iter().collect();
                hops.push(Hop { set, uri: uri.clone(), state: HopState::Active, addresses, lost: 0 });
            }
            at as u16
        };
        let hops_of: Vec<Vec<u16>> =
            rules.iter().map(|rule| rule.hops.iter().map(|uri| index_of(rule.set, uri)).collect()).collect();
        let index = Arc::new(RuleIndex::of(&rules));
        let diverts = rules.iter().fold(Failures::NONE, |all, rule| all.or(rule.on));
        let has_first = rules.iter().any(Rule::is_first);
        let hops_of = hops_of.into();
        let mut next_hops =
            NextHops { version, rules, index, diverts, has_first, hops_of, hops, trusted: Vec::new() };
        next_hops.note_trusted();
        next_hops
    }

    /// The hops, set by set.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Whether both are of the same reading of the configuration.
    pub fn is_of(&self, other: &NextHops) -> bool {
        self.version == other.version
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Why calls of extensions are diverted by any rule.
    pub(crate) fn diverts(&self) -> Failures {
        self.diverts
    }

    /// Whether any rule is looked at before extensions are looked up.
    pub(crate) fn has_first(&self) -> bool {
        self.has_first
    }

    /// Whether a rule's hops are told whose call it was.
    pub(crate) fn tells_diversions(&self, id: RuleId) -> bool {
        self.rule(id).is_some_and(|rule| rule.diversion != DiversionStyle::Off)
    }

    /// The first rule for a user (without escapes) and a host who is no extension.
    pub(crate) fn rule_for(&self, who: (&[u8], &[u8]), values: &dyn Values) -> Option<RuleId> {
        self.first(who, values, |rule| !rule.is_first() && rule.on.takes_strangers())
    }

    /// The first rule for calls of an extension that end so.
    pub(crate) fn rule_on(
        &self,
        failure: Failure,
        who: (&[u8], &[u8]),
        values: &dyn Values,
    ) -> Option<RuleId> {
        if !self.diverts.has(failure) {
            return None;
        }
        self.first(who, values, |rule| !rule.is_first() && rule.on.has(failure))
    }

    /// The first rule that takes a request before extensions are looked up.
    pub(crate) fn service_for(
        &self,
        method: Method,
        event: &[u8],
        who: (&[u8], &[u8]),
        values: &dyn Values,
    ) -> Option<RuleId> {
        let is_it = |rule: &Rule| match &rule.service {
            Some(service) => service.takes(method, event),
            None => rule.reply.is_some(),
        };
        self.first(who, values, is_it)
    }

    /// Rules for a user and a host whose condition does not hold, for who asks.
    pub(crate) fn not_held(&self, (user, host): (&[u8], &[u8]), values: &dyn Values) -> Vec<String> {
        let candidates = self.index.candidates(user, host);
        let rules = candidates.iter().filter_map(|at| self.rules.get(usize::from(*at)));
        let fit = rules.filter(|rule| rule.is_for(user, host) && !rule.holds(values));
        fit.map(|rule| {
            let when = rule.when.as_ref().map_or("", |when| when.text());
            format!(
                "the [[route]] of set {} does not take it: its condition `{when}` does not hold",
                rule.set
            )
        })
        .collect()
    }

    fn first(
        &self,
        (user, host): (&[u8], &[u8]),
        values: &dyn Values,
        is_it: impl Fn(&Rule) -> bool,
    ) -> Option<RuleId> {
        let is_taken = |rule: &Rule| is_it(rule) && rule.is_for(user, host) && rule.holds(values);
        let candidates = self.index.candidates(user, host);
        let index =
            candidates.into_iter().find(|at| self.rules.get(usize::from(*at)).is_some_and(is_taken))?;
        Some(RuleId { version: self.version, index })
    }

    pub(crate) fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(usize::from(id.index)).filter(|_| id.version == self.version)
    }

    /// A rule's hops, in the order in which they are tried.
    pub(crate) fn hops_of(&self, id: RuleId) -> impl Iterator<Item = HopId> {
        let indices = self.hops_of.get(usize::from(id.index)).filter(|_| id.version == self.version);
        indices.into_iter().flatten().map(|index| self.id_of(*index))
    }

    pub(crate) fn hop(&self, id: HopId) -> Option<&Hop> {
        self.hops.get(usize::from(id.index)).filter(|_| id.version == self.version)
    }

    pub(crate) fn hop_mut(&mut self, id: HopId) -> Option<&mut Hop> {
        self.hops.get_mut(usize::from(id.index)).filter(|_| id.version == self.version)
    }

    pub(crate) fn id_of(&self, index: u16) -> HopId {
        HopId { version: self.version, index }
    }

    /// Whether an address is a hop's.
    pub(crate) fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.binary_search(&ip).is_ok()
    }

    /// Whether a name is a hop's.
    pub(crate) fn names(&self, name: &Name) -> bool {
        self.hops.iter().any(|hop| hop.uri.name.host == name.host)
    }

    /// Whether a host is a rule's domain, or a hop's name.
    pub(crate) fn has_host(&self, host: &[u8]) -> bool {
        let is_it = |name: &str| name.as_bytes().eq_ignore_ascii_case(host);
        self.rules.iter().any(|rule| rule.domain.as_deref().is_some_and(is_it))
            || self.hops.iter().any(|hop| is_it(&hop.uri.name.host))
    }

    /// Whether an address has not answered so often that others come first.
    pub(crate) fn is_down(&self, remote: SocketAddr, threshold: u32) -> bool {
        let mut known = self.hops.iter().flat_map(|hop| &hop.addresses);
        known.any(|known| known.address.remote == remote && known.failures >= threshold)
    }

    /// Takes over what is known of the hops that an older picture has too.
    pub(crate) fn inherit(&mut self, older: &NextHops) {
        for hop in &mut self.hops {
            if let Some(old) = older.hops.iter().find(|old| old.set == hop.set && old.uri == hop.uri) {
                *hop = old.clone();
            }
        }
        self.note_trusted();
    }

    /// Whom the hops' addresses vouch for.
    pub(crate) fn note_trusted(&mut self) {
        let known = self.hops.iter().flat_map(|hop| &hop.addresses);
        self.trusted = known.map(|known| known.address.remote.ip().to_canonical()).collect();
        self.trusted.sort_unstable();
        self.trusted.dedup();
    }
}

impl Hop {
    /// What the counts make of its state: down when no address of it answers.
    pub(crate) fn weigh(&mut self, threshold: u32) {
        if self.state == HopState::Inactive {
            return;
        }
        let is_lost = self.addresses.is_empty() && self.lost >= threshold;
        let is_silent =
            !self.addresses.is_empty() && self.addresses.iter().all(|known| known.failures >= threshold);
        self.state = if is_lost || is_silent { HopState::Probing } else { HopState::Active };
    }

    /// Puts it into a state, and its counts with it.
    pub(crate) fn put(&mut self, state: HopState, threshold: u32) {
        let count = if state == HopState::Probing { threshold } else { 0 };
        self.addresses.iter_mut().for_each(|known| known.failures = count);
        self.lost = count;
        self.state = state;
    }
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;
    use roost_sip::Uri;

    use super::*;
    use crate::contract::rule::Numbers;

    struct NoValues;

    impl Values for NoValues {
        fn value(&self, _: usize) -> roost_filter::Value<'_> {
            roost_filter::Value::Missing
        }
    }

    fn rule(numbers: Numbers, domain: Option<&str>, strip: usize, prepend: &str, hops: &[&str]) -> Rule {
        Rule {
            set: 1,
            domain: domain.map(Into::into),
            strip,
            prepend: prepend.into(),
            ..Rule::new(numbers, hops.iter().map(|hop| HopUri::parse(hop).unwrap()).collect())
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let hops = ["sip:10.0.0.5", "sip:pbx.example.com"];
        let pattern = Regex::new("^8[0-9]{3}$").unwrap();
        let next_hops = NextHops::new(
            Arc::new([
                rule(Numbers::Prefix("00".into()), None, 2, "+", &hops),
                rule(Numbers::Prefix("0".into()), None, 1, "", &hops[..1]),
                rule(Numbers::Pattern(pattern), None, 0, "", &hops[1..]),
                rule(Numbers::Any, Some("pbx2.example.com"), 0, "", &hops[..1]),
            ]),
            1,
        );
        assert_eq!(next_hops.hops().len(), 2, "a hop of one set is one hop");
        for (text, expected) in [
            ("sip:0049301@roost", Some("sip:+49301@10.0.0.5")),
            ("sip:0301;ext=2:pw@roost", Some("sip:301;ext=2@10.0.0.5")),
            ("sip:8001@roost:5070;user=phone", Some("sip:8001@pbx.example.com")),
            ("sip:80011@roost", None),
            ("sip:80011@PBX2.example.com;x=y", Some("sip:80011@PBX2.example.com;x=y")),
            ("tel:0301", Some("sip:301@10.0.0.5")),
            ("sip:0%30301@roost", Some("sip:+301@10.0.0.5")),
        ] {
            let uri = Uri::parse(text.as_bytes()).unwrap();
            let mut user = Vec::new();
            roost_sip::unescape_into(uri.user.unwrap(), &mut user);
            let found = next_hops.rule_for((&user, uri.host), &NoValues);
            let rewritten = found.map(|id| {
                let rule = next_hops.rule(id).unwrap();
                let hop = &next_hops.hop(next_hops.hops_of(id).next().unwrap()).unwrap().uri;
                String::from_utf8(rule.rewrite(&uri, hop).unwrap()).unwrap()
            });
            assert_eq!(rewritten.as_deref(), expected, "{text}");
        }
        let uri = Uri::parse(b"sip:0@roost").unwrap();
        let rule = next_hops.rule(next_hops.rule_for((b"0", b"roost"), &NoValues).unwrap()).unwrap();
        assert_eq!(rule.rewrite(&uri, &rule.hops[0]), None, "nothing is left");
    }

    #[test]
    fn a_hop_is_down_when_no_address_of_it_answers() {
        let mut hop =
            NextHops::new(Arc::new([rule(Numbers::Any, None, 0, "", &["sip:pbx"])]), 1).hops.remove(0);
        let address = |last, failures| {
            let remote = SocketAddr::from(([10, 0, 0, last], 5060));
            HopAddress { address: Address { remote, local: None, connection: 0 }, failures }
        };
        let mut state = |addresses: &[HopAddress], lost| {
            hop.addresses = addresses.to_vec();
            hop.lost = lost;
            hop.weigh(3);
            hop.state
        };
        assert_eq!(state(&[], 2), HopState::Active);
        assert_eq!(state(&[], 3), HopState::Probing);
        assert_eq!(state(&[address(1, 3), address(2, 2)], 0), HopState::Active);
        assert_eq!(state(&[address(1, 3), address(2, 9)], 0), HopState::Probing);
        hop.put(HopState::Inactive, 3);
        hop.weigh(3);
        assert_eq!(hop.state, HopState::Inactive, "until an operator says otherwise");
    }
}
