//! What goes into a statement and comes out of a row, in any database.

/// A parameter, or a column of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Real(f64),
    Text(Box<[u8]>),
}

impl Value {
    /// A column's bytes; NULL has none.
    pub(crate) fn into_bytes(self) -> Box<[u8]> {
        match self {
            Value::Null => Box::default(),
            Value::Int(number) => number.to_string().into_bytes().into(),
            Value::Real(number) => number.to_string().into_bytes().into(),
            Value::Text(text) => text,
        }
    }

    /// A column's bytes, if it is not NULL.
    pub(crate) fn into_text(self) -> Option<Box<[u8]>> {
        Some(self).filter(|value| *value != Value::Null).map(Value::into_bytes)
    }

    pub(crate) fn real(&self) -> Option<f64> {
        match self {
            Value::Null => None,
            Value::Int(number) => Some(*number as f64),
            Value::Real(number) => Some(*number),
            Value::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            Value::Text(text) if let Ok(number) = std::str::from_utf8(text).ok()?.parse() => Some(number),
            other => other.real().map(|number| number as i64),
        }
    }
}

impl From<&[u8]> for Value {
    fn from(text: &[u8]) -> Value {
        Value::Text(text.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        text.as_bytes().into()
    }
}
