//! A binding: one AOR-to-contact entry of the location service.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use roost_sip::{ALL_METHODS, Method, MethodSet, Params, Q, Uri, number, same_uri};

use crate::base::flow::{Flow, Now, StoredFlow};
use crate::base::text::push_socket;
use crate::base::transport::Transport;
use crate::contract::event::ContactFacts;
use crate::contract::row::{PackedRow, Row};
use crate::contract::shared::split_route;
use crate::registrar::features::features_of;

/// Room for `sip:`, an IPv4 address, a port and `;transport=tcp`; longer ones grow.
const LONGEST_ADDRESS: usize = 40;
/// Deadline of a binding that never expires.
pub(crate) const PERMANENT: u64 = u64::MAX;

/// What a REGISTER (or an operator, or a loaded row) says of one contact.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    /// The row's key, see [`crate::contact_id`].
    pub(crate) contact_id: u64,
    pub(crate) text: Text,
    pub(crate) cseq: u32,
    pub(crate) q: Option<Q>,
    pub(crate) methods: MethodSet,
    /// Monotonic milliseconds; [`PERMANENT`] never expires.
    pub(crate) deadline_ms: u64,
    /// When it was last refreshed, in monotonic milliseconds.
    pub(crate) updated_ms: u64,
    /// Where it is reached from.
    pub(crate) origin: StoredOrigin,
    /// Whether it is where its packet came from and not where its Contact says.
    pub(crate) behind_nat: bool,
}

/// Where a binding came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A REGISTER of this process's life.
    Live(Flow),
    /// A row of the database, or an operator's word: our address and the phone's, as far as they tell.
    Loaded { local: Option<(Transport, SocketAddr)>, source: Option<SocketAddr> },
}

/// An origin as bindings keep it: there are as many of them as phones, and nearly all are of UDP over IPv4.
#[derive(Debug, Clone)]
pub(crate) enum StoredOrigin {
    Live(StoredFlow),
    LoadedV4 { local: SocketAddrV4, source: SocketAddrV4 },
    Loaded(Box<Origin>),
}

impl From<Origin> for StoredOrigin {
    fn from(origin: Origin) -> StoredOrigin {
        match origin {
            Origin::Live(flow) => StoredOrigin::Live(flow.into()),
            Origin::Loaded {
                local: Some((Transport::Udp, SocketAddr::V4(local))),
                source: Some(SocketAddr::V4(source)),
            } => StoredOrigin::LoadedV4 { local, source },
            other => StoredOrigin::Loaded(Box::new(other)),
        }
    }
}

/// Contact URI, Call-ID, User-Agent, instance and what few have, one behind the other in one allocation. That is the path,
/// or, where there is more than a path, [`MORE`], the lengths of path and features (2 bytes each), path, features and
/// `kv_store`'s other keys.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    bytes: Box<[u8]>,
    ends: [u16; 4],
}

/// No path begins with it.
const MORE: u8 = 0;

/// The texts of a binding, to make one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BindingText<'a> {
    pub(crate) contact: &'a [u8],
    pub(crate) callid: &'a [u8],
    pub(crate) user_agent: &'a [u8],
    pub(crate) instance: &'a [u8],
    pub(crate) path: &'a [u8],
    /// As [`features_of`] gives them.
    pub(crate) features: &'a [u8],
    /// As [`Row::kv_others`].
    pub(crate) kv_others: &'a [u8],
}

impl From<BindingText<'_>> for Text {
    fn from(text: BindingText<'_>) -> Text {
        let BindingText { contact, callid, user_agent, instance, path, features, kv_others } = text;
        let mut end = 0;
        let ends = [contact, callid, user_agent, instance].map(|part| {
            end += part.len();
            end as u16
        });
        let lengths;
        let more = match (features, kv_others) {
            ([], []) => &[][..],
            _ => {
                let [path_low, path_high] = (path.len() as u16).to_le_bytes();
                let [low, high] = (features.len() as u16).to_le_bytes();
                lengths = [MORE, path_low, path_high, low, high];
                &lengths
            }
        };
        let bytes = [contact, callid, user_agent, instance, more, path, features, kv_others].concat();
        Text { bytes: bytes.into(), ends }
    }
}

