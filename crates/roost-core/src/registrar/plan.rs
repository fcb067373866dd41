//! The plan of a REGISTER: what its contacts, checked against the committed bindings, change. All or none.

use std::borrow::Cow;
use std::hash::BuildHasher as _;

use roost_sip::{
    ALL_METHODS, ContactValue, HeaderName, NameAddr, Uri, contacts, delta_seconds, number, parse_allow,
    q_value, unquote,
};

use smallvec::SmallVec;

use crate::base::flow::Now;
use crate::base::host::is_local_name;
use crate::base::limits;
use crate::contract::context::Ctx;
use crate::contract::identity::Widths;
use crate::contract::policy::{PathMode, Policy, RegistrarParams, UsrlocParams};
use crate::contract::reason::Reason;
use crate::message::path;
use crate::message::request::Request;
use crate::message::request::joined;
use crate::message::response::Response;
use crate::registrar::binding::{Binding, BindingText, Origin};
use crate::registrar::features::features_of;
use crate::registrar::location::Record;

/// One change of an AOR's bindings.
#[derive(Debug)]
pub(crate) enum Change {
    Put(Binding),
    Remove(u64),
}

/// The changes of one commit; most have one.
#[derive(Debug, Default)]
pub(crate) struct Changes(SmallVec<[Change; 1]>);

impl std::ops::Deref for Changes {
    type Target = SmallVec<[Change; 1]>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for Changes {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl FromIterator<Change> for Changes {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        Changes(changes.into_iter().collect())
    }
}

impl IntoIterator for Changes {
    type Item = Change;
    type IntoIter = smallvec::IntoIter<[Change; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The bindings of an AOR as they will be: old ones that stay, and those that are put.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) entries: SmallVec<[Entry; 2]>,
    pub(crate) changes: Changes,
    inserted: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) contact_id: u64,
    rank: i32,
    /// When it was refreshed; of this REGISTER's contacts the last listed is the newest.
    refreshed: (u64, usize),
    /// Its index in `changes`; `None` for an old binding that stays as it is.
    pub(crate) put: Option<usize>,
    /// Whether the request names it, or asks for all.
    pub(crate) is_named: bool,
    /// Whether nothing leads to it now.
    is_stranded: bool,
    /// A hash of the phone, of one that has several flows; 0: it is by itself.
    phone: u64,
}

/// What all contacts of one REGISTER share.
struct Common<'a> {
    call_id: &'a [u8],
    cseq: u32,
    user_agent: &'a [u8],
    methods: u32,
    path: Cow<'a, [u8]>,
    /// The Expires header, in seconds.
    expires_s: Option<u32>,
}

/// What the request asks for, as changes of the committed bindings.
///
/// # Errors
/// The refusal: nothing changes.
pub(crate) fn plan(ctx: &Ctx<'_>, request: &Request<'_>, record: Option<&Record>) -> Result<Plan, Response> {
    let common = common(ctx, request)?;
    let mut plan = Plan::default();
    for binding in record.into_iter().flat_map(|record| record.live(ctx.now)) {
        plan.entries.push(Entry {
            contact_id: binding.contact_id,
            rank: rank(binding.q),
            refreshed: (binding.updated_ms, 0),
            put: None,
            is_named: request.head.line(HeaderName::Contact).is_none(),
            is_stranded: binding.is_stranded(),
            phone: phone(ctx, binding),
        });
    }
    let values = request.head.values(request.bytes, HeaderName::Contact);
    let mut is_star = false;
    let mut count = 0;
    for contact in contacts(values) {
        count += 1;
        if count > limits::MAX_CONTACTS_PER_REGISTER {
            return Err(Reason::TooManyContactsInRequest.into());
        }
        match contact {
            Err(_) => return Err(Reason::ContactParse.into()),
            Ok(ContactValue::Star) => is_star = true,
            Ok(ContactValue::Contact(..)) if is_star => break,
            Ok(ContactValue::Contact(name_addr, uri)) => {
                plan.add_contact(ctx, request, record, &common, &name_addr, &uri)?;
            }
        }
    }
    if is_star {
        return Ok(plan_star(record, &common, count > 1, ctx.now)?);
    }
    plan.make_room(&ctx.policy.registrar)?;
    Ok(plan)
}

