//! Who is sent what: the thread between the workers and the collectors.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use roost_sip::Head;

use crate::collector::{Collector, CollectorError, Feed, Packets};
use crate::filter::Filter;
use crate::found::Found;
use crate::mask::mask;
use crate::packet::readdress;
use crate::tap::{CAPTURE_ID, Capture, Captured, Tap};
use crate::watch::Watch;

/// Batches of messages that wait for the thread.
const WAITING: usize = 1_024;
/// Collectors at once.
const MAX_COLLECTORS: usize = 16;
/// How long the first message waits for others.
const GATHERING: Duration = Duration::from_millis(5);

/// Sends what workers capture to collectors. Clones are one.
#[derive(Debug, Clone)]
pub struct Tracer {
    tap: Arc<Tap>,
    all: Arc<Mutex<Vec<Traced>>>,
}

/// Who is sent messages, and which.
#[derive(Debug)]
struct Traced {
    id: String,
    /// Where it is, for operators.
    uri: String,
    wants: Wants,
    filter: Filter,
    is_on: bool,
    feed: Feed,
}

/// What it is told, and under which names.
#[derive(Debug)]
struct Wants {
    capture_id: u32,
    key: String,
    decisions: bool,
    secrets: bool,
}

/// A collector, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub id: String,
    pub uri: String,
    pub filter: Vec<String>,
    pub is_on: bool,
    pub sent: u64,
    pub lost: u64,
}

impl Tracer {
    /// Starts the thread; it ends with the process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> std::io::Result<Tracer> {
        let (queue, captures) = sync_channel(WAITING);
        let tracer = Tracer { tap: Arc::new(Tap::new(queue)), all: Arc::default() };
        let all = Arc::clone(&tracer.all);
        std::thread::Builder::new().name("roost-trace".to_string()).spawn(move || run(&captures, &all))?;
        Ok(tracer)
    }

    /// Where workers give what they capture.
    pub fn tap(&self) -> Arc<Tap> {
        Arc::clone(&self.tap)
    }

    /// Adds a collector.
    ///
    /// # Errors
    /// [`CollectorError`]: its name is taken, or there are too many.
    pub fn add(&self, collector: Collector, filter: Filter) -> Result<(), CollectorError> {
        let id = collector.id.clone();
        self.put(&id, || {
            let (feed, uri) = (Feed::start(&collector)?, collector.uri());
            let Collector { id, capture_id, key, wants_decisions: decisions, shows_secrets: secrets, .. } =
                collector;
            let wants = Wants { capture_id, key, decisions, secrets };
            Ok(Traced { id, uri, wants, filter, is_on: true, feed })
        })
    }

    /// Adds one that is read here, under this name: it is told decisions, too, and no secrets.
    ///
    /// # Errors
    /// [`CollectorError`]: its name is taken, or there are too many.
    pub fn watch(&self, id: &str, filter: Filter) -> Result<Watch, CollectorError> {
        let (feed, packets) = Feed::within();
        let state = Arc::clone(&feed.state);
        self.put(id, || {
            let wants = Wants { capture_id: CAPTURE_ID, key: String::new(), decisions: true, secrets: false };
            let uri = "within roost".to_string();
            Ok(Traced { id: id.to_string(), uri, wants, filter, is_on: true, feed })
        })?;
        let (tracer, own) = (self.clone(), Arc::clone(&state));
        // By itself: its name may be another's meanwhile.
        let end = move || {
            tracer.remove_if(|traced| Arc::ptr_eq(&traced.feed.state, &own));
        };
        Ok(Watch { packets, state, end: Box::new(end) })
    }

    fn put(
        &self,
        id: &str,
        traced: impl FnOnce() -> Result<Traced, CollectorError>,
    ) -> Result<(), CollectorError> {
        let mut all = self.all();
        self.forget_ended(&mut all);
        if all.iter().any(|traced| traced.id == id) {
            return Err(CollectorError::Taken(id.to_string()));
        }
        if all.len() == MAX_COLLECTORS {
            return Err(CollectorError::TooMany(MAX_COLLECTORS));
        }
        all.push(traced()?);
        self.open_or_close(&all);
        Ok(())
    }

    /// Removes a collector; whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        self.remove_if(|traced| traced.id == id)
    }

    fn remove_if(&self, is_it: impl Fn(&Traced) -> bool) -> bool {
        let mut all = self.all();
        let before = all.len();
        all.retain(|traced| !is_it(traced));
        self.open_or_close(&all);
        all.len() < before
    }

    /// Sends a collector messages, or none; whether there is one.
    pub fn switch(&self, id: &str, is_on: bool) -> bool {
        let mut all = self.all();
        let found = all.iter_mut().find(|traced| traced.id == id);
        let is_there = found.map(|traced| traced.is_on = is_on).is_some();
        self.open_or_close(&all);
        is_there
    }

    /// All collectors.
    pub fn list(&self) -> Vec<Shown> {
        let mut all = self.all();
        self.forget_ended(&mut all);
        let shown = |traced: &Traced| Shown {
            id: traced.id.clone(),
            uri: traced.uri.clone(),
            filter: traced.filter.parts(),
            is_on: traced.is_on,
            sent: traced.feed.state.sent.load(Ordering::Relaxed),
            lost: traced.feed.state.lost.load(Ordering::Relaxed),
        };
        all.iter().map(shown).collect()
    }

    /// Names (`group:name`) and values.
    pub fn statistics(&self) -> [(&'static str, u64); 3] {
        let all = self.list();
        let sum = |of: fn(&Shown) -> u64| all.iter().map(of).sum::<u64>();
        [
            ("hep:collectors", all.len() as u64),
            ("hep:sent", sum(|shown| shown.sent)),
            ("hep:lost", sum(|shown| shown.lost) + self.tap.lost()),
        ]
    }

    /// Temporary ones whose connections have ended go.
    fn forget_ended(&self, all: &mut Vec<Traced>) {
        all.retain(|traced| !traced.feed.state.has_ended());
        self.open_or_close(all);
    }

    fn open_or_close(&self, all: &[Traced]) {
        let has = |wants: fn(&Wants) -> bool| all.iter().any(|one| one.is_on && wants(&one.wants));
        self.tap.set_open(has(|_| true), has(|wants| wants.decisions), has(|wants| wants.secrets));
    }

    fn all(&self) -> MutexGuard<'_, Vec<Traced>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(captures: &Receiver<Capture>, all: &Mutex<Vec<Traced>>) {
    let mut head = Head::new();
    while let Ok(capture) = captures.recv() {
        // A thread that is not woken for each round costs less.
        std::thread::sleep(GATHERING);
        let mut gathered = vec![capture];
        gathered.extend(captures.try_iter().take(WAITING));
        // One worker may hand over later what it received before another sent it on.
        gathered.sort_by_key(|capture| capture.since);
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        for capture in gathered {
            let Capture { bytes, packets, unfit, shows_secrets, has_decisions, .. } = capture;
            let ends = packets.iter().map(|one| one.packet.end).collect();
            let whole = Arc::new(Packets { bytes, ends });
            for traced in all.iter_mut().filter(|traced| traced.is_on) {
                traced.feed.state.lose(unfit as usize);
                let own = match traced.wants_as_it_is() && !shows_secrets && !has_decisions {
                    true => Arc::clone(&whole),
                    false => Arc::new(traced.packets(&whole.bytes, &packets, shows_secrets, &mut head)),
                };
                if !own.ends.is_empty() {
                    traced.feed.give(own);
                }
            }
        }
    }
}

