//! The column `kv_store`: OpenSIPS keeps what scripts say of a contact there, as a JSON object. One key is ours.

use roost_core::Row;
use serde_json::{Map, Value};

/// The key of [`Row::features`].
const FEATURES: &str = "feature_params";
/// What the column holds, in bytes, on the server that holds least (MariaDB's TEXT).
const MOST: usize = 65_535;

type Text = Option<Box<[u8]>>;

/// The features, and the other keys as an object. What is no object is passed on as it is.
pub(crate) fn split(column: Text) -> (Text, Text) {
    let Some(text) = column.filter(|text| !text.is_empty()) else { return (None, None) };
    let Ok(mut keys) = serde_json::from_slice::<Map<String, Value>>(&text) else { return (None, Some(text)) };
    let Some(Value::String(features)) = keys.remove(FEATURES) else { return (None, Some(text)) };
    let others = Some(keys).filter(|keys| !keys.is_empty());
    (
        Some(features.into_bytes().into()),
        others.and_then(|keys| serde_json::to_vec(&keys).ok()).map(Into::into),
    )
}

/// What the column is to hold; `None` for NULL. Nothing is added where the others leave no room, or are no object.
pub(crate) fn joined(row: &Row<&[u8]>) -> Option<Vec<u8>> {
    let others = || row.kv_others.map(<[u8]>::to_vec);
    let Some(features) = row.features.and_then(|features| std::str::from_utf8(features).ok()) else {
        return others();
    };
    let Ok(mut keys) = serde_json::from_slice::<Map<String, Value>>(row.kv_others.unwrap_or(b"{}")) else {
        return others();
    };
    keys.insert(FEATURES.to_string(), features.into());
    serde_json::to_vec(&keys).ok().filter(|column| column.len() <= MOST).or_else(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(features: Option<&'a str>, kv_others: Option<&'a str>) -> Row<&'a [u8]> {
        let bytes = |text: Option<&'a str>| text.map(str::as_bytes);
        Row { features: bytes(features), kv_others: bytes(kv_others), ..Row::default() }
    }

    #[test]
    fn there_and_back() {
        let (features, others) = (r#";reg-id=1;+a="b""#, r#"{"z":"y","n":7}"#);
        for (features, others, column) in [
            (None, None, None),
            (None, Some(others), Some(others)),
            (Some(features), None, Some(r#"{"feature_params":";reg-id=1;+a=\"b\""}"#)),
            (Some(features), Some(others), Some(r#"{"z":"y","n":7,"feature_params":";reg-id=1;+a=\"b\""}"#)),
            (None, Some("no JSON"), Some("no JSON")),
        ] {
            let written = joined(&row(features, others));
            assert_eq!(written.as_deref(), column.map(str::as_bytes));
            let (features_read, others_read) = split(written.map(Into::into));
            assert_eq!(features_read.as_deref(), features.map(str::as_bytes));
            assert_eq!(others_read.as_deref(), others.map(str::as_bytes));
        }
    }

    #[test]
    fn nothing_of_others_is_lost_for_ours() {
        let full = format!(r#"{{"a":"{}"}}"#, "x".repeat(MOST - 20));
        for others in ["[1]", "{", full.as_str()] {
            assert_eq!(joined(&row(Some(";audio"), Some(others))).as_deref(), Some(others.as_bytes()));
        }
        assert_eq!(split(Some((*br#"{"feature_params":1}"#).into())).0, None);
    }
}
