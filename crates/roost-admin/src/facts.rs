//! What conditions may ask of objects in JSON: entries of lists, and events.

use std::borrow::Cow;

use roost_filter::{Kind, Schema, Value, Values};

/// Names of events: `type`, and the parameters that any of them has.
pub const EVENT: Schema = Schema {
    names: &[
        ("type", Kind::Text),
        ("aor", Kind::Text),
        ("uri", Kind::Text),
        ("received", Kind::Text),
        ("path", Kind::Text),
        ("socket", Kind::Text),
        ("user_agent", Kind::Text),
        ("callid", Kind::Text),
        ("expires", Kind::Number),
        ("cseq", Kind::Number),
        ("method", Kind::Text),
        ("source", Kind::Text),
        ("transport", Kind::Text),
        ("code", Kind::Number),
        ("reason", Kind::Text),
        ("word", Kind::Text),
        ("state", Kind::Text),
        ("ringing", Kind::Number),
        ("in_use", Kind::Number),
        ("seconds", Kind::Number),
        ("lost", Kind::Number),
        ("ip", Kind::Text),
        ("group", Kind::Number),
        ("address", Kind::Text),
        ("status", Kind::Text),
        ("certificate", Kind::Text),
        ("days_left", Kind::Number),
        ("error", Kind::Text),
        ("time", Kind::Number),
        ("extra", Kind::Text),
        ("from_uri", Kind::Text),
        ("to_uri", Kind::Text),
        ("caller_aor", Kind::Text),
        ("callee_aor", Kind::Text),
        ("old_state", Kind::Number),
        ("new_state", Kind::Number),
        ("end", Kind::Text),
    ],
    has_headers: false,
};

/// An object, and the names that count of it: `a.b` is the member `b` of its member `a`.
pub(crate) struct JsonFacts<'a> {
    pub(crate) object: &'a serde_json::Value,
    pub(crate) schema: &'static Schema,
}

impl Values for JsonFacts<'_> {
    fn value(&self, index: usize) -> Value<'_> {
        let Some((name, _)) = self.schema.names.get(index) else { return Value::Missing };
        let found = name.split('.').try_fold(self.object, |value, part| value.get(part));
        match found {
            Some(serde_json::Value::String(text)) => Value::Text(Cow::Borrowed(text.as_bytes())),
            Some(serde_json::Value::Number(number)) => number.as_i64().map_or(Value::Missing, Value::Number),
            Some(serde_json::Value::Bool(is_on)) => Value::Switch(*is_on),
            _ => Value::Missing,
        }
    }
}
