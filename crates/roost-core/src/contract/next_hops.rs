//! Destinations beyond extensions (`[[route]]`): which numbers go to which next hops, and which of those are up.
//!
//! [`NextHops`] is a picture that all shards share and none changes: shard 0 watches the hops (`dispatch/monitor.rs`), and
//! gives every shard a new picture when one goes down, comes back, or moves.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use regex::bytes::Regex;
use roost_sip::{Method, MethodSet, Scheme, Uri};

use crate::base::limits;
use crate::base::transport::Transport;

/// One `[[route]]`: what it is for, and where that goes.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The number of its hops' set, as `ds_list` shows it.
    pub set: u32,
    pub numbers: Numbers,
    /// The host of the Request-URI, in lower case; `None` takes any.
    pub domain: Option<Box<str>>,
    /// How many characters are taken off the front of the user.
    pub strip: usize,
    /// What is put before the user then.
    pub prepend: Box<str>,
    /// Whether extensions that exist and are not registered go this way too.
    pub offline: bool,
    /// What of a service it is for, before the extensions are looked up; `None`: for numbers of calls that are no extensions.
    pub service: Option<Service>,
    /// The next hops, in the order in which they are tried.
    pub hops: Vec<HopUri>,
}

/// Requests of a service of a hop's, such as message waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub methods: MethodSet,
    /// Event packages (RFC 6665 7.2), in lower case; empty: all.
    pub events: Vec<Box<str>>,
}

impl Service {
    fn takes(&self, method: Method, event: &[u8]) -> bool {
        let is_taken = || self.events.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(event));
        self.methods & method.bit() != 0 && (self.events.is_empty() || is_taken())
    }
}

/// Which users of a Request-URI a rule is for.
#[derive(Debug, Clone)]
pub enum Numbers {
    /// All: the rule is for a domain, whose Request-URIs keep their host.
    Any,
    /// Those that begin so.
    Prefix(Box<str>),
    /// Those in which this is found.
    Pattern(Regex),
}

/// The URI of a next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopUri {
    /// As the configuration has it.
    pub text: Box<str>,
    pub name: Name,
}

/// Where a host is to be looked up (RFC 3263).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// A name or an address, without brackets, in lower case.
    pub host: Box<str>,
    /// The port, where one is written: then there is no SRV record to look for.
    pub port: Option<u16>,
    pub transport: Transport,
}

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

/// Why a text is not a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    #[error("is not a SIP URI such as \"sip:10.0.0.5:5060\" or \"sip:fs.example.com\"")]
    Uri,
    #[error("names a user: the user comes from the Request-URI, write the host alone")]
    User,
    #[error("may have one parameter, transport=udp, tcp or tls")]
    Params,
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

/// All rules and their hops.
#[derive(Debug, Clone, Default)]
pub struct NextHops {
    /// Counts the reloads: a hop is known by its index in one of them.
    pub(crate) version: u32,
    rules: Arc<[Rule]>,
    /// The hops of each rule, as indices into `hops`.
    hops_of: Arc<[Vec<u16>]>,
    pub(crate) hops: Vec<Hop>,
    /// The addresses of all hops, sorted.
    trusted: Vec<IpAddr>,
}

impl HopUri {
    /// Reads one.
    ///
    /// # Errors
    /// [`HopError`] says what it may be.
    pub fn parse(text: &str) -> Result<HopUri, HopError> {
        let uri = Uri::parse(text.as_bytes()).map_err(|_| HopError::Uri)?;
        if uri.scheme != Scheme::Sip || text.len() > limits::MAX_CONTACT {
            return Err(HopError::Uri);
        }
        if uri.user.is_some() {
            return Err(HopError::User);
        }
        let host_port = text.split([';', '?']).next().unwrap_or("");
        let transport = match text.get(host_port.len()..).unwrap_or("") {
            "" => Transport::Udp,
            params => {
                let name = params.get(..11).filter(|start| start.eq_ignore_ascii_case(";transport="));
                let name = name.and(params.as_bytes().get(11..)).ok_or(HopError::Params)?;
                Transport::named(name).filter(|transport| transport.can_connect()).ok_or(HopError::Params)?
            }
        };
        let name = Name::new(uri.host, uri.port, transport);
        Ok(HopUri { text: text.into(), name })
    }

    /// `host[:port][;transport=…]`: what stands behind the user of a Request-URI that goes there.
    fn behind_user(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, rest)| rest)
    }
}

impl Name {
    /// A host as a URI has it.
    pub fn new(host: &[u8], port: Option<u16>, transport: Transport) -> Name {
        let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        let host = String::from_utf8_lossy(inner).to_ascii_lowercase().into();
        Name { host, port, transport }
    }

    /// The address that it is, where it is not a name.
    pub fn address(&self) -> Option<SocketAddr> {
        let ip = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.transport.port_or_default(self.port)))
    }
}

impl Numbers {
    fn fit(&self, user: &[u8]) -> bool {
        match self {
            Numbers::Any => true,
            Numbers::Prefix(prefix) => user.starts_with(prefix.as_bytes()),
            Numbers::Pattern(pattern) => pattern.is_match(user),
        }
    }
}