/// What the request says of all its contacts.
fn common<'a>(ctx: &Ctx<'_>, request: &Request<'a>) -> Result<Common<'a>, Reason> {
    let call_id = request.call_id().ok_or(Reason::CallIdNotFound)?;
    let cseq = request.cseq().ok_or(Reason::CseqNotFound)?.number;
    let expires_s = match request.value(HeaderName::Expires) {
        Some(value) => Some(delta_seconds(value).map_err(|_| Reason::ExpiresParse)?),
        None => None,
    };
    let user_agent = request
        .value(HeaderName::UserAgent)
        .filter(|value| !value.is_empty() && value.len() <= ctx.identity.widths.user_agent);
    let path = path_of(ctx.policy.registrar.path, request)?;
    let mut allow = request.head.values(request.bytes, HeaderName::Allow);
    let methods = allow.try_fold(0, |set, value| Some(set | parse_allow(value)?));
    let methods = methods.filter(|set| *set != 0).unwrap_or(ALL_METHODS);
    Ok(Common { call_id, cseq, user_agent: user_agent.unwrap_or(b"n/a"), methods, path, expires_s })
}

/// Whether a binding fits into its row.
///
/// # Errors
/// What does not.
fn check_widths(widths: &Widths, common: &Common<'_>, uri: &Uri<'_>) -> Result<(), Reason> {
    match () {
        () if uri.text.len() > widths.contact => Err(Reason::ContactTooLong),
        () if common.call_id.len() > widths.callid => Err(Reason::CallIdTooLong),
        () if common.path.len() > widths.path => Err(Reason::PathParse),
        () => Ok(()),
    }
}

/// The path to keep with the bindings of a REGISTER; empty when there is none.
///
/// # Errors
/// 400 for one that is not a path, and with `path = "strict"` 420 to a phone that does not know Path (RFC 3327 5.3).
fn path_of<'a>(mode: PathMode, request: &Request<'a>) -> Result<Cow<'a, [u8]>, Reason> {
    if mode == PathMode::Ignore || request.head.line(HeaderName::Path).is_none() {
        return Ok(Cow::Borrowed(&[]));
    }
    let path = joined(request, HeaderName::Path);
    if !path::is_path(&path) {
        return Err(Reason::PathParse);
    }
    if mode == PathMode::Strict && !path::knows_path(request) {
        return Err(Reason::PathNotSupported);
    }
    Ok(path)
}

/// `Contact: *` with `Expires: 0` removes everything (RFC 3261 10.2.2), in the order of CSeq.
fn plan_star(
    record: Option<&Record>,
    common: &Common<'_>,
    has_others: bool,
    now: Now,
) -> Result<Plan, Reason> {
    if has_others {
        return Err(Reason::StarWithOthers);
    }
    if common.expires_s != Some(0) {
        return Err(Reason::StarWithExpires);
    }
    let mut plan = Plan::default();
    for binding in record.into_iter().flat_map(|record| record.live(now)) {
        if binding.callid() == common.call_id && binding.cseq >= common.cseq {
            return Err(Reason::CseqOrder);
        }
        plan.changes.push(Change::Remove(binding.contact_id));
    }
    Ok(plan)
}

/// CSeq of the same Call-ID (RFC 3261 10.3 item 7): lower is refused, equal is a retransmission for a while.
fn check_order(usrloc: &UsrlocParams, old: &Binding, common: &Common<'_>, now: Now) -> Result<Order, Reason> {
    let delay_ms = u64::from(usrloc.cseq_delay_s) * 1000;
    match common.cseq.cmp(&old.cseq) {
        std::cmp::Ordering::Greater => Ok(Order::Next),
        std::cmp::Ordering::Equal if now.mono_ms < old.updated_ms + delay_ms => Ok(Order::Retransmission),
        _ => Err(Reason::CseqOrder),
    }
}

