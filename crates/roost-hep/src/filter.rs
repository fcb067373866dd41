//! Which messages a collector wants, as `opensips-cli trace` asks: `caller=`, `callee=`, `ip=`; and `who=` (either side), `callid=`, `when=`
//! (a condition, as of a `[[route]]`).

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;

use roost_core::{Flow, MessageFacts, REQUEST};
use roost_filter::Filter as Condition;
use roost_sip::{Head, HeaderName, NameAddr, StartLine, Uri};

/// Call-IDs that are followed at once.
const FOLLOWED: usize = 4_096;

/// What a message must be; all that is given must fit. Whatever else has the Call-ID of one that fits, fits too.
#[derive(Debug, Default)]
pub struct Filter {
    caller: Option<String>,
    callee: Option<String>,
    who: Option<String>,
    call_id: Option<String>,
    ip: Option<IpAddr>,
    when: Option<Condition>,
    followed: Followed,
}

/// Hashes of Call-IDs, the oldest first.
#[derive(Debug, Default)]
struct Followed {
    hashes: VecDeque<u64>,
    hasher: RandomState,
}

/// A filter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is none of these.
    #[error(
        "`{0}` is no filter: use caller=USER, callee=USER, who=USER, ip=ADDRESS, callid=CALL-ID or when=CONDITION"
    )]
    Unknown(String),
    /// No IP address.
    #[error("`{0}` is no IP address")]
    Address(String),
    /// No condition.
    #[error("when: {0}")]
    Condition(#[from] roost_filter::FilterError),
}

impl Filter {
    /// Reads the parts of a filter; none: everything.
    ///
    /// # Errors
    /// [`FilterError`] names the part.
    pub fn parse<'t>(parts: impl IntoIterator<Item = &'t str>) -> Result<Filter, FilterError> {
        let mut filter = Filter::default();
        for part in parts {
            let unknown = || FilterError::Unknown(part.to_string());
            let (name, value) = part.split_once('=').ok_or_else(unknown)?;
            match name.trim() {
                "caller" => filter.caller = Some(value.trim().to_string()),
                "callee" => filter.callee = Some(value.trim().to_string()),
                "who" => filter.who = Some(value.trim().to_string()),
                "callid" => filter.call_id = Some(value.trim().to_string()),
                "ip" => {
                    let address = value.trim().parse();
                    filter.ip = Some(address.map_err(|_| FilterError::Address(value.to_string()))?);
                }
                "when" => filter.when = Some(Condition::compile(value.trim(), &REQUEST)?),
                _ => return Err(unknown()),
            }
        }
        Ok(filter)
    }

    /// The parts again.
    pub fn parts(&self) -> Vec<String> {
        let text = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
        let ip = self.ip.map(|ip| format!("ip={ip}"));
        let texts = [
            text("caller", &self.caller),
            text("callee", &self.callee),
            text("who", &self.who),
            text("callid", &self.call_id),
            ip,
            self.when.as_ref().map(|when| format!("when={}", when.text())),
        ];
        texts.into_iter().flatten().collect()
    }

    /// Whether everything fits.
    pub(crate) fn is_empty(&self) -> bool {
        let texts = [&self.caller, &self.callee, &self.who, &self.call_id];
        texts.iter().all(|text| text.is_none()) && self.ip.is_none() && self.when.is_none()
    }

    /// Whether a message is wanted.
    pub(crate) fn wants(&mut self, flow: &Flow, head: &Head, message: &[u8]) -> bool {
        if self.is_empty() {
            return true;
        }
        let call_id = head.value(message, HeaderName::CallId).unwrap_or(&[]);
        if self.followed.has(call_id) {
            return true;
        }
        if self.call_id.as_ref().is_some_and(|wanted| wanted.as_bytes() != call_id) {
            return false;
        }
        let names = |wanted: &String| {
            is_named(head, message, HeaderName::From, wanted)
                || is_named(head, message, HeaderName::To, wanted)
                || is_asked_for(head, message, wanted)
        };
        let fits = self.who.as_ref().is_none_or(names)
            && self.ip.is_none_or(|ip| flow.remote.ip().to_canonical() == ip.to_canonical())
            && self.caller.as_ref().is_none_or(|wanted| is_named(head, message, HeaderName::From, wanted))
            && self.callee.as_ref().is_none_or(|wanted| {
                is_named(head, message, HeaderName::To, wanted) || is_asked_for(head, message, wanted)
            })
            && self.when.as_ref().is_none_or(|when| when.holds(&MessageFacts::new(flow, message, head)));
        if fits {
            self.followed.add(call_id);
        }
        fits
    }
}

