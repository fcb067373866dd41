//! Feature parameters of Contacts (RFC 3840): a phone's answer repeats those that it registered (its section 6).

use roost_sip::{Params, parse_allow, unquote};

use crate::base::limits::MAX_FEATURES;

/// The names without `+` (RFC 3840 section 9), and `reg-id` of RFC 5626. Those that have a column are not among them.
const NAMES: [&[u8]; 20] = [
    b"actor",
    b"application",
    b"audio",
    b"automata",
    b"class",
    b"control",
    b"data",
    b"description",
    b"duplex",
    b"events",
    b"extensions",
    b"isfocus",
    b"language",
    b"mobility",
    b"priority",
    b"reg-id",
    b"schemes",
    b"text",
    b"type",
    b"video",
];

/// Stands first among features where the Contact told the methods: that they are its parameter and not an Allow header's. Which
/// they are has a column.
pub(crate) const METHODS: &[u8] = b";methods";

/// The feature parameters among a Contact's, as sent and in their order, `;methods;reg-id=1;audio`; without `+sip.instance`,
/// which has a column, and of `methods` its name. One that a column or a header might not take is left out, and so is what goes
/// beyond [`MAX_FEATURES`] bytes.
pub(crate) fn features_of(params: Params<'_>) -> Vec<u8> {
    let (mut features, mut tells_methods) = (Vec::new(), false);
    for param in params.flatten() {
        if param.name.eq_ignore_ascii_case(b"methods") {
            // A row has the name alone.
            tells_methods |= param.value.is_none_or(|value| parse_allow(unquote(value)).is_some());
            continue;
        }
        let len = param.name.len() + param.value.map_or(0, |value| value.len() + 1) + 1;
        let fits = features.len() + len <= MAX_FEATURES - METHODS.len();
        if !fits || !is_feature(param.name) || !param.value.is_none_or(is_plain) {
            continue;
        }
        features.push(b';');
        features.extend_from_slice(param.name);
        if let Some(value) = param.value {
            features.push(b'=');
            features.extend_from_slice(value);
        }
    }
    if tells_methods {
        features.splice(..0, METHODS.iter().copied());
    }
    features
}

fn is_feature(name: &[u8]) -> bool {
    match name {
        [b'+', rest @ ..] => !rest.is_empty() && !name.eq_ignore_ascii_case(b"+sip.instance"),
        _ => NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)),
    }
}

/// Whether a value is a quoted string or a word of printable ASCII: every column takes it, and no header is broken by it.
fn is_plain(value: &[u8]) -> bool {
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~');
    match value {
        [b'"', ..] => value.iter().all(is_printable),
        [] => false,
        word => word.iter().all(|byte| byte.is_ascii_graphic() && !b"\"\\,;<>?".contains(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(params: &str) -> String {
        String::from_utf8(features_of(Params::new(params.as_bytes()))).unwrap()
    }

    #[test]
    fn what_is_no_feature_or_has_a_column_stays_out() {
        let contact = ";q=0.5;expires=60;+sip.instance=\"<urn:uuid:1>\";methods=\"INVITE\";Reg-Id = 1;audio;\
                       +sip.rendering=\"yes, no\";tag=x;+sip.ice";
        assert_eq!(features(contact), ";methods;Reg-Id=1;audio;+sip.rendering=\"yes, no\";+sip.ice");
        assert_eq!(features(""), "");
        for broken in
            [";audio=a\"b\"", ";audio=\"\x07\"", ";audio=<x>", ";audio=", ";audio=\"\r\n \"", ";+=1"]
        {
            assert_eq!(features(broken), "", "{broken}");
        }
    }

    #[test]
    fn what_goes_beyond_the_room_is_left_out_whole() {
        let long = format!(";+a=\"{}\"", "x".repeat(MAX_FEATURES - METHODS.len() - 15));
        let text = features(&format!("{long};+too-long-now=1;reg-id=1"));
        assert_eq!(text, format!("{long};reg-id=1"));
        let all = features(&format!("{long};methods=\"BYE\";reg-id=1"));
        assert_eq!((all.len(), features(&all)), (MAX_FEATURES, all.clone()), "and a row comes back");
        assert_eq!(features(";methods=\"INVITE ACK\";audio"), ";audio");
        assert_eq!(features(&format!(";+a=\"{}\";reg-id=1", "x".repeat(MAX_FEATURES))), ";reg-id=1");
    }
}
