//! HEPv3: `HEP3`, the whole length, then chunks of vendor, type, length and value, all in network order.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// So much of a Call-ID brings messages together: longer ones leave too little room for the message.
const MAX_CORRELATION: usize = 255;

const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const SOURCE_V4: u16 = 3;
const DESTINATION_V4: u16 = 4;
const SOURCE_V6: u16 = 5;
const DESTINATION_V6: u16 = 6;
const SOURCE_PORT: u16 = 7;
const DESTINATION_PORT: u16 = 8;
const SECONDS: u16 = 9;
const MICROSECONDS: u16 = 10;
const KIND: u16 = 11;
const CAPTURE_ID: u16 = 12;
const KEY: u16 = 14;
const PAYLOAD: u16 = 15;
const CORRELATION: u16 = 17;

/// roost's own chunks, for `roost trace`; others pass them over.
const ROOST: u16 = 0x526f;
/// 1: roost has sent the message; 0: it was received.
const IS_SENT: u16 = 0x0100;

const SIP: u8 = 1;
/// A text about a message, as Homer takes it.
const LOG: u8 = 100;
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One message with what is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub at: Duration,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Whether it went over a connection.
    pub is_stream: bool,
    /// Which sender this is, among those of a collector.
    pub capture_id: u32,
    /// The collector's password; empty: none.
    pub key: &'a str,
    /// What brings messages of one call together: the Call-ID.
    pub correlation: &'a [u8],
    /// Whether it is no message, but a text about one.
    pub is_log: bool,
    /// Whether roost has sent the message; `None`: the packet does not say, as HEP has no word for it.
    pub is_sent: Option<bool>,
    pub payload: &'a [u8],
}

/// Appends a packet; `None` when it would be longer than a packet may be, and nothing is appended then.
pub fn encode(packet: &Packet<'_>, out: &mut Vec<u8>) -> Option<()> {
    let begin = out.len();
    let done = write(packet, out);
    if done.is_none() {
        out.truncate(begin);
    }
    done
}

/// Where the capture id stands in a packet, and where what follows it does.
const CAPTURE_ID_AT: usize = 12;
const REST_AT: usize = 16;

/// Appends a packet that was encoded without a key again, with another capture id, a key and whether roost has sent the message
/// where that is wanted; `None`: it would be too long.
pub(crate) fn readdress(
    packet: &[u8],
    (capture_id, key): (u32, &str),
    is_sent: Option<bool>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let begin = out.len();
    out.extend_from_slice(packet.get(..CAPTURE_ID_AT)?);
    out.extend_from_slice(&capture_id.to_be_bytes());
    let added = if key.is_empty() { Some(()) } else { chunk(out, KEY, key.as_bytes()) };
    if let Some(is_sent) = is_sent {
        own_chunk(out, ROOST, IS_SENT, &[u8::from(is_sent)])?;
    }
    out.extend_from_slice(packet.get(REST_AT..)?);
    let len = u16::try_from(out.len() - begin).ok();
    match (added, len, out.get_mut(begin + 4..begin + 6)) {
        (Some(()), Some(len), Some(place)) => {
            place.copy_from_slice(&len.to_be_bytes());
            Some(())
        }
        _ => {
            out.truncate(begin);
            None
        }
    }
}

fn write(packet: &Packet<'_>, out: &mut Vec<u8>) -> Option<()> {
    let begin = out.len();
    let mut head = Chunks::new();
    head.add(CAPTURE_ID, &packet.capture_id.to_be_bytes());
    if !packet.key.is_empty() {
        head.leave(out);
        chunk(out, KEY, packet.key.as_bytes())?;
    }
    // Both of one family: an address of IPv4 may stand in one of IPv6.
    let (source, destination) = (packet.source.ip().to_canonical(), packet.destination.ip().to_canonical());
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            head.add(FAMILY, &[INET]);
            head.add(SOURCE_V4, &source.octets());
            head.add(DESTINATION_V4, &destination.octets());
        }
        (source, destination) => {
            head.add(FAMILY, &[INET6]);
            head.add(SOURCE_V6, &v6(source));
            head.add(DESTINATION_V6, &v6(destination));
        }
    }
    head.add(PROTOCOL, &[if packet.is_stream { TCP } else { UDP }]);
    head.add(SOURCE_PORT, &packet.source.port().to_be_bytes());
    head.add(DESTINATION_PORT, &packet.destination.port().to_be_bytes());
    head.add(SECONDS, &(packet.at.as_secs() as u32).to_be_bytes());
    head.add(MICROSECONDS, &packet.at.subsec_micros().to_be_bytes());
    head.add(KIND, &[if packet.is_log { LOG } else { SIP }]);
    head.leave(out);
    if let Some(is_sent) = packet.is_sent {
        own_chunk(out, ROOST, IS_SENT, &[u8::from(is_sent)])?;
    }
    if !packet.correlation.is_empty() {
        let id = packet.correlation;
        chunk(out, CORRELATION, id.get(..MAX_CORRELATION).unwrap_or(id))?;
    }
    chunk(out, PAYLOAD, packet.payload)?;
    let len = u16::try_from(out.len() - begin).ok()?;
    out.get_mut(begin + 4..begin + 6)?.copy_from_slice(&len.to_be_bytes());
    Some(())
}

