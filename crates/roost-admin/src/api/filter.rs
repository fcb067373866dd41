//! `filter=`: conditions on the entries of a list, in the language of `when` of a `[[route]]`.

use roost_filter::{Filter, Kind, Schema};
use serde::Serialize;

use crate::api::answer::ApiError;
use crate::facts::JsonFacts;

/// Names of extensions and agents.
pub(crate) const EXTENSION: Schema = Schema {
    names: &[("aor", Kind::Text), ("state", Kind::Text), ("ringing", Kind::Number), ("in_use", Kind::Number)],
    has_headers: false,
};

/// Names of calls.
pub(crate) const CALL: Schema = Schema {
    names: &[
        ("id", Kind::Text),
        ("state", Kind::Text),
        ("begun_s", Kind::Number),
        ("answered_s", Kind::Number),
        ("call_id", Kind::Text),
        ("caller.aor", Kind::Text),
        ("caller.uri", Kind::Text),
        ("caller.contact", Kind::Text),
        ("caller.address", Kind::Text),
        ("callee.aor", Kind::Text),
        ("callee.uri", Kind::Text),
        ("callee.contact", Kind::Text),
        ("callee.address", Kind::Text),
        ("hop", Kind::Text),
    ],
    has_headers: false,
};

/// Names of call records.
pub(crate) const RECORD: Schema = Schema {
    names: &[
        ("kind", Kind::Text),
        ("time_s", Kind::Number),
        ("created_s", Kind::Number),
        ("call_id", Kind::Text),
        ("sip_code", Kind::Text),
        ("sip_reason", Kind::Text),
        ("duration_s", Kind::Number),
        ("ms_duration", Kind::Number),
        ("setup_s", Kind::Number),
        ("caller", Kind::Text),
        ("callee", Kind::Text),
        ("caller_aor", Kind::Text),
        ("callee_aor", Kind::Text),
        ("ended_by", Kind::Text),
    ],
    has_headers: false,
};

/// What is asked of a list's entries; nothing lets all through.
#[derive(Debug)]
pub(crate) struct Wanted(Option<(Filter, &'static Schema)>);

impl Wanted {
    /// From the parameter.
    ///
    /// # Errors
    /// 400 with the place and what would be right.
    pub(crate) fn of(text: Option<&str>, schema: &'static Schema) -> Result<Wanted, ApiError> {
        let compile = |text: &str| {
            let compiled = Filter::compile(text, schema);
            compiled.map(|filter| (filter, schema)).map_err(|error| ApiError::bad(format!("filter: {error}")))
        };
        Ok(Wanted(text.map(compile).transpose()?))
    }

    /// Whether an entry is.
    pub(crate) fn takes(&self, entry: &impl Serialize) -> bool {
        let Some((filter, schema)) = &self.0 else { return true };
        serde_json::to_value(entry).is_ok_and(|entry| filter.holds(&JsonFacts { object: &entry, schema }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_that_are_wanted() {
        let call = json!({ "state": "ringing", "begun_s": 7, "caller": { "aor": "9001" }, "callee": { "address": "udp:10.0.0.1:5060" } });
        for (text, expected) in [
            (Some("caller.aor.startsWith('90') && state == 'ringing' && begun_s < 8"), true),
            (Some("callee.aor == '9002'"), false),
            (Some("has(callee.address) && !(answered_s > 0)"), true),
            (None, true),
        ] {
            assert_eq!(Wanted::of(text, &CALL).unwrap().takes(&call), expected, "{text:?}");
        }
        assert!(Wanted::of(Some("caller == 'x'"), &CALL).is_err());
    }
}
