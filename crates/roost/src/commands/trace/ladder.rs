//! Messages as a ladder: a column for each peer, roost's own beside the first; an arrow from who sent to who received.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Local};
use roost_hep::Packet;

/// Characters of a column.
const WIDTH: usize = 30;
/// Peers that have columns; further ones take the last.
const MOST: usize = 4;
/// Messages that are remembered to tell what comes again.
const REMEMBERED: usize = 1_000;

/// What was shown so far.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    peers: Vec<(SocketAddr, String)>,
    last: Option<Duration>,
    seen: Vec<u64>,
    /// What has come again since the last line, and how often.
    folded: Vec<(String, u32)>,
}

/// One arrow.
#[derive(Debug, Clone)]
pub(super) struct Rung {
    pub(super) at: Duration,
    since_ms: u128,
    column: usize,
    is_sent: bool,
    label: String,
    /// Whether a column is new, or has a name now.
    is_new: bool,
    pub(super) is_again: bool,
}

impl Ladder {
    /// The lines of one message: a heading where a peer is new, then the arrow. What comes again is told once, when something
    /// else comes, or by [`Ladder::folded`].
    pub(super) fn lines(&mut self, packet: &Packet<'_>, text: &str) -> Vec<String> {
        if packet.is_log {
            return vec![note(text)];
        }
        let rung = self.add(packet, text);
        if rung.is_again {
            match self.folded.iter_mut().find(|(label, _)| *label == rung.label) {
                Some((_, count)) => *count += 1,
                None => self.folded.push((rung.label, 1)),
            }
            return Vec::new();
        }
        let mut lines = self.folded();
        if rung.is_new {
            lines.push(self.heading());
        }
        lines.push(self.line(&rung));
        lines
    }

    /// What has come again and was not told yet.
    pub(super) fn folded(&mut self) -> Vec<String> {
        let told = self.folded.drain(..).map(|(label, count)| {
            let times = if count == 1 { "once".to_string() } else { format!("{count} times") };
            note(&format!("{label}: again, {times}"))
        });
        told.collect()
    }

    /// Takes a message.
    pub(super) fn add(&mut self, packet: &Packet<'_>, text: &str) -> Rung {
        let is_sent = packet.is_sent.unwrap_or_default();
        let peer = if is_sent { packet.destination } else { packet.source };
        let user = if is_sent { String::new() } else { user_of(text) };
        let (column, is_new) = self.column(peer, user);
        let since_ms = self.last.map_or(0, |last| packet.at.saturating_sub(last).as_millis());
        self.last = Some(packet.at);
        let is_again = self.is_again(packet, text);
        Rung { at: packet.at, since_ms, column, is_sent, label: first_line(text), is_new, is_again }
    }

    /// Its arrow, between the columns that there are now.
    pub(super) fn line(&self, rung: &Rung) -> String {
        let arrow = self.arrow(rung.column, rung.is_sent, &rung.label);
        format!("{}  +{:<6}{arrow}", time(rung.at), rung.since_ms)
    }

    /// The column of a peer, and whether it is new, or has a name now.
    fn column(&mut self, peer: SocketAddr, user: String) -> (usize, bool) {
        if let Some(at) = self.peers.iter().position(|(own, _)| *own == peer) {
            let is_named = self.peers.get_mut(at).is_some_and(|(_, name)| {
                let is_new = name.is_empty() && !user.is_empty();
                if is_new {
                    *name = user;
                }
                is_new
            });
            return (at, is_named);
        }
        if self.peers.len() == MOST {
            self.peers.pop();
        }
        self.peers.push((peer, user));
        (self.peers.len() - 1, true)
    }

    /// The names of the columns.
    pub(super) fn heading(&self) -> String {
        let name = |(peer, user): &(SocketAddr, String)| match user.as_str() {
            "" => peer.to_string(),
            user => format!("{user} {peer}"),
        };
        let mut names = self.peers.iter().map(name);
        let first = names.next().unwrap_or_default();
        let all = [first, "roost".to_string()].into_iter().chain(names);
        let columns: String = all.map(|name| format!("{name:^WIDTH$}")).collect();
        format!("{:21}{}", "", columns.trim_end())
    }

