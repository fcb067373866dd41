//! The proxy (RFC 3261 section 16): who may call, where a request goes, and what dialogs follow.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use roost_sip::{HeaderName, Method, NameAddr, Scheme, Uri, eq_unescaped};

use crate::auth::authenticator::{Claimed, Verdict};
use crate::base::flow::{Flow, Now, ShardId, Ticket, Transport};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::contract::config::Authorize;
use crate::contract::listener::no_way;
use crate::contract::outbox::{Mark, Outbox};
use crate::engine::{Engine, shard_of_uri};
use crate::message::branch_id::BranchId;
use crate::message::forward::{Edits, RecordRoute, Sender, write_request};
use crate::message::path::first_hop;
use crate::message::request::{Request, To};
use crate::message::response::Answer;
use crate::message::route::{Routes, did};
use crate::proxy::next_hop::{Reach, Routed};
use crate::registrar::binding::{Binding, Origin};
use crate::registrar::location::RecordId;
use crate::transaction::client::ORIGINATOR_CANCEL;
use crate::transaction::transactions::{Target, server_key};

/// How a dialog's or an initial request is edited on its way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way<'a> {
    strip_routes: usize,
    drop_last_route: bool,
    append_route: Option<&'a [u8]>,
    with_record_route: bool,
}

impl<'a> Way<'a> {
    fn of(request: &Request<'a>, routes: &Routes<'a>) -> Way<'a> {
        let is_initial = request.to_tag().is_none();
        let way = Way {
            strip_routes: routes.own,
            drop_last_route: routes.from_strict && !is_initial,
            with_record_route: is_initial && request.method != Method::Message,
            append_route: None,
        };
        match routes.next {
            // A strict router wants itself in the Request-URI, and the target as the last Route (16.6 step 6).
            Some(_) if !routes.next_is_loose => Way {
                strip_routes: way.strip_routes + 1,
                append_route: Some(routes.target.filter(|_| !is_initial).unwrap_or(request.uri)),
                ..way
            },
            _ => way,
        }
    }
}

impl Engine {
    /// A request that starts something (no To tag): authorized in the shard of its From, then handled in that of its
    /// Request-URI. `retry` says that the database was asked about the caller and did not answer.
    pub(crate) fn handle_initial(
        &mut self,
        request: &Request<'_>,
        mark: Mark,
        retry: bool,
        now: Now,
        out: &mut Outbox,
    ) {
        let mark = match mark {
            Mark::None => match self.authorize_call(request, retry, now, out) {
                Some(mark) => mark,
                None => return,
            },
            mark => mark,
        };
        let shard = shard_of_uri(&self.config, request.shard_key());
        if shard != self.shard {
            return self.hand_over(request, shard, mark, out);
        }
        if let Some(ticket) = self.find_transaction(request) {
            return self.absorb(ticket, out);
        }
        let Ok(uri) = request.target else {
            return self.refuse(request, Answer::new(400, "Bad Request-URI"), None, now, out);
        };
        let Some(user) = uri.user else {
            return self.refuse(request, Answer::new(484, "Address Incomplete"), None, now, out);
        };
        if request.unsupported(false).next().is_some() {
            return self.refuse(request, Answer::bad_extension(), None, now, out);
        }
        if self.is_looped(request) {
            return self.refuse(request, Answer::new(482, "Loop Detected"), None, now, out);
        }
        let routes = Routes::of(request, &self.config, &did(&self.config, request));
        let way = Way::of(request, &routes);
        if routes.is_malformed {
            return self.refuse(request, Answer::new(400, "Malformed Route header"), None, now, out);
        }
        if routes.next.is_none() {
            match self.is_loaded_or_waits(Some(To { user, host: uri.host }), request, mark, now) {
                Ok(true) => {}
                Ok(false) => return,
                Err(busy) => return self.refuse(request, busy, None, now, out),
            }
        }
        let found = match routes.next {
            // A preloaded Route to somebody else (B22).
            Some(next) => {
                let target = if routes.next_is_loose { uri.text } else { next };
                self.trusted_target(request, next, target)
            }
            None => match self.look_up(request, To { user, host: uri.host }, now) {
                Err(answer) if !self.dispatcher.is_empty() => match self.route_out(request, &uri, retry, now)
                {
                    Routed::Nowhere => Err(answer),
                    Routed::To(targets) => Ok(targets),
                    Routed::Refused(answer) => Err(answer),
                    Routed::Ask(key) => match self.load_credentials(request, key, mark, now, out) {
                        Ok(()) => return,
                        Err(busy) => Err(busy),
                    },
                },
                found => found,
            },
        };
        if request.method != Method::Invite
            && let Err(answer) = found
        {
            return self.refuse(request, answer, None, now, out);
        }
        let ticket = match self.open_transaction(request, out) {
            Ok(ticket) => ticket,
            Err(answer) => {
                self.pool.give_targets(found.unwrap_or_default());
                return self.refuse(request, answer, None, now, out);
            }
        };
        match found {
            Ok(targets) => self.fork(request, ticket, targets, &way, now, out),
            Err(answer) => self.respond(ticket, answer, now, out),
        }
    }

