//! `try`: what would become of a request, decided by the running server's own code and settings. Nothing is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use roost_core::{
    Admin, AdminReply, Decision, Flow, Preview, Secrets, Signer, SubscriberName, Supposed,
    SupposedSubscriber, Transport,
};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{ask, ask_owner, owner, stored_aor};
use crate::rpc::{Params, RpcError};

/// Shards and look-ups that one request goes through at most.
const MOST_STEPS: usize = 12;
/// A connection that no phone has.
const NO_CONNECTION: u64 = u64::MAX >> 16;

/// Where a phone is that is not registered: an address for documentation (RFC 5737, RFC 3849), which nobody has or trusts.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);
const NOBODY_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 5060);

/// What is asked.
struct Question {
    method: String,
    /// Who sends it, as an AOR.
    who: String,
    /// Who is called; for a REGISTER nobody.
    target: Option<String>,
    flow: Flow,
    password: Option<String>,
    contact: Option<String>,
    expires_s: Option<i64>,
    user_agent: String,
    /// Further header lines.
    headers: Vec<String>,
}

/// What came of it.
#[derive(Default)]
struct Course {
    decisions: Vec<Decision>,
    sends: Vec<(Flow, Vec<u8>)>,
    is_committed: bool,
}

/// `try METHOD WHO [TARGET] …`.
pub(crate) async fn what_if(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let question = Question::of(mi, params).await?;
    let message = question.message(mi);
    let course = play(mi, &question, message.clone()).await?;
    let decisions: Vec<_> = course
        .decisions
        .iter()
        .map(|Decision { key, text, .. }| json!({ "Decision": text, "Key": key }))
        .collect();
    let mut shown = json!({
        "Request": first_line(message.as_bytes()),
        "From": question.flow.remote.to_string(),
        "Transport": question.flow.transport.as_str(),
        "Decisions": decisions,
    });
    let is_response = |bytes: &[u8]| bytes.starts_with(b"SIP/2.0 ");
    let answer =
        course.sends.iter().rev().find(|(_, bytes)| is_response(bytes) && !bytes.starts_with(b"SIP/2.0 1"));
    shown["Answer"] = match answer {
        Some((_, bytes)) => json!(first_line(bytes).trim_start_matches("SIP/2.0 ")),
        None if course.is_committed => json!("200 OK"),
        None => Value::Null,
    };
    let sent = course.sends.iter().filter(|(_, bytes)| !is_response(bytes));
    shown["Sent"] = sent
        .map(|(flow, bytes)| {
            json!({
                "To": flow.remote.to_string(), "Transport": flow.transport.as_str(), "Request": first_line(bytes),
                "Headers": changes(message.as_bytes(), bytes),
            })
        })
        .collect();
    Ok(shown)
}

impl Question {
    async fn of(mi: &Mi, params: &Params<'_>) -> Result<Question, RpcError> {
        let bad = |why: String| RpcError::bad_value(why);
        let filled = |name: &str| params.filled_text(name);
        let method = params.text("method")?.to_ascii_uppercase();
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !method.bytes().all(|byte| byte.is_ascii_uppercase())
            || ["ACK", "CANCEL", "BYE"].contains(&method.as_str())
        {
            return Err(bad(format!(
                "{method} begins nothing: try REGISTER, INVITE, MESSAGE, OPTIONS, SUBSCRIBE …"
            )));
        }
        let who = params.text("who")?;
        let who = who.trim_start_matches("sips:").trim_start_matches("sip:").to_string();
        let target = filled("target")?;
        if !is_name(&who) || target.as_deref().is_some_and(|target| !is_name(target)) {
            return Err(bad("an extension has no blanks or control characters".to_string()));
        }
        if target.is_none() && method != "REGISTER" {
            return Err(bad(format!("who is called by this {method}? Add an extension, a number or a URI")));
        }
        let transport = match filled("transport")? {
            Some(name) => Transport::named(name.to_ascii_lowercase().as_bytes())
                .ok_or_else(|| bad(format!("`{name}` is no transport: udp, tcp, tls, ws or wss")))?,
            None => Transport::Udp,
        };
        let from = match filled("from")? {
            Some(text) => {
                Some(source(&text).ok_or_else(|| bad(format!("`{text}` is no ADDRESS or ADDRESS:PORT")))?)
            }
            None => registered_at(mi, &who).await,
        };
        let flow = flow_of(mi, transport, from).ok_or_else(|| {
            bad(format!(
                "nothing listens for {} and that kind of address; `listen` says what does",
                transport.as_str()
            ))
        })?;
        let headers =
            filled("headers")?.map_or_else(Vec::new, |text| text.lines().map(str::to_string).collect());
        if let Some(line) = headers.iter().find(|line| !line.contains(':')) {
            return Err(bad(format!("`{line}` is no header: NAME: VALUE")));
        }
        let user_agent = filled("user_agent")?.unwrap_or_else(|| "roost try".to_string());
        if user_agent.chars().any(char::is_control) {
            return Err(bad("a User-Agent has no control characters".to_string()));
        }
        let contact = filled("contact")?.filter(|text| is_name(text));
        let (password, expires_s) = (filled("password")?, params.number("expires")?);
        Ok(Question { method, who, target, flow, password, contact, expires_s, user_agent, headers })
    }