    /// An arrow between roost, which has the second column, and a peer.
    fn arrow(&self, peer: usize, is_sent: bool, label: &str) -> String {
        let (own, other) = (1, if peer == 0 { 0 } else { peer + 1 });
        let (left, right) = (own.min(other), own.max(other));
        let middle = |column: usize| column * WIDTH + WIDTH / 2;
        let points_right = is_sent == (other > own);
        let room = middle(right) - middle(left) - 1;
        let label: String = label.chars().take(room.saturating_sub(4)).collect();
        let line = format!(" {label} ");
        let shaft = format!("{line:─^width$}", width = room.saturating_sub(1));
        let arrow = if points_right { format!("{shaft}▶") } else { format!("◀{shaft}") };
        let columns = self.peers.len() + 1;
        let before: String = (0..left).map(|_| pillar()).collect();
        let after: String =
            (right + 1..columns).map(|_| format!("{:half$}│", "", half = WIDTH - 1)).collect();
        format!("{before}{:half$}│{arrow}│{after}", "", half = WIDTH / 2)
    }

    fn is_again(&mut self, packet: &Packet<'_>, text: &str) -> bool {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        (packet.source, packet.destination, text).hash(&mut hasher);
        let hash = hasher.finish();
        let is_again = self.seen.contains(&hash);
        self.seen.push(hash);
        if self.seen.len() > REMEMBERED {
            self.seen.remove(0);
        }
        is_again
    }
}

/// What was decided about the message above.
pub(super) fn note(text: &str) -> String {
    format!("{:24}· {text}", "")
}

fn pillar() -> String {
    format!("{:half$}│{:rest$}", "", "", half = WIDTH / 2, rest = WIDTH - WIDTH / 2 - 1)
}

fn time(at: Duration) -> String {
    let at = DateTime::from_timestamp(at.as_secs() as i64, at.subsec_nanos());
    at.map_or(String::new(), |at| at.with_timezone(&Local).format("%H:%M:%S%.3f").to_string())
}

/// `INVITE 9002`, `401 Unauthorized`.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    match line.strip_prefix("SIP/2.0 ") {
        Some(status) => status.to_string(),
        None => {
            let mut words = line.split(' ');
            let (method, uri) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let uri = uri.trim_start_matches("sips:").trim_start_matches("sip:");
            format!("{method} {}", uri.split([';', '?']).next().unwrap_or(uri))
        }
    }
}

/// The user of From in a request.
fn user_of(text: &str) -> String {
    if text.starts_with("SIP/2.0") {
        return String::new();
    }
    let from = text.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        ["from", "f"].contains(&name.trim().to_ascii_lowercase().as_str()).then_some(value)
    });
    let uri = from.and_then(|value| value.split_once("sip:").or_else(|| value.split_once("sips:")));
    uri.and_then(|(_, rest)| rest.split_once('@')).map_or(String::new(), |(user, _)| user.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::trace::packets::packet;

    #[test]
    fn a_call_is_a_ladder() {
        let (caller, roost, callee) = ("10.0.0.7:5060", "10.0.0.1:5060", "10.0.0.8:5062");
        let invite = "INVITE sip:9002@pbx;x=1 SIP/2.0\r\nFrom: <sip:9001@pbx>;tag=1\r\n\r\n";
        let mut ladder = Ladder::default();
        let mut lines = Vec::new();
        for (source, destination, ms, text) in [
            (caller, roost, 0, invite),
            (roost, caller, 1, "SIP/2.0 100 Giving a try\r\n\r\n"),
            (roost, callee, 2, invite),
            (roost, callee, 502, invite),
            (callee, roost, 510, "SIP/2.0 180 Ringing\r\n\r\n"),
        ] {
            lines.extend(ladder.lines(&packet(source, destination, ms, text), text));
        }
        assert!(lines[0].contains("9001 10.0.0.7:5060") && lines[0].contains("roost"), "{lines:#?}");
        assert!(
            lines[1].contains("│") && lines[1].contains(" INVITE 9002@pbx ") && lines[1].contains('▶'),
            "{lines:#?}"
        );
        assert!(
            lines[2].contains("+1 ") && lines[2].contains("◀") && lines[2].contains(" 100 Giving a try "),
            "{lines:#?}"
        );
        assert!(lines[3].contains("10.0.0.8:5062"), "a new column: {lines:#?}");
        assert!(lines[4].contains('▶'), "{lines:#?}");
        assert!(
            lines[5].ends_with("· INVITE 9002@pbx: again, twice") || lines[5].contains("again, once"),
            "{lines:#?}"
        );
        assert!(lines[6].contains('◀') && lines[6].contains("180 Ringing"), "{lines:#?}");
    }
}
