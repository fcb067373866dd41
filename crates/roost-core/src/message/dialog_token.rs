//! What our Record-Route says of a dialog: where each side is reached. It comes back in the Route of every request inside the
//! dialog, so a call needs no memory here.
//!
//! One opaque text, `;did=` with at most 76 characters: encrypted, because it may name addresses that the other side should
//! not see, and authenticated together with the Call-ID, so that it opens no way in another call. Its MAC is what the
//! encryption begins with (as SIV has it, RFC 5297): the same dialog has the same text.
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | version (2 bits), kinds of the caller's side and the callee's (3 bits each) |
//! | 2 | a hash of the caller's tag: it tells which side a request goes to |
//! | 9 | of a call: its number |
//! | 0 to 19 each | the caller's side, the callee's side |
//! | 7 | the MAC |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::alphabet::Alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

use crate::base::flow::{Flow, ShardId};
use crate::base::hash::lasting_hash;
use crate::base::mac::{Purpose, mac};
use crate::contract::binding_ref::BindingRef;
use crate::contract::call::CallNumber;
use crate::contract::identity::Identity;
use crate::contract::listener::{Listener, is_local};
use crate::message::request::Request;

/// The longest text.
pub(crate) const MAX_TOKEN: usize = 76;
/// Room for any text.
pub(crate) type TokenText = SmallVec<[u8; 96]>;
/// The longest, before it is made text.
const MAX_BYTES: usize = MAX_TOKEN / 4 * 3;
const MAC: usize = 7;
/// Base64 without `q` and `Q`: there are programs (SIPp) that look for "CSeq" anywhere in a message.
const ALPHABET: &str = "ABCDEFGHIJKLMNOP~RSTUVWXYZabcdefghijklmnop.rstuvwxyz0123456789-_";
const TEXT: GeneralPurpose = match Alphabet::new(ALPHABET) {
    Ok(alphabet) => GeneralPurpose::new(&alphabet, NO_PAD),
    Err(_) => panic!("64 different characters"),
};
/// Of dialogs that are no calls, and of those that began before calls had numbers.
const VERSION: u8 = 1;
/// With the number of a call.
const OF_CALL: u8 = 2;

/// What is known of a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DialogToken {
    caller_tag: u16,
    pub(crate) call: Option<CallNumber>,
    pub(crate) caller: Side,
    pub(crate) callee: Side,
}

/// Where one side of a dialog is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Unknown,
    /// Where a binding is. `epoch` tells whether shard and slot are this process's.
    Binding {
        epoch: u8,
        binding: BindingRef,
    },
    /// Where its request came from, or went to: an address seen from one of our listeners, and a connection or 0.
    Peer {
        listener: u8,
        remote: Option<SocketAddr>,
        connection: u64,
    },
}

impl Side {
    pub(crate) fn of_binding(identity: &Identity, binding: BindingRef) -> Side {
        Side::Binding { epoch: identity.epoch, binding }
    }

    /// The peer of a flow.
    pub(crate) fn of_flow(listeners: &[Listener], flow: &Flow) -> Side {
        let is_it = |listener: &Listener| listener.transport == flow.transport && listener.covers(flow.local);
        match listeners.iter().find(|listener| is_it(listener)) {
            Some(listener) => {
                let (remote, connection) = (Some(flow.remote), flow.connection);
                Side::Peer { listener: listener.mark(), remote, connection }
            }
            None => Side::Unknown,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Side::Unknown => 0,
            Side::Binding { .. } => 1,
            Side::Peer { remote: Some(SocketAddr::V4(_)), connection: 0, .. } => 2,
            Side::Peer { remote: Some(SocketAddr::V6(_)), connection: 0, .. } => 3,
            Side::Peer { remote: Some(SocketAddr::V4(_)), .. } => 4,
            // Two of them with addresses and connections would be too long.
            Side::Peer { .. } => 5,
        }
    }

    fn write(&self, out: &mut Writer) {
        match *self {
            Side::Unknown => {}
            Side::Binding { epoch, binding: BindingRef { shard, record, contact_id, instance } } => {
                out.put(&[epoch]);
                out.put(&shard.0.to_be_bytes());
                out.put(&record.to_be_bytes());
                out.put(&contact_id.to_be_bytes());
                out.put(&instance.to_be_bytes());
            }
            Side::Peer { listener, remote, connection } => {
                out.put(&[listener]);
                match remote {
                    Some(SocketAddr::V4(v4)) => out.put(&v4.ip().octets()),
                    Some(SocketAddr::V6(v6)) if connection == 0 => out.put(&v6.ip().octets()),
                    _ => return out.put_connection(connection),
                }
                out.put(&remote.map_or(0, |remote| remote.port()).to_be_bytes());
                if connection != 0 {
                    out.put_connection(connection);
                }
            }
        }
    }