    /// The request, as the phone would write it.
    fn message(&self, mi: &Mi) -> String {
        let Question { method, flow, user_agent, .. } = self;
        let (user, domain) = match self.who.rsplit_once('@') {
            Some((user, domain)) => (user, domain.to_string()),
            None => (self.who.as_str(), domain_of(mi, flow)),
        };
        let from = format!("sip:{user}@{domain}");
        let uri = match &self.target {
            None => format!("sip:{domain}"),
            Some(target) if target.starts_with("sip:") || target.starts_with("sips:") => {
                match target.contains('@') {
                    true => target.clone(),
                    false => format!("{target}@{domain}"),
                }
            }
            Some(target) if target.contains('@') => format!("sip:{target}"),
            Some(target) if target.starts_with("tel:") => target.clone(),
            Some(target) => format!("sip:{target}@{domain}"),
        };
        let to = if method == "REGISTER" { &from } else { &uri };
        let contact = self.contact.clone().unwrap_or_else(|| format!("sip:{user}@{}", flow.remote));
        let expires = self.expires_s.map_or(String::new(), |seconds| format!("Expires: {seconds}\r\n"));
        let headers: String = self.headers.iter().map(|line| format!("{line}\r\n")).collect();
        let allow = "INVITE, ACK, CANCEL, BYE, OPTIONS, REFER, NOTIFY, MESSAGE, INFO, UPDATE, PRACK";
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{} {};branch=z9hG4bKtry{};rport\r\nMax-Forwards: 70\r\n\
             From: <{from}>;tag=try\r\nTo: <{to}>\r\nCall-ID: try-{}@roost\r\nCSeq: 1 {method}\r\n\
             Contact: <{contact}>\r\n{expires}User-Agent: {user_agent}\r\nAllow: {allow}\r\n{headers}Content-Length: 0\r\n\r\n",
            flow.transport.via_name(),
            flow.remote,
            unique(),
            unique(),
        )
    }
}

/// Goes from shard to shard as the request would.
async fn play(mi: &Mi, question: &Question, message: String) -> Result<Course, RpcError> {
    let user = question.who.rsplit_once('@').map_or(question.who.as_str(), |(user, _)| user);
    let mut supposed = Supposed {
        flow: question.flow,
        message: message.into_bytes(),
        mark: None,
        subscribers: Vec::new(),
        signs: Some(Signer {
            username: user.as_bytes().to_vec(),
            password: question.password.as_ref().map(|text| text.as_bytes().to_vec()),
        }),
    };
    let mut shard = owner(mi, question.who.as_bytes());
    let mut course = Course::default();
    for _ in 0..MOST_STEPS {
        let Preview { decisions, sends, goes_on, asks, names, commits, signed } =
            match ask(mi, shard, Admin::Preview(Box::new(supposed.clone()))).await? {
                AdminReply::Preview(preview) => *preview,
                _ => return Err(RpcError::new(500, "Failed to try")),
            };
        if let Some((user, domain)) = asks {
            let found = look_up(mi, (user.clone(), domain.clone())).await?;
            let domain = domain.unwrap_or_default();
            supposed.subscribers.push(SupposedSubscriber { user, domain, secrets: found });
            continue;
        }
        course.decisions.extend(decisions);
        course.sends.extend(sends);
        course.is_committed |= commits;
        if !signed.is_empty() {
            supposed.message = signed;
            supposed.signs = None;
        }
        let Some((next, mark)) = goes_on else {
            let asked = names.into_iter().map(|name| format!("{} would be looked up", name.host));
            course.decisions.extend(asked.map(|text| Decision { key: "", text, before: 0 }));
            return Ok(course);
        };
        (shard, supposed.mark) = (next, Some(mark));
    }
    Err(RpcError::new(500, "The request goes round in circles"))
}

