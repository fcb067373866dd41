//! A phone's words: REGISTER requests with digest credentials as bytes, and answers taken apart.
//!
//! Only the index over a message's headers is roost's own; the digest is written from RFC 2617 once more, so that
//! an error on one side shows.

use std::net::SocketAddr;

use md5::{Digest, Md5};
use roost_sip::{
    ContactValue, Head, HeaderName, StartLine, Via, contacts, cseq, list, number, trim, unquote,
};

/// What every branch begins with (RFC 3261 8.1.1.7); the request's number in hex follows.
const MAGIC_COOKIE: &str = "z9hG4bK";
/// The client's own part of a qop response; any text will do.
const CNONCE: &str = "06681fd4664cda35938959789ed84849";

/// One phone as it names itself to the server.
#[derive(Debug, Clone)]
pub struct Client {
    pub user: String,
    pub domain: String,
    pub password: String,
    /// The address it writes in Via; behind NAT not the one that its packets come from.
    pub via: SocketAddr,
    pub has_rport: bool,
    /// The URI of its Contact.
    pub contact: String,
    /// Its Contact's priority, in thousandths.
    pub q: Option<u16>,
    pub call_id: String,
    pub tag: String,
    /// The number of the request made last.
    pub cseq: u32,
    challenge: Option<Challenge>,
    /// How often the challenge's nonce was used.
    nc: u32,
}

/// What a REGISTER asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A binding for so many seconds, said in `;expires=` or in the header.
    Bind { expires_s: u32, in_contact: bool },
    /// No binding of this contact any more.
    Unbind,
    /// No binding of anybody any more: `Contact: *`.
    UnbindAll,
    /// The bindings there are: no Contact.
    Query,
}

impl Client {
    /// A phone that was just switched on.
    pub fn new(user: &str, domain: &str, password: &str, via: SocketAddr, has_rport: bool) -> Client {
        Client {
            user: user.to_string(),
            domain: domain.to_string(),
            password: password.to_string(),
            via,
            has_rport,
            contact: format!("sip:{user}@{via}"),
            q: None,
            call_id: String::new(),
            tag: String::new(),
            cseq: 0,
            challenge: None,
            nc: 0,
        }
    }

    /// The next REGISTER. `branch` is its number and never used twice.
    pub fn register(&mut self, ask: Ask, branch: u64) -> Vec<u8> {
        self.cseq += 1;
        let uri = format!("sip:{}", self.domain);
        let credentials = self.credentials(&uri);
        let Client { user, domain, via, contact, call_id, tag, cseq, .. } = self;
        let q = self.q.map_or(String::new(), |q| format!(";q={}.{:03}", q / 1_000, q % 1_000));
        let rport = if self.has_rport { ";rport" } else { "" };
        let asked = match ask {
            Ask::Bind { expires_s, in_contact: true } => {
                format!("Contact: <{contact}>{q};expires={expires_s}\r\n")
            }
            Ask::Bind { expires_s, .. } => format!("Contact: <{contact}>{q}\r\nExpires: {expires_s}\r\n"),
            Ask::Unbind => format!("Contact: <{contact}>\r\nExpires: 0\r\n"),
            Ask::UnbindAll => "Contact: *\r\nExpires: 0\r\n".to_string(),
            Ask::Query => String::new(),
        };
        format!(
            "REGISTER {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {via};branch={MAGIC_COOKIE}{branch:x}{rport}\r\n\
             Max-Forwards: 70\r\n\
             From: \"{user}\" <sip:{user}@{domain}>;tag={tag}\r\n\
             To: <sip:{user}@{domain}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             {asked}\
             Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, INFO\r\n\
             User-Agent: roost-sim\r\n\
             {credentials}\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// The Authorization line that answers the last challenge, with its line end; empty before the first.
    fn credentials(&mut self, uri: &str) -> String {
        let Some(challenge) = &self.challenge else { return String::new() };
        self.nc += 1;
        challenge.answer(&self.user, &self.password, "REGISTER", uri, self.nc) + "\r\n"
    }

    /// From here on this challenge is answered.
    pub fn take_challenge(&mut self, challenge: Challenge) {
        self.challenge = Some(challenge);
        self.nc = 0;
    }

    /// What a phone that loses power forgets.
    pub fn forget_challenge(&mut self) {
        self.challenge = None;
    }
}

/// A WWW-Authenticate header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    /// It offers `qop="auth"`.
    pub has_qop: bool,
    pub is_stale: bool,
}

impl Challenge {
    /// Parses the header's value; `None` when it is not a Digest challenge.
    pub fn parse(value: &[u8]) -> Option<Challenge> {
        let params = value.strip_prefix(b"Digest ")?;
        let mut challenge =
            Challenge { realm: String::new(), nonce: String::new(), has_qop: false, is_stale: false };
        for param in list(params) {
            let equals = param.iter().position(|byte| *byte == b'=')?;
            let value = String::from_utf8_lossy(unquote(trim(&param[equals + 1..]))).into_owned();
            match trim(&param[..equals]) {
                b"realm" => challenge.realm = value,
                b"nonce" => challenge.nonce = value,
                b"qop" => challenge.has_qop = value == "auth",
                b"stale" => challenge.is_stale = value == "true",
                _ => {}
            }
        }
        (!challenge.nonce.is_empty()).then_some(challenge)
    }