impl Rule {
    /// The Request-URI that goes to a hop: `None` when nothing is left of the user.
    pub(crate) fn rewrite(&self, uri: &Uri<'_>, hop: &HopUri) -> Option<Vec<u8>> {
        let user = uri.user_part().without_separators();
        let user = stripped(&user, self.strip);
        if user.is_empty() && self.prepend.is_empty() {
            return None;
        }
        let keeps_host = matches!(self.numbers, Numbers::Any);
        if keeps_host && self.strip == 0 && self.prepend.is_empty() {
            return Some(uri.text.to_vec());
        }
        let mut text = Vec::with_capacity(uri.text.len() + hop.text.len() + self.prepend.len());
        text.extend_from_slice(b"sip:");
        text.extend_from_slice(self.prepend.as_bytes());
        text.extend_from_slice(user);
        text.push(b'@');
        match keeps_host {
            // Behind the `@` nothing changes.
            true => {
                let at = uri.text.iter().position(|byte| *byte == b'@').map_or(uri.text.len(), |at| at + 1);
                text.extend_from_slice(uri.text.get(at..).unwrap_or(&[]));
            }
            false => text.extend_from_slice(hop.behind_user().as_bytes()),
        }
        Some(text)
    }
}

/// A user without its first characters; an escape is one character.
fn stripped(user: &[u8], count: usize) -> &[u8] {
    let mut rest = user;
    for _ in 0..count {
        let len = if rest.first() == Some(&b'%') { 3 } else { 1 };
        rest = rest.get(len..).unwrap_or(&[]);
    }
    rest
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
        let mut next_hops = NextHops { version, rules, hops_of: hops_of.into(), hops, trusted: Vec::new() };
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

    /// The first rule for a user (without escapes) and a host, and its hops.
    pub(crate) fn rule_for(&self, user: &[u8], host: &[u8]) -> Option<(&Rule, &[u16])> {
        self.first(user, host, |rule| rule.service.is_none())
    }

    /// The first rule for a request of a service, and its hops.
    pub(crate) fn service_for(
        &self,
        method: Method,
        event: &[u8],
        (user, host): (&[u8], &[u8]),
    ) -> Option<(&Rule, &[u16])> {
        let is_it = |rule: &Rule| rule.service.as_ref().is_some_and(|service| service.takes(method, event));
        self.first(user, host, is_it)
    }

    fn first(&self, user: &[u8], host: &[u8], is_it: impl Fn(&Rule) -> bool) -> Option<(&Rule, &[u16])> {
        let is_for = |rule: &Rule| {
            let domain = rule.domain.as_deref();
            domain.is_none_or(|domain| domain.as_bytes().eq_ignore_ascii_case(host)) && rule.numbers.fit(user)
        };
        self.rules
            .iter()
            .zip(self.hops_of.iter())
            .find(|(rule, _)| is_it(rule) && is_for(rule))
            .map(|(rule, hops)| (rule, &hops[..]))
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
    use super::*;

    fn rule(numbers: Numbers, domain: Option<&str>, strip: usize, prepend: &str, hops: &[&str]) -> Rule {
        Rule {
            set: 1,
            numbers,
            domain: domain.map(Into::into),
            strip,
            prepend: prepend.into(),
            offline: false,
            service: None,
            hops: hops.iter().map(|hop| HopUri::parse(hop).unwrap()).collect(),
        }
    }

    #[test]
    fn what_is_a_hop() {
        for (text, expected) in [
            ("sip:10.0.0.5:5060", Ok(("10.0.0.5", Some(5060), Transport::Udp))),
            ("sip:FS.example.com", Ok(("fs.example.com", None, Transport::Udp))),
            ("sip:[2001:db8::1]:5070;transport=TCP", Ok(("2001:db8::1", Some(5070), Transport::Tcp))),
            ("sip:9001@10.0.0.5", Err(HopError::User)),
            ("sips:10.0.0.5", Err(HopError::Uri)),
            ("10.0.0.5", Err(HopError::Uri)),
            ("sip:10.0.0.5;lr", Err(HopError::Params)),
            ("sip:10.0.0.5;transport=tls", Ok(("10.0.0.5", None, Transport::Tls))),
            ("sip:10.0.0.5;transport=ws", Err(HopError::Params)),
        ] {
            let found = HopUri::parse(text);
            let found = found.as_ref().map(|hop| (&*hop.name.host, hop.name.port, hop.name.transport));
            assert_eq!(found.map_err(|error| *error), expected, "{text}");
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
            let found = next_hops.rule_for(&user, uri.host);
            let rewritten = found.map(|(rule, hops)| {
                let hop = &next_hops.hops()[usize::from(hops[0])].uri;
                String::from_utf8(rule.rewrite(&uri, hop).unwrap()).unwrap()
            });
            assert_eq!(rewritten.as_deref(), expected, "{text}");
        }
        let uri = Uri::parse(b"sip:0@roost").unwrap();
        let (rule, _) = next_hops.rule_for(b"0", b"roost").unwrap();
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
