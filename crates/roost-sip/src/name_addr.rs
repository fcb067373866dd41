//! name-addr and addr-spec (From, To, Contact, Route), and the list of a REGISTER's contacts.

use crate::params::{ParamError, Params};
use crate::scan::{cut, find_unquoted, is_lws, list, next_element, trim};
use crate::uri::{Uri, UriError};

/// Why a value is not a name-addr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameAddrError {
    /// A display name or `<…>` that does not end.
    #[error("quotes or brackets that do not end")]
    Unbalanced,
    /// The URI does not parse.
    #[error("malformed URI: {0}")]
    Uri(#[from] UriError),
    /// The parameters do not parse.
    #[error("malformed parameters: {0}")]
    Params(#[from] ParamError),
    /// A display name that only quotes could hold: it could be taken for another value, a URI or its parameters.
    #[error("a display name that needs quotes")]
    Display,
    /// A URI that only angle brackets could hold (RFC 3261 20.10): where it ends is anybody's guess.
    #[error("a URI that needs angle brackets")]
    Brackets,
    /// `*` beside other contacts, or an empty element.
    #[error("malformed list")]
    List,
}

/// `"Bob" <sip:bob@biloxi.com>;tag=1`, or the same without name and brackets; then every parameter is the header's.
#[derive(Debug, Clone, Copy)]
pub struct NameAddr<'a> {
    /// The display name as sent, quotes included; empty when there is none.
    pub display: &'a [u8],
    /// The URI's text, without brackets.
    pub uri_text: &'a [u8],
    /// The header's parameters.
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Takes one value apart; the URI stays text.
    ///
    /// # Errors
    /// [`NameAddrError`], but for its `Uri` and `List`.
    pub fn parse(value: &'a [u8]) -> Result<NameAddr<'a>, NameAddrError> {
        let value = trim(value);
        let is_quoted = value.first() == Some(&b'"');
        let open = find_unquoted(value, b'<').map_err(|_| NameAddrError::Unbalanced)?;
        let parsed = match open {
            Some(open) => {
                let display = trim(cut(value, open).0);
                let inside = cut(value, open + 1).1;
                let close = memchr::memchr(b'>', inside).ok_or(NameAddrError::Unbalanced)?;
                if !is_quoted {
                    check_unquoted(display)?;
                }
                let (uri_text, rest) = cut(inside, close);
                NameAddr { display, uri_text, params: Params::new(cut(rest, 1).1) }
            }
            None if is_quoted => return Err(NameAddrError::Unbalanced),
            None => {
                let end = value.iter().position(|byte| *byte == b';' || is_lws(*byte)).unwrap_or(value.len());
                let (uri_text, rest) = cut(value, end);
                if memchr::memchr2(b'?', b',', uri_text).is_some() {
                    return Err(NameAddrError::Brackets);
                }
                NameAddr { display: b"", uri_text, params: Params::new(rest) }
            }
        };
        parsed.params.check()?;
        Ok(parsed)
    }

    /// The URI in parts.
    ///
    /// # Errors
    /// [`UriError`].
    pub fn uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri_text)
    }

    /// The `tag` parameter; an empty one counts as none.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.params.get(b"tag").filter(|tag| !tag.is_empty())
    }
}

/// A display name without quotes is a few tokens (RFC 3261 25.1). Of what else phones write there only that is refused
/// which another element could read differently.
fn check_unquoted(display: &[u8]) -> Result<(), NameAddrError> {
    let bad = display.iter().find(|byte| matches!(byte, b'"' | b',' | b';' | b':'));
    match bad {
        Some(b'"') => Err(NameAddrError::Unbalanced),
        Some(_) => Err(NameAddrError::Display),
        None => Ok(()),
    }
}

/// One element of a Contact header.
#[derive(Debug, Clone, Copy)]
pub enum ContactValue<'a> {
    /// `*`
    Star,
    /// A contact and its URI.
    Contact(NameAddr<'a>, Uri<'a>),
}

/// The elements of Contact headers; see [`contacts`].
pub type ContactList<'a> = Result<ContactValue<'a>, NameAddrError>;

/// The contacts of all Contact values of a request, in order (RFC 3261 20.10). An element that does not parse is an
/// error of its own; the iteration goes on.
pub fn contacts<'a>(
    values: impl Iterator<Item = &'a [u8]> + Clone,
) -> impl Iterator<Item = ContactList<'a>> + Clone {
    values.flat_map(|value| {
        let mut rest = Some(value);
        std::iter::from_fn(move || {
            let (element, tail) = next_element(rest?);
            rest = tail;
            Some(contact(trim(element)))
        })
    })
}