    /// The challenge of a response, if it has one.
    pub fn of(head: &Head, message: &[u8]) -> Option<Challenge> {
        Challenge::parse(head.value(message, HeaderName::WwwAuthenticate)?)
    }

    /// The Authorization line that answers it, without a line end, spelled as eyeBeam and Zoiper do.
    pub fn answer(&self, user: &str, password: &str, method: &str, uri: &str, nc: u32) -> String {
        let Challenge { realm, nonce, .. } = self;
        let ha1 = ha1(user, realm, password);
        let ha2 = md5_hex(&format!("{method}:{uri}"));
        let (response, qop) = match self.has_qop {
            true => (
                md5_hex(&format!("{ha1}:{nonce}:{nc:08x}:{CNONCE}:auth:{ha2}")),
                format!("cnonce=\"{CNONCE}\",nc={nc:08x},qop=auth,"),
            ),
            false => (md5_hex(&format!("{ha1}:{nonce}:{ha2}")), String::new()),
        };
        format!(
            "Authorization: Digest username=\"{user}\",realm=\"{realm}\",nonce=\"{nonce}\",uri=\"{uri}\",\
             response=\"{response}\",{qop}algorithm=MD5"
        )
    }
}

/// `MD5(user:realm:password)` in hex.
pub fn ha1(user: &str, realm: &str, password: &str) -> String {
    md5_hex(&format!("{user}:{realm}:{password}"))
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A response, as far as a phone looks at it.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub reason: String,
    /// The number of the request it answers.
    pub branch: u64,
    pub call_id: String,
    pub cseq: u32,
    pub contacts: Vec<Listed>,
    pub challenge: Option<Challenge>,
    pub retry_after_s: Option<u32>,
    /// P-Registrar-Error
    pub error: Option<String>,
}

/// One contact of a 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub contact: Vec<u8>,
    pub expires_s: u32,
}

impl Reply {
    /// Takes a response apart; `None` for anything that no phone of this world would understand.
    pub fn parse(head: &mut Head, message: &[u8]) -> Option<Reply> {
        head.parse(message).ok()?;
        let StartLine::Response { code } = head.start_line() else { return None };
        let value = |name| head.value(message, name);
        let branch =
            Via::parse(value(HeaderName::Via)?).ok()?.branch?.strip_prefix(MAGIC_COOKIE.as_bytes())?;
        let listed =
            contacts(head.values(message, HeaderName::Contact)).filter_map(|contact| match contact {
                Ok(ContactValue::Contact(name_addr, uri)) => {
                    let expires = name_addr.params.get(b"expires").and_then(|value| number(value).ok());
                    Some(Listed { contact: uri.text.to_vec(), expires_s: expires.unwrap_or(0) })
                }
                _ => None,
            });
        Some(Reply {
            status: code,
            reason: reason(message),
            branch: u64::from_str_radix(std::str::from_utf8(branch).ok()?, 16).ok()?,
            call_id: String::from_utf8_lossy(value(HeaderName::CallId)?).into_owned(),
            cseq: cseq(value(HeaderName::CSeq)?).ok()?.number,
            contacts: listed.collect(),
            challenge: Challenge::of(head, message),
            retry_after_s: value(HeaderName::RetryAfter).and_then(|value| number(value).ok()),
            error: registrar_error(message),
        })
    }

    /// The contact's seconds, if the answer lists it.
    pub fn expires_of(&self, contact: &str) -> Option<u32> {
        let listed = self.contacts.iter().find(|listed| listed.contact == contact.as_bytes())?;
        Some(listed.expires_s)
    }
}

