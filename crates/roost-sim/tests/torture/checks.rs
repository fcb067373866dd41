//! What must be true of what left the engine, for each verdict.

use std::net::SocketAddr;

use roost_sim::client::Challenge;

use crate::reading::{Reading, shown};
use crate::stage::{PASSWORD, Sent, Setup, Stage};
use crate::table::{InACall, Vector, Verdict};
use crate::wire::{
    MAX_FORWARDS, Message, RECORD_ROUTE, REPEATED, TO, VIA, is_named, plain_via, reply_address,
};

/// Plays a vector, from a sender who may call, against its verdict.
pub(crate) fn verdict(vector: &Vector, bytes: &[u8]) -> Result<(), String> {
    let setup = Setup::of(&vector.given)?;
    let mut stage = Stage::new(&setup, true)?;
    let sent = stage.receive(setup.from, bytes);
    let Some(verdict) = &vector.verdict else { return Err("no verdict".to_string()) };
    match verdict {
        Verdict::Dropped { counter } => {
            expect("what leaves", "nothing", told(&sent))?;
            match stage.counter(counter) {
                None => return Err(format!("no counter is called {counter}")),
                Some(0) => return Err(format!("expected {counter} to count it, it did not")),
                Some(_) => {}
            }
        }
        Verdict::Forwarded { to: Some((uri, address)) } => {
            forwarded(vector, &setup, (uri, *address), &sent, bytes)?;
        }
        Verdict::Forwarded { to: None } => {
            let (contact, address) = setup.callee_at();
            forwarded(vector, &setup, (&contact, address), &sent, bytes)?;
        }
        Verdict::Answered { status, then: None } => answered(vector, &setup, &sent, bytes, status)?,
        Verdict::Answered { status, then: Some(then) } => {
            answered(&Vector::default(), &setup, &sent, bytes, status)?;
            let bytes = with_credentials(&setup, &sent, bytes)?;
            let sent = stage.receive(setup.from, &bytes);
            answered(vector, &setup, &sent, &bytes, then)?;
        }
    }
    bindings(vector, &stage, bytes)
}

/// A request that is forwarded for a caller whom we know is not for a stranger: he is challenged. Inside a dialog a live
/// binding may be reached by anybody.
pub(crate) fn stranger(vector: &Vector, bytes: &[u8]) -> Result<(), String> {
    let setup = Setup::of(&vector.given)?;
    let sent = Stage::new(&setup, false)?.receive(setup.from, bytes);
    match vector.verdict {
        Some(Verdict::Forwarded { .. }) if !is_in_dialog(bytes) => {
            answered(&Vector::default(), &setup, &sent, bytes, "407 Proxy Authentication Required")
        }
        _ => Ok(()),
    }
}

/// A response with our Via on top, to a call of ours whose Via is the one that the vector has there.
pub(crate) fn in_a_call(vector: &Vector, bytes: &[u8]) -> Result<(), String> {
    let Some(expected) = vector.in_a_call else { return Ok(()) };
    let response = Message::cut(bytes);
    let vias: Vec<String> = response.named(&VIA).map(|via| shown(via)).collect();
    let sent_by = vias.first().and_then(|via| via.strip_prefix("Via: SIP/2.0/UDP ")?.split(';').next());
    let setup = Setup { callee: Some("callee".into()), ..Setup::of(&vector.given)? };
    let ip = sent_by.and_then(|sent_by| sent_by.parse().ok()).unwrap_or(setup.from.ip());
    let caller = SocketAddr::new(ip, 5060);
    let setup = Setup { from: caller, ..setup };
    let mut stage = Stage::new(&setup, true)?;
    let invite = format!(
        "INVITE sip:callee@example.com SIP/2.0\r\n{}\r\nMax-Forwards: 70\r\nFrom: <sip:user@example.com>;tag=1\r\n\
         To: <sip:callee@example.com>\r\nCall-ID: in-a-call\r\nCSeq: 35 INVITE\r\nContent-Length: 0\r\n\r\n",
        vias.join("\r\n")
    );
    let sent = stage.receive(caller, invite.as_bytes());
    let [_, (callee, forwarded)] = &sent[..] else {
        return Err(format!("expected an INVITE to be forwarded; {}", told(&sent)));
    };
    let our_via = Message::cut(forwarded).named(&VIA).next().cloned().ok_or("no Via of ours")?;
    let mut with_our_via = response.clone();
    let first = with_our_via.fields.iter().position(|field| is_named(field, &VIA)).ok_or("no Via")?;
    with_our_via.fields.insert(first, our_via);
    let sent = stage.receive(*callee, &with_our_via.join());
    match expected {
        InACall::Kept => expect("in a call, what leaves", "nothing", told(&sent)),
        InACall::Relayed => {
            let [(to, relayed)] = &sent[..] else {
                return Err(format!("in a call, expected one response, {}", told(&sent)));
            };
            expect("in a call, relayed to", &caller.to_string(), to)?;
            expect("in a call, relayed", &shown(bytes), shown(relayed))
        }
    }
}

