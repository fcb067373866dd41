//! Every request is previewed before it is handled: the preview says what happens then, and changes nothing.

use std::net::SocketAddr;

use roost_core::{Command, Counter, Engine, Flow, Mark, Now, Outbox, Preview, ShardId, Supposed};
use roost_sip::{Head, HeaderName, Method, NameAddr, StartLine};

/// What has become of a request, or would: what is sent, who goes on, and whether the database has a say.
#[derive(Debug, PartialEq, Eq, Default)]
struct Outcome {
    sends: Vec<(SocketAddr, String)>,
    goes_on: Option<(ShardId, &'static str)>,
    asks: bool,
    commits: bool,
    names: usize,
}

/// Handles a message; whether it was previewed and went as the preview said.
///
/// # Errors
/// The preview said something else.
pub(super) fn handle_previewed(
    engine: &mut Engine,
    (flow, bytes, head): (&Flow, &[u8], &Head),
    mark: Option<Mark>,
    now: Now,
    out: &mut Outbox,
) -> Result<bool, String> {
    let before = engine.stats().get(Counter::Absorbed);
    let supposed =
        Supposed { flow: *flow, message: bytes.to_vec(), mark, subscribers: Vec::new(), signs: None };
    let preview = begins_something(bytes, head).then(|| engine.preview(&supposed, now));
    match mark {
        None => engine.handle_message(flow, bytes, head, now, out),
        Some(mark) => engine.handle_handed_over(flow, bytes, head, mark, now, out),
    }
    let was_absorbed = engine.stats().get(Counter::Absorbed) > before;
    let Some(preview) = preview.filter(|_| !was_absorbed) else { return Ok(false) };
    let (expected, real) = (of_preview(&preview), of_outbox(out));
    // Somebody else has asked the database about the same user already.
    let waits = real == Outcome::default() && expected == Outcome { asks: true, ..Outcome::default() };
    match expected == real || waits {
        true => Ok(true),
        false => Err(format!("the preview was {expected:?} ({:?}), and it is {real:?}", preview.decisions)),
    }
}

/// Whether it is a REGISTER, or a request outside dialogs that begins something.
fn begins_something(bytes: &[u8], head: &Head) -> bool {
    let tag = |name| NameAddr::parse(head.value(bytes, name)?).ok()?.tag();
    match head.start_line() {
        StartLine::Request { method: Method::Register, .. } => true,
        StartLine::Request { method: Method::Ack | Method::Cancel, .. } => false,
        StartLine::Request { .. } => tag(HeaderName::To).is_none(),
        StartLine::Response { .. } => false,
    }
}

fn of_preview(preview: &Preview) -> Outcome {
    Outcome {
        sends: preview.sends.iter().map(|(flow, bytes)| (flow.remote, first_words(bytes))).collect(),
        goes_on: preview.goes_on.map(|(shard, mark)| (shard, kind_of(mark))),
        asks: preview.asks.is_some(),
        commits: preview.commits,
        names: preview.names.len(),
    }
}

fn of_outbox(out: &Outbox) -> Outcome {
    let sends = out.transmits.iter().map(|one| (one.flow.remote, first_words(out.message(one)))).collect();
    let mut outcome = Outcome { sends, ..Outcome::default() };
    for command in &out.commands {
        match command {
            Command::Commit { .. } => outcome.commits = true,
            Command::LoadCredentials { .. } => outcome.asks = true,
            Command::ToShard(over) => outcome.goes_on = Some((over.shard, kind_of(over.mark))),
            Command::Resolve { .. } => outcome.names += 1,
            _ => {}
        }
    }
    outcome
}

fn kind_of(mark: Mark) -> &'static str {
    match mark {
        Mark::None => "asked nothing yet",
        Mark::Authorized(Some(_)) => "let in from its binding",
        Mark::Authorized(None) => "let in",
        Mark::InDialog => "inside a dialog",
        Mark::ToContact(..) => "to a Contact",
    }
}

/// The first line but for the phrase of a response.
fn first_words(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or(&[]);
    String::from_utf8_lossy(line).split(' ').take(2).collect::<Vec<_>>().join(" ")
}
