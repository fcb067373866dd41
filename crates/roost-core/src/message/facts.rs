//! What conditions on requests may ask (`when` of a `[[route]]`): made only where a condition names it.

use std::borrow::Cow;

use roost_filter::{Kind, Schema, Value, Values};
use roost_sip::HeaderName;

use crate::base::aor::UserHost;
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

/// Of one request.
pub(crate) struct RequestFacts<'r, 'a>(pub(crate) &'r Request<'a>);

impl Values for RequestFacts<'_, '_> {
    fn value(&self, index: usize) -> Value<'_> {
        let request = self.0;
        let uri = || request.target.ok();
        let user = |who: Option<UserHost<'_>>| text(who.map(|who| who.user.plain().into_owned()));
        let flow = &request.flow;
        match index {
            0 => Value::Text(Cow::Borrowed(request.method_name)),
            1 => user(uri().filter(|uri| uri.user.is_some()).map(|uri| UserHost::of(&uri))),
            2 => slice(uri().map(|uri| uri.host)),
            3 => user(request.from()),
            4 => slice(request.from().map(|from| from.host)),
            5 => user(request.to()),
            6 => slice(request.to().map(|to| to.host)),
            7 => text(Some(flow.remote.ip().to_canonical().to_string().into_bytes())),
            8 => Value::Number(flow.remote.port().into()),
            9 => Value::Text(Cow::Borrowed(flow.transport.as_str().as_bytes())),
            10 => slice(request.value(HeaderName::UserAgent)),
            11 => slice(request.call_id()),
            _ => Value::Missing,
        }
    }

    fn header(&self, name: &str) -> Value<'_> {
        let Request { head, bytes, .. } = self.0;
        let known = HeaderName::parse(name.as_bytes());
        let mut lines = head.lines().iter().filter(|line| line.name == known);
        slice(match known {
            HeaderName::Other => lines
                .find(|line| {
                    let own = line.whole.of(bytes).split(|byte| *byte == b':').next().unwrap_or(&[]);
                    own.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
                })
                .map(|line| line.value.of(bytes)),
            _ => lines.next().map(|line| line.value.of(bytes)),
        })
    }
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
    use roost_sip::Head;

    use super::*;
    use crate::base::flow::Flow;
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
            assert!(filter.holds(&RequestFacts(&request)), "{text}");
        }
    }
}