    /// Who may call (B11). `None` when the request was answered or waits for the database.
    fn authorize_call(
        &mut self,
        request: &Request<'_>,
        retry: bool,
        now: Now,
        out: &mut Outbox,
    ) -> Option<Mark> {
        let passed = Some(Mark::Authorized);
        if !self.needs_authorization(request) {
            return passed;
        }
        let from = request.from();
        let shard = shard_of_uri(&self.config, from.map_or(&[][..], |from| from.user));
        if shard != self.shard {
            self.hand_over(request, shard, Mark::None, out);
            return None;
        }
        let repeated = self.repeated_hash(request);
        if self.recent.contains(repeated, now.mono_ms) {
            return Some(Mark::Authorized);
        }
        if self.config.proxy.authorize == Authorize::Registered
            && from.is_some_and(|from| self.is_from_binding(request, from, now))
        {
            self.recent.note(repeated, now.mono_ms);
            return passed;
        }
        let is_anonymous = from.is_none_or(|from| is_anonymous(&from));
        let realm = self.call_realm(request);
        if realm.is_empty() {
            let answer = Answer::new(403, "Forbidden").why("neither From nor To names a realm");
            self.refuse(request, answer, None, now, out);
            return None;
        }
        let claimed = Claimed {
            identity: from,
            is_checked: self.config.proxy.check_from && !is_anonymous,
            header: HeaderName::ProxyAuthorization,
            realm: &realm,
        };
        match self.authorize(request, claimed, retry, now, out) {
            Verdict::Granted => {
                self.recent.note(repeated, now.mono_ms);
                Some(Mark::Authorized)
            }
            Verdict::Refused(answer) => {
                self.refuse_with_realm(request, answer.by_proxy(), &realm, now, out);
                None
            }
            Verdict::Load(_) if retry => {
                let answer = Answer::new(500, "Server Internal Error").why("the database did not answer");
                self.refuse(request, answer, None, now, out);
                None
            }
            Verdict::Load(key) => {
                if let Err(answer) = self.load_credentials(request, key, Mark::None, now, out) {
                    self.refuse(request, answer, None, now, out);
                }
                None
            }
        }
    }

    /// What a retransmission repeats, with its sender's address.
    fn repeated_hash(&mut self, request: &Request<'_>) -> u64 {
        let mut key = std::mem::take(&mut self.key_scratch);
        server_key(request, request.method_name, &mut key);
        let hash =
            self.hasher.hash_one((&key[..], request.flow.remote, request.uri, request.value(HeaderName::To)));
        self.key_scratch = key;
        hash
    }

    fn needs_authorization(&self, request: &Request<'_>) -> bool {
        self.config.proxy.authorize != Authorize::Off && !self.is_trusted(request.flow.remote.ip())
    }

    pub(crate) fn is_trusted(&self, ip: std::net::IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.config.proxy.trusted.contains(&ip) || self.dispatcher.trusts(ip)
    }

    /// Whether the request comes from where its From is registered from.
    fn is_from_binding(&mut self, request: &Request<'_>, from: To<'_>, now: Now) -> bool {
        let Some(record) = self.record_of(from).and_then(|id| self.location.get(id)) else { return false };
        // What comes from a proxy that wrote a Path may come from anybody behind it.
        let is_own = |binding: &Binding| binding.path().is_empty() && binding.is_from(&request.flow);
        record.live(now).any(is_own)
    }

    /// The AOR's record; without `use_domain` any host will do.
    pub(crate) fn record_of(&mut self, to: To<'_>) -> Option<RecordId> {
        let mut aor = std::mem::take(&mut self.scratch);
        let found = self.build_aor(Some(to), &mut aor).ok().and_then(|()| self.location.find(&aor));
        self.scratch = aor;
        found
    }

