//! Rows of the `location` table (version 1013), as the core gives them to a store and takes them at start.

use crate::base::aor::compose_aor;

/// One change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Insert the row, or replace the one with its `contact_id`, which must be of the same AOR.
    Put(PackedRow),
    /// Delete a binding's row, if it is of this user.
    Remove { contact_id: u64, username: Box<[u8]> },
    /// Delete a binding's row unless it was renewed: only while `expires` is not 0 and at most `expires_by` (unix).
    Purge { contact_id: u64, expires_by: u64 },
}

/// One row; its texts are owned, or borrowed as `Row<&[u8]>`. Text is bytes as received; what is not UTF-8 is stored as
/// it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row<T = Box<[u8]>> {
    /// The key, see [`crate::contact_id`].
    pub contact_id: u64,
    /// The AOR's user.
    pub username: T,
    /// The AOR's domain; `None` without `use_domain`.
    pub domain: Option<T>,
    /// The Contact URI as sent.
    pub contact: T,
    /// `sip:ip:port` of the packet where the Contact names another address.
    pub received: Option<T>,
    /// The path to the contact (RFC 3327), as Route values joined by commas.
    pub path: Option<T>,
    /// Unix time; 0 never expires.
    pub expires: u64,
    /// Priority in thousandths; `None` is stored as -1.
    pub q: Option<u16>,
    pub callid: T,
    pub cseq: u32,
    /// Unix time of this write.
    pub last_modified: u64,
    pub cflags: T,
    pub flags: u32,
    pub user_agent: T,
    /// `udp:ip:port`, our address that the REGISTER came in on.
    pub socket: Option<T>,
    /// A set of methods; `None` means all.
    pub methods: Option<u32>,
    pub sip_instance: Option<T>,
    /// The Contact's other feature parameters as sent, `;methods;reg-id=1;audio` (RFC 3840 section 9; of `methods` the name): the key `feature_params` of the
    /// column `kv_store`.
    pub features: Option<T>,
    /// The other keys of `kv_store`, a JSON object: they are kept.
    pub kv_others: Option<T>,
}

/// A row in one allocation: it goes from the shard to the disk as it is.
///
/// Numbers are little-endian and first, texts follow with their lengths (2 bytes; 65535 is not a text). The form is that of
/// a journal on disk: it may grow at its end, no more.
#[derive(Clone, PartialEq, Eq)]
pub struct PackedRow(Box<[u8]>);

/// The length that stands for a text that is not there.
const NO_TEXT: u16 = u16::MAX;
/// The longest text; the last one may go on behind it.
const MOST: usize = NO_TEXT as usize - 1;
/// Stands for "no q".
const NO_Q: u16 = u16::MAX;

impl<T: AsRef<[u8]>> Row<T> {
    /// The AOR that it belongs to; `None` where `use_domain` misses a domain.
    pub fn aor(&self, use_domain: bool, case_sensitive: bool) -> Option<Vec<u8>> {
        let domain = self.domain.as_ref().map(AsRef::as_ref);
        compose_aor((self.username.as_ref(), domain), use_domain, case_sensitive)
    }

    /// The row in one piece. A text beyond 65,534 bytes, which no column holds, is cut; `kv_others` is whole at any length.
    pub fn pack(&self) -> PackedRow {
        let optional = |text: &'_ Option<T>| text.as_ref().map_or(0, |text| text.as_ref().len());
        let plain = [&self.username, &self.contact, &self.callid, &self.cflags, &self.user_agent];
        let texts: usize = plain.iter().map(|text| text.as_ref().len()).sum();
        let others = [
            &self.domain,
            &self.received,
            &self.path,
            &self.socket,
            &self.sip_instance,
            &self.features,
            &self.kv_others,
        ];
        let optionals: usize = others.iter().map(|text| optional(text)).sum();
        let mut out = Vec::with_capacity(NUMBERS + 2 * (plain.len() + others.len()) + texts + optionals);
        out.extend_from_slice(&self.contact_id.to_le_bytes());
        out.extend_from_slice(&self.expires.to_le_bytes());
        out.extend_from_slice(&self.last_modified.to_le_bytes());
        out.extend_from_slice(&self.cseq.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.methods.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.q.unwrap_or(NO_Q).to_le_bytes());
        out.push(u8::from(self.methods.is_some()));
        for text in plain {
            push_text(Some(text.as_ref()), &mut out);
        }
        for text in others {
            push_text(text.as_ref().map(AsRef::as_ref), &mut out);
        }
        if let Some(more) = self.kv_others.as_ref().and_then(|text| text.as_ref().get(MOST..)) {
            out.extend_from_slice(more);
        }
        PackedRow(out.into())
    }
}

/// Bytes of the numbers at the start.
const NUMBERS: usize = 8 + 8 + 8 + 4 + 4 + 4 + 2 + 1;

fn push_text(text: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(text) = text else { return out.extend_from_slice(&NO_TEXT.to_le_bytes()) };
    let text = text.get(..MOST).unwrap_or(text);
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}

impl PackedRow {
    /// Takes bytes that were packed before; `None` when they were not.
    pub fn from_bytes(bytes: &[u8]) -> Option<PackedRow> {
        parse(bytes)?;
        Some(PackedRow(bytes.into()))
    }

