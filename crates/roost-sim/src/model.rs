//! The registrar once more, as simply as it can be said: a list of bindings for each AOR, one request after another.
//!
//! It is written from RFC 3261 section 10 and the rules of the house (one address holds a user, CSeq, `max_contacts`)
//! and knows nothing of shards, labels or waiting; of commits only that what they decide was decided when they were asked
//! for. The world tells it which answers leave the server; it says what each should have been, and after each what a lookup
//! must show.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use roost_core::{Config, Row, ShardId, Ticket};

use crate::checks::Asked;
use crate::client::{Ask, Listed, Reply};

/// One contact of an AOR.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    contact: Vec<u8>,
    call_id: Vec<u8>,
    cseq: u32,
    /// In thousandths; `None` is less than 0.
    q: Option<u16>,
    /// Where its REGISTER came from.
    source: SocketAddr,
    until_ms: u64,
    /// Older than the world are rows that were loaded.
    refreshed_ms: i64,
}

impl Bound {
    fn listed(&self, now_ms: u64) -> Listed {
        let expires_s = (self.until_ms - now_ms).div_ceil(1_000) as u32;
        Listed { contact: self.contact.clone(), expires_s }
    }
}

/// What a REGISTER should be answered.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// 200, and the bindings there are now.
    Ok(Vec<Bound>),
    /// 400 with the bindings there are: an old CSeq.
    OutOfOrder(Vec<Bound>),
    /// 503 with the bindings there are.
    Full(Vec<Bound>),
    /// 403
    Occupied,
}

impl Verdict {
    /// Its status and the bindings that it lists.
    fn listed(&self, at_ms: u64) -> (u16, Option<Vec<Listed>>) {
        let (status, bounds) = match self {
            Verdict::Ok(bounds) => (200, bounds),
            Verdict::OutOfOrder(bounds) => (400, bounds),
            Verdict::Full(bounds) => (503, bounds),
            Verdict::Occupied => return (403, None),
        };
        (status, Some(bounds.iter().map(|bound| bound.listed(at_ms)).collect()))
    }

    fn is_said(&self, reply: &Reply, at_ms: u64) -> bool {
        let (status, listed) = self.listed(at_ms);
        status == reply.status && listed.is_none_or(|listed| listed == reply.contacts)
    }

    fn words(&self, at_ms: u64) -> String {
        let (status, listed) = self.listed(at_ms);
        format!("{status} with {}", names(&listed.unwrap_or_default()))
    }
}

