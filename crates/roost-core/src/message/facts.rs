//! What conditions on messages may ask (`when` of a `[[route]]`, filters of traces): made only where a condition names it.

use std::borrow::Cow;

use roost_filter::{Kind, Schema, Value, Values};
use roost_sip::{Head, HeaderName, NameAddr, StartLine, Uri, cseq};

use crate::base::flow::Flow;
use crate::message::request::Request;

/// The names of conditions on requests.
pub const REQUEST: Schema = Schema {
    names: &[
        ("method", Kind::Text),
        ("uri.user", Kind::Text),
        ("uri.host", Kind::Text),
        ("from.user", Kind::Text),
        ("from.host", Kind::Text),
        ("to.user", Kind::Text),
        ("to.host", Kind::Text),
        ("source", Kind::Text),
        ("source_port", Kind::Number),
        ("transport", Kind::Text),
        ("user_agent", Kind::Text),
        ("call_id", Kind::Text),
    ],
    has_headers: true,
};

/// Of one message; of a response the method is its CSeq's, and it has no URI.
#[derive(Debug, Clone, Copy)]
pub struct MessageFacts<'a> {
    flow: &'a Flow,
    bytes: &'a [u8],
    head: &'a Head,
}

impl<'a> MessageFacts<'a> {
    /// Of a message and its index.
    pub fn new(flow: &'a Flow, bytes: &'a [u8], head: &'a Head) -> MessageFacts<'a> {
        MessageFacts { flow, bytes, head }
    }

    pub(crate) fn of(request: &'a Request<'_>) -> MessageFacts<'a> {
        MessageFacts::new(&request.flow, request.bytes, request.head)
    }

    fn method(&self) -> Option<&'a [u8]> {
        match self.head.start_line() {
            StartLine::Request { name, .. } => Some(name.of(self.bytes)),
            StartLine::Response { .. } => {
                Some(cseq(self.head.value(self.bytes, HeaderName::CSeq)?).ok()?.method)
            }
        }
    }

    fn uri(&self) -> Option<Uri<'a>> {
        match self.head.start_line() {
            StartLine::Request { uri, .. } => Uri::parse(uri.of(self.bytes)).ok(),
            StartLine::Response { .. } => None,
        }
    }

    fn named(&self, name: HeaderName) -> Option<Uri<'a>> {
        NameAddr::parse(self.head.value(self.bytes, name)?).ok()?.uri().ok()
    }
}

impl Values for MessageFacts<'_> {
    fn value(&self, index: usize) -> Value<'_> {
        let value = |name| self.head.value(self.bytes, name);
        match index {
            0 => slice(self.method()),
            1 => user(self.uri()),
            2 => slice(self.uri().map(|uri| uri.host)),
            3 => user(self.named(HeaderName::From)),
            4 => slice(self.named(HeaderName::From).map(|uri| uri.host)),
            5 => user(self.named(HeaderName::To)),
            6 => slice(self.named(HeaderName::To).map(|uri| uri.host)),
            7 => text(Some(self.flow.remote.ip().to_canonical().to_string().into_bytes())),
            8 => Value::Number(self.flow.remote.port().into()),
            9 => Value::Text(Cow::Borrowed(self.flow.transport.as_str().as_bytes())),
            10 => slice(value(HeaderName::UserAgent)),
            11 => slice(value(HeaderName::CallId)),
            _ => Value::Missing,
        }
    }

    fn header(&self, name: &str) -> Value<'_> {
        let known = HeaderName::parse(name.as_bytes());
        let mut lines = self.head.lines().iter().filter(|line| line.name == known);
        slice(match known {
            HeaderName::Other => lines
                .find(|line| {
                    let own = line.whole.of(self.bytes).split(|byte| *byte == b':').next().unwrap_or(&[]);
                    own.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
                })
                .map(|line| line.value.of(self.bytes)),
            _ => lines.next().map(|line| line.value.of(self.bytes)),
        })
    }
}

/// Whom a URI means.
fn user(uri: Option<Uri<'_>>) -> Value<'_> {
    text(uri.filter(|uri| uri.user.is_some()).map(|uri| uri.user_part().plain().into_owned()))
}

fn slice(text: Option<&[u8]>) -> Value<'_> {
    text.map_or(Value::Missing, |text| Value::Text(Cow::Borrowed(text)))
}

fn text<'a>(text: Option<Vec<u8>>) -> Value<'a> {
    text.map_or(Value::Missing, |text| Value::Text(Cow::Owned(text)))
}

#[cfg(test)]
mod tests {
    use roost_filter::Filter;

    use super::*;
    use crate::contract::policy::Policy;

    #[test]
    fn what_a_condition_sees_of_a_request() {
        let bytes = b"INVITE sip:%39002@a.test;x=y SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx\r\n\
            f: <sip:9001@b.test>;tag=1\r\nTo: <sip:9003@c.test>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nUser-Agent: Yealink\r\n\
            X-Tenant : acme\r\nSubject: s\r\n\r\n";
        let mut head = Head::new();
        head.parse(bytes).unwrap();
        let flow = Flow::udp("10.0.0.9:5060".parse().unwrap(), "10.0.0.1:5062".parse().unwrap());
        let request = Request::new(&Policy::default(), flow, bytes, &head).unwrap();
        for text in [
            "method == 'INVITE' && uri.user == '9002' && uri.host == 'a.test'",
            "from.user == '9001' && from.host == 'b.test' && to.user == '9003' && to.host == 'c.test'",
            "source == '10.0.0.1' && source_port == 5062 && transport == 'udp'",
            "user_agent.startsWith('Yealink') && call_id == 'c'",
            "header('x-tenant') == 'acme' && header('From').contains('9001') && header('X-Ten') != ''",
        ] {
            let filter = Filter::compile(text, &REQUEST).unwrap();
            assert!(filter.holds(&MessageFacts::of(&request)), "{text}");
        }
    }
}
