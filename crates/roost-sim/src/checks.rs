//! What must hold whatever goes wrong. Each finding is a sentence that says which promise was broken.
//!
//! The checks know what the phones sent and were told, and what the tables hold; of the engines they see nothing but
//! their answers and [`roost_core::Engine::lookup`].
//!
//! Two windows are open by nature. Between the moment that a commit is written and the moment that its engine hears
//! so, a removed contact is still shown. And when the answer is lost, engine and tables differ until the next
//! commit of that AOR succeeds: until then the tables may hold more rows, and the engine may show what was removed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use roost_core::{Config, Flow, Row, ShardId, Ticket};

use crate::client::{Ask, Reply};
use crate::phone::Phone;
use crate::store::{Applied, Tables};

/// By how much an answer may be larger than its request: contacts, a challenge, a date.
const MAX_GROWTH: usize = 1_000;
/// How long a request may take from the network to its effect, with everything in its way.
const LATE_MS: u64 = 40_000;

/// One AOR at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    pub now_ms: u64,
    pub unix_s: u64,
    pub tables: &'a Tables,
    pub aor: &'a [u8],
    /// What a lookup shows.
    pub shown: &'a [Vec<u8>],
}

impl Scene<'_> {
    fn rows(&self, contact: &[u8]) -> impl Iterator<Item = &Row> {
        self.tables.rows_of(self.aor).filter(move |row| *row.contact == *contact)
    }

    fn is_shown(&self, contact: &[u8]) -> bool {
        self.shown.iter().any(|shown| shown == contact)
    }

    fn name(&self, contact: &[u8]) -> String {
        format!("{} of {}", text(contact), text(self.aor))
    }
}

/// One request, as its phone sent it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The phone's place.
    pub phone: usize,
    pub ask: Ask,
    pub contact: String,
    pub call_id: String,
    pub cseq: u32,
    pub q: Option<u16>,
    source: SocketAddr,
    /// Where copies of it came from.
    sources: BTreeSet<SocketAddr>,
    size: usize,
    is_impostor: bool,
    delivered: u32,
    answered: u32,
}

impl Asked {
    /// The request that `phone` made last.
    pub fn new(place: usize, phone: &Phone, ask: Ask, size: usize) -> Asked {
        Asked {
            phone: place,
            ask,
            contact: phone.client.contact.clone(),
            call_id: phone.client.call_id.clone(),
            cseq: phone.client.cseq,
            q: phone.client.q,
            source: phone.source,
            sources: BTreeSet::new(),
            size,
            is_impostor: phone.plan.is_impostor,
            delivered: 0,
            answered: 0,
        }
    }
}

/// Everything the checks remember.
#[derive(Debug)]
pub struct Checks {
    write_through: bool,
    exclusive_ip: bool,
    max_contacts: usize,
    /// Requests by the number in their branch.
    asked: BTreeMap<u64, Asked>,
    /// From which address each contact is bound.
    sources: BTreeMap<Vec<u8>, IpAddr>,
    /// By AOR, when a request that names a contact (or `*`) last reached the server.
    named: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, u64>>,
    /// Commits that are written while their engine has not heard yet, and whether it never will.
    unanswered: BTreeMap<(u16, u64), (Applied, bool)>,
    /// AORs whose last commit's answer was lost, and the contacts that it removed.
    doubts: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// By how many seconds the wall clock was moved, all steps together.
    stepped_s: u64,
    crashed_ms: u64,
    /// Some process has lost track of rows that failed commits may have left (`limits::MAX_DOUBTS_PER_AOR`).
    has_lost_track: bool,
    /// AORs and addresses from which a wrong password was tried.
    guessed: BTreeSet<(Vec<u8>, IpAddr)>,
}