    /// The bytes, for a journal.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key.
    pub fn contact_id(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The row, its texts borrowed.
    pub fn row(&self) -> Row<&[u8]> {
        parse(&self.0).unwrap_or_default()
    }

    /// The row, its texts owned.
    pub fn unpack(&self) -> Row {
        let row = self.row();
        Row {
            contact_id: row.contact_id,
            username: row.username.into(),
            domain: row.domain.map(Into::into),
            contact: row.contact.into(),
            received: row.received.map(Into::into),
            path: row.path.map(Into::into),
            expires: row.expires,
            q: row.q,
            callid: row.callid.into(),
            cseq: row.cseq,
            last_modified: row.last_modified,
            cflags: row.cflags.into(),
            flags: row.flags,
            user_agent: row.user_agent.into(),
            socket: row.socket.map(Into::into),
            methods: row.methods,
            sip_instance: row.sip_instance.map(Into::into),
            features: row.features.map(Into::into),
            kv_others: row.kv_others.map(Into::into),
        }
    }
}

impl std::fmt::Debug for PackedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.unpack(), f)
    }
}

fn parse(bytes: &[u8]) -> Option<Row<&[u8]>> {
    let mut from = Reader { rest: bytes };
    let (contact_id, expires, last_modified) = (from.u64()?, from.u64()?, from.u64()?);
    let (cseq, flags, methods) = (from.u32()?, from.u32()?, from.u32()?);
    let q = from.u16()?;
    let [has_methods] = from.take()?;
    let (username, contact, callid) = (from.text()??, from.text()??, from.text()??);
    let (cflags, user_agent) = (from.text()??, from.text()??);
    let (domain, received, path) = (from.text()?, from.text()?, from.text()?);
    let (socket, sip_instance) = (from.text()?, from.text()?);
    // Journals of earlier versions end here.
    let (features, kv_others) = match from.rest {
        [] => (None, None),
        _ => (from.text()?, from.last_text()?),
    };
    Some(Row {
        contact_id,
        username,
        domain,
        contact,
        received,
        path,
        expires,
        q: Some(q).filter(|q| *q != NO_Q),
        callid,
        cseq,
        last_modified,
        cflags,
        flags,
        user_agent,
        socket,
        methods: (has_methods != 0).then_some(methods),
        sip_instance,
        features,
        kv_others,
    })
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    /// A text that may be longer than its length says.
    fn last_text(&mut self) -> Option<Option<&'a [u8]>> {
        let rest = self.rest;
        let text = self.text()?;
        Some(match text {
            Some(text) if text.len() == MOST => rest.get(2..),
            other => other,
        })
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    #[expect(clippy::option_option, reason = "the bytes end, or there is no text")]
    fn text(&mut self) -> Option<Option<&'a [u8]>> {
        let len = self.u16()?;
        if len == NO_TEXT {
            return Some(None);
        }
        let (text, rest) = self.rest.split_at_checked(usize::from(len))?;
        self.rest = rest;
        Some(Some(text))
    }
}

/// Why a row of the database was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum RowError {
    /// It has expired; its row may go.
    #[error("expired")]
    Expired,
    /// With `use_domain`, a row without a domain has no AOR.
    #[error("no domain, but use_domain is set")]
    NoDomain,
    /// The contact is not a URI.
    #[error("the contact is not a URI")]
    Contact,
    /// The path is not a Path: how to reach the contact is not known.
    #[error("the path is not a list of SIP routes that begins with a loose router")]
    Path,
    /// A newer row has the same contact.
    #[error("a second row of the same contact")]
    Twice,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Row {
        Row {
            contact_id: 1 << 62 | 7,
            username: (*b"9001").into(),
            domain: Some((*b"a.com").into()),
            contact: (*b"sip:9001@10.0.0.1").into(),
            received: Some((*b"sip:10.0.0.9:40000").into()),
            path: Some((*b"<sip:10.0.0.9;lr>").into()),
            expires: 4_000_000_000,
            q: Some(500),
            callid: (*b"abc").into(),
            cseq: 3,
            last_modified: 1_800_000_000,
            cflags: (*b"NAT").into(),
            flags: 9,
            user_agent: (*b"Yealink").into(),
            socket: Some((*b"udp:127.0.0.1:5060").into()),
            methods: Some(5951),
            sip_instance: Some(Box::default()),
            features: Some((*b";reg-id=1").into()),
            kv_others: Some((*b"{\"a\":1}").into()),
        }
    }

    #[test]
    fn there_and_back() {
        for row in [full(), Row::default()] {
            let packed = row.pack();
            assert_eq!((packed.unpack(), packed.contact_id()), (row.clone(), row.contact_id));
            assert_eq!(packed.row().pack(), packed);
            assert_eq!(packed.0.len(), PackedRow::from_bytes(packed.as_bytes()).unwrap().0.len());
        }
    }

    #[test]
    fn a_part_is_no_row_and_a_longer_one_is() {
        let packed = full().pack();
        let earlier = Row { features: None, kv_others: None, ..full() };
        let end_of_earlier = earlier.pack().0.len() - 4;
        for end in (0..packed.0.len()).filter(|end| *end != end_of_earlier) {
            assert_eq!(PackedRow::from_bytes(&packed.0[..end]), None, "{end} bytes");
        }
        assert_eq!(PackedRow::from_bytes(&packed.0[..end_of_earlier]).unwrap().unpack(), earlier);
        let longer = [packed.as_bytes(), b"of a later version"].concat();
        assert_eq!(PackedRow::from_bytes(&longer).unwrap().unpack(), full());
    }

    #[test]
    fn what_others_keep_is_whole_at_any_length() {
        for length in [MOST - 1, MOST, MOST + 1, 3 * MOST] {
            let row = Row { kv_others: Some(vec![b'x'; length].into()), ..full() };
            assert_eq!(PackedRow::from_bytes(row.pack().as_bytes()).unwrap().unpack(), row, "{length}");
        }
    }

    #[test]
    fn what_no_column_holds_is_cut() {
        let row = Row { contact: vec![b'x'; 70_000].into(), ..full() };
        assert_eq!(row.pack().row().contact.len(), 65_534);
        assert_eq!(row.pack().row().sip_instance, Some(&b""[..]));
    }
}