    /// Whether anybody is registered as this user.
    pub(crate) fn is_registered(&mut self, to: To<'_>, now: Now) -> bool {
        let record = self.record_of(to).and_then(|id| self.location.get(id));
        record.is_some_and(|record| record.live(now).next().is_some())
    }

    pub(crate) fn hand_over(&mut self, request: &Request<'_>, shard: ShardId, mark: Mark, out: &mut Outbox) {
        self.stats.count(Counter::HandedOver);
        out.hand_over(shard, request.flow, request.bytes, mark);
    }

    /// The callee's contacts, by falling q (S66 to S68). A contact that cannot be reached harms no other.
    fn look_up(&mut self, request: &Request<'_>, to: To<'_>, now: Now) -> Result<Vec<Target>, Answer> {
        let Some(id) = self.record_of(to) else {
            return Err(Answer::new(404, "Not Found").why("the callee is not registered"));
        };
        let mut targets = self.pool.take_targets();
        let mut pool = std::mem::take(&mut self.pool);
        let mut failure = Answer::new(404, "Not Found").why("no contact of the callee takes this method");
        let bindings = self.location.get(id).into_iter().flat_map(|record| record.live(now));
        for binding in bindings.filter(|binding| binding.takes(request.method)) {
            if targets.len() == limits::MAX_BRANCHES {
                self.stats.count(Counter::BranchesCut);
                break;
            }
            match self.reach_of(request, binding) {
                Ok(reach) => targets.push(Target::of(binding, reach, &mut pool)),
                Err(answer) => failure = answer,
            }
        }
        self.pool = pool;
        if targets.is_empty() {
            self.pool.give_targets(targets);
            return Err(failure);
        }
        Ok(targets)
    }

    /// Where a binding is reached (S68, B26): the first hop of its path, else the connection that it was made over, else
    /// the packet's source where the Contact names another address, else the Contact.
    fn reach_of(&self, request: &Request<'_>, binding: &Binding) -> Result<Reach, Answer> {
        let (transport, local) = match binding.origin() {
            Origin::Live(flow) => (flow.transport, flow.local),
            Origin::Loaded { local: Some((transport, local)), .. } if self.config.is_local(local) => {
                (transport, local)
            }
            Origin::Loaded { local, .. } => {
                (local.map_or(Transport::Udp, |(transport, _)| transport), request.flow.local)
            }
        };
        if !binding.path().is_empty() {
            return self.config.reach(&first_hop(binding.path()).ok_or_else(unresolvable)?, local);
        }
        match (binding.origin(), binding.source().filter(|_| binding.behind_nat)) {
            (Origin::Live(flow), _) if flow.connection != 0 => Ok(Reach::Flow(flow)),
            // Nobody but the phone can open the way through its router again.
            (_, Some(_)) if transport.is_reliable() => {
                let answer = Answer::new(480, "Temporarily Unavailable");
                Err(answer.why("the callee's connection is lost, and it is behind NAT"))
            }
            (_, Some(source)) => self.config.flow_to(transport, local, source).map(Reach::Flow),
            (_, None) => {
                let contact = Uri::parse(binding.contact()).map_err(|_| unresolvable())?;
                self.config.reach(&contact, local)
            }
        }
    }

    /// A next hop outside: only addresses that the configuration trusts, or any where nobody is authorized.
    fn trusted_target(
        &mut self,
        request: &Request<'_>,
        next: &[u8],
        uri: &[u8],
    ) -> Result<Vec<Target>, Answer> {
        let next = Uri::parse(next).map_err(|_| Answer::new(400, "Malformed Route header"))?;
        let reach = self.config.reach(&next, request.flow.local)?;
        if self.config.proxy.authorize != Authorize::Off && !self.is_trusted_reach(&reach) {
            return Err(Answer::new(403, "Forbidden").why("a Route to a stranger"));
        }
        let mut targets = self.pool.take_targets();
        targets.push(self.target(uri, reach));
        Ok(targets)
    }

    fn target(&mut self, uri: &[u8], reach: Reach) -> Target {
        Target { uri: self.pool.copy(uri), path: Vec::new(), reach, q: None, hop: None, is_same: false }
    }