fn names(listed: &[Listed]) -> String {
    let one =
        |listed: &Listed| format!("{} for {} s", String::from_utf8_lossy(&listed.contact), listed.expires_s);
    format!("[{}]", listed.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// All AORs.
#[derive(Debug)]
pub struct Model {
    exclusive_ip: bool,
    min_expires_s: u32,
    max_expires_s: u32,
    max_contacts: usize,
    makes_room: bool,
    cseq_delay_ms: i64,
    aors: BTreeMap<Vec<u8>, Vec<Bound>>,
    /// Bindings that were replaced or removed, with the moment.
    gone: BTreeMap<Vec<u8>, Vec<(Bound, u64)>>,
    /// When the commits under way were asked for.
    commits: BTreeMap<(u16, u64), u64>,
    /// The engine is hearing of a commit that was asked for then.
    committed_ms: Option<u64>,
    /// Answers that were compared.
    pub compared: u64,
}

impl Model {
    pub fn new(config: &Config) -> Model {
        let registrar = &config.policy.registrar;
        Model {
            exclusive_ip: registrar.exclusive_ip,
            min_expires_s: registrar.min_expires_s,
            max_expires_s: registrar.max_expires_s,
            max_contacts: registrar.max_contacts as usize,
            makes_room: registrar.force_registration,
            cseq_delay_ms: i64::from(config.policy.usrloc.cseq_delay_s) * 1_000,
            aors: BTreeMap::new(),
            gone: BTreeMap::new(),
            commits: BTreeMap::new(),
            committed_ms: None,
            compared: 0,
        }
    }

    /// The bindings of an AOR that have time left, in the order of a lookup.
    fn live(&self, aor: &[u8], now_ms: u64) -> Vec<Bound> {
        let all = self.aors.get(aor).into_iter().flatten();
        all.filter(|bound| bound.until_ms > now_ms).cloned().collect()
    }

    /// What a request asks for, said of these bindings.
    fn decide(&self, aor: &[u8], asked: &Asked, source: SocketAddr, now_ms: u64) -> Verdict {
        let mut bounds = self.live(aor, now_ms);
        let is_own = |bound: &Bound| bound.source.ip() == source.ip();
        if self.exclusive_ip && !bounds.is_empty() && !bounds.iter().any(is_own) {
            return Verdict::Occupied;
        }
        let (contact, call_id) = (asked.contact.as_bytes(), asked.call_id.as_bytes());
        let same = bounds.iter().position(|bound| bound.contact == contact);
        let has_call_id = |bound: &Bound| bound.call_id == call_id;
        match asked.ask {
            Ask::Query => return Verdict::Ok(bounds),
            Ask::UnbindAll => {
                let is_later = |bound: &Bound| has_call_id(bound) && bound.cseq >= asked.cseq;
                return if bounds.iter().any(is_later) {
                    Verdict::OutOfOrder(bounds)
                } else {
                    Verdict::Ok(vec![])
                };
            }
            Ask::Bind { .. } | Ask::Unbind => {}
        }
        if let Some(old) = same.map(|place| &bounds[place]).filter(|old| has_call_id(old)) {
            let is_fresh = (now_ms as i64) < old.refreshed_ms + self.cseq_delay_ms;
            if asked.cseq == old.cseq && is_fresh {
                return Verdict::Ok(bounds);
            }
            if asked.cseq <= old.cseq {
                return Verdict::OutOfOrder(bounds);
            }
        }
        let Ask::Bind { expires_s, .. } = asked.ask else {
            bounds.retain(|bound| bound.contact != contact);
            return Verdict::Ok(bounds);
        };
        let granted_s = expires_s.max(self.min_expires_s).min(self.max_expires_s);
        let bound = Bound {
            contact: contact.to_vec(),
            call_id: call_id.to_vec(),
            cseq: asked.cseq,
            q: asked.q,
            source,
            until_ms: now_ms + u64::from(granted_s) * 1_000,
            refreshed_ms: now_ms as i64,
        };
        match same {
            Some(place) => bounds[place] = bound,
            None if bounds.len() >= self.max_contacts && !self.makes_room => return Verdict::Full(bounds),
            None => {
                insert(&mut bounds, bound);
                while bounds.len() > self.max_contacts {
                    // Of equals the new one stays.
                    let age = |bound: &Bound| (bound.refreshed_ms, bound.contact == contact);
                    let oldest = bounds.iter().map(age).min();
                    let oldest = bounds.iter().position(|bound| Some(age(bound)) == oldest);
                    bounds.remove(oldest.unwrap_or(0));
                }
            }
        }
        Verdict::Ok(bounds)
    }

    /// An answer leaves the server: it must be the one that the model gives, and takes effect. What is decided in a
    /// commit was decided when the commit was asked for; everything else is decided now.
    pub fn answered(
        &mut self,
        aor: &[u8],
        asked: &Asked,
        source: SocketAddr,
        reply: &Reply,
        now_ms: u64,
    ) -> Result<(), String> {
        let is_about_bindings = match reply.status {
            200 => true,
            400 | 503 => reply.error.is_some(),
            403 => reply.reason == "Occupied",
            _ => false,
        };
        if !is_about_bindings {
            return Ok(());
        }
        self.compared += 1;
        let mut expected = String::new();
        for at_ms in [self.committed_ms, Some(now_ms)].into_iter().flatten() {
            let verdict = self.decide(aor, asked, source, at_ms);
            if verdict.is_said(reply, at_ms) {
                if let Verdict::Ok(bounds) = verdict {
                    self.replace(aor, bounds, now_ms);
                }
                return Ok(());
            }
            expected = verdict.words(at_ms);
        }
        Err(format!(
            "the model answers {} from {source} with {expected}; the server says {} {} with {}",
            String::from_utf8_lossy(aor),
            reply.status,
            reply.reason,
            names(&reply.contacts)
        ))
    }

    fn replace(&mut self, aor: &[u8], bounds: Vec<Bound>, now_ms: u64) {
        let old = self.aors.insert(aor.to_vec(), bounds).unwrap_or_default();
        let new = &self.aors[aor];
        let gone = self.gone.entry(aor.to_vec()).or_default();
        let is_gone = |bound: &Bound| {
            !new.iter().any(|other| (&other.contact, other.source) == (&bound.contact, bound.source))
        };
        gone.extend(old.into_iter().filter(is_gone).map(|bound| (bound.clone(), now_ms.min(bound.until_ms))));
    }

    /// What a lookup of an AOR must show.
    pub fn agrees(&self, aor: &[u8], shown: &[Vec<u8>], now_ms: u64) -> Result<(), String> {
        let live = self.live(aor, now_ms);
        match live.iter().map(|bound| &bound.contact).eq(shown) {
            true => Ok(()),
            false => Err(format!(
                "a lookup of {} shows {:?}, the model has {live:?}",
                String::from_utf8_lossy(aor),
                shown.iter().map(|contact| String::from_utf8_lossy(contact)).collect::<Vec<_>>()
            )),
        }
    }

    /// Whether this AOR is bound from this address now.
    pub fn is_bound_from(&self, aor: &[u8], source: SocketAddr, now_ms: u64) -> bool {
        self.live(aor, now_ms).iter().any(|bound| bound.source == source)
    }

    /// Whether this contact of the AOR has been reached there at any time since then.
    pub fn was_bound(&self, aor: &[u8], contact: &str, source: SocketAddr, since_ms: u64) -> bool {
        let is_it = |bound: &Bound| bound.contact == contact.as_bytes() && bound.source == source;
        self.since(aor, since_ms).any(is_it)
    }

    /// Whether this AOR was bound from this address at any time since then.
    pub fn was_bound_from(&self, aor: &[u8], source: SocketAddr, since_ms: u64) -> bool {
        self.since(aor, since_ms).any(|bound| bound.source == source)
    }

    /// How many bindings an AOR has.
    pub fn bindings(&self, aor: &[u8], now_ms: u64) -> usize {
        self.live(aor, now_ms).len()
    }

    /// The bindings of an AOR that there have been since then.
    fn since(&self, aor: &[u8], since_ms: u64) -> impl Iterator<Item = &Bound> {
        let live = self.aors.get(aor).into_iter().flatten().map(|bound| (bound, bound.until_ms));
        let gone = self.gone.get(aor).into_iter().flatten().map(|(bound, gone_ms)| (bound, *gone_ms));
        live.chain(gone).filter(move |(_, gone_ms)| *gone_ms >= since_ms).map(|(bound, _)| bound)
    }

    /// A commit was asked for.
    pub fn commit_asked(&mut self, shard: ShardId, ticket: Ticket, now_ms: u64) {
        self.commits.insert((shard.0, ticket.0), now_ms);
    }

    /// An engine is about to hear of it.
    pub fn hears(&mut self, shard: ShardId, ticket: Ticket) {
        self.committed_ms = self.commits.remove(&(shard.0, ticket.0));
    }

    /// It has.
    pub fn has_heard(&mut self) {
        self.committed_ms = None;
    }

    /// The process died, and with it what it knew.
    pub fn crashed(&mut self, now_ms: u64) {
        self.commits.clear();
        self.committed_ms = None;
        for aor in self.aors.keys().cloned().collect::<Vec<_>>() {
            self.replace(&aor, Vec::new(), now_ms);
        }
    }

    /// A row is read at a start. Of two rows of one contact the fresher counts.
    pub fn load(&mut self, aor: Vec<u8>, row: &Row, now_ms: u64, unix_s: u64) {
        if row.expires <= unix_s {
            return;
        }
        let refreshed_ms = now_ms as i64 - unix_s.saturating_sub(row.last_modified) as i64 * 1_000;
        let bounds = self.aors.entry(aor).or_default();
        if bounds.iter().any(|bound| *bound.contact == *row.contact && bound.refreshed_ms >= refreshed_ms) {
            return;
        }
        bounds.retain(|bound| *bound.contact != *row.contact);
        let bound = Bound {
            contact: row.contact.to_vec(),
            call_id: row.callid.to_vec(),
            cseq: row.cseq,
            q: row.q,
            source: address_in(row.received.as_deref().unwrap_or(&row.contact)),
            until_ms: now_ms + (row.expires - unix_s) * 1_000,
            refreshed_ms,
        };
        insert(bounds, bound);
    }
}

/// Behind all of its q or better.
fn insert(bounds: &mut Vec<Bound>, bound: Bound) {
    let at = bounds.iter().position(|other| other.q < bound.q).unwrap_or(bounds.len());
    bounds.insert(at, bound);
}

/// The address of a `sip:` URI of this world's phones.
fn address_in(uri: &[u8]) -> SocketAddr {
    let text = String::from_utf8_lossy(uri);
    let host = text.rsplit_once('@').map_or(text.trim_start_matches("sip:"), |(_, host)| host);
    let host = host.split(';').next().unwrap_or(host);
    host.parse().unwrap_or(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0))
}