/// Granted seconds: what the contact asks for, else the header, else the default, clamped; 0 stays 0.
fn granted(registrar: &RegistrarParams, param: Option<&[u8]>, header_s: Option<u32>) -> u32 {
    let asked = match param {
        Some(text) => delta_seconds(unquote(text)).unwrap_or(registrar.default_expires_s),
        None => header_s.unwrap_or(registrar.default_expires_s),
    };
    if asked == 0 {
        return 0;
    }
    let longest = match registrar.max_expires_s {
        0 => u32::MAX,
        max => max,
    };
    asked.max(registrar.min_expires_s).min(longest)
}

enum Order {
    Next,
    Retransmission,
}

impl Plan {
    /// Takes one contact of the request in.
    fn add_contact(
        &mut self,
        ctx: &Ctx<'_>,
        request: &Request<'_>,
        record: Option<&Record>,
        common: &Common<'_>,
        name_addr: &NameAddr<'_>,
        uri: &Uri<'_>,
    ) -> Result<(), Reason> {
        let q = match name_addr.params.get(b"q") {
            Some(q) => Some(q_value(q).map_err(|_| Reason::QInvalid)?),
            None => None,
        };
        let expires_s = granted(&ctx.policy.registrar, name_addr.params.get(b"expires"), common.expires_s);
        let bindings = record.map_or(&[][..], |record| &record.bindings);
        let old_of = |entry: &Entry| bindings.iter().find(|binding| binding.contact_id == entry.contact_id);
        let instance = Instance::of(request, name_addr);
        let listed = self.entries.iter().position(|entry| {
            let put = match entry.put.and_then(|put| self.changes.get(put)) {
                Some(Change::Put(binding)) => Some(binding),
                _ => None,
            };
            let is_it = |one: &Binding| one.is_contact(uri) && !instance.is_another_flow(one);
            put.or_else(|| old_of(entry)).is_some_and(is_it)
        });
        let listed = listed.or_else(|| {
            let old = |entry: &Entry| old_of(entry).filter(|_| entry.put.is_none());
            self.entries.iter().position(|entry| old(entry).is_some_and(|old| instance.replaces(old)))
        });
        let old = listed.and_then(|index| self.entries.get(index)).and_then(old_of);
        if let Some(old) = old
            && old.callid() == common.call_id
        {
            match check_order(&ctx.policy.usrloc, old, common, ctx.now)? {
                Order::Next => {}
                Order::Retransmission => {
                    if let Some(entry) = listed.and_then(|index| self.entries.get_mut(index)) {
                        entry.is_named = true;
                    }
                    return Ok(());
                }
            }
        }
        if expires_s == 0 {
            if let Some(index) = listed {
                let entry = self.entries.remove(index);
                self.drop_entry(entry);
            }
            return Ok(());
        }
        // What goes needs no room.
        check_widths(&ctx.identity.widths, common, uri)?;
        let binding = binding(ctx, request, common, (name_addr, uri), (old, q, expires_s));
        let phone = phone(ctx, &binding);
        self.put(listed, binding, phone);
        Ok(())
    }