/// The chunks of known length, put together before they are copied: behind `HEP3` and the length.
struct Chunks {
    bytes: [u8; 160],
    len: usize,
}

impl Chunks {
    fn new() -> Chunks {
        let mut bytes = [0; 160];
        bytes[..4].copy_from_slice(b"HEP3");
        Chunks { bytes, len: 6 }
    }

    /// No vendor, type, length, value.
    fn add<const N: usize>(&mut self, kind: u16, value: &[u8; N]) {
        let (kind, len) = (kind.to_be_bytes(), (6 + N as u16).to_be_bytes());
        if let Some(place) = self.bytes.get_mut(self.len..self.len + 6 + N) {
            place[2..4].copy_from_slice(&kind);
            place[4..6].copy_from_slice(&len);
            place[6..].copy_from_slice(value);
            self.len += 6 + N;
        }
    }

    /// Copies what there is, and begins anew without it.
    fn leave(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes.get(..self.len).unwrap_or(&[]));
        *self = Chunks { bytes: [0; 160], len: 0 };
    }
}

fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) -> Option<()> {
    own_chunk(out, 0, kind, value)
}

/// Of a vendor; 0 is none.
fn own_chunk(out: &mut Vec<u8>, vendor: u16, kind: u16, value: &[u8]) -> Option<()> {
    let len = u16::try_from(6 + value.len()).ok()?;
    for number in [vendor, kind, len] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(value);
    Some(())
}