impl Followed {
    fn has(&self, call_id: &[u8]) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&self.hasher.hash_one(call_id))
    }

    fn add(&mut self, call_id: &[u8]) {
        if self.hashes.len() == FOLLOWED {
            self.hashes.pop_front();
        }
        self.hashes.push_back(self.hasher.hash_one(call_id));
    }
}

/// Whether a header names this user, or user@host.
fn is_named(head: &Head, message: &[u8], header: HeaderName, wanted: &str) -> bool {
    let address = head.value(message, header).and_then(|value| NameAddr::parse(value).ok());
    address.and_then(|address| Uri::parse(address.uri_text).ok()).is_some_and(|uri| is_user(&uri, wanted))
}

/// Whether the Request-URI does.
fn is_asked_for(head: &Head, message: &[u8], wanted: &str) -> bool {
    match head.start_line() {
        StartLine::Request { uri, .. } => Uri::parse(uri.of(message)).is_ok_and(|uri| is_user(&uri, wanted)),
        StartLine::Response { .. } => false,
    }
}

fn is_user(uri: &Uri<'_>, wanted: &str) -> bool {
    let user = uri.user.unwrap_or(&[]);
    match wanted.split_once('@') {
        Some((name, host)) => user == name.as_bytes() && uri.host.eq_ignore_ascii_case(host.as_bytes()),
        None => user == wanted.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(call_id: &str, from: &str, to: &str) -> Vec<u8> {
        format!(
            "INVITE sip:{to}@pbx SIP/2.0\r\nFrom: <sip:{from}@a.test>;tag=1\r\nTo: <sip:{to}@b.test>\r\nCall-ID: {call_id}\r\n\r\n"
        )
        .into_bytes()
    }

    fn wants(filter: &mut Filter, message: &[u8]) -> bool {
        let flow = Flow::udp("10.0.0.1:5060".parse().unwrap(), "10.0.0.9:5062".parse().unwrap());
        let mut head = Head::new();
        head.parse(message).unwrap();
        filter.wants(&flow, &head, message)
    }

    #[test]
    fn all_parts_must_fit_and_the_rest_of_the_call_follows() {
        let mut filter = Filter::parse(["caller=9001", "callee=9002@B.test", "ip=10.0.0.9"]).unwrap();
        assert!(!wants(&mut filter, &message("1", "9001", "9003")));
        assert!(!wants(&mut filter, &message("2", "9002", "9001")));
        assert!(wants(&mut filter, &message("3", "9001", "9002")));
        assert!(wants(&mut filter, &message("3", "9002", "9001")), "a BYE from the other side");
        assert_eq!(filter.parts(), ["caller=9001", "callee=9002@B.test", "ip=10.0.0.9"]);
        let mut elsewhere = Filter::parse(["ip=10.0.0.8"]).unwrap();
        assert!(!wants(&mut elsewhere, &message("4", "9001", "9002")));
        assert!(wants(&mut Filter::default(), &message("5", "a", "b")));
        let mut either = Filter::parse(["who=9001"]).unwrap();
        assert!(
            wants(&mut either, &message("6", "9001", "9002"))
                && wants(&mut either, &message("7", "9002", "9001"))
        );
        assert!(!wants(&mut either, &message("8", "9002", "9003")));
        let mut one = Filter::parse(["callid=9"]).unwrap();
        assert!(wants(&mut one, &message("9", "a", "b")) && !wants(&mut one, &message("10", "a", "b")));
        let when = "when=method == 'INVITE' && uri.user.startsWith('90') && inNetwork(source, '10.0.0.0/24')";
        let mut asked = Filter::parse([when]).unwrap();
        assert!(
            wants(&mut asked, &message("11", "a", "9001")) && !wants(&mut asked, &message("12", "a", "8001"))
        );
        assert_eq!(asked.parts(), [when]);
        for bad in ["user=1", "caller", "ip=localhost", "when=method"] {
            assert!(Filter::parse([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn followed_calls_are_bounded() {
        let mut filter = Filter::parse(["caller=9001"]).unwrap();
        for n in 0..FOLLOWED + 10 {
            assert!(wants(&mut filter, &message(&n.to_string(), "9001", "9002")));
        }
        assert_eq!(filter.followed.hashes.len(), FOLLOWED);
        assert!(!wants(&mut filter, &message("0", "9002", "9001")), "the oldest is forgotten");
    }
}
