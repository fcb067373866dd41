//! What has happened, as lines of the log: refusals, new and lost registrations, bans. Written by a thread of its own, and so
//! many lines a second at most: an attack fills no disk, and what is not written is counted.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use roost_core::{Asked, Event, EventKind, Gone};
use roost_net::NEWS_PER_S;

/// What a worker tells: events, and how many more of which topics there were.
pub(super) type Told = (Vec<Event>, Vec<(EventKind, u64)>);

/// Batches of events that wait for the thread.
const WAITING: usize = 1_024;

/// Lines about broken messages in a second.
const BROKEN_PER_S: u32 = 5;

/// Starts the thread; it ends with its sender.
///
/// # Errors
/// When it cannot be started.
pub(super) fn start() -> Result<SyncSender<Told>> {
    let (sender, told) = sync_channel(WAITING);
    std::thread::Builder::new()
        .name("roost-log".to_string())
        .spawn(move || write(&told))
        .context("starting the thread that writes the log")?;
    Ok(sender)
}

fn write(told: &Receiver<Told>) {
    let mut lines = Lines { since: Instant::now(), written: 0, broken: 0, missed: Vec::new() };
    loop {
        match told.recv_timeout(Duration::from_secs(1)) {
            Ok((events, missed)) => {
                lines.begin_second();
                missed.into_iter().for_each(|(topic, count)| lines.miss(topic, count));
                events.iter().for_each(|event| lines.write(event));
            }
            Err(RecvTimeoutError::Timeout) => lines.begin_second(),
            Err(RecvTimeoutError::Disconnected) => {
                lines.tell_missed();
                return;
            }
        }
    }
}

/// The lines of one second.
struct Lines {
    since: Instant,
    written: u32,
    /// Those of them about messages that are broken or name no extension: noise more often than a phone.
    broken: u32,
    /// What was not written, by topic.
    missed: Vec<(EventKind, u64)>,
}

impl Lines {
    fn begin_second(&mut self) {
        if self.since.elapsed() >= Duration::from_secs(1) {
            self.since = Instant::now();
            self.written = 0;
            self.broken = 0;
            self.tell_missed();
        }
    }

    fn miss(&mut self, topic: EventKind, count: u64) {
        match self.missed.iter_mut().find(|(other, _)| *other == topic) {
            Some((_, sum)) => *sum += count,
            None => self.missed.push((topic, count)),
        }
    }

    /// One line for all that were not written.
    fn tell_missed(&mut self) {
        if self.missed.is_empty() {
            return;
        }
        let all: u64 = self.missed.iter().map(|(_, count)| count).sum();
        let each: Vec<_> =
            self.missed.drain(..).map(|(topic, count)| format!("{} {count}", name(topic))).collect();
        tracing::info!("and {all} more that are not shown: {}", each.join(", "));
    }

    fn write(&mut self, event: &Event) {
        let Some(topic) = topic(event) else { return };
        let is_broken = matches!(
            event,
            Event::Refused { code, asked, .. } if matches!(code, 400 | 505) || asked.user.is_empty()
        );
        if self.written >= NEWS_PER_S || (is_broken && self.broken >= BROKEN_PER_S) {
            return self.miss(topic, 1);
        }
        self.written += 1;
        self.broken += u32::from(is_broken);
        write_line(event);
    }
}

/// What an event is counted as; `None` for one that has no line.
pub(super) fn topic(event: &Event) -> Option<EventKind> {
    match event.kind() {
        kind @ (EventKind::Refusal(_) | EventKind::NewBinding | EventKind::Loss | EventKind::Ban) => {
            Some(kind)
        }
        _ => None,
    }
}

fn name(topic: EventKind) -> &'static str {
    match topic {
        EventKind::Refusal(reason) => reason.why(),
        EventKind::NewBinding => "registered",
        EventKind::Loss => "registrations lost",
        EventKind::Ban => "banned",
        _ => "others",
    }
}

fn write_line(event: &Event) {
    match event {
        Event::Refused { asked, code, reason } => {
            let Asked { method, user, host, flow, user_agent, .. } = asked;
            tracing::info!(
                extension = %extension(user, host), source = %flow.remote, user_agent = %shown(user_agent),
                "{} refused: {code} {}", shown(method), reason.why()
            );
        }
        Event::Registered { aor, contact, .. } => {
            let source = contact.source.map_or(String::new(), |source| source.to_string());
            tracing::info!(
                extension = %shown(aor), contact = %shown(&contact.uri), source,
                user_agent = %shown(&contact.user_agent), "registered"
            );
        }
        Event::Unregistered { aor, why, .. } => {
            let why = match why {
                Gone::Unregistered | Gone::Removed | Gone::PingsLost => "registration ended",
                Gone::Replaced => "registration replaced",
                Gone::Expired => "registration expired",
            };
            tracing::info!(extension = %shown(aor), "{why}");
        }
        Event::FlowLost { aor, .. } => {
            tracing::info!(extension = %shown(aor), "the connection of a registration is gone");
        }
        Event::PingsLost { aor, lost, .. } => {
            tracing::info!(extension = %shown(aor), lost, "a phone does not answer pings");
        }
        Event::CommitFailed { aor } => {
            tracing::info!(extension = %shown(aor), "registration not stored: the database did not take it");
        }
        Event::Banned(ban) => {
            let (extension, seconds) = (shown(&ban.user), ban.left_s);
            match ban.source {
                Some(source) if ban.user.is_empty() => {
                    tracing::warn!(%source, seconds, "banned: too many wrong names and passwords");
                }
                Some(source) => {
                    tracing::warn!(extension, %source, seconds, "banned: too many wrong passwords");
                }
                None => tracing::warn!(
                    extension,
                    seconds,
                    "banned from everywhere but where it is registered: too many wrong passwords"
                ),
            }
        }
        _ => {}
    }
}

fn extension(user: &[u8], host: &[u8]) -> String {
    match host {
        [] => shown(user),
        host => format!("{}@{}", shown(user), shown(host)),
    }
}

/// What a stranger wrote, on one line and without control characters.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..MOST_SHOWN).unwrap_or(text));
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Bytes of one text in a line.
const MOST_SHOWN: usize = 128;
