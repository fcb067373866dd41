//! Names of header fields that roost looks at, in their long and compact forms.

macro_rules! headers {
    ($($variant:ident $long:literal $($short:literal)?,)*) => {
        /// A header field's name (RFC 3261 section 20); `Other` passes through unread.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum HeaderName { $($variant,)* Other }

        impl HeaderName {
            /// How many names there are, `Other` included.
            pub const COUNT: usize = HeaderName::Other as usize + 1;

            /// The name's long form as RFC 3261 spells it; empty for `Other`.
            pub const fn as_str(self) -> &'static str {
                match self { $(HeaderName::$variant => $long,)* HeaderName::Other => "" }
            }

            /// Looks a name up in any case and in its compact form.
            pub fn parse(name: &[u8]) -> HeaderName {
                if let [byte] = name {
                    return match byte.to_ascii_lowercase() {
                        $($( $short => HeaderName::$variant, )?)*
                        _ => HeaderName::Other,
                    };
                }
                let found = PLACES[place(name)];
                // Nearly all peers spell them as the RFC does.
                let known = found.as_str().as_bytes();
                match name == known || name.eq_ignore_ascii_case(known) {
                    true => found,
                    false => HeaderName::Other,
                }
            }
        }

        /// Each long name at its [`place`]; the compiler refuses two names at one.
        const PLACES: [HeaderName; 128] = {
            let mut places = [HeaderName::Other; 128];
            $(
                let at = place($long.as_bytes());
                assert!(matches!(places[at], HeaderName::Other), $long);
                places[at] = HeaderName::$variant;
            )*
            places
        };

        /// All of them, but for `Other`.
        #[cfg(test)]
        pub(crate) const NAMES: &[HeaderName] = &[$(HeaderName::$variant,)*];
    };
}

/// A number below 128 from a name's length, first and last letter, in any case.
const fn place(name: &[u8]) -> usize {
    match name {
        [first, .., last] => {
            let (first, last) = (first.to_ascii_lowercase() as usize, last.to_ascii_lowercase() as usize);
            (first * 5 + last * 2 + name.len() * 9) & 127
        }
        _ => 0,
    }
}

headers! {
    Via "Via" b'v',
    From "From" b'f',
    To "To" b't',
    CallId "Call-ID" b'i',
    CSeq "CSeq",
    Contact "Contact" b'm',
    MaxForwards "Max-Forwards",
    Expires "Expires",
    ContentLength "Content-Length" b'l',
    Authorization "Authorization",
    UserAgent "User-Agent",
    Allow "Allow",
    Route "Route",
    RecordRoute "Record-Route",
    ContentType "Content-Type" b'c',
    Supported "Supported" b'k',
    Require "Require",
    ProxyRequire "Proxy-Require",
    ProxyAuthorization "Proxy-Authorization",
    Path "Path",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    Date "Date",
    Server "Server",
    RetryAfter "Retry-After",
    Reason "Reason",
    Unsupported "Unsupported",
    Event "Event" b'o',
    SessionExpires "Session-Expires",
    AssertedIdentity "P-Asserted-Identity",
    PreferredIdentity "P-Preferred-Identity",
    RemotePartyId "Remote-Party-ID",
}

// `Head` keeps a bit for each name.
const _: () = assert!(HeaderName::COUNT <= 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case_and_compact() {
        assert_eq!(HeaderName::parse(b"via"), HeaderName::Via);
        assert_eq!(HeaderName::parse(b"V"), HeaderName::Via);
        assert_eq!(HeaderName::parse(b"CALL-id"), HeaderName::CallId);
        assert_eq!(HeaderName::parse(b"i"), HeaderName::CallId);
        assert_eq!(HeaderName::parse(b"m"), HeaderName::Contact);
        assert_eq!(HeaderName::parse(b"X-Foo"), HeaderName::Other);
        assert_eq!(HeaderName::parse(b"z"), HeaderName::Other);
        assert_eq!(HeaderName::parse(b""), HeaderName::Other);
        assert_eq!(HeaderName::parse(b"unsupporteD"), HeaderName::Unsupported);
        assert_eq!(HeaderName::parse(b"Unsupportes"), HeaderName::Other);
    }
}