impl Text {
    fn part(&self, index: usize) -> &[u8] {
        let end_of = |index: usize| self.ends.get(index).map_or(self.bytes.len(), |end| usize::from(*end));
        let start = index.checked_sub(1).map_or(0, end_of);
        self.bytes.get(start..end_of(index)).unwrap_or(&[])
    }

    /// Path, features and the other keys.
    fn rest(&self) -> [&[u8]; 3] {
        match self.part(4) {
            [MORE, path_low, path_high, low, high, rest @ ..] => {
                let (path, rest) = cut(rest, u16::from_le_bytes([*path_low, *path_high]));
                let (features, kv_others) = cut(rest, u16::from_le_bytes([*low, *high]));
                [path, features, kv_others]
            }
            path => [path, &[], &[]],
        }
    }
}

fn cut(text: &[u8], at: u16) -> (&[u8], &[u8]) {
    text.split_at_checked(at.into()).unwrap_or((text, &[]))
}

impl Binding {
    /// A binding from a row that has not expired.
    pub(crate) fn from_row(row: &Row, now: Now) -> Binding {
        let path = row.path.as_deref().unwrap_or(&[]);
        let source = row.received.as_deref().and_then(received_address).or_else(|| {
            let uri = Uri::parse(&row.contact).ok().filter(|_| split_route(path).1.is_empty())?;
            uri_address(&uri)
        });
        let local = row.socket.as_deref().and_then(Transport::of_socket);
        let features = features_of(Params::new(row.features.as_deref().unwrap_or(&[])));
        let text = BindingText {
            contact: &row.contact,
            callid: &row.callid,
            user_agent: &row.user_agent,
            instance: row.sip_instance.as_deref().unwrap_or(&[]),
            path,
            features: &features,
            kv_others: row.kv_others.as_deref().unwrap_or(&[]),
        };
        Binding {
            contact_id: row.contact_id,
            text: text.into(),
            cseq: row.cseq,
            q: row.q,
            methods: row.methods.unwrap_or(ALL_METHODS),
            deadline_ms: match row.expires {
                0 => PERMANENT,
                expires => now.mono_ms + expires.saturating_sub(now.unix_s) * 1000,
            },
            updated_ms: now.mono_ms.saturating_sub(now.unix_s.saturating_sub(row.last_modified) * 1000),
            origin: Origin::Loaded { local, source }.into(),
            behind_nat: row.received.is_some(),
        }
    }

    /// The Contact URI as sent.
    pub(crate) fn contact(&self) -> &[u8] {
        self.text.part(0)
    }

    /// Whether this is the binding of a Contact URI (RFC 3261 19.1.4).
    pub(crate) fn is_contact(&self, uri: &Uri<'_>) -> bool {
        Uri::parse(self.contact()).is_ok_and(|contact| same_uri(&contact, uri))
    }

    /// Whether the Contact URI has this host.
    pub(crate) fn is_contact_host(&self, uri: &Uri<'_>) -> bool {
        Uri::parse(self.contact()).is_ok_and(|contact| contact.host.eq_ignore_ascii_case(uri.host))
    }

    pub(crate) fn callid(&self) -> &[u8] {
        self.text.part(1)
    }

    /// `n/a` where the phone named none.
    pub(crate) fn user_agent(&self) -> &[u8] {
        self.text.part(2)
    }

    /// `+sip.instance` with its angle brackets; empty when there is none.
    pub(crate) fn instance(&self) -> &[u8] {
        self.text.part(3)
    }

    /// The Route values that lead to the contact (RFC 3327); empty when there are none.
    pub(crate) fn path(&self) -> &[u8] {
        self.text.rest()[0]
    }

    /// Whether another node has its phone: its path leads there first.
    pub(crate) fn is_elsewhere(&self) -> bool {
        split_route(self.path()).0.is_some()
    }

    /// Its features as [`features_of`] gives them; empty when there are none.
    pub(crate) fn features(&self) -> &[u8] {
        self.text.rest()[1]
    }