    /// Sends the request to all targets, or to the first group of equal q with `serial_fork`; hops of a rule are tried
    /// one after the other.
    fn fork(
        &mut self,
        request: &Request<'_>,
        ticket: Ticket,
        targets: Vec<Target>,
        way: &Way<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let mut targets = targets;
        if targets.first().is_some_and(|first| first.hop.is_some()) {
            targets.reverse();
            let Some(first) = targets.pop() else { return };
            return self.try_target(request, ticket, first, targets, way, now, out);
        }
        if self.config.proxy.serial_fork {
            let mut groups: VecDeque<Vec<Target>> = VecDeque::new();
            for target in targets.drain(..) {
                match groups.back_mut().filter(|group| group.first().is_some_and(|first| first.q == target.q))
                {
                    Some(group) => group.push(target),
                    None => groups.push_back(vec![target]),
                }
            }
            targets = groups.pop_front().unwrap_or_default();
            if let Some(transaction) = self.transactions.get_mut(ticket) {
                transaction.later = groups;
            }
        }
        for target in targets.drain(..) {
            self.try_target(request, ticket, target, Vec::new(), way, now, out);
        }
        self.pool.give_targets(targets);
    }

    /// Tries the next group of targets; false when there is none.
    pub(crate) fn try_later(&mut self, ticket: Ticket, now: Now, out: &mut Outbox) -> bool {
        let Some(transaction) = self.transactions.get_mut(ticket) else { return false };
        let Some(group) = transaction.later.pop_front() else { return false };
        self.with_request(ticket, |engine, request, way| {
            for target in group {
                engine.try_target(request, ticket, target, Vec::new(), way, now, out);
            }
        });
        true
    }