impl Traced {
    /// Whether it takes everything, as workers have written it.
    fn wants_as_it_is(&self) -> bool {
        self.wants.capture_id == CAPTURE_ID
            && self.wants.key.is_empty()
            && self.filter.is_empty()
            && !self.wants.decisions
    }

    /// What it wants of the packets, under its capture id and with its key.
    fn packets(
        &mut self,
        bytes: &[u8],
        packets: &[Captured],
        shows_secrets: bool,
        head: &mut Head,
    ) -> Packets {
        let mut own = Packets::default();
        let must_mask = shows_secrets && !self.wants.secrets;
        for Captured { flow, packet, message, is_decision, is_sent, .. } in packets {
            let part = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or(&[]);
            if *is_decision && !self.wants.decisions {
                continue;
            }
            if !self.filter.is_empty() {
                let message = part(message);
                if head.parse(message).is_err() || !self.filter.wants(flow, head, message) {
                    continue;
                }
            }
            let names = (self.wants.capture_id, &*self.wants.key);
            let is_sent = self.wants.decisions.then_some(*is_sent);
            match readdress(part(packet), names, is_sent, &mut own.bytes) {
                Some(()) => {
                    if must_mask && !is_decision {
                        // The message is the last of it.
                        let start = own.bytes.len().saturating_sub(message.len());
                        let own = own.bytes.get_mut(start..).unwrap_or(&mut []);
                        match Found::by_lines(own).credentials() {
                            Some(credentials) => mask(credentials, own),
                            None => own.fill(b'*'),
                        }
                    }
                    own.ends.push(own.bytes.len());
                }
                None => self.feed.state.lose(1),
            }
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, UdpSocket};
    use std::time::Instant;

    use roost_core::Flow;

    use super::*;

    fn give(tracer: &Tracer, call_id: &str) {
        let flow = Flow::udp("10.0.0.1:5060".parse().unwrap(), "10.0.0.9:5062".parse().unwrap());
        let message = format!(
            "REGISTER sip:a SIP/2.0\r\nCall-ID: {call_id}\r\nAuthorization: Digest response=\"secret\"\r\n\r\n"
        );
        let mut capture = Capture::default();
        let mut head = Head::new();
        head.parse(message.as_bytes()).unwrap();
        capture.received(Duration::from_secs(5), &flow, message.as_bytes(), &head);
        capture.sent(Duration::from_secs(5), &flow, b"\r\n\r\n");
        tracer.tap().give(capture);
    }

    fn holds(bytes: &[u8], text: &str) -> bool {
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }

    #[test]
    fn a_udp_collector_gets_masked_messages_until_it_is_removed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let tracer = Tracer::start().unwrap();
        assert!(!tracer.tap().is_open());
        let uri = format!("hep:{}", socket.local_addr().unwrap());
        let collector = Collector::parse("homer", &uri).unwrap();
        tracer.add(collector.clone(), Filter::default()).unwrap();
        assert!(tracer.tap().is_open());
        let taken = tracer.add(collector, Filter::default()).unwrap_err();
        assert_eq!(taken.to_string(), "`homer` is traced already");
        give(&tracer, "one");
        let mut room = [0; 2048];
        let len = socket.recv(&mut room).unwrap();
        assert!(room.starts_with(b"HEP3") && holds(&room[..len], "Call-ID: one"));
        assert!(!holds(&room[..len], "secret") && holds(&room[..len], "response=\"******\""));
        assert!(tracer.switch("homer", false) && !tracer.tap().is_open());
        assert!(tracer.remove("homer") && !tracer.remove("homer"));
        assert_eq!(tracer.list(), []);
    }