    /// `max_contacts`: the least recently refreshed make room, or the request is refused.
    fn make_room(&mut self, registrar: &RegistrarParams) -> Result<(), Response> {
        let max = match registrar.max_contacts {
            0 => limits::MAX_BINDINGS_PER_AOR,
            max => max as usize,
        };
        if self.inserted > 0 && self.count() > max && !registrar.force_registration {
            return Err(Response::from(Reason::TooManyContacts).retry_after(registrar.retry_after_s));
        }
        while self.inserted > 0 && self.count() > max {
            let flow =
                self.entries.iter().filter(|entry| !entry.is_stranded).map(|entry| entry.refreshed).min();
            self.drop_where(|entry| !entry.is_stranded && Some(entry.refreshed) == flow);
        }
        // Those that nothing leads to do not count, but there is not room for any number of them.
        while self.inserted > 0 && self.entries.len() > max.max(limits::MAX_STRANDED_PER_AOR) {
            let lost =
                self.entries.iter().filter(|entry| entry.is_stranded).map(|entry| entry.refreshed).min();
            if lost.is_none() {
                break;
            }
            self.drop_where(|entry| entry.is_stranded && Some(entry.refreshed) == lost);
        }
        Ok(())
    }

    /// Contacts that count: some flows of one phone together.
    fn count(&self) -> usize {
        let is_counted = |(index, entry): &(usize, &Entry)| {
            let is_same =
                |other: &Entry| entry.phone != 0 && other.phone == entry.phone && !other.is_stranded;
            let before = self.entries.iter().take(*index).filter(|other| is_same(other)).count();
            !entry.is_stranded && before % limits::MAX_FLOWS_PER_PHONE == 0
        };
        self.entries.iter().enumerate().filter(is_counted).count()
    }

    /// Drops the first entry of this kind, and all other flows of its phone.
    fn drop_where(&mut self, is_it: impl Fn(&Entry) -> bool) {
        let mut found = self.entries.iter().position(is_it);
        let phone = found.and_then(|index| self.entries.get(index)).map_or(0, |entry| entry.phone);
        while let Some(index) = found {
            let entry = self.entries.remove(index);
            self.drop_entry(entry);
            let is_same =
                |other: &Entry| phone != 0 && (other.phone, other.is_stranded) == (phone, entry.is_stranded);
            found = self.entries.iter().position(is_same);
        }
    }

    /// Puts a binding in place of the entry at `listed`, or as a new one; the list keeps its order.
    fn put(&mut self, listed: Option<usize>, binding: Binding, phone: u64) {
        let rank = rank(binding.q);
        let refreshed = (binding.updated_ms, self.changes.len() + 1);
        let contact_id = binding.contact_id;
        let replaced = listed.and_then(|index| self.entries.get(index).copied());
        let put = match replaced.and_then(|entry| entry.put) {
            Some(put) => {
                if let Some(change) = self.changes.get_mut(put) {
                    *change = Change::Put(binding);
                }
                put
            }
            None => {
                self.changes.push(Change::Put(binding));
                self.changes.len() - 1
            }
        };
        if replaced.is_none() {
            self.inserted += 1;
        }
        let entry =
            Entry { contact_id, rank, refreshed, put: Some(put), is_named: true, is_stranded: false, phone };
        if let (Some(index), Some(old)) = (listed, replaced) {
            if old.rank == rank {
                if let Some(slot) = self.entries.get_mut(index) {
                    *slot = entry;
                }
                return;
            }
            self.entries.remove(index);
        }
        let at = self.entries.partition_point(|other| other.rank >= rank);
        self.entries.insert(at, entry);
    }

    /// Drops an entry that was taken out of the list: an old binding's row goes, a new one never comes.
    fn drop_entry(&mut self, entry: Entry) {
        let Some(put) = entry.put else {
            self.changes.push(Change::Remove(entry.contact_id));
            return;
        };
        if entry.contact_id != 0 {
            if let Some(change) = self.changes.get_mut(put) {
                *change = Change::Remove(entry.contact_id);
            }
            return;
        }
        self.inserted = self.inserted.saturating_sub(1);
        if put < self.changes.len() {
            self.changes.remove(put);
        }
        for other in &mut self.entries {
            other.put = other.put.map(|index| if index > put { index - 1 } else { index });
        }
    }
}