    /// How a request is edited on its way.
    pub(crate) fn way_of<'a>(&self, request: &Request<'a>) -> Way<'a> {
        Way::of(request, &Routes::of(request, &self.config, &did(&self.config, request)))
    }

    #[expect(clippy::too_many_arguments, reason = "a request, its way, and what follows")]
    pub(crate) fn send_to(
        &mut self,
        request: &Request<'_>,
        ticket: Ticket,
        target: &Target,
        flow: Flow,
        rest: Vec<Target>,
        way: &Way<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let routing = self.routing_hash(request);
        crate::message::trace::branch(request, target, &flow);
        let write = |engine: &Engine, id: BranchId, bytes: &mut Vec<u8>| {
            engine.write_forwarded(request, target, &flow, way, id, bytes);
        };
        self.open_branch(ticket, flow, (target.hop, rest), write, routing, now, out);
    }

    fn write_forwarded(
        &self,
        request: &Request<'_>,
        target: &Target,
        flow: &Flow,
        way: &Way<'_>,
        branch: BranchId,
        bytes: &mut Vec<u8>,
    ) {
        let advertised = self.config.advertised_address.as_str();
        let sender = |flow: &Flow| Sender { transport: flow.transport, local: flow.local, advertised };
        let is_open = self.config.proxy.authorize == Authorize::Off;
        let from_tag = request.sender_tag();
        let record_route = RecordRoute {
            inbound: sender(&request.flow),
            outbound: sender(flow),
            did: (!is_open).then(|| did(&self.config, request)),
            from_tag: from_tag.filter(|_| self.config.rr.append_fromtag),
        };
        // An ACK repeats the INVITE's credentials, and a registered caller may send some that nobody asked for: whoever
        // reads them could call in the caller's name while the nonce lives.
        let has_credentials = request.head.line(HeaderName::ProxyAuthorization).is_some();
        let own_realm = (has_credentials && !is_open).then(|| self.call_realm(request));
        let edits = Edits {
            uri: &target.uri,
            via: sender(flow),
            branch,
            record_route: way.with_record_route.then_some(record_route),
            strip_routes: way.strip_routes,
            drop_last_route: way.drop_last_route,
            append_route: way.append_route,
            path: &target.path,
            own_realm: own_realm.as_deref(),
        };
        write_request(request, &edits, bytes);
    }

    /// The realm that a caller is challenged with, and whose credentials go no further.
    fn call_realm(&self, request: &Request<'_>) -> Vec<u8> {
        if !self.config.auth.realm.is_empty() {
            return self.config.auth.realm.clone().into_bytes();
        }
        match request.from() {
            Some(from) if !is_anonymous(&from) => from.host.to_vec(),
            _ => request.to().map_or(Vec::new(), |to| to.host.to_vec()),
        }
    }

    /// A request inside a dialog (with a To tag) that is no retransmission: it follows its Route.
    pub(crate) fn handle_in_dialog(&mut self, request: &Request<'_>, mark: Mark, now: Now, out: &mut Outbox) {
        if self.pass_to_dialog(request, mark, out) {
            return;
        }
        let is_ack = request.method == Method::Ack;
        if !is_ack && let Some(ticket) = self.find_transaction(request) {
            return self.absorb(ticket, out);
        }
        if !is_ack && request.unsupported(false).next().is_some() {
            return self.refuse(request, Answer::bad_extension(), None, now, out);
        }
        let did = did(&self.config, request);
        let routes = Routes::of(request, &self.config, &did);
        if routes.is_authentic {
            match self.is_loaded_or_waits(request.to(), request, mark, now) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) if is_ack => return self.stats.count(Counter::DropRequests),
                Err(busy) => return self.refuse(request, busy, None, now, out),
            }
        }
        let (target, way) = match self.dialog_target(request, &routes, now) {
            Ok(found) => found,
            Err(_) if is_ack => return self.stats.count(Counter::DropRequests),
            Err(answer) => return self.refuse(request, answer, None, now, out),
        };
        if is_ack {
            let Reach::Flow(flow) = target.reach else {
                return self.resolve_ack(request, target, now, out);
            };
            self.forward_ack(request, &target, flow, out);
            return self.pool.give_target(target);
        }
        match self.open_transaction(request, out) {
            Ok(ticket) => self.try_target(request, ticket, target, Vec::new(), &way, now, out),
            Err(answer) => {
                self.pool.give_target(target);
                self.refuse(request, answer, None, now, out);
            }
        }
    }

    /// An ACK of a 2xx has no transaction (RFC 3261 16.11).
    pub(crate) fn forward_ack(
        &mut self,
        request: &Request<'_>,
        target: &Target,
        flow: Flow,
        out: &mut Outbox,
    ) {
        let routing = self.routing_hash(request);
        let branch = BranchId {
            shard: self.shard,
            transaction: Ticket(u64::MAX),
            index: 0,
            secret: routing.into(),
            routing,
        };
        let way = self.way_of(request);
        self.stats.count(Counter::FwdRequests);
        out.send(flow, |bytes| self.write_forwarded(request, target, &flow, &way, branch, bytes));
    }

    /// Where a request inside a dialog goes (S58, B22, B26).
    fn dialog_target<'a>(
        &mut self,
        request: &Request<'a>,
        routes: &Routes<'a>,
        now: Now,
    ) -> Result<(Target, Way<'a>), Answer> {
        if routes.is_malformed {
            return Err(Answer::new(400, "Malformed Route header"));
        }
        // With two own Routes the second names the interface that the other side is on.
        let local =
            routes.own_last.filter(|local| self.config.is_local(*local)).unwrap_or(request.flow.local);
        let is_open = self.config.proxy.authorize == Authorize::Off;
        if routes.own == 0 && !routes.from_strict && (routes.next.is_none() || !is_open) {
            if routes.next.is_none() {
                return Err(Answer::new(404, "Not here").why("inside a dialog, but no Route"));
            }
            return Err(Answer::new(403, "Forbidden").why("a Route to a stranger"));
        }
        let remote = routes.target.unwrap_or(request.uri);
        let way = Way::of(request, routes);
        if let Some(next) = routes.next {
            let uri = Uri::parse(next).map_err(|_| Answer::new(400, "Malformed Route header"))?;
            let reach = self.config.reach(&uri, local)?;
            if !(is_open || routes.is_authentic || self.is_trusted_reach(&reach)) {
                return Err(Answer::new(403, "Forbidden").why("a Route to a stranger"));
            }
            let target = if routes.next_is_loose { remote } else { next };
            return Ok((self.target(target, reach), way));
        }
        let uri = Uri::parse(remote).map_err(|_| Answer::new(400, "Bad Request-URI"))?;
        if let Some(target) = self.binding_target(request, &uri, now) {
            return target.map(|target| (target, way));
        }
        let reach = self.config.reach(&uri, local)?;
        if !(is_open || routes.is_authentic || self.is_trusted_reach(&reach)) {
            return Err(
                Answer::new(403, "Forbidden").why("not a dialog of ours, and not to a registered contact")
            );
        }
        Ok((self.target(remote, reach), way))
    }

    /// The remote target as a live binding of To's user: it goes where that binding goes (B26). A phone that registered
    /// over a connection may name that connection's port in its dialogs, which nobody else can reach.
    fn binding_target(
        &mut self,
        request: &Request<'_>,
        uri: &Uri<'_>,
        now: Now,
    ) -> Option<Result<Target, Answer>> {
        let id = self.record_of(request.to()?)?;
        let record = self.location.get(id)?;
        let same_but_port = || {
            let is_it = |binding: &&Binding| binding.connection() != 0 && binding.is_contact_but_port(uri);
            let mut found = record.live(now).filter(is_it);
            found.next().filter(|_| found.next().is_none())
        };
        let binding = record.live(now).find(|binding| binding.is_contact(uri)).or_else(same_but_port)?;
        let reach = match self.reach_of(request, binding) {
            Ok(reach) => reach,
            Err(answer) => return Some(Err(answer)),
        };
        let (uri, path) = (self.pool.copy(uri.text), self.pool.copy_some(binding.path()));
        Some(Ok(Target { uri, path, reach, q: None, hop: None, is_same: false }))
    }

    /// A CANCEL: 200 at once, and the ringing ends (S60); one that belongs to nothing, or comes from elsewhere, is dropped.
    pub(crate) fn handle_cancel(&mut self, request: &Request<'_>, mark: Mark, now: Now, out: &mut Outbox) {
        let found = self.find_transaction(request);
        let source = request.flow.remote.ip();
        let is_callers = |engine: &mut Engine, ticket: Ticket| {
            let transaction = engine.transactions.get_mut(ticket);
            transaction.is_some_and(|transaction| transaction.server.source.remote.ip() == source)
        };
        let Some(ticket) = found.filter(|ticket| is_callers(self, *ticket)) else {
            if !self.pass_to_dialog(request, mark, out) {
                self.stats.count(Counter::DropRequests);
            }
            return;
        };
        self.refuse(request, Answer::new(200, "canceling"), None, now, out);
        let Some(transaction) = self.transactions.get_mut(ticket) else { return };
        if !transaction.server.is_open() {
            return;
        }
        transaction.is_cancelled = true;
        let (branches, later) = (transaction.branches.len() as u16, std::mem::take(&mut transaction.later));
        later.into_iter().for_each(|group| self.pool.give_targets(group));
        for index in 0..branches {
            self.cancel_branch(ticket, index, ORIGINATOR_CANCEL, now, out);
        }
    }

    /// An ACK: of a failure of ours it ends here; of a 2xx it follows its Route; any other is dropped (B29).
    pub(crate) fn handle_ack(&mut self, request: &Request<'_>, mark: Mark, now: Now, out: &mut Outbox) {
        self.stats.count(Counter::ReceivedAcks);
        if request.has_bad_via {
            return self.stats.count(Counter::DropRequests);
        }
        if let Some(ticket) = self.find_transaction(request) {
            let is_accepted =
                self.transactions.get_mut(ticket).is_some_and(|transaction| transaction.server.is_accepted());
            if !is_accepted {
                return self.acknowledge(ticket, now);
            }
        }
        if self.pass_to_dialog(request, mark, out) {
            return;
        }
        let is_sound = request.check().is_ok() && !request.is_too_many_hops();
        if !is_sound || request.to_tag().is_none() || request.head.line(HeaderName::Route).is_none() {
            return self.stats.count(Counter::DropRequests);
        }
        self.handle_in_dialog(request, mark, now, out);
    }

    /// Hands a CANCEL over along the way that its INVITE took, so that it cannot overtake it; true when it has gone.
    pub(crate) fn pass_cancel(&mut self, request: &Request<'_>, mark: Mark, out: &mut Outbox) -> bool {
        let is_authorized_first = request.to_tag().is_none() && self.needs_authorization(request);
        if mark != Mark::None || !is_authorized_first {
            return self.pass_to_owner(request, mark, out);
        }
        let caller = shard_of_uri(&self.config, request.from().map_or(&[][..], |from| from.user));
        let owner = shard_of_uri(&self.config, request.shard_key());
        let (shard, mark) =
            if caller == self.shard { (owner, Mark::Authorized) } else { (caller, Mark::None) };
        let goes = shard != self.shard;
        if goes {
            self.hand_over(request, shard, mark, out);
        }
        goes
    }

    /// Hands a dialog's request to the shard of its To: the contact's user need not be the extension's, whose
    /// bindings are there. True when it has gone.
    fn pass_to_dialog(&mut self, request: &Request<'_>, mark: Mark, out: &mut Outbox) -> bool {
        let shard = request.to().map_or(self.shard, |to| shard_of_uri(&self.config, to.user));
        let goes = mark == Mark::None && request.to_tag().is_some() && shard != self.shard;
        if goes {
            self.hand_over(request, shard, Mark::InDialog, out);
        }
        goes
    }

    /// Whether one of our Vias was written for the very same routing (RFC 3261 16.3 step 4).
    fn is_looped(&self, request: &Request<'_>) -> bool {
        let routing = self.routing_hash(request);
        let vias = request.head.values(request.bytes, HeaderName::Via).flat_map(roost_sip::list);
        let ids = vias.filter_map(|value| BranchId::parse(roost_sip::Via::parse(value).ok()?.branch?));
        ids.into_iter().any(|id| id.routing == routing)
    }
}