    fn read(kind: u8, from: &mut Reader<'_>) -> Option<Side> {
        let remote =
            |ip: IpAddr, from: &mut Reader<'_>| Some(SocketAddr::new(ip, u16::from_be_bytes(from.take()?)));
        Some(match kind {
            0 => Side::Unknown,
            1 => {
                let [epoch] = from.take()?;
                let (shard, record) =
                    (ShardId(u16::from_be_bytes(from.take()?)), u32::from_be_bytes(from.take()?));
                let (contact_id, instance) =
                    (u64::from_be_bytes(from.take()?), u16::from_be_bytes(from.take()?));
                Side::Binding { epoch, binding: BindingRef { shard, record, contact_id, instance } }
            }
            2..=4 => {
                let [listener] = from.take()?;
                let ip = match kind {
                    3 => IpAddr::V6(Ipv6Addr::from(from.take::<16>()?)),
                    _ => IpAddr::V4(Ipv4Addr::from(from.take::<4>()?)),
                };
                let remote = Some(remote(ip, from)?);
                Side::Peer {
                    listener,
                    remote,
                    connection: if kind == 4 { from.take_connection()? } else { 0 },
                }
            }
            5 => {
                let [listener] = from.take()?;
                Side::Peer { listener, remote: None, connection: from.take_connection()? }
            }
            _ => return None,
        })
    }

    /// The flow of a peer; `usual` is an address of ours that the dialog goes by.
    pub(crate) fn flow(&self, listeners: &[Listener], usual: SocketAddr) -> Option<Flow> {
        let Side::Peer { listener, remote, connection } = *self else { return None };
        let listener = listeners.iter().find(|own| own.mark() == listener)?;
        let remote = remote.unwrap_or(SocketAddr::new(listener.address.ip(), 0));
        let at_usual = SocketAddr::new(usual.ip(), listener.address.port());
        let local = if listener.covers(at_usual) { at_usual } else { listener.address };
        let flow = Flow { transport: listener.transport, local, remote, connection };
        (!local.ip().is_unspecified() && is_local(listeners, local)).then_some(flow)
    }
}

impl DialogToken {
    /// Of the dialog that a request begins.
    pub(crate) fn new(
        request: &Request<'_>,
        call: Option<CallNumber>,
        caller: Side,
        callee: Side,
    ) -> DialogToken {
        DialogToken { caller_tag: tag_hash(request.sender_tag()), call, caller, callee }
    }

    /// Where a request inside the dialog goes.
    pub(crate) fn destination(&self, request: &Request<'_>) -> Side {
        match self.is_from_caller(request) {
            Some(true) => self.callee,
            Some(false) => self.caller,
            None => Side::Unknown,
        }
    }

    /// Whether the caller has sent a request inside the dialog. `None`: the caller has another tag than it had, or both
    /// have tags that look alike.
    pub(crate) fn is_from_caller(&self, request: &Request<'_>) -> Option<bool> {
        let is_callers = |tag| tag_hash(tag) == self.caller_tag;
        match (is_callers(request.sender_tag()), is_callers(request.to_tag())) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    }

    /// Appends the text.
    pub(crate) fn write(&self, key: &[u8; 32], call_id: &[u8], out: &mut TokenText) {
        let mut bytes = Writer { bytes: [0; MAX_BYTES], len: 0 };
        let version = if self.call.is_some() { OF_CALL } else { VERSION };
        bytes.put(&[version << 6 | self.caller.kind() << 3 | self.callee.kind()]);
        bytes.put(&self.caller_tag.to_be_bytes());
        if let Some(CallNumber { epoch, shard, slot, serial }) = self.call {
            bytes.put(&[epoch]);
            bytes.put(&shard.0.to_be_bytes());
            bytes.put(&slot.to_be_bytes());
            bytes.put(&serial.to_be_bytes());
        }
        self.caller.write(&mut bytes);
        self.callee.write(&mut bytes);
        let Writer { mut bytes, len } = bytes;
        let Some(plain) = bytes.get_mut(..len) else { return };
        let check = check(key, call_id, plain);
        cover(key, &check, plain.get_mut(1..).unwrap_or_default());
        let Some(end) = bytes.get_mut(len..len + MAC) else { return };
        end.copy_from_slice(&check);
        let mut text = [0; MAX_TOKEN];
        let encoded = bytes.get(..len + MAC).and_then(|bytes| TEXT.encode_slice(bytes, &mut text).ok());
        out.extend_from_slice(text.get(..encoded.unwrap_or(0)).unwrap_or(&[]));
    }

