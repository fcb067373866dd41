//! The Contact header of a registrar's answers, and which bindings a REGISTER names.

use roost_sip::{ALL_METHODS, ContactValue, HeaderName, Method, contacts};

use crate::base::flow::Now;
use crate::base::limits;
use crate::base::text::push_number;
use crate::message::request::Request;
use crate::registrar::binding::Binding;
use crate::registrar::features::METHODS;

/// All bindings in one Contact header; nothing when there is none.
pub(crate) fn write_contacts<'b>(bindings: impl Iterator<Item = &'b Binding>, now: Now, out: &mut Vec<u8>) {
    let mut is_first = true;
    for binding in bindings {
        out.extend_from_slice(if is_first { b"Contact: <" } else { b", <" });
        is_first = false;
        out.extend_from_slice(binding.contact());
        out.push(b'>');
        if let Some(q) = binding.q {
            out.extend_from_slice(b";q=");
            write_q(q, out);
        }
        let remaining = binding.remaining_s(now).unwrap_or(u64::from(u32::MAX));
        out.extend_from_slice(b";expires=");
        push_number(remaining, out);
        if let Some(received) = binding.received() {
            out.extend_from_slice(b";received=\"");
            out.extend_from_slice(received.as_bytes());
            out.push(b'"');
        }
        write_features(binding, out);
    }
    if !is_first {
        out.extend_from_slice(b"\r\n");
    }
}

/// What a 200 says of a binding's features: the instance, the methods where the Contact told them, and the others.
fn write_features(binding: &Binding, out: &mut Vec<u8>) {
    let instance = binding.instance();
    let is_quotable = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if !instance.is_empty() && instance.iter().all(is_quotable) {
        out.extend_from_slice(b";+sip.instance=\"");
        out.extend_from_slice(instance);
        out.push(b'"');
    }
    let features = binding.features();
    let others = features.strip_prefix(METHODS);
    if others.is_some() && binding.methods != ALL_METHODS {
        write_methods(binding, out);
    }
    out.extend_from_slice(others.unwrap_or(features));
}

fn write_methods(binding: &Binding, out: &mut Vec<u8>) {
    let mut named = Method::KNOWN.into_iter().filter(|method| binding.takes(*method));
    let Some(first) = named.next() else { return };
    out.extend_from_slice(b";methods=\"");
    out.extend_from_slice(first.as_str().as_bytes());
    for method in named {
        out.push(b',');
        out.extend_from_slice(method.as_str().as_bytes());
    }
    out.push(b'"');
}

/// Whether one of the request's contacts is this binding's.
pub(crate) fn names_contact(request: &Request<'_>, binding: &Binding) -> bool {
    contacts(request.head.values(request.bytes, HeaderName::Contact))
        .take(limits::MAX_CONTACTS_PER_REGISTER)
        .any(|contact| matches!(contact, Ok(ContactValue::Contact(_, uri)) if binding.is_contact(&uri)))
}

/// A q as OpenSIPS prints it: 1, 0, 0.5, 0.25, 0.123.
pub(crate) fn write_q(q: u16, out: &mut Vec<u8>) {
    match q {
        1000.. => out.push(b'1'),
        0 => out.push(b'0'),
        _ => {
            let digits = [q / 100, q / 10 % 10, q % 10].map(|digit| b'0' + digit as u8);
            out.extend_from_slice(b"0.");
            out.extend_from_slice(&digits);
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::row::Row;

    #[test]
    fn q_is_printed_short() {
        for (q, text) in [(1000, "1"), (0, "0"), (500, "0.5"), (250, "0.25"), (123, "0.123"), (7, "0.007")] {
            let mut out = Vec::new();
            write_q(q, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn a_row_of_anybody_breaks_no_answer() {
        let row = Row {
            sip_instance: Some((*b"<urn:\"x\">\r\nEvil: 1").into()),
            methods: Some(1 | 4 | 1 << 14),
            features: Some((*b";audio;methods\r\nEvil: 1;reg-id=2,<sip:evil@x>").into()),
            ..Row::default()
        };
        let mut out = Vec::new();
        write_features(&Binding::from_row(&row, Now::default()), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), ";methods=\"INVITE,ACK\";audio");
    }
}