fn is_anonymous(from: &To<'_>) -> bool {
    from.host.eq_ignore_ascii_case(b"anonymous.invalid") || from.user.eq_ignore_ascii_case(b"anonymous")
}

pub(crate) fn unresolvable() -> Answer {
    Answer::new(476, "Unresolvable destination (476/TM)")
}

/// The transport that a URI asks for.
pub(crate) fn transport_of(uri: &Uri<'_>) -> Result<Transport, Answer> {
    if !matches!(uri.scheme, Scheme::Sip) {
        return Err(unresolvable());
    }
    match uri.param(b"transport").unwrap_or(b"udp") {
        udp if eq_unescaped(udp, b"udp", true) => Ok(Transport::Udp),
        tcp if eq_unescaped(tcp, b"tcp", true) => Ok(Transport::Tcp),
        _ => Err(no_way("the contact wants a transport that is not there")),
    }
}

/// A Route value's URI and whether it is a loose router.
pub(crate) fn route_uri(value: &[u8]) -> Option<(Uri<'_>, bool)> {
    let uri = NameAddr::parse(value).ok()?.uri().ok()?;
    let is_loose = uri.param(b"lr").is_some();
    Some((uri, is_loose))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roost_sip::Head;

    use super::*;
    use crate::contract::outbox::{Command, HandOver};
    use crate::{Config, Rng, Row, shard_of};

    /// The shards that a request passes, the one that it arrives at first.
    fn way(engines: &mut [Engine], method: &str, from: &str, to: &str) -> Vec<ShardId> {
        let text = format!(
            "{method} sip:{to}@a.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
             From: <sip:{from}@a.com>;tag=1\r\nTo: <sip:{to}@a.com>\r\nCall-ID: x\r\nCSeq: 1 {method}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let (mut head, mut out, mut passed) = (Head::new(), Outbox::default(), vec![ShardId(0)]);
        head.parse(text.as_bytes()).unwrap();
        let flow = Flow::udp("10.0.0.9:5060".parse().unwrap(), "10.0.0.1:5060".parse().unwrap());
        engines[0].handle_message(&flow, text.as_bytes(), &head, Now::default(), &mut out);
        while let Some(Command::ToShard(HandOver { shard, mark, .. })) = out.commands.pop() {
            passed.push(shard);
            let engine = &mut engines[usize::from(shard.0)];
            engine.handle_handed_over(&flow, text.as_bytes(), &head, mark, Now::default(), &mut out);
        }
        passed
    }

    #[test]
    fn a_cancel_goes_the_way_of_its_invite() {
        let config = Arc::new(Config { shards: 4, ..Config::default() });
        let mut engines: Vec<_> =
            (0..4).map(|shard| Engine::new(Arc::clone(&config), ShardId(shard), Rng::new(1))).collect();
        let mut ways = std::collections::BTreeSet::new();
        for caller in 9000..9016 {
            let caller = caller.to_string();
            let row = Row {
                contact_id: 1 << 40,
                username: caller.as_bytes().into(),
                contact: (*b"sip:x@10.0.0.1:5060").into(),
                ..Row::default()
            };
            let shard = shard_of(&config, caller.as_bytes());
            engines[usize::from(shard.0)].load(&row, Now::default()).unwrap();
            for callee in ["8001", "8002", "8003"] {
                let invite = way(&mut engines, "INVITE", &caller, callee);
                assert_eq!(way(&mut engines, "CANCEL", &caller, callee), invite, "{caller} {callee}");
                ways.insert(invite);
            }
        }
        assert!(ways.iter().any(|way| way.len() == 3), "over two other shards: {ways:?}");
    }
}
