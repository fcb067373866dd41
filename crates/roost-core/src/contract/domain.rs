//! Names that are ours (`domains`).

use roost_sip::Uri;

/// An entry of `domains`: a host that leads to us, by any of our ports or by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    host: Box<str>,
    port: Option<u16>,
}

/// An entry that is neither `HOST` nor `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a name; write \"HOST\" or \"HOST:PORT\"")]
pub struct DomainError(String);

impl std::str::FromStr for Domain {
    type Err = DomainError;

    fn from_str(entry: &str) -> Result<Domain, DomainError> {
        let uri = format!("sip:{entry}");
        let uri = Uri::parse(uri.as_bytes()).ok().filter(|uri| uri.user.is_none());
        // Nothing else than host and port may stand there.
        let rest = |uri: &Uri<'_>| uri.params().text().is_empty() && uri.headers().is_empty();
        let uri = uri.filter(|uri| rest(uri) && !entry.ends_with('?'));
        let uri = uri.ok_or_else(|| DomainError(entry.to_string()))?;
        Ok(Domain { host: String::from_utf8_lossy(uri.host).to_ascii_lowercase().into(), port: uri.port })
    }
}

impl Domain {
    /// The name itself, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether a URI names it; `is_ours` tells of a port whether we listen there.
    pub(crate) fn is_named_by(&self, uri: &Uri<'_>, is_ours: impl Fn(u16) -> bool) -> bool {
        uri.host.eq_ignore_ascii_case(self.host.as_bytes())
            && match (self.port, uri.port) {
                (Some(own), port) => port == Some(own),
                (None, port) => port.is_none_or(is_ours),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_and_without_a_port() {
        let names = |entry: &str, uri: &str| {
            let domain: Domain = entry.parse().unwrap();
            domain.is_named_by(&Uri::parse(uri.as_bytes()).unwrap(), |port| port == 5060)
        };
        assert!(names("PBX.example.com", "sip:9001@pbx.example.com;lr"));
        assert!(names("pbx.example.com", "sip:pbx.EXAMPLE.com:5060"));
        assert!(!names("pbx.example.com", "sip:pbx.example.com:5090"));
        assert!(names("pbx.example.com:5090", "sip:pbx.example.com:5090"));
        assert!(!names("pbx.example.com:5090", "sip:pbx.example.com"));
        for bad in ["", "a b", "x@y", "host:port", "host;lr", "host?a=b", "host?", "sip:host", "[::1"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad}");
        }
    }
}