/// What a packet says; `None` when it is none. Chunks that are not known are passed over.
pub fn decode(packet: &[u8]) -> Option<Packet<'_>> {
    let mut found = Packet {
        at: Duration::ZERO,
        source: SocketAddr::from(([0, 0, 0, 0], 0)),
        destination: SocketAddr::from(([0, 0, 0, 0], 0)),
        is_stream: false,
        capture_id: 0,
        key: "",
        correlation: &[],
        is_log: false,
        is_sent: None,
        payload: &[],
    };
    let len = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
    let mut rest = packet.strip_prefix(b"HEP3")?.get(2..len.checked_sub(4)?)?;
    let number = |value: &[u8]| value.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    while !rest.is_empty() {
        let chunk_len = usize::from(u16::from_be_bytes(rest.get(4..6)?.try_into().ok()?));
        let (vendor, kind) = (rest.get(..2)?, u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?));
        let value = rest.get(6..chunk_len)?;
        match kind {
            IS_SENT if vendor == ROOST.to_be_bytes() => found.is_sent = Some(number(value) == 1),
            _ if vendor != [0, 0] => {}
            SOURCE_V4 => found.source.set_ip(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
            DESTINATION_V4 => found.destination.set_ip(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
            SOURCE_V6 => found.source.set_ip(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
            DESTINATION_V6 => found.destination.set_ip(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
            SOURCE_PORT => found.source.set_port(number(value) as u16),
            DESTINATION_PORT => found.destination.set_port(number(value) as u16),
            PROTOCOL => found.is_stream = number(value) == u32::from(TCP),
            SECONDS => found.at += Duration::from_secs(u64::from(number(value))),
            MICROSECONDS => found.at += Duration::from_micros(u64::from(number(value))),
            KIND => found.is_log = number(value) == u32::from(LOG),
            CAPTURE_ID => found.capture_id = number(value),
            KEY => found.key = std::str::from_utf8(value).ok()?,
            CORRELATION => found.correlation = value,
            PAYLOAD => found.payload = value,
            _ => {}
        }
        rest = rest.get(chunk_len.max(6)..)?;
    }
    Some(found)
}

/// How long the packet is that begins here; `None` while that is not known, or it is none.
pub fn packet_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.strip_prefix(b"HEP3")?.get(..2)?;
    Some(usize::from(u16::from_be_bytes(len.try_into().ok()?)))
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet<'a>(source: &str, payload: &'a [u8]) -> Packet<'a> {
        Packet {
            at: Duration::new(1_800_000_000, 123_456_789),
            source: source.parse().unwrap(),
            destination: "10.0.0.2:5061".parse().unwrap(),
            is_stream: false,
            is_sent: None,
            capture_id: 7,
            key: "k",
            correlation: b"call",
            is_log: false,
            payload,
        }
    }

    /// Types and values of a packet's chunks.
    fn chunks(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        assert_eq!(&bytes[..4], b"HEP3");
        assert_eq!(usize::from(u16::from_be_bytes([bytes[4], bytes[5]])), bytes.len());
        bytes = &bytes[6..];
        let mut all = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes[..2], [0, 0], "no vendor");
            let len = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
            all.push((u16::from_be_bytes([bytes[2], bytes[3]]), bytes[6..len].to_vec()));
            bytes = &bytes[len..];
        }
        all
    }

    #[test]
    fn a_packet_is_what_the_specification_says() {
        let mut out = Vec::new();
        encode(&packet("10.0.0.1:5060", b"OPTIONS"), &mut out).unwrap();
        let expected: [(u16, &[u8]); 12] = [
            (12, &[0, 0, 0, 7]),
            (14, b"k"),
            (1, &[2]),
            (3, &[10, 0, 0, 1]),
            (4, &[10, 0, 0, 2]),
            (2, &[17]),
            (7, &[0x13, 0xc4]),
            (8, &[0x13, 0xc5]),
            (9, &1_800_000_000_u32.to_be_bytes()),
            (10, &123_456_u32.to_be_bytes()),
            (11, &[1]),
            (17, b"call"),
        ];
        let chunks = chunks(&out);
        for (found, (kind, value)) in chunks.iter().zip(expected) {
            assert_eq!((found.0, &found.1[..]), (kind, value));
        }
        assert_eq!(chunks.last().unwrap(), &(15, b"OPTIONS".to_vec()));
    }

    #[test]
    fn a_packet_comes_back() {
        for source in ["10.0.0.1:5060", "[2001:db8::1]:5060"] {
            let mut out = Vec::new();
            let written = packet(source, b"OPTIONS");
            encode(&written, &mut out).unwrap();
            let read = decode(&out).unwrap();
            assert_eq!(
                (read.source, read.payload, read.correlation),
                (written.source, &b"OPTIONS"[..], &b"call"[..])
            );
            assert_eq!((read.at.as_micros(), read.capture_id, read.key), (written.at.as_micros(), 7, "k"));
            assert_eq!(packet_len(&out), Some(out.len()));
            for cut in 0..out.len() {
                assert!(decode(&out[..cut]).is_none(), "{cut}");
            }
        }
    }

    #[test]
    fn a_packet_goes_to_another_collector_with_its_key() {
        let (mut plain, mut keyed, mut again) = (Vec::new(), Vec::new(), Vec::new());
        encode(&Packet { capture_id: 1, key: "", ..packet("10.0.0.1:5060", b"x") }, &mut plain).unwrap();
        encode(&packet("10.0.0.1:5060", b"x"), &mut keyed).unwrap();
        readdress(&plain, (7, "k"), None, &mut again).unwrap();
        assert_eq!(again, keyed);
        assert_eq!(readdress(&plain, (7, &"k".repeat(65_536)), None, &mut again), None);
        assert_eq!(again, keyed, "nothing is left of it");
        again.clear();
        readdress(&plain, (7, ""), Some(true), &mut again).unwrap();
        assert_eq!(decode(&again).map(|found| (found.is_sent, found.payload)), Some((Some(true), &b"x"[..])));
    }

    #[test]
    fn families_are_never_mixed_and_what_is_too_long_is_left_out() {
        let mut out = b"before".to_vec();
        encode(&packet("[2001:db8::1]:5060", b"x"), &mut out).unwrap();
        let chunks = chunks(&out[6..]);
        assert_eq!(chunks[2], (1, vec![10]));
        assert_eq!((chunks[3].0, chunks[3].1.len(), chunks[4].0, chunks[4].1.len()), (5, 16, 6, 16));
        let len = out.len();
        assert!(encode(&packet("10.0.0.1:5060", &vec![b'x'; 65_500]), &mut out).is_none());
        assert_eq!(out.len(), len, "nothing is left of it");
    }
}
