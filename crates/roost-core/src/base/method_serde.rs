//! Methods as they are kept outside of the process: by name.

use roost_sip::Method;
use serde::{Deserialize as _, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    Ok(Method::parse(String::deserialize(deserializer)?.as_bytes()))
}
