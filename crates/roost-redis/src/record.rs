//! A record as the store has it.

use redis::Value;
use roost_core::{PackedRow, StoredRecord};

/// Changes a record.
pub(crate) const SCRIPT: &str = include_str!("commit.lua");
/// The channel that says which record has changed: `VERSION AOR`.
pub(crate) const CHANNEL: &str = "roost:location";

/// The field with the version.
const VERSION: &[u8] = b"v";

/// The key of an AOR's record; the braces keep what belongs together on one server of a cluster.
pub(crate) fn key_of(aor: &[u8]) -> Vec<u8> {
    [b"roost:location:{", aor, b"}"].concat()
}

/// What all keys of records look like.
pub(crate) fn every_key() -> &'static str {
    "roost:location:{*}"
}

/// The AOR of a record's key.
pub(crate) fn aor_of(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(b"roost:location:{")?.strip_suffix(b"}")
}

/// The field of a binding.
pub(crate) fn field_of(contact_id: u64) -> String {
    format!("{contact_id:016x}")
}

/// The record that fields and values, in turn, make; rows that cannot be read are left out.
pub(crate) fn record_of(reply: &Value) -> Option<StoredRecord> {
    let pairs: Vec<(&[u8], &[u8])> = match reply {
        Value::Array(all) => all
            .chunks_exact(2)
            .filter_map(|pair| Some((bytes_of(pair.first()?)?, bytes_of(pair.get(1)?)?)))
            .collect(),
        Value::Map(all) => {
            all.iter().filter_map(|(field, value)| Some((bytes_of(field)?, bytes_of(value)?))).collect()
        }
        _ => return None,
    };
    let mut record = StoredRecord::default();
    for (field, value) in pairs {
        match field {
            VERSION => record.version = std::str::from_utf8(value).ok()?.parse().ok()?,
            _ => record.rows.extend(PackedRow::from_bytes(value)),
        }
    }
    Some(record)
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// What a message of the channel says.
pub(crate) fn told(message: &[u8]) -> Option<(u64, Box<[u8]>)> {
    let space = message.iter().position(|byte| *byte == b' ')?;
    let version = std::str::from_utf8(message.get(..space)?).ok()?.parse().ok()?;
    Some((version, message.get(space + 1..)?.into()))
}

#[cfg(test)]
mod tests {
    use roost_core::Row;

    use super::*;

    #[test]
    fn a_record_is_read_whatever_else_stands_there() {
        let row = Row::<Box<[u8]>> { contact_id: 7, username: (*b"9001").into(), ..Row::default() }.pack();
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let fields = [
            bulk(b"v"),
            bulk(b"12"),
            bulk(b"0000000000000007"),
            bulk(row.as_bytes()),
            bulk(b"x"),
            bulk(b"y"),
        ];
        let record = record_of(&Value::Array(fields.to_vec())).unwrap();
        assert_eq!((record.version, record.rows), (12, vec![row]));
        assert_eq!(record_of(&Value::Array(Vec::new())), Some(StoredRecord::default()));
        assert_eq!(record_of(&Value::Int(3)), None);
        assert_eq!(told(b"12 90 01"), Some((12, (*b"90 01").into())));
        assert_eq!((told(b"12"), told(b"x 9001")), (None, None));
    }
}