/// Which phone a contact is, where it says so, and which of its flows.
struct Instance<'a> {
    instance: &'a [u8],
    reg_id: Option<u32>,
    /// Whether the phone alone can make the connection that it registers over.
    is_own_connection: bool,
}

impl<'a> Instance<'a> {
    fn of(request: &Request<'_>, name_addr: &NameAddr<'a>) -> Instance<'a> {
        let reg_id = name_addr.params.get(b"reg-id").and_then(|value| number(value).ok());
        Instance {
            instance: name_addr.params.get(b"+sip.instance").map_or(&[], unquote),
            reg_id: reg_id.filter(|id| *id != 0),
            is_own_connection: !request.flow.transport.can_connect(),
        }
    }

    /// Whether a binding is another flow of the same phone, which may have the same Contact.
    fn is_another_flow(&self, other: &Binding) -> bool {
        self.reg_id.is_some()
            && other.reg_id().is_some_and(|id| Some(id) != self.reg_id)
            && *other.instance() == *self.instance
    }

    /// Whether a binding is a former flow of the same phone, whatever its Contact says: browsers change it at every page load
    /// (RFC 5626 6).
    fn replaces(&self, old: &Binding) -> bool {
        let is_former = match (old.reg_id(), self.reg_id) {
            (Some(old), Some(new)) => old == new,
            (None, None) => self.is_own_connection || old.is_stranded() || old.is_loaded(),
            (None, Some(_)) => old.is_loaded(),
            (Some(_), None) => false,
        };
        is_former && !self.instance.is_empty() && *old.instance() == *self.instance
    }
}

/// The binding that one contact of a REGISTER asks for.
fn binding(
    ctx: &Ctx<'_>,
    request: &Request<'_>,
    common: &Common<'_>,
    (name_addr, uri): (&NameAddr<'_>, &Uri<'_>),
    (old, q, expires_s): (Option<&Binding>, Option<u16>, u32),
) -> Binding {
    let methods = name_addr.params.get(b"methods").and_then(|value| parse_allow(unquote(value)));
    let instance = name_addr.params.get(b"+sip.instance").map_or(&[][..], unquote);
    let text = BindingText {
        contact: uri.text,
        callid: common.call_id,
        user_agent: common.user_agent,
        instance: if instance.len() > limits::MAX_INSTANCE { &[] } else { instance },
        path: &common.path,
        features: &features_of(name_addr.params),
        kv_others: old.map_or(&[], Binding::kv_others),
    };
    Binding {
        contact_id: old.map_or(0, |old| old.contact_id),
        text: text.into(),
        cseq: common.cseq,
        q,
        methods: methods.unwrap_or(common.methods),
        deadline_ms: ctx.now.mono_ms + u64::from(expires_s) * 1000,
        updated_ms: ctx.now.mono_ms,
        origin: Origin::Live(request.flow).into(),
        behind_nat: is_elsewhere(ctx.policy, request, uri),
    }
}

/// Whether a contact is where its REGISTER came from and not where its URI says: that names another address, a host that means
/// nothing here, or ourselves.
fn is_elsewhere(policy: &Policy, request: &Request<'_>, uri: &Uri<'_>) -> bool {
    if let Some(ip) = uri.host_ip() {
        return ip.to_canonical() != request.flow.remote.ip().to_canonical();
    }
    let is_it = |host: &[u8]| uri.host.eq_ignore_ascii_case(host);
    is_local_name(uri.host)
        || request.target.is_ok_and(|registrar| is_it(registrar.host))
        || is_it(policy.advertised_address.as_bytes())
        || policy.domains.iter().any(|domain| domain.is_named_by(uri, |_| true))
}

/// A hash of the phone of a binding, where that may have several flows.
fn phone(ctx: &Ctx<'_>, binding: &Binding) -> u64 {
    binding.reg_id().map_or(0, |_| ctx.hasher.hash_one(binding.instance()).max(1))
}

fn rank(q: Option<u16>) -> i32 {
    q.map_or(-1, i32::from)
}