impl Checks {
    pub fn new(config: &Config) -> Checks {
        Checks {
            write_through: config.identity.write_through,
            exclusive_ip: config.policy.registrar.exclusive_ip,
            max_contacts: config.policy.registrar.max_contacts as usize,
            asked: BTreeMap::new(),
            sources: BTreeMap::new(),
            named: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            doubts: BTreeMap::new(),
            stepped_s: 0,
            crashed_ms: 0,
            has_lost_track: false,
            guessed: BTreeSet::new(),
        }
    }

    /// A phone sends a request for the first time.
    pub fn sent(&mut self, branch: u64, asked: Asked) {
        self.sources.insert(asked.contact.clone().into_bytes(), asked.source.ip());
        self.asked.insert(branch, asked);
    }

    /// A copy of a request reaches the server.
    pub fn delivered(&mut self, branch: u64, from: SocketAddr, aor: &[u8], now_ms: u64) {
        let Some(asked) = self.asked.get_mut(&branch) else { return };
        asked.delivered += 1;
        asked.sources.insert(from);
        let contact = match asked.ask {
            Ask::Bind { .. } | Ask::Unbind => asked.contact.clone(),
            Ask::UnbindAll => "*".to_string(),
            Ask::Query => return,
        };
        self.named.entry(aor.to_vec()).or_default().insert(contact.into_bytes(), now_ms);
    }

    /// A request by its number.
    pub fn asked(&self, branch: u64) -> Option<&Asked> {
        self.asked.get(&branch)
    }

    /// Who sent this request.
    pub fn asker(&self, branch: u64) -> Option<usize> {
        self.asked.get(&branch).map(|asked| asked.phone)
    }

    /// A commit is written.
    pub fn written(&mut self, shard: ShardId, ticket: Ticket, applied: Applied, is_answer_lost: bool) {
        self.unanswered.insert((shard.0, ticket.0), (applied, is_answer_lost));
    }

    /// An engine hears of its commit.
    pub fn heard(&mut self, shard: ShardId, ticket: Ticket) {
        let Some((applied, is_answer_lost)) = self.unanswered.remove(&(shard.0, ticket.0)) else { return };
        for aor in applied.aors {
            if is_answer_lost {
                self.doubts.entry(aor).or_default();
            } else {
                self.doubts.remove(&aor);
            }
        }
        for (aor, contact) in applied.removed {
            if let Some(gone) = self.doubts.get_mut(&aor) {
                gone.insert(contact);
            }
        }
    }

    /// Memory is gone; what is loaded is what is durable, of which the process may have lost track.
    pub fn crashed(&mut self, now_ms: u64, has_lost_track: bool) {
        self.has_lost_track |= has_lost_track;
        self.unanswered.clear();
        self.doubts.clear();
        self.crashed_ms = now_ms;
    }

    /// The wall clock was moved.
    pub fn stepped(&mut self, seconds: i64) {
        self.stepped_s += seconds.unsigned_abs();
    }

    /// How far the two clocks may be apart.
    fn tolerance_s(&self) -> u64 {
        1 + self.stepped_s
    }

    fn is_unexpired(&self, row: &Row, unix_s: u64) -> bool {
        row.expires == 0 || row.expires + self.tolerance_s() > unix_s
    }

    /// Whether even the slower clock says that this row has time left.
    fn has_time_left(&self, row: &Row, unix_s: u64) -> bool {
        row.expires == 0 || row.expires > unix_s + self.tolerance_s()
    }