async fn look_up(mi: &Mi, name: SubscriberName) -> Result<Option<Secrets>, RpcError> {
    let read = Arc::clone(&mi.tables.secrets);
    let found = tokio::task::spawn_blocking(move || read(name)).await;
    let failed = |why: String| RpcError::new(500, "The database does not answer").because(why);
    found.map_err(|error| failed(error.to_string()))?.map_err(failed)
}

/// Where an extension is registered from.
async fn registered_at(mi: &Mi, who: &str) -> Option<SocketAddr> {
    let aor = stored_aor(mi, who)?;
    let reply = ask_owner(mi, aor.as_bytes(), Admin::Show { aor: aor.into() }).await.ok()?;
    let AdminReply::Record(record) = reply else { return None };
    record.contacts.iter().find_map(|contact| {
        let received = contact.received.as_deref().map(std::borrow::Cow::from);
        let uri = received.unwrap_or_else(|| String::from_utf8_lossy(&contact.contact));
        let host = uri.rsplit_once('@').map_or(uri.trim_start_matches("sip:"), |(_, host)| host);
        source(host.split([';', '>', '?']).next().unwrap_or(""))
    })
}

/// An address, with port 5060 where it names none.
fn source(text: &str) -> Option<SocketAddr> {
    let address = |ip| SocketAddr::new(ip, 5060);
    text.parse().ok().or_else(|| text.trim_matches(['[', ']']).parse().ok().map(address))
}

/// Where it comes from, and which address of ours would take it.
fn flow_of(mi: &Mi, transport: Transport, from: Option<SocketAddr>) -> Option<Flow> {
    let is_fit =
        |own: &SocketAddr| from.is_none_or(|from| own.is_ipv4() == from.ip().to_canonical().is_ipv4());
    let config = mi.config();
    let mut listeners = config.policy.listeners.iter().filter(|own| own.transport == transport);
    let mut local = listeners.find(|own| is_fit(&own.address))?.address;
    let remote = from.unwrap_or(if local.is_ipv4() { NOBODY } else { NOBODY_V6 });
    if local.ip().is_unspecified() {
        local.set_ip(if local.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    Some(match transport {
        Transport::Udp => Flow::udp(local, remote),
        transport => Flow::stream(transport, local, remote, NO_CONNECTION),
    })
}

/// The domain that a phone would write: ours, or our address.
fn domain_of(mi: &Mi, flow: &Flow) -> String {
    let config = mi.config();
    let policy = &config.policy;
    let realm = &policy.auth.realm;
    let named = policy.domains.first().map(|domain| domain.host().to_string());
    named
        .or_else(|| (!realm.is_empty()).then(|| realm.clone()))
        .unwrap_or_else(|| flow.local.ip().to_string())
}

/// What is different in a request that was sent on: lines with `+` were added, lines with `-` are gone.
fn changes(received: &[u8], sent: &[u8]) -> Vec<String> {
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.split("\r\n").skip(1).take_while(|line| !line.is_empty()).map(str::to_string).collect()
    };
    let (before, after) = (lines(received), lines(sent));
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("-{line}"));
    let added = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+{line}"));
    gone.chain(added).collect()
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split("\r\n").next().unwrap_or_default().to_string()
}

/// Something that no other request has had.
fn unique() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port_and_changes_are_told_line_by_line() {
        assert_eq!(source("10.0.0.9"), Some("10.0.0.9:5060".parse().unwrap()));
        assert_eq!(source("[2001:db8::1]:5062"), Some("[2001:db8::1]:5062".parse().unwrap()));
        assert_eq!((source("[2001:db8::1]").map(|at| at.port()), source("phone")), (Some(5060), None));
        let before = b"INVITE sip:a SIP/2.0\r\nVia: x\r\nProxy-Authorization: Digest\r\n\r\n";
        let after = b"INVITE sip:b SIP/2.0\r\nVia: y\r\nVia: x\r\nRecord-Route: z\r\n\r\n";
        assert_eq!(changes(before, after), ["-Proxy-Authorization: Digest", "+Via: y", "+Record-Route: z"]);
    }
}