fn contact(element: &[u8]) -> ContactList<'_> {
    if element == b"*" {
        return Ok(ContactValue::Star);
    }
    if list(element).next().is_none() {
        return Err(NameAddrError::List);
    }
    let name_addr = NameAddr::parse(element)?;
    let uri = name_addr.uri()?;
    Ok(ContactValue::Contact(name_addr, uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_brackets() {
        let to = NameAddr::parse(b"\"A. G. <Bell>\\\" x\" <sip:a@b;lr;x=y>;tag=a48s").unwrap();
        assert_eq!((to.uri_text, to.tag()), (&b"sip:a@b;lr;x=y"[..], Some(&b"a48s"[..])));
        let bare = NameAddr::parse(b"sip:+12125551212@phone.com ; tag=887s").unwrap();
        assert_eq!((bare.uri_text, bare.tag()), (&b"sip:+12125551212@phone.com"[..], Some(&b"887s"[..])));
        assert_eq!(NameAddr::parse(b"\"401999\"<sip:401999@10.2.84.19>").unwrap().display, b"\"401999\"");
        assert_eq!(NameAddr::parse(b"caller<sip:caller@example.com>;tag=").unwrap().tag(), None);
        let instance = NameAddr::parse(b"sip:a@b:5062;x=1;+sip.instance=\"<urn:uuid:0, ;>\";q=1").unwrap();
        assert_eq!((instance.uri_text, instance.display), (&b"sip:a@b:5062"[..], &b""[..]));
        assert_eq!(instance.params.get(b"+sip.instance"), Some(&b"\"<urn:uuid:0, ;>\""[..]));
        assert_eq!(instance.params.get(b"q"), Some(&b"1"[..]));
        assert_eq!(NameAddr::parse(b"J\xf8rgen <sip:j@x>").unwrap().display, b"J\xf8rgen");
    }

    #[test]
    fn refusals() {
        assert!(matches!(NameAddr::parse(b"\"Mr. <sip:a@b>"), Err(NameAddrError::Unbalanced)));
        assert!(matches!(NameAddr::parse(b"Mr \" <sip:a@b>"), Err(NameAddrError::Unbalanced)));
        assert!(matches!(NameAddr::parse(b"<sip:a@b"), Err(NameAddrError::Unbalanced)));
        assert!(matches!(NameAddr::parse(b"<sip:a@b> junk"), Err(NameAddrError::Params(_))));
        assert!(matches!(NameAddr::parse(b"sip:a@b junk"), Err(NameAddrError::Params(_))));
    }

    /// RFC 4475 3.1.2.13 and 3.1.2.15, and a From that names one caller to us and another one to the callee.
    #[test]
    fn what_could_be_read_in_two_ways() {
        let brackets = b"sip:user@example.com?Route=%3Csip:sip.example.com%3E";
        assert!(matches!(NameAddr::parse(brackets), Err(NameAddrError::Brackets)));
        assert!(matches!(NameAddr::parse(b"sip:9001@a,sip:9002@a"), Err(NameAddrError::Brackets)));
        for display in ["Bell, Alexander", "sip:9001@a, x", "sip:9001@a", "x;y=", "9001@a;tag=1"] {
            let value = format!("{display} <sip:9002@a>;tag=2");
            assert!(matches!(NameAddr::parse(value.as_bytes()), Err(NameAddrError::Display)), "{display}");
            let quoted = format!("\"{display}\" <sip:9002@a>;tag=2");
            assert_eq!(NameAddr::parse(quoted.as_bytes()).unwrap().uri_text, b"sip:9002@a");
        }
        assert!(NameAddr::parse(b"A. G. Bell (lab) @work <sip:a@b>").is_ok());
    }

    #[test]
    fn contacts_over_several_headers() {
        let values: [&[u8]; 3] =
            [b"<sip:x@h:1>;q=0.5", b"\"a, b\" <sip:x@h:2;x=y>;q=1.0,<sip:x@h:3>;expires=1000", b"*"];
        let all: Vec<_> = contacts(values.into_iter()).collect();
        assert_eq!(all.len(), 4);
        assert!(matches!(&all[1], Ok(ContactValue::Contact(_, uri)) if uri.port == Some(2)));
        assert!(matches!(all[3], Ok(ContactValue::Star)));
        let bad: [&[u8]; 2] = [b"<not a uri>", b"<sip:a@b>, , <sip:c@d>"];
        let all: Vec<_> = contacts(bad.into_iter()).collect();
        assert!(matches!(all[0], Err(NameAddrError::Uri(_))));
        assert!(matches!(all[2], Err(NameAddrError::List)));
        assert_eq!(all.len(), 4);
    }
}