    /// The keys of `kv_store` that are not ours; empty when there are none.
    pub(crate) fn kv_others(&self) -> &[u8] {
        self.text.rest()[2]
    }

    pub(crate) fn is_live(&self, now: Now) -> bool {
        self.deadline_ms > now.mono_ms
    }

    /// Whether the contact takes this method.
    pub(crate) fn takes(&self, method: Method) -> bool {
        self.methods & method.bit() != 0
    }

    /// Seconds left, rounded up; `None` when it never expires.
    pub(crate) fn remaining_s(&self, now: Now) -> Option<u64> {
        (self.deadline_ms != PERMANENT).then(|| self.deadline_ms.saturating_sub(now.mono_ms).div_ceil(1000))
    }

    /// What those are told who hear of it.
    pub(crate) fn facts(&self, now: Now) -> ContactFacts {
        ContactFacts {
            contact_id: self.contact_id,
            uri: self.contact().into(),
            source: self.source(),
            socket: self.socket().map(|socket| socket.into_bytes().into()),
            received: self.received().map(|received| received.into_bytes().into()),
            path: self.path().into(),
            q: self.q,
            callid: self.callid().into(),
            cseq: self.cseq,
            user_agent: self.user_agent().into(),
            expires_s: self.remaining_s(now),
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        match &self.origin {
            StoredOrigin::Live(flow) => Origin::Live(flow.get()),
            StoredOrigin::LoadedV4 { local, source } => Origin::Loaded {
                local: Some((Transport::Udp, (*local).into())),
                source: Some((*source).into()),
            },
            StoredOrigin::Loaded(origin) => **origin,
        }
    }

    /// The address the binding was made from, as far as it is known.
    pub(crate) fn source(&self) -> Option<SocketAddr> {
        match self.origin() {
            Origin::Live(flow) => Some(flow.remote),
            Origin::Loaded { source, .. } => source,
        }
    }

    /// Whether a request that came over this flow comes from where the binding was made: by the same transport from the
    /// same address and port, and over the same connection.
    pub(crate) fn is_from(&self, flow: &Flow) -> bool {
        match self.origin() {
            Origin::Live(own) => {
                (own.transport, own.remote, own.connection) == (flow.transport, flow.remote, flow.connection)
            }
            Origin::Loaded { local, source } => {
                let is_datagram = local.is_none_or(|(transport, _)| transport == Transport::Udp);
                source == Some(flow.remote) && is_datagram && flow.transport == Transport::Udp
            }
        }
    }

    /// The connection that it was made over; 0 for datagrams, and when that connection is gone.
    pub(crate) fn connection(&self) -> u64 {
        match self.origin() {
            Origin::Live(flow) => flow.connection,
            Origin::Loaded { .. } => 0,
        }
    }

    /// Whether nothing leads to it now: the connection is gone that it was made over, and nobody but the phone can make
    /// another (WebSocket, behind NAT, or a flow of RFC 5626). It neither rings nor counts.
    pub(crate) fn is_stranded(&self) -> bool {
        if matches!(self.origin(), Origin::Live(flow) if flow.connection != 0) {
            return false;
        }
        let transport = self.transport();
        let is_its_own = !transport.can_connect()
            || (transport.is_reliable() && (self.behind_nat || self.reg_id().is_some()));
        is_its_own && self.path().is_empty()
    }

    /// What it was made over, or its Contact asks for where that is not known.
    pub(crate) fn transport(&self) -> Transport {
        match self.origin() {
            Origin::Live(flow) => flow.transport,
            Origin::Loaded { local: Some((transport, _)), .. } => transport,
            Origin::Loaded { .. } => Uri::parse(self.contact())
                .ok()
                .and_then(|uri| Transport::of_uri(&uri))
                .unwrap_or(Transport::Udp),
        }
    }

    /// The number of its flow (RFC 5626), of a phone that has several.
    pub(crate) fn reg_id(&self) -> Option<u32> {
        let features = self.features();
        if self.instance().is_empty() || features.is_empty() {
            return None;
        }
        number(Params::new(features).get(b"reg-id")?).ok().filter(|id| *id != 0)
    }

    /// Whether it comes from a row.
    pub(crate) fn is_loaded(&self) -> bool {
        matches!(self.origin(), Origin::Loaded { .. })
    }

    /// It was made over this flow, which its row does not tell.
    pub(crate) fn made_over(&mut self, flow: Flow) {
        self.origin = Origin::Live(flow).into();
    }

    /// Its connection is gone.
    pub(crate) fn lose_connection(&mut self) {
        if let Origin::Live(flow) = self.origin() {
            self.origin = Origin::Live(Flow { connection: 0, ..flow }).into();
        }
    }

    /// Whether [`Binding::source`] may be another than the REGISTER's: OpenSIPS writes the phone's address where a proxy's
    /// stood, if it is told to (`path-received`).
    pub(crate) fn is_source_doubtful(&self) -> bool {
        // The Route to its node is no proxy that it came through.
        matches!(self.origin(), Origin::Loaded { .. }) && !split_route(self.path()).1.is_empty()
    }

    pub(crate) fn source_ip(&self) -> Option<IpAddr> {
        self.source().map(|source| source.ip())
    }

    /// Our address that its REGISTER came to.
    pub(crate) fn local(&self) -> Option<(Transport, SocketAddr)> {
        match self.origin() {
            Origin::Live(flow) => Some((flow.transport, flow.local)),
            Origin::Loaded { local, .. } => local,
        }
    }

    /// Our address that it was made on, as the column `socket` has it.
    pub(crate) fn socket(&self) -> Option<String> {
        let (transport, local) = self.local()?;
        let mut text = Vec::with_capacity(LONGEST_ADDRESS);
        text.extend_from_slice(transport.as_str().as_bytes());
        text.push(b':');
        push_socket(local, &mut text);
        String::from_utf8(text).ok()
    }

    /// `sip:ip:port` where calls go to the packet's source instead of the Contact.
    pub(crate) fn received(&self) -> Option<String> {
        let transport = match self.origin() {
            Origin::Live(flow) => flow.transport,
            Origin::Loaded { local: Some((transport, _)), .. } => transport,
            _ => Transport::Udp,
        };
        let source = self.source().filter(|_| self.behind_nat)?;
        let mut text = Vec::with_capacity(LONGEST_ADDRESS);
        text.extend_from_slice(b"sip:");
        push_socket(source, &mut text);
        text.extend_from_slice(transport.uri_param().as_bytes());
        String::from_utf8(text).ok()
    }

    /// The binding's row, with a Route that leads here, for the other nodes, before its path.
    pub(crate) fn row(
        &self,
        username: &[u8],
        domain: Option<&[u8]>,
        route: Option<&[u8]>,
        now: Now,
    ) -> PackedRow {
        let (received, socket) = (self.received(), self.socket());
        let own = self.path();
        let path: Cow<'_, [u8]> = match route {
            Some(route) if own.is_empty() => route.into(),
            Some(route) => [route, b",", own].concat().into(),
            None => own.into(),
        };
        let row = Row {
            contact_id: self.contact_id,
            username,
            domain,
            contact: self.contact(),
            received: received.as_deref().map(str::as_bytes),
            path: Some(&*path).filter(|path| !path.is_empty()),
            expires: self.remaining_s(now).map_or(0, |left| now.unix_s + left),
            q: self.q,
            callid: self.callid(),
            cseq: self.cseq,
            last_modified: now.unix_s,
            cflags: &[],
            flags: 0,
            user_agent: self.user_agent(),
            socket: socket.as_deref().map(str::as_bytes),
            methods: (self.methods != ALL_METHODS).then_some(self.methods),
            sip_instance: Some(self.instance()).filter(|instance| !instance.is_empty()),
            features: Some(self.features()).filter(|features| !features.is_empty()),
            kv_others: Some(self.kv_others()).filter(|others| !others.is_empty()),
        };
        row.pack()
    }
}