/// What stands behind the status code.
fn reason(message: &[u8]) -> String {
    let line = message.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    String::from_utf8_lossy(line.get("SIP/2.0 200 ".len()..).unwrap_or(&[])).into_owned()
}

/// What the registrar's own header says.
fn registrar_error(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    text.split("\r\n").find_map(|line| Some(line.strip_prefix("P-Registrar-Error: ")?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(realm: &str, nonce: &str, has_qop: bool) -> Challenge {
        Challenge { realm: realm.into(), nonce: nonce.into(), has_qop, is_stale: false }
    }

    /// The captures of the original description; in each the password equals the extension number.
    #[test]
    fn answers_as_real_phones_do() {
        let eyebeam = challenge("10.2.84.19", "5eb6117930f436d5c6dfab18f8b2da91e65c1537", false);
        assert_eq!(
            eyebeam.answer("401999", "401999", "REGISTER", "sip:10.2.84.19", 1),
            "Authorization: Digest username=\"401999\",realm=\"10.2.84.19\",\
             nonce=\"5eb6117930f436d5c6dfab18f8b2da91e65c1537\",uri=\"sip:10.2.84.19\",\
             response=\"9c46fa8d95df62b2d204c82bf4fcdccc\",algorithm=MD5"
        );
        let zoiper = challenge("10.2.32.112", "5f05c370000000090661a6e56d5451e0ba81b4883dc37bca", true);
        assert_eq!(
            zoiper.answer("9001", "9001", "REGISTER", "sip:10.2.32.112;transport=tcp", 1),
            "Authorization: Digest username=\"9001\",realm=\"10.2.32.112\",\
             nonce=\"5f05c370000000090661a6e56d5451e0ba81b4883dc37bca\",uri=\"sip:10.2.32.112;transport=tcp\",\
             response=\"d5792a2d89b0c158c1c9453f98385cb8\",cnonce=\"06681fd4664cda35938959789ed84849\",\
             nc=00000001,qop=auth,algorithm=MD5"
        );
    }

    #[test]
    fn challenges_are_read() {
        let value = b"Digest realm=\"a, b\", nonce=\"5eb6\", qop=\"auth\", stale=true";
        assert_eq!(
            Challenge::parse(value),
            Some(Challenge { is_stale: true, ..challenge("a, b", "5eb6", true) })
        );
        assert_eq!(Challenge::parse(b"Digest realm=\"a\", nonce=\"5\""), Some(challenge("a", "5", false)));
        assert_eq!(Challenge::parse(b"Basic realm=\"a\""), None);
    }

    #[test]
    fn a_reply_is_taken_apart() {
        let message = b"SIP/2.0 200 OK\r\n\
            Via: SIP/2.0/UDP 10.0.0.9:5060;received=10.0.0.9;branch=z9hG4bK1f;rport=5060\r\n\
            From: <sip:1@a>;tag=1\r\nTo: <sip:1@a>;tag=2\r\nCall-ID: c\r\nCSeq: 7 REGISTER\r\n\
            Contact: <sip:1@10.0.0.9:1;x=1>;q=0.5;expires=30, <sip:1@10.0.0.9:2>;expires=60\r\n\r\n";
        let reply = Reply::parse(&mut Head::new(), message).unwrap();
        assert_eq!((reply.status, reply.reason.as_str(), reply.branch, reply.cseq), (200, "OK", 0x1f, 7));
        assert_eq!(reply.expires_of("sip:1@10.0.0.9:2"), Some(60));
        assert_eq!(reply.expires_of("sip:1@10.0.0.9:3"), None);
        assert_eq!(reply.contacts[0], Listed { contact: b"sip:1@10.0.0.9:1;x=1".to_vec(), expires_s: 30 });
    }

    #[test]
    fn a_request_is_one_that_roost_sip_reads() {
        let via = "192.168.1.5:5060".parse().unwrap();
        let mut client = Client::new("1001", "roost.test", "pw", via, true);
        client.take_challenge(challenge("roost.test", "5eb6", false));
        let message = client.register(Ask::Bind { expires_s: 60, in_contact: false }, 1);
        let mut head = Head::new();
        head.parse(&message).unwrap();
        assert_eq!(head.defect(), None);
        assert_eq!(head.value(&message, HeaderName::Expires), Some(&b"60"[..]));
        assert_eq!(head.value(&message, HeaderName::CSeq), Some(&b"1 REGISTER"[..]));
        assert!(head.value(&message, HeaderName::Authorization).is_some());
    }
}
