//! Methods, and sets of them as OpenSIPS keeps them in `location.methods`.

use crate::scan::{cut, is_lws, skip_lws, token_len};

/// A request's method. `Other` is any extension method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    Invite,
    Cancel,
    Ack,
    Bye,
    Info,
    Options,
    Update,
    Register,
    Message,
    Subscribe,
    Notify,
    Prack,
    Refer,
    Publish,
    Other,
}

/// A set of methods; bit n is the n-th variant of [`Method`]: INVITE 1, CANCEL 2, ACK 4 … Other 16384.
pub type MethodSet = u32;

/// What a contact without an Allow header takes: everything.
pub const ALL_METHODS: MethodSet = u32::MAX;

impl Method {
    /// All but [`Method::Other`].
    pub const KNOWN: [Method; 14] = [
        Method::Invite,
        Method::Cancel,
        Method::Ack,
        Method::Bye,
        Method::Info,
        Method::Options,
        Method::Update,
        Method::Register,
        Method::Message,
        Method::Subscribe,
        Method::Notify,
        Method::Prack,
        Method::Refer,
        Method::Publish,
    ];

    /// Its name; [`Method::Other`] has none.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Invite => "INVITE",
            Method::Cancel => "CANCEL",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Info => "INFO",
            Method::Options => "OPTIONS",
            Method::Update => "UPDATE",
            Method::Register => "REGISTER",
            Method::Message => "MESSAGE",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Prack => "PRACK",
            Method::Refer => "REFER",
            Method::Publish => "PUBLISH",
            Method::Other => "",
        }
    }

    /// Looks a method up; methods are case-sensitive (RFC 3261 7.1).
    pub fn parse(text: &[u8]) -> Method {
        match text {
            b"INVITE" => Method::Invite,
            b"CANCEL" => Method::Cancel,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"INFO" => Method::Info,
            b"OPTIONS" => Method::Options,
            b"UPDATE" => Method::Update,
            b"REGISTER" => Method::Register,
            b"MESSAGE" => Method::Message,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"PRACK" => Method::Prack,
            b"REFER" => Method::Refer,
            b"PUBLISH" => Method::Publish,
            _ => Method::Other,
        }
    }

    /// Looks up what a list of methods names.
    fn parse_any_case(text: &[u8]) -> Method {
        // Nearly all phones write them as they are.
        match Method::parse(text) {
            Method::Other => Method::parse(&text.to_ascii_uppercase()),
            known => known,
        }
    }

    /// The method's bit in a [`MethodSet`].
    pub fn bit(self) -> MethodSet {
        1 << self as u8
    }
}

/// The methods named by an Allow header or a `methods=` parameter, a comma list; in any case, as phones write them so.
/// `None` when it names none, or something that is no method: what cannot be read says nothing.
pub fn parse_allow(value: &[u8]) -> Option<MethodSet> {
    let mut set = 0;
    let mut rest = value;
    loop {
        rest =
            cut(rest, rest.iter().position(|byte| *byte != b',' && !is_lws(*byte)).unwrap_or(rest.len())).1;
        if rest.is_empty() {
            return Some(set).filter(|set| *set != 0);
        }
        let (name, after) = cut(rest, token_len(rest));
        let after = skip_lws(after);
        if name.is_empty() || !matches!(after, [] | [b',', ..]) {
            return None;
        }
        set |= Method::parse_any_case(name).bit();
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_there_and_back() {
        for (index, method) in Method::KNOWN.into_iter().enumerate() {
            assert_eq!((Method::parse(method.as_str().as_bytes()), method.bit()), (method, 1 << index));
        }
    }

    #[test]
    fn masks_of_the_terminals_that_opensips_recorded() {
        let yealink = b"INVITE, INFO, PRACK, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REGISTER, SUBSCRIBE, REFER, PUBLISH, UPDATE, MESSAGE";
        assert_eq!(parse_allow(yealink), Some(16383));
        assert_eq!(parse_allow(yealink.to_ascii_lowercase().as_slice()), Some(16383));
        let eyebeam = b"INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO";
        assert_eq!(parse_allow(eyebeam), Some(5951));
        assert_eq!(parse_allow(b"FOO"), Some(16384));
        assert_eq!(parse_allow(b" ,INVITE , \r\n ACK,,BYE,"), Some(1 | 4 | 8));
        for unreadable in [&b""[..], b" , ", b"ACK, \"a, b\", INVITE", b"INVITE ACK", b"<INVITE>", b"\xff"] {
            assert_eq!(parse_allow(unreadable), None);
        }
    }
}
