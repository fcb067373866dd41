//! The topmost Via: where an answer goes, and the places that `received` and `rport` are written to.

use std::net::IpAddr;
use std::ops::Range;

use crate::params::{ParamError, Params};
use crate::scan::{cut, is_lws, is_token, next_element, skip_lws, trim};
use crate::uri::{UriError, host_ip, is_host, port_or_zero};

/// Why a value is not a Via.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViaError {
    /// Not `SIP / version / transport`.
    #[error("malformed protocol")]
    Protocol,
    /// The sent-by does not parse.
    #[error("malformed sent-by: {0}")]
    SentBy(#[from] UriError),
    /// The parameters do not parse.
    #[error("malformed parameters: {0}")]
    Params(#[from] ParamError),
}

/// The first Via of a value, with or without branch and magic cookie (RFC 2543 peers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, …, as sent.
    pub transport: &'a [u8],
    /// The sent-by host, an IPv6 address in brackets.
    pub host: &'a [u8],
    /// The sent-by port; 0 from peers that do not know their own.
    pub port: Option<u16>,
    /// The branch; `None` from RFC 2543 peers.
    pub branch: Option<&'a [u8]>,
    /// Whether there is an `rport` parameter (RFC 3581).
    pub has_rport: bool,
    /// Offsets in the value: behind the sent-by, where `;received=` goes.
    pub sent_by_end: usize,
    /// Offsets in the value: from the `;` of `rport` to its end.
    pub rport: Option<Range<usize>>,
    /// Offsets in the value: from the `;` of a `received` that the sender wrote itself to its end.
    pub received: Option<Range<usize>>,
}

