//! Connections over real sockets, with several threads.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use roost_core::{ShardEvent, Transport};

use super::*;
use crate::inbox::InboxItem;
use crate::poller::wait_readable;

const PATIENCE: Duration = Duration::from_secs(20);
const INVITE: &[u8] = b"INVITE sip:9002@a SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n";

const SETTINGS: StreamSettings = StreamSettings {
    lifetime_ms: 60_000,
    message_ms: 60_000,
    max_connections: 10_000,
    max_per_source: 64,
    ping_interval_ms: 30_000,
};

fn inboxes(count: usize) -> Arc<Vec<Inbox>> {
    Arc::new((0..count).map(|_| Inbox::new().unwrap()).collect())
}

/// What comes next into any inbox.
fn next(inboxes: &[Inbox]) -> InboxItem {
    let mut items = Vec::new();
    for inbox in inboxes.iter().cycle() {
        if inbox.may_sleep() {
            wait_readable(inbox.event(), Duration::from_millis(10)).unwrap();
            inbox.woke();
        }
        inbox.take(&mut items);
        if let Some(item) = items.pop() {
            assert!(items.is_empty(), "one at a time");
            return item;
        }
    }
    unreachable!("inboxes are asked in turn")
}

fn arrived(inboxes: &[Inbox]) -> (Flow, Box<[u8]>) {
    match next(inboxes) {
        InboxItem::Stream { flow, message, .. } => (flow, message),
        other => panic!("{other:?}"),
    }
}

struct Started {
    streams: Streams,
    inboxes: Arc<Vec<Inbox>>,
    address: SocketAddr,
}

fn start(settings: StreamSettings, workers: usize) -> Started {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let inboxes = inboxes(workers);
    let (streams, threads) = Streams::start(
        vec![(Transport::Tcp, listener)],
        settings,
        Carriers::default(),
        Arc::clone(&inboxes),
        Clock::start(),
        MovedStreams::default(),
    )
    .unwrap();
    assert_eq!(threads.len(), workers);
    Started { streams, inboxes, address }
}

impl Started {
    fn statistic(&self, name: &str) -> u64 {
        self.streams.statistics().into_iter().find(|(each, _)| *each == name).unwrap().1
    }
}

#[test]
fn every_thread_has_connections_and_each_answer_finds_its_own() {
    let started = start(SETTINGS, 3);
    let mut threads = [0; 3];
    let mut phones = Vec::new();
    for number in 0..24u8 {
        let mut phone = TcpStream::connect(started.address).unwrap();
        phone.set_read_timeout(Some(PATIENCE)).unwrap();
        phone.write_all(INVITE).unwrap();
        let (flow, message) = arrived(&started.inboxes);
        assert_eq!((&*message, flow.remote), (INVITE, phone.local_addr().unwrap()));
        threads[started.streams.shared.thread_of(flow.connection)] += 1;
        phones.push((phone, flow, number));
    }
    assert!(threads.iter().all(|connections| *connections > 0), "{threads:?}");
    for (phone, flow, number) in &mut phones {
        started.streams.send(*flow, &[*number; 40]);
        // To a peer that is connected: over its connection.
        started.streams.send(Flow { connection: 0, ..*flow }, &[*number + 100; 2]);
        let mut answer = [0; 42];
        phone.read_exact(&mut answer).unwrap();
        assert_eq!(answer.to_vec(), [[*number; 40].as_slice(), &[*number + 100; 2]].concat());
    }
    assert_eq!(started.statistic("net:tcp_connections"), 24);
    assert_eq!(started.statistic("net:tcp_connected"), 0);
    started.streams.stop();
}

#[test]
fn a_source_has_its_limit_over_all_threads_and_gets_it_back() {
    let started = start(StreamSettings { max_per_source: 6, ..SETTINGS }, 3);
    let connect = || TcpStream::connect(started.address).unwrap();
    let mut phones: Vec<_> = (0..6).map(|_| connect()).collect();
    for phone in &mut phones {
        phone.write_all(INVITE).unwrap();
        arrived(&started.inboxes);
    }
    let mut refused = connect();
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0, "closed");
    assert_eq!(started.statistic("net:tcp_refused_per_source"), 1);
    phones.pop();
    let begun = std::time::Instant::now();
    while started.statistic("net:tcp_connections") == 6 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut again = connect();
    again.write_all(INVITE).unwrap();
    arrived(&started.inboxes);
    started.streams.stop();
}

/// A thread that does not keep up makes no INVITE wait for its own timeout: the engine hears of it and tries another branch.
#[test]
fn what_the_queue_has_no_room_for_comes_back() {
    let inboxes = inboxes(1);
    let (streams, mut commands) =
        Streams::unstarted(1, SETTINGS, Carriers::default(), Arc::clone(&inboxes), Clock::start(), 1);
    let address = "127.0.0.1:5060".parse().unwrap();
    let flow = Flow::stream(Transport::Tcp, address, address, 0);
    let large = vec![b'x'; 1 << 20];
    let room = MAX_COMMANDED / large.len();
    (0..=room).for_each(|_| streams.send(flow, &large));
    assert_eq!(streams.shared.counters.unsent.get(), 0);
    streams.send(flow, INVITE);
    match next(&inboxes) {
        InboxItem::ShardEvent(ShardEvent::NoRoom(unsent, message)) => {
            assert_eq!((unsent, &*message), (flow, INVITE));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(streams.shared.counters.memory_full.get(), 1);
    // The thread goes on: there is room again.
    let taken = commands[0].try_recv().unwrap();
    let StreamCommand::Send(Outgoing { message, .. }) = taken else { panic!("{taken:?}") };
    streams.shared.commanded.fetch_sub(message.len(), Ordering::Relaxed);
    streams.send(flow, INVITE);
    assert_eq!(streams.shared.counters.memory_full.get(), 1);
    // A thread that has ended takes nothing.
    drop(commands);
    streams.send(flow, INVITE);
    assert!(matches!(next(&inboxes), InboxItem::ShardEvent(ShardEvent::NoRoom(..))));
}

/// Written together they would be more than may wait for a peer that does not read; this one does.
#[test]
fn many_large_messages_at_once_reach_a_peer_that_reads() {
    let started = start(SETTINGS, 1);
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow = Flow::stream(Transport::Tcp, started.address, peer.local_addr().unwrap(), 0);
    let message = vec![b'x'; 8_000];
    let count = limits::MAX_WRITE_QUEUE / message.len() + 8;
    assert!(count <= limits::MAX_WAITING_PER_PEER);
    (0..count).for_each(|_| started.streams.send(flow, &message));
    let (mut accepted, _) = peer.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = vec![0; count * message.len()];
    accepted.read_exact(&mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == b'x'));
    assert_eq!((started.statistic("net:tcp_unsent"), started.statistic("net:tcp_closed_stuck")), (0, 0));
    started.streams.stop();
}