fn answered(vector: &Vector, setup: &Setup, sent: &Sent, bytes: &[u8], status: &str) -> Result<(), String> {
    let [(to, answer)] = &sent[..] else {
        return Err(format!("expected one answer, {status}; {}", told(sent)));
    };
    let (request, answer) = (Message::cut(bytes), Message::cut(answer));
    expect("the answer", &format!("SIP/2.0 {status}"), shown(&answer.start))?;
    expect("the answer goes to", &reply_address(&request, setup.from).to_string(), to)?;
    let mut repeated = answer.named(&REPEATED);
    let mut is_first_via = true;
    for field in request.named(&REPEATED) {
        let got = repeated.next().ok_or_else(|| format!("the answer lacks {}", shown(field)))?;
        let is_top = is_named(field, &VIA) && std::mem::take(&mut is_first_via);
        let (field, got) = match is_top {
            true => (plain_via(field), plain_via(got)),
            false => (field.clone(), got.clone()),
        };
        let tagged = is_named(&field, &TO) && got.starts_with(field.trim_ascii_end());
        if !tagged {
            expect("the answer repeats", &shown(field.trim_ascii_end()), shown(&got))?;
        }
    }
    for says in &vector.says {
        if !answer.fields.iter().any(|field| shown(field).starts_with(says)) {
            return Err(format!("expected the answer to say {says}; it is {}", shown(&answer.join())));
        }
    }
    expect("the answer's body", "", shown(&answer.body))
}

/// To the callee, and nothing differs but what RFC 3261 16.6 has a proxy change.
fn forwarded(
    vector: &Vector,
    setup: &Setup,
    (uri, address): (&str, SocketAddr),
    sent: &Sent,
    bytes: &[u8],
) -> Result<(), String> {
    let received = Message::cut(bytes);
    let is_invite = received.start.starts_with(b"INVITE ");
    let (trying, forwarded) = match (&sent[..], is_invite) {
        ([trying, forwarded], true) => (Some(trying), forwarded),
        ([forwarded], false) => (None, forwarded),
        _ => return Err(format!("expected it to be forwarded; {}", told(sent))),
    };
    if let Some((to, trying)) = trying {
        let start = "SIP/2.0 100 Giving a try";
        expect("the first answer", start, shown(&Message::cut(trying).start))?;
        expect("the 100 goes to", &reply_address(&received, setup.from).to_string(), to)?;
    }
    let (to, forwarded) = forwarded;
    expect("it goes to", &address.to_string(), to)?;
    let forwarded = Message::cut(forwarded);
    let method = shown(received.start.split(|byte| *byte == b' ').next().unwrap_or(&[]));
    expect("the request line", &format!("{method} {uri} SIP/2.0"), shown(&forwarded.start))?;
    expect("the body", &shown(received.body_by_length()), shown(&forwarded.body))?;
    if received.body_by_length() != forwarded.body {
        return Err("the body differs in a byte that does not show".to_string());
    }
    fields(vector, &received, forwarded)
}