    /// An answer leaves an engine.
    pub fn reply(&mut self, scene: Scene<'_>, flow: Flow, size: usize, reply: &Reply) -> Result<(), String> {
        let Some(asked) = self.asked.get_mut(&reply.branch) else {
            return Err(format!("an answer to request {:x}, which nobody sent", reply.branch));
        };
        asked.answered += 1;
        let asked = asked.clone();
        let Reply { status, reason, .. } = reply;
        if asked.answered > asked.delivered {
            return Err(format!(
                "{} answers to a request that came {} times",
                asked.answered, asked.delivered
            ));
        }
        if size > asked.size + MAX_GROWTH {
            return Err(format!("an answer of {size} bytes to a request of {} bytes", asked.size));
        }
        if !asked.sources.contains(&flow.remote) {
            return Err(format!("an answer to {} for a request from {:?}", flow.remote, asked.sources));
        }
        if (&reply.call_id, reply.cseq) != (&asked.call_id, asked.cseq) {
            return Err(format!("an answer with another Call-ID or CSeq than its request: {reply:?}"));
        }
        match (status, asked.is_impostor) {
            (200..300, true) => Err(format!("a wrong password of {} was accepted", text(scene.aor))),
            (200..300, false) => self.accepted(scene, &asked, reply),
            // Whether that is so says the model.
            (403, _) if reason == "Occupied" => Ok(()),
            (403, true) => {
                self.guessed.insert((scene.aor.to_vec(), asked.source.ip()));
                Ok(())
            }
            // Somebody guessed at its address: it may be banned until it is registered.
            (403, false) if self.guessed.contains(&(scene.aor.to_vec(), asked.source.ip())) => Ok(()),
            (403 | 404, false) => Err(format!("the right password of {} got {status}", text(scene.aor))),
            _ => Ok(()),
        }
    }

    /// A 200 means durable, and says what was asked for.
    fn accepted(&self, scene: Scene<'_>, asked: &Asked, reply: &Reply) -> Result<(), String> {
        let own = asked.contact.as_bytes();
        let own_expires_s = reply.expires_of(&asked.contact);
        let is_bound = matches!(asked.ask, Ask::Bind { .. });
        match asked.ask {
            Ask::Bind { .. } if own_expires_s.unwrap_or(0) == 0 => {
                return Err(format!("a 200 does not list {}, which it binds", scene.name(own)));
            }
            Ask::Unbind if own_expires_s.is_some() => {
                return Err(format!("a 200 lists {}, which it removes", scene.name(own)));
            }
            Ask::UnbindAll if !reply.contacts.is_empty() => {
                return Err(format!("a 200 lists contacts of {}, all of which it removes", text(scene.aor)));
            }
            _ => {}
        }
        if !self.write_through {
            return Ok(());
        }
        for listed in reply.contacts.iter().filter(|listed| listed.expires_s > 0) {
            let doubt = self.doubts.get(scene.aor);
            let contact = &listed.contact[..];
            if scene.rows(contact).next().is_none() && !doubt.is_some_and(|gone| gone.contains(contact)) {
                return Err(format!("a 200 lists {}, which has no durable row", scene.name(contact)));
            }
            let is_own = |row: &Row| {
                row.cseq == asked.cseq
                    && *row.callid == *asked.call_id.as_bytes()
                    && self.is_unexpired(row, scene.unix_s)
            };
            if is_bound && contact == own && doubt.is_none() && !scene.rows(contact).any(is_own) {
                let name = scene.name(contact);
                return Err(format!("a 200 for CSeq {}, but the durable row of {name} is older", asked.cseq));
            }
        }
        Ok(())
    }

    /// What a lookup shows is durable, has not expired, and comes from one address; what was promised is shown.
    pub fn shown(&self, scene: Scene<'_>, phones: &[Phone]) -> Result<(), String> {
        if self.write_through {
            scene.shown.iter().try_for_each(|contact| self.shown_durable(scene, contact))?;
        }
        self.shown_from_one_address(scene)?;
        let mut of_aor = phones.iter().filter(|phone| phone.plan.aor == scene.aor);
        of_aor.try_for_each(|phone| self.promised_is_shown(scene, phone))
    }