    /// Takes a text apart; `None` when we did not write it, or in another call.
    pub(crate) fn parse(key: &[u8; 32], call_id: &[u8], text: &[u8]) -> Option<DialogToken> {
        let mut bytes = [0; MAX_BYTES];
        if text.len() > MAX_TOKEN {
            return None;
        }
        let len = TEXT.decode_slice(text, &mut bytes).ok()?;
        let (plain, mac) = bytes.get_mut(..len)?.split_at_mut_checked(len.checked_sub(MAC)?)?;
        let given: [u8; MAC] = mac.try_into().ok()?;
        cover(key, &given, plain.get_mut(1..)?);
        if !bool::from(check(key, call_id, plain).ct_eq(&given)) {
            return None;
        }
        let mut reader = Reader(plain);
        let [head] = reader.take()?;
        let caller_tag = u16::from_be_bytes(reader.take()?);
        let call = match head >> 6 {
            OF_CALL => {
                let [epoch] = reader.take()?;
                let (shard, slot) =
                    (ShardId(u16::from_be_bytes(reader.take()?)), u32::from_be_bytes(reader.take()?));
                Some(CallNumber { epoch, shard, slot, serial: u16::from_be_bytes(reader.take()?) })
            }
            VERSION => None,
            _ => return None,
        };
        let caller = Side::read(head >> 3 & 7, &mut reader)?;
        let callee = Side::read(head & 7, &mut reader)?;
        Some(DialogToken { caller_tag, call, caller, callee })
    }
}

/// The MAC of a call's token before it is encrypted.
fn check(key: &[u8; 32], call_id: &[u8], plain: &[u8]) -> [u8; MAC] {
    let mut check = [0; MAC];
    let mac = mac(key, Purpose::DialogToken, &[call_id, plain]);
    check.iter_mut().zip(mac).for_each(|(byte, mac)| *byte = mac);
    check
}

/// Encrypts, or decrypts: the key stream is a pseudo-random function of the MAC and a counter.
fn cover(key: &[u8; 32], check: &[u8; MAC], bytes: &mut [u8]) {
    for (counter, block) in (0u8..).zip(bytes.chunks_mut(16)) {
        let stream = mac(key, Purpose::DialogCover, &[check, &[counter]]);
        block.iter_mut().zip(stream).for_each(|(byte, stream)| *byte ^= stream);
    }
}

fn tag_hash(tag: Option<&[u8]>) -> u16 {
    lasting_hash(tag.unwrap_or(&[]))
}

/// A hash of an instance for [`BindingRef::instance`].
pub(crate) fn instance_hash(instance: &[u8]) -> u16 {
    if instance.is_empty() { 0 } else { tag_hash(Some(instance)).max(1) }
}

struct Writer {
    bytes: [u8; MAX_BYTES],
    len: usize,
}

