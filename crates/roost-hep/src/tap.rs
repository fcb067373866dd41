//! Where workers put copies of messages: as packets that are ready to leave, credentials overwritten.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use roost_core::Flow;
use roost_sip::Head;

use crate::found::Found;
use crate::mask::mask;
use crate::packet::{Packet, encode};

/// The capture id that packets carry when they come from workers.
pub(crate) const CAPTURE_ID: u32 = 1;

/// One packet of a [`Capture`].
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub(crate) flow: Flow,
    /// The whole packet.
    pub(crate) packet: Range<usize>,
    /// The message in it, or that it is about.
    pub(crate) message: Range<usize>,
    /// The message's Call-ID.
    call_id: Range<usize>,
    /// Whether it says what was decided about the message.
    pub(crate) is_decision: bool,
    /// Whether roost sends the message.
    pub(crate) is_sent: bool,
}

/// Messages that a worker saw in one round, or in a few.
#[derive(Debug, Default)]
pub struct Capture {
    pub(crate) bytes: Vec<u8>,
    pub(crate) packets: Vec<Captured>,
    /// Those that no packet can hold.
    pub(crate) unfit: u64,
    /// Whether credentials stand in it as they came: who must not see them gets a copy without.
    pub(crate) shows_secrets: bool,
    pub(crate) has_decisions: bool,
    /// When its first message came or left.
    pub(crate) since: Option<Duration>,
}

impl Capture {
    /// An empty one with room for so much.
    pub fn with_room(bytes: usize, packets: usize) -> Capture {
        let (bytes, packets) = (Vec::with_capacity(bytes), Vec::with_capacity(packets));
        Capture { bytes, packets, ..Capture::default() }
    }

    /// From here on credentials are not overwritten.
    pub fn show_secrets(&mut self) {
        self.shows_secrets = true;
    }

    /// Adds what was decided about the message that was added last.
    pub fn decided(&mut self, at: Duration, text: &str) {
        let Some(about) = self.packets.iter().rev().find(|one| !one.is_decision).cloned() else { return };
        let call_id = self.bytes.get(about.call_id.clone()).unwrap_or(&[]).to_vec();
        let packet = packet(at, &about.flow, true, (&call_id, text.as_bytes()));
        let packet = Packet { is_log: true, ..packet };
        let start = self.bytes.len();
        if encode(&packet, &mut self.bytes).is_some() {
            self.packets.push(Captured { packet: start..self.bytes.len(), is_decision: true, ..about });
            self.has_decisions = true;
        }
    }

    /// Adds a message that came then; `head` is its index.
    pub fn received(&mut self, at: Duration, flow: &Flow, message: &[u8], head: &Head) {
        self.push(at, flow, false, message, &Found::by_head(head));
    }

    /// Adds a message that leaves then. What is no message (keep-alives) is passed over.
    pub fn sent(&mut self, at: Duration, flow: &Flow, message: &[u8]) {
        if message.first().is_some_and(u8::is_ascii_alphabetic) {
            self.push(at, flow, true, message, &Found::by_lines(message));
        }
    }

    fn push(&mut self, at: Duration, flow: &Flow, is_sent: bool, message: &[u8], found: &Found) {
        let call_id = message.get(found.call_id.clone()).unwrap_or(&[]);
        let packet = packet(at, flow, is_sent, (call_id, message));
        let start = self.bytes.len();
        let Some((credentials, ())) = found.credentials().zip(encode(&packet, &mut self.bytes)) else {
            self.bytes.truncate(start);
            self.unfit += 1;
            return;
        };
        self.since.get_or_insert(at);
        let end = self.bytes.len();
        // The message is the last of it.
        let message = end - message.len()..end;
        if !self.shows_secrets
            && let Some(own) = self.bytes.get_mut(message.clone())
        {
            mask(credentials, own);
        }
        let call_id = message.start + found.call_id.start..message.start + found.call_id.end;
        self.packets.push(Captured {
            flow: *flow,
            packet: start..end,
            message,
            call_id,
            is_decision: false,
            is_sent,
        });
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.unfit == 0
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// A packet as workers write it.
fn packet<'a>(
    at: Duration,
    flow: &Flow,
    is_sent: bool,
    (correlation, payload): (&'a [u8], &'a [u8]),
) -> Packet<'a> {
    let (source, destination) = match is_sent {
        true => (flow.local, flow.remote),
        false => (flow.remote, flow.local),
    };
    let is_stream = flow.transport.is_reliable();
    Packet {
        at,
        source,
        destination,
        is_stream,
        capture_id: CAPTURE_ID,
        key: "",
        correlation,
        is_log: false,
        is_sent: None,
        payload,
    }
}

/// Takes captures while anybody wants them.
#[derive(Debug)]
pub struct Tap {
    is_open: AtomicBool,
    wants_decisions: AtomicBool,
    wants_secrets: AtomicBool,
    queue: SyncSender<Capture>,
    lost: AtomicU64,
}

impl Tap {
    pub(crate) fn new(queue: SyncSender<Capture>) -> Tap {
        let no = || AtomicBool::new(false);
        Tap { is_open: no(), wants_decisions: no(), wants_secrets: no(), queue, lost: AtomicU64::new(0) }
    }

    /// Whether messages are wanted now.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Whether it is also wanted what was decided about them.
    pub fn wants_decisions(&self) -> bool {
        self.wants_decisions.load(Ordering::Relaxed)
    }

    /// Whether credentials are wanted as they come.
    pub fn wants_secrets(&self) -> bool {
        self.wants_secrets.load(Ordering::Relaxed)
    }

    pub(crate) fn set_open(&self, is_open: bool, wants_decisions: bool, wants_secrets: bool) {
        self.wants_decisions.store(wants_decisions, Ordering::Relaxed);
        self.wants_secrets.store(wants_secrets, Ordering::Relaxed);
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// Gives messages away; what the thread has no time for is counted.
    pub fn give(&self, capture: Capture) {
        if let Err(TrySendError::Full(capture) | TrySendError::Disconnected(capture)) =
            self.queue.try_send(capture)
        {
            self.lost.fetch_add(capture.packets.len() as u64 + capture.unfit, Ordering::Relaxed);
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