fn fields(vector: &Vector, received: &Message, mut forwarded: Message) -> Result<(), String> {
    let hops = |message: &Message| {
        let field = message.named(&MAX_FORWARDS).next().map(|field| shown(field));
        field.and_then(|field| field.split_once(':')?.1.trim().parse::<u32>().ok())
    };
    let left = hops(received).map_or(10, |hops| hops - 1);
    expect(
        "Max-Forwards",
        &left.to_string(),
        hops(&forwarded).map_or("none".into(), |hops| hops.to_string()),
    )?;
    // Ours stand above those that were there.
    for names in [&VIA[..], &RECORD_ROUTE] {
        let starts_dialog = !received.start.starts_with(b"MESSAGE ") && !is_in_dialog(&received.join());
        let is_ours = names != RECORD_ROUTE || starts_dialog;
        let place = forwarded.fields.iter().position(|field| is_named(field, names));
        if let Some(place) = place.filter(|_| is_ours) {
            forwarded.fields.remove(place);
        } else if is_ours {
            return Err(format!("no {} of ours", names[0]));
        }
    }
    let is_kept = |field: &&Vec<u8>| {
        let is_taken_off =
            vector.takes_off.iter().any(|name| is_named(field, &[name.to_lowercase().as_str()]));
        !is_taken_off && !is_named(field, &MAX_FORWARDS)
    };
    let mut rest = forwarded.fields.iter().filter(|field| !is_named(field, &MAX_FORWARDS));
    let mut is_first_via = true;
    for field in received.fields.iter().filter(is_kept) {
        let got = rest.next().map_or(&[][..], Vec::as_slice);
        let is_top = is_named(field, &VIA) && std::mem::take(&mut is_first_via);
        let (field, got) = match is_top {
            true => (plain_via(field), plain_via(got)),
            false => (field.clone(), got.to_vec()),
        };
        expect("it is forwarded with", &shown(&field), shown(&got))?;
    }
    for field in &vector.adds {
        expect("it is forwarded with", field, rest.next().map_or(String::new(), |field| shown(field)))?;
    }
    expect("more fields", "none", rest.next().map_or("none".to_string(), |field| shown(field)))
}

fn is_in_dialog(bytes: &[u8]) -> bool {
    Reading::of(bytes).values.get("to.tag").is_some_and(|tag| tag != "none")
}

/// The vector with an Authorization line that answers the 401.
fn with_credentials(setup: &Setup, sent: &Sent, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let answer = sent.first().map(|(_, answer)| Message::cut(answer)).ok_or("no answer")?;
    let challenge = answer
        .named(&["www-authenticate"])
        .next()
        .and_then(|field| Challenge::parse(field.strip_prefix(b"WWW-Authenticate: ")?));
    let challenge = challenge.ok_or("the answer has no challenge")?;
    let user = setup.subscriber.as_deref().ok_or("no subscriber is given")?;
    let mut message = Message::cut(bytes);
    let start = shown(&message.start);
    let words: Vec<&str> = start.split(' ').collect();
    message.fields.push(challenge.answer(user, PASSWORD, words[0], words[1], 1).into_bytes());
    Ok(message.join())
}

fn bindings(vector: &Vector, stage: &Stage, bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(b"REGISTER ") {
        return Ok(());
    }
    let to = Reading::of(bytes).values.get("to.user").cloned().unwrap_or_default();
    let mut aor = Vec::new();
    roost_sip::unescape_into(to.as_bytes(), &mut aor);
    let bound: Vec<String> = stage.contacts(&aor).iter().map(|contact| shown(contact)).collect();
    expect("the AOR is bound to", &vector.binds.join(", "), bound.join(", "))
}

/// An error that says what was expected and what came.
pub(crate) fn expect(what: &str, expected: &str, came: impl ToString) -> Result<(), String> {
    let came = came.to_string();
    match came == expected {
        true => Ok(()),
        false => Err(format!("{what}: expected\n    {expected}\n  but it is\n    {came}")),
    }
}

fn told(sent: &Sent) -> String {
    match sent.is_empty() {
        true => "nothing".to_string(),
        false => {
            let all = sent.iter().map(|(to, bytes)| format!("to {to}: {}", shown(bytes)));
            all.collect::<Vec<_>>().join("; ")
        }
    }
}