impl Writer {
    fn put(&mut self, part: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + part.len()) {
            place.copy_from_slice(part);
            self.len += part.len();
        }
    }

    /// 48 bits: connections are counted from 1.
    fn put_connection(&mut self, connection: u64) {
        let [_, _, low @ ..] = connection.to_be_bytes();
        self.put(&low);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn take_connection(&mut self) -> Option<u64> {
        let low: [u8; 6] = self.take()?;
        Some(low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::transport::Transport;
    use crate::contract::listener::number_apart;

    const KEY: [u8; 32] = [7; 32];

    fn sides() -> Vec<Side> {
        let binding =
            BindingRef { shard: ShardId(300), record: 1 << 20, contact_id: u64::MAX - 5, instance: 9 };
        let peer = |remote: Option<&str>, connection| Side::Peer {
            listener: 3,
            remote: remote.map(|remote| remote.parse().unwrap()),
            connection,
        };
        vec![
            Side::Unknown,
            Side::Binding { epoch: 200, binding },
            peer(Some("10.0.0.9:5062"), 0),
            peer(Some("[2001:db8::9]:5062"), 0),
            peer(Some("10.0.0.9:5062"), (1 << 48) - 1),
            peer(None, 77),
        ]
    }

    fn text(token: &DialogToken) -> Vec<u8> {
        let mut text = SmallVec::new();
        token.write(&KEY, b"call", &mut text);
        text.into_vec()
    }

    #[test]
    fn what_is_written_comes_back_in_its_own_call_only() {
        let number = CallNumber { epoch: 200, shard: ShardId(300), slot: u32::MAX - 1, serial: 9 };
        for (caller, callee) in
            sides().into_iter().flat_map(|one| sides().into_iter().map(move |other| (one, other)))
        {
            for call in [None, Some(number)] {
                let token = DialogToken { caller_tag: 0xbeef, call, caller, callee };
                let written = text(&token);
                assert!(written.len() <= MAX_TOKEN && written.len() > 8, "{}", written.len());
                assert_ne!(written.len(), 16, "an old mark is that long");
                assert_eq!(DialogToken::parse(&KEY, b"call", &written), Some(token));
                assert_eq!(DialogToken::parse(&KEY, b"other", &written), None);
                assert_eq!(DialogToken::parse(&[8; 32], b"call", &written), None);
                for at in 0..written.len() {
                    let mut forged = written.clone();
                    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                    assert_eq!(DialogToken::parse(&KEY, b"call", &forged), None, "byte {at}");
                    assert_eq!(DialogToken::parse(&KEY, b"call", &written[..at]), None);
                }
            }
        }
        assert_eq!(DialogToken::parse(&KEY, b"call", &[b'A'; 77]), None);
    }

    #[test]
    fn no_address_can_be_read_in_it() {
        let peer = sides()[2];
        let written = text(&DialogToken { caller_tag: 1, call: None, caller: peer, callee: Side::Unknown });
        let mut bytes = [0; MAX_BYTES];
        TEXT.decode_slice(&written, &mut bytes).unwrap();
        assert!(!bytes.windows(3).any(|three| three == [10, 0, 0]), "{bytes:?}");
        // Nor that two calls come from the same place.
        let mut other = SmallVec::new();
        DialogToken { caller_tag: 1, call: None, caller: peer, callee: Side::Unknown }
            .write(&KEY, b"other", &mut other);
        assert_ne!(written[2..], other[2..]);
    }

    #[test]
    fn a_peer_is_reached_from_the_listener_that_it_came_to() {
        let listener = |transport, address: &str| Listener::new(transport, address.parse().unwrap());
        let listeners = [listener(Transport::Udp, "0.0.0.0:5060"), listener(Transport::Tcp, "10.0.0.1:5070")];
        let usual = "10.0.0.1:5060".parse().unwrap();
        let remote = "10.0.0.9:4000".parse().unwrap();
        for flow in [
            Flow::udp(usual, remote),
            Flow::stream(Transport::Tcp, "10.0.0.1:5070".parse().unwrap(), remote, 5),
        ] {
            assert_eq!(Side::of_flow(&listeners, &flow).flow(&listeners, usual), Some(flow));
        }
        let elsewhere = Flow::udp("10.0.0.2:5080".parse().unwrap(), remote);
        assert_eq!(Side::of_flow(&listeners, &elsewhere), Side::Unknown);
    }

    #[test]
    fn a_listener_is_known_when_others_have_come_or_gone() {
        let at = |port: u16| Listener::udp(([10, 0, 0, 1], port).into());
        // So many that some would have the same number.
        let mut all: Vec<Listener> = (5_000..5_100).map(at).collect();
        number_apart(&mut all, &[]);
        let mut after: Vec<Listener> = all.iter().skip(50).copied().chain((6_000..6_020).map(at)).collect();
        let before = all.clone();
        number_apart(&mut after, &before);
        for listener in &all {
            let flow = Flow::udp(listener.address, "10.1.0.1:40000".parse().unwrap());
            let side = Side::of_flow(&all, &flow);
            assert_eq!(side.flow(&all, listener.address), Some(flow));
            let found = side.flow(&after, listener.address);
            let is_there = after.iter().any(|one| one.address == listener.address);
            assert!(if is_there { found == Some(flow) } else { found != Some(flow) });
        }
        let mut marks: Vec<u8> = after.iter().map(Listener::mark).collect();
        marks.sort_unstable();
        marks.dedup();
        assert_eq!(marks.len(), 70, "each has its own");
    }

    #[test]
    fn a_floating_listener_is_known_by_its_address_wherever_it_stands() {
        let floating = Listener { is_floating: true, ..Listener::udp("10.0.0.100:5060".parse().unwrap()) };
        let (own, other) = ("10.0.0.1:5060".parse().unwrap(), "10.0.0.2:5060".parse().unwrap());
        let one = [floating, Listener::udp(own)];
        let two = [Listener::udp(other), Listener::new(Transport::Tcp, other), floating];
        let flow = Flow::udp(floating.address, "10.1.0.1:40000".parse().unwrap());
        let side = Side::of_flow(&one, &flow);
        assert_eq!(side.flow(&two, other), Some(flow));
        let usual = Side::of_flow(&one, &Flow::udp(own, flow.remote));
        assert_eq!(usual.flow(&one, own), Some(Flow::udp(own, flow.remote)));
        assert_eq!(side.flow(&two[..2], other), None);
    }
}