    fn shown_durable(&self, scene: Scene<'_>, contact: &[u8]) -> Result<(), String> {
        if scene.rows(contact).any(|row| self.is_unexpired(row, scene.unix_s)) {
            return Ok(());
        }
        let is_it = |removed: &(Vec<u8>, Vec<u8>)| removed.0 == scene.aor && removed.1 == contact;
        let is_unheard = self.unanswered.values().any(|(applied, _)| applied.removed.iter().any(is_it));
        let is_doubtful = self.doubts.get(scene.aor).is_some_and(|gone| gone.contains(contact));
        // A removal that is done and not heard of yet; an older row of the same contact may be left of a lost answer.
        if is_unheard || is_doubtful {
            return Ok(());
        }
        let what = if scene.rows(contact).next().is_some() { "has expired" } else { "has no durable row" };
        Err(format!("a lookup shows {}, which {what}", scene.name(contact)))
    }

    /// The Occupied rule.
    fn shown_from_one_address(&self, scene: Scene<'_>) -> Result<(), String> {
        let mut holders = BTreeSet::new();
        for contact in scene.shown {
            let Some(ip) = self.sources.get(contact) else {
                return Err(format!("a lookup shows {}, which nobody bound", scene.name(contact)));
            };
            // Where the clocks do not agree whether it is over, the engine of one start may let another in.
            let is_sure = || scene.rows(contact).any(|row| self.has_time_left(row, scene.unix_s));
            if !self.write_through || is_sure() {
                holders.insert(*ip);
            }
        }
        match self.exclusive_ip && holders.len() > 1 && !self.has_lost_track {
            true => Err(format!("{} is held from several addresses: {holders:?}", text(scene.aor))),
            false => Ok(()),
        }
    }

    /// A binding stays until its time is over, unless the phone itself or another contact of its user ended it.
    fn promised_is_shown(&self, scene: Scene<'_>, phone: &Phone) -> Result<(), String> {
        let Some(held) = phone.held else { return Ok(()) };
        let own = phone.client.contact.as_bytes();
        let is_over = scene.now_ms + (1 + self.tolerance_s()) * 1_000 >= held.until_ms;
        let is_forgotten = !self.write_through && held.since_ms <= self.crashed_ms;
        let has_rivals = self.named.get(scene.aor).is_some_and(|named| {
            named.iter().any(|(contact, at_ms)| contact != own && at_ms + LATE_MS >= held.since_ms)
        });
        match is_over || is_forgotten || has_rivals || scene.is_shown(own) {
            true => Ok(()),
            false => Err(format!(
                "{} was promised until {} ms, but a lookup does not show it",
                scene.name(own),
                held.until_ms
            )),
        }
    }

    /// After the faults every living phone is registered, unless another holds its user or there is no room.
    pub fn registered(&self, scene: Scene<'_>, phone: &Phone, phones: &[Phone]) -> Result<(), String> {
        let own = phone.client.contact.as_bytes();
        if !phone.is_live() || phone.plan.is_impostor || scene.is_shown(own) {
            return Ok(());
        }
        let ip = phone.source.ip();
        let is_elsewhere = |contact: &Vec<u8>| self.sources.get(contact) != Some(&ip);
        if self.exclusive_ip && scene.shown.iter().any(is_elsewhere) {
            return Ok(());
        }
        if self.guessed.contains(&(scene.aor.to_vec(), ip)) {
            return Ok(());
        }
        let is_rival =
            |other: &&Phone| other.plan.aor == scene.aor && other.is_live() && !other.plan.is_impostor;
        let rivals =
            phones.iter().filter(is_rival).filter(|other| !self.exclusive_ip || other.source.ip() == ip);
        if rivals.count() > self.max_contacts || scene.shown.len() >= self.max_contacts {
            return Ok(());
        }
        Err(format!("{} is not registered at the end: the phone is {}", scene.name(own), phone.doing()))
    }