impl<'a> Via<'a> {
    /// Takes the first Via of a header value apart.
    ///
    /// # Errors
    /// [`ViaError`].
    pub fn parse(value: &'a [u8]) -> Result<Via<'a>, ViaError> {
        let (via, error) = Via::read(value)?;
        error.map_or(Ok(via), Err)
    }

    /// As much as an answer needs of a Via that [`parse`](Via::parse) refuses: the sent-by, and the parameters before the
    /// first that is none. The version may be any.
    ///
    /// # Errors
    /// [`ViaError`] when there is no sent-by: nobody could be answered.
    pub fn parse_for_answer(value: &'a [u8]) -> Result<Via<'a>, ViaError> {
        Via::read(value).map(|(via, _)| via)
    }

    /// The Via, and what is wrong with it although its sent-by is readable.
    fn read(value: &'a [u8]) -> Result<(Via<'a>, Option<ViaError>), ViaError> {
        let (first, _) = next_element(value);
        let (name, rest) = protocol_part(first)?;
        let (version, rest) = protocol_part(rest)?;
        if !name.eq_ignore_ascii_case(b"SIP") {
            return Err(ViaError::Protocol);
        }
        let mut error = (version != b"2.0").then_some(ViaError::Protocol);
        let rest = skip_lws(rest);
        let transport_len = rest.iter().position(|byte| is_lws(*byte)).ok_or(ViaError::Protocol)?;
        let (transport, rest) = cut(rest, transport_len);
        if transport.is_empty() || !transport.iter().all(|byte| is_token(*byte)) {
            return Err(ViaError::Protocol);
        }
        let rest = skip_lws(rest);
        let sent_by_len = rest.iter().position(|byte| *byte == b';').unwrap_or(rest.len());
        let (sent_by, params_text) = cut(rest, sent_by_len);
        let sent_by = trim(sent_by);
        let (host, port) = split_sent_by(sent_by)?;
        let offset = |part: &[u8]| part.as_ptr() as usize - value.as_ptr() as usize;
        let mut via = Via {
            transport,
            host,
            port,
            branch: None,
            has_rport: false,
            sent_by_end: offset(sent_by) + sent_by.len(),
            rport: None,
            received: None,
        };
        let mut params = Params::new(params_text);
        loop {
            let start = offset(skip_lws(params.text()));
            let Some(param) = params.next() else { break };
            let param = match param {
                Ok(param) => param,
                Err(junk) => {
                    error = error.or(Some(junk.into()));
                    break;
                }
            };
            let end = param
                .value
                .map_or(offset(param.name) + param.name.len(), |value| offset(value) + value.len());
            if param.name.eq_ignore_ascii_case(b"branch") {
                via.branch = via.branch.or(param.value).filter(|branch| !branch.is_empty());
            } else if param.name.eq_ignore_ascii_case(b"rport") && via.rport.is_none() {
                via.has_rport = true;
                via.rport = Some(start..end);
            } else if param.name.eq_ignore_ascii_case(b"received") && via.received.is_none() {
                via.received = Some(start..end);
            }
        }
        Ok((via, error))
    }

    /// The sent-by host as an address, where it is one.
    pub fn host_ip(&self) -> Option<IpAddr> {
        host_ip(self.host)
    }
}

fn protocol_part(text: &[u8]) -> Result<(&[u8], &[u8]), ViaError> {
    let slash = memchr::memchr(b'/', text).ok_or(ViaError::Protocol)?;
    let (part, rest) = cut(text, slash);
    Ok((trim(part), cut(rest, 1).1))
}

fn split_sent_by(sent_by: &[u8]) -> Result<(&[u8], Option<u16>), ViaError> {
    let host_len = match sent_by {
        [b'[', ..] => memchr::memchr(b']', sent_by).ok_or(UriError::Host)? + 1,
        _ => sent_by.iter().position(|byte| *byte == b':' || is_lws(*byte)).unwrap_or(sent_by.len()),
    };
    let (host, rest) = cut(sent_by, host_len);
    if !is_host(host) {
        return Err(UriError::Host.into());
    }
    match trim(rest) {
        [] => Ok((host, None)),
        [b':', digits @ ..] => Ok((host, Some(port_or_zero(trim(digits))?))),
        _ => Err(UriError::Host.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_branch_and_rport() {
        let value = b"SIP/2.0/UDP 10.32.26.19:56862;branch=z9hG4bK-d87543;rport, SIP/2.0/UDP other";
        let via = Via::parse(value).unwrap();
        assert_eq!((via.transport, via.host, via.port), (&b"UDP"[..], &b"10.32.26.19"[..], Some(56862)));
        assert_eq!(via.branch, Some(&b"z9hG4bK-d87543"[..]));
        assert_eq!(&value[..via.sent_by_end], b"SIP/2.0/UDP 10.32.26.19:56862");
        assert_eq!(&value[via.rport.unwrap()], b";rport");
        assert_eq!(via.received, None);
    }

    #[test]
    fn odd_but_legal() {
        let value = b"SIP / 2.0\r\n / UDP first.example.com: 4000 ;ttl=16 ; rport = 5 ;received=192.0.2.1;branch=z9hG4bKa7";
        let via = Via::parse(value).unwrap();
        assert_eq!((via.host, via.port), (&b"first.example.com"[..], Some(4000)));
        assert_eq!(&value[via.rport.clone().unwrap()], b"; rport = 5");
        assert_eq!(&value[via.received.clone().unwrap()], b";received=192.0.2.1");
        assert!(via.has_rport);
        let old = Via::parse(b"SIP/2.0/UDP h").unwrap();
        assert_eq!((old.branch, old.has_rport, old.sent_by_end), (None, false, 13));
        let v6 = Via::parse(b"SIP/2.0/TCP [2001:db8::9:1]:5060;branch=x").unwrap();
        assert_eq!(v6.host_ip(), Some("2001:db8::9:1".parse().unwrap()));
        assert_eq!(Via::parse(b"SIP/2.0/UNKNOWN h;branch=").unwrap().branch, None);
        assert_eq!(Via::parse(b"SIP/2.0/TCP h:0;rport").unwrap().port, Some(0));
    }

    /// RFC 4475 3.1.2.1 and 3.1.2.16: malformed, but its sender can be told so.
    #[test]
    fn enough_for_an_answer() {
        let via = Via::parse_for_answer(b"SIP/2.0/UDP 192.0.2.15;;,;,,").unwrap();
        assert_eq!((via.host, via.port, via.branch, via.sent_by_end), (&b"192.0.2.15"[..], None, None, 22));
        let via = Via::parse_for_answer(b"SIP/7.0/UDP c.example.com:5070;branch=z9hG4bKkdjuw;rport").unwrap();
        assert_eq!((via.port, via.branch, via.has_rport), (Some(5070), Some(&b"z9hG4bKkdjuw"[..]), true));
        for bad in [&b""[..], b"SIP/2.0/UDP", b"HTTP/1.1/TCP h", b"SIP/2.0/UDP ;branch=x", b"SIP/2.0/UDP h:x"]
        {
            assert!(Via::parse_for_answer(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn refusals() {
        for bad in [
            &b""[..],
            b"SIP/2.0",
            b"SIP/2.0/UDP",
            b"HTTP/1.1/TCP h",
            b"SIP/3.0/UDP h",
            b"SIP/2.0/UDP ;branch=x",
            b"SIP/2.0/UDP h:x",
            b"SIP/2.0/UDP h:5060 y",
            b"SIP/2.0/UDP h;branch=\"x",
            b"SIP/2.0/UDP [::1",
        ] {
            assert!(Via::parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