    #[test]
    fn a_watch_reads_masked_messages_and_ends_when_it_is_dropped() {
        let tracer = Tracer::start().unwrap();
        let watch = tracer.watch("page", Filter::parse(["callid=one"]).unwrap()).unwrap();
        assert!(tracer.tap().is_open() && tracer.watch("page", Filter::default()).is_err());
        give(&tracer, "other");
        give(&tracer, "one");
        let (begun, mut seen) = (Instant::now(), Vec::new());
        while seen.is_empty() && begun.elapsed() < Duration::from_secs(10) {
            assert!(watch.each(|packet| seen.push(packet.payload.to_vec())));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(seen.len(), 1);
        assert!(holds(&seen[0], "Call-ID: one") && holds(&seen[0], "response=\"******\""));
        // One that somebody else has ended says so, and takes nothing from the next of its name.
        assert!(tracer.remove("page") && !watch.each(|_| ()));
        let next = tracer.watch("page", Filter::default()).unwrap();
        drop(watch);
        assert!(next.each(|_| ()) && tracer.tap().is_open());
        drop(next);
        assert!(!tracer.tap().is_open() && tracer.list().is_empty());
    }

    #[test]
    fn a_temporary_collector_goes_with_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("hep:{};transport=tcp", listener.local_addr().unwrap());
        let tracer = Tracer::start().unwrap();
        let collector = Collector { is_temporary: true, ..Collector::parse("cli", &uri).unwrap() };
        tracer.add(collector, Filter::default()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        give(&tracer, "one");
        let mut room = [0; 2048];
        let len = stream.read(&mut room).unwrap();
        assert!(holds(&room[..len], "Call-ID: one"));
        drop(stream);
        let begun = Instant::now();
        while !tracer.list().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is still there");
            give(&tracer, "more");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!tracer.tap().is_open());
    }

    #[test]
    fn one_that_never_reads_loses_its_own_and_nobody_elses() {
        let (stuck, reader) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        reader.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let tracer = Tracer::start().unwrap();
        let tcp = format!("hep:{};transport=tcp", stuck.local_addr().unwrap());
        tracer.add(Collector::parse("stuck", &tcp).unwrap(), Filter::default()).unwrap();
        let udp = format!("hep:{}", reader.local_addr().unwrap());
        tracer.add(Collector::parse("reader", &udp).unwrap(), Filter::default()).unwrap();
        let long = "x".repeat(50_000);
        let mut room = vec![0; 65_535];
        for _ in 0..400 {
            give(&tracer, &long);
            reader.recv(&mut room).unwrap();
        }
        // The last one is counted a moment after it has come.
        let begun = Instant::now();
        while tracer.list()[1].sent < 400 && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let list = tracer.list();
        assert!(list[0].lost > 0, "{list:?}");
        assert_eq!((list[1].sent, list[1].lost), (400, 0));
    }
}