    /// After everything has come to its end, memory and tables say the same.
    pub fn agree(&self, scene: Scene<'_>) -> Result<(), String> {
        if !self.write_through || self.doubts.contains_key(scene.aor) {
            return Ok(());
        }
        let rows = scene.tables.rows_of(scene.aor);
        let mut sure = rows.filter(|row| self.has_time_left(row, scene.unix_s));
        match sure.find(|row| !scene.is_shown(&row.contact)) {
            Some(row) => Err(format!("the row of {} is not a binding at the end", scene.name(&row.contact))),
            None => Ok(()),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use roost_core::Write;

    const AOR: &[u8] = b"1001";
    const CONTACT: &[u8] = b"sip:1001@10.0.0.9:1";
    const OTHER: &[u8] = b"sip:1001@10.0.0.8:1";

    fn checks() -> Checks {
        let mut checks = Checks::new(&Config::default());
        for (contact, ip) in [(CONTACT, [10, 0, 0, 9]), (OTHER, [10, 0, 0, 8])] {
            checks.sources.insert(contact.to_vec(), IpAddr::from(ip));
        }
        checks
    }

    fn tables(contact: &[u8], expires: u64) -> Tables {
        let mut tables = Tables::default();
        let row: Row =
            Row { contact_id: 1, username: AOR.into(), contact: contact.into(), expires, ..Row::default() };
        tables.apply(&[Write::Put(row.pack())]).unwrap();
        tables
    }

    fn shown(checks: &Checks, tables: &Tables, shown: &[Vec<u8>]) -> Result<(), String> {
        checks.shown(Scene { now_ms: 0, unix_s: 1_000, tables, aor: AOR, shown }, &[])
    }

    #[test]
    fn what_is_shown_is_durable_and_not_over() {
        let contacts = [CONTACT.to_vec()];
        let mut checks = checks();
        assert_eq!(shown(&checks, &tables(CONTACT, 1_060), &contacts), Ok(()));
        assert!(shown(&checks, &tables(CONTACT, 990), &contacts).unwrap_err().contains("expired"));
        checks.stepped(-10);
        assert_eq!(shown(&checks, &tables(CONTACT, 990), &contacts), Ok(()));
        let mut empty = tables(CONTACT, 1_060);
        let applied = empty.apply(&[Write::Remove { contact_id: 1, username: (*b"1001").into() }]).unwrap();
        assert!(shown(&checks, &empty, &contacts).unwrap_err().contains("no durable row"));
        checks.written(ShardId(0), Ticket(1), applied, true);
        assert_eq!(shown(&checks, &empty, &contacts), Ok(()));
        checks.heard(ShardId(0), Ticket(1));
        assert_eq!(shown(&checks, &empty, &contacts), Ok(()));
        checks.written(
            ShardId(0),
            Ticket(2),
            Applied { aors: [AOR.to_vec()].into(), removed: vec![] },
            false,
        );
        checks.heard(ShardId(0), Ticket(2));
        assert!(shown(&checks, &empty, &contacts).is_err());
    }

    #[test]
    fn one_address_holds_a_user() {
        let contacts = [CONTACT.to_vec(), OTHER.to_vec()];
        let mut tables = tables(CONTACT, 1_060);
        let other: Row = Row {
            contact_id: 2,
            username: AOR.into(),
            contact: OTHER.into(),
            expires: 1_060,
            ..Row::default()
        };
        tables.apply(&[Write::Put(other.pack())]).unwrap();
        assert!(shown(&checks(), &tables, &contacts).unwrap_err().contains("several addresses"));
        assert_eq!(shown(&checks(), &tables, &contacts[..1]), Ok(()));
    }

    #[test]
    fn a_row_that_is_no_binding_is_found() {
        let tables = tables(CONTACT, 1_060);
        let scene = Scene { now_ms: 0, unix_s: 1_000, tables: &tables, aor: AOR, shown: &[] };
        assert!(checks().agree(scene).unwrap_err().contains("not a binding"));
        assert_eq!(checks().agree(Scene { unix_s: 1_060, ..scene }), Ok(()));
    }
}