/// The address in a `received` column: `sip:ip:port`, perhaps with parameters.
fn received_address(text: &[u8]) -> Option<SocketAddr> {
    uri_address(&Uri::parse(text).ok()?)
}

/// The address that a URI names, where it names one.
pub(crate) fn uri_address(uri: &Uri<'_>) -> Option<SocketAddr> {
    let transport = Transport::of_uri(uri).unwrap_or(Transport::Udp);
    Some(SocketAddr::new(uri.host_ip()?, transport.port_or_default(uri.port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_small_and_comes_back() {
        assert!(size_of::<Binding>() <= 80, "{}", size_of::<Binding>());
        let (v4, v6) = ("10.0.0.1:5060".parse().unwrap(), "[2001:db8::1]:5060".parse().unwrap());
        let tcp = Flow { transport: Transport::Tcp, connection: 9, ..Flow::udp(v4, v4) };
        let loaded = |local, source| Origin::Loaded { local, source };
        for origin in [
            Origin::Live(Flow::udp(v4, v4)),
            Origin::Live(Flow::udp(v6, v6)),
            Origin::Live(tcp),
            loaded(Some((Transport::Udp, v4)), Some(v4)),
            loaded(Some((Transport::Tcp, v4)), Some(v4)),
            loaded(None, Some(v6)),
            loaded(None, None),
        ] {
            let binding =
                Binding { origin: origin.into(), ..Binding::from_row(&Row::default(), Now::default()) };
            assert_eq!(binding.origin(), origin);
        }
    }

    #[test]
    fn a_row_and_back() {
        let now = Now { mono_ms: 5_000, unix_s: 1_000 };
        let row = Row {
            contact_id: 7,
            username: (*b"9001").into(),
            contact: (*b"sip:9001@192.168.1.5:5062").into(),
            received: Some((*b"sip:10.0.0.9:40000").into()),
            path: Some((*b"<sip:10.0.0.9;lr>,<sip:10.0.0.8;lr>").into()),
            expires: 1_060,
            q: Some(500),
            callid: (*b"abc").into(),
            cseq: 3,
            last_modified: 1_000,
            user_agent: (*b"Yealink").into(),
            socket: Some((*b"udp:127.0.0.1:5060").into()),
            methods: Some(5951),
            sip_instance: Some((*b"<urn:uuid:1>").into()),
            features: Some((*b";reg-id=1;audio").into()),
            kv_others: Some((*b"{}").into()),
            ..Row::default()
        };
        let binding = Binding::from_row(&row, now);
        assert_eq!(binding.remaining_s(now), Some(60));
        assert_eq!(binding.source(), Some("10.0.0.9:40000".parse().unwrap()));
        assert_eq!((binding.contact(), binding.callid()), (&row.contact[..], &b"abc"[..]));
        assert_eq!(binding.path(), b"<sip:10.0.0.9;lr>,<sip:10.0.0.8;lr>");
        assert_eq!(binding.row(b"9001", None, None, now).unpack(), row);
        assert!(binding.takes(Method::Invite) && !binding.takes(Method::Prack));
        assert!(!binding.is_live(Now { mono_ms: 65_000, unix_s: 0 }));
    }

    #[test]
    fn a_row_with_a_path_does_not_tell_where_it_came_from() {
        let contact = (*b"sip:9001@192.168.1.5:5062").into();
        let row = Row { contact, path: Some((*b"<sip:10.0.0.9;lr>").into()), ..Row::default() };
        let binding = Binding::from_row(&row, Now::default());
        assert_eq!((binding.source(), binding.is_source_doubtful()), (None, true));
        let row = Row { path: None, received: Some((*b"sip:10.0.0.9").into()), ..row };
        let binding = Binding::from_row(&row, Now::default());
        assert_eq!((binding.source_ip(), binding.is_source_doubtful()), ("10.0.0.9".parse().ok(), false));
        assert_eq!(
            (binding.path(), binding.row(b"", None, None, Now::default()).row().path),
            (&b""[..], None)
        );
    }

    #[test]
    fn a_row_without_addresses() {
        let row = Row {
            contact: (*b"sip:9001@phone.local").into(),
            socket: Some((*b"junk").into()),
            ..Row::default()
        };
        let binding = Binding::from_row(&row, Now::default());
        assert_eq!(
            (binding.source(), binding.socket(), binding.remaining_s(Now::default())),
            (None, None, None)
        );
    }
}
