//! What a store that nodes share must do, on a real server: a change counts only against the record that it was planned on.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roost_cluster::{Change, Commit, Handle, Member, News, Receipts, Running};
use roost_core::{CommitOutcome, Planned, Receipt, Row, ShardId, StoredRecord, Ticket, Write};
use roost_redis::{Durability, start};
use roost_rig::{PATIENCE, Redis, wait_for};

struct Node {
    running: Running,
    handle: Handle,
    receipts: Receiver<Receipt>,
    heard: Arc<Mutex<Vec<Change>>>,
    next: u64,
}

impl Node {
    fn start(redis: &Redis, name: &str) -> Node {
        let (told, receipts): (Sender<Receipt>, _) = channel();
        let told = Mutex::new(told);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let member = Member {
            name: name.to_string(),
            address: format!("10.0.0.5:{}", 5070 + name.len()),
            figures: Arc::new(|| "{}".to_string()),
        };
        let receipts_to = move |all: Vec<(ShardId, Receipt)>| {
            let told = told.lock().unwrap();
            all.into_iter().for_each(|(_, receipt)| drop(told.send(receipt)));
        };
        let running = start(
            &redis.url(),
            Durability::Fsync,
            member,
            &(Arc::new(receipts_to) as Receipts),
            &(Arc::new(move |change| hears.lock().unwrap().push(change)) as News),
            Arc::new(|_| {}),
        );
        let running = running.expect("it starts");
        Node { handle: running.handle(), running, receipts, heard, next: 0 }
    }

    fn commit(&mut self, aor: &str, version: u64, writes: Vec<Write>) -> CommitOutcome {
        self.next += 1;
        let planned = Planned { aor: aor.as_bytes().into(), version };
        self.handle.commit(vec![Commit { shard: ShardId(0), ticket: Ticket(self.next), writes, planned }]);
        match self.receipts.recv_timeout(PATIENCE).expect("a receipt") {
            Receipt::Commit(ticket, outcome) if ticket == Ticket(self.next) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn load(&mut self, aor: &str) -> Result<StoredRecord, String> {
        self.next += 1;
        self.handle.load(ShardId(0), Ticket(self.next), aor.as_bytes().into());
        match self.receipts.recv_timeout(PATIENCE).expect("a receipt") {
            Receipt::Record(ticket, found) if ticket == Ticket(self.next) => found,
            other => panic!("{other:?}"),
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn put(contact_id: u64, contact: &str, lasts_s: u64) -> Write {
    let row = Row::<Box<[u8]>> {
        contact_id,
        contact: contact.as_bytes().into(),
        expires: if lasts_s == 0 { 0 } else { now_s() + lasts_s },
        ..Row::default()
    };
    Write::Put(row.pack())
}

fn remove(contact_id: u64) -> Write {
    Write::Remove { contact_id, username: Box::default() }
}

fn stored(outcome: CommitOutcome) -> u64 {
    match outcome {
        CommitOutcome::Stored(version) => version,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_counts_against_the_record_that_it_was_planned_on() {
    let redis = Redis::start();
    let (mut a, mut b) = (Node::start(&redis, "a"), Node::start(&redis, "bb"));
    assert_eq!(a.load("9001"), Ok(StoredRecord::default()));
    let first = stored(a.commit("9001", 0, vec![put(1, "sip:one", 60)]));
    // The other node has planned against nothing: it is given what there is, and nothing has changed.
    let CommitOutcome::Changed(found) = b.commit("9001", 0, vec![put(2, "sip:two", 60)]) else {
        panic!("it was taken")
    };
    assert_eq!((found.version, found.rows.len(), found.rows[0].contact_id()), (first, 1, 1));
    let second = stored(b.commit("9001", first, vec![remove(1), put(2, "sip:two", 60)]));
    assert!(second > first);
    let record = a.load("9001").unwrap();
    assert_eq!((record.version, record.rows[0].contact_id(), record.rows.len()), (second, 2, 1));
    assert!(matches!(a.commit("9001", first, vec![remove(2)]), CommitOutcome::Changed(_)));
    // Both hear of each change.
    let is_told = |node: &Node| {
        let heard = node.heard.lock().unwrap();
        let wanted = Change::Record { aor: (*b"9001").into(), version: second };
        heard.contains(&wanted).then_some(())
    };
    wait_for("news at a", PATIENCE, || is_told(&a));
    wait_for("news at b", PATIENCE, || is_told(&b));
    // A record that is gone and comes again has no version that it had.
    let third = stored(a.commit("9001", second, vec![remove(2)]));
    assert_eq!(a.load("9001"), Ok(StoredRecord::default()));
    let fourth = stored(b.commit("9001", 0, vec![put(3, "sip:three", 60)]));
    assert!(fourth > third && third > second, "{second} {third} {fourth}");
}

#[test]
fn the_server_forgets_what_has_expired_and_nothing_else() {
    let redis = Redis::start();
    let mut node = Node::start(&redis, "a");
    let lasts = |aor: &str| -> i64 {
        let said = redis.ask(&format!("TTL roost:location:{{{aor}}}")).unwrap();
        said.trim_start_matches(':').trim().parse().unwrap()
    };
    let version = stored(node.commit("9001", 0, vec![put(1, "sip:one", 600)]));
    assert!((600..=661).contains(&lasts("9001")), "{}", lasts("9001"));
    // A shorter one beside it takes nothing away; a longer one makes it longer; one that never expires stays.
    let version = stored(node.commit("9001", version, vec![put(2, "sip:two", 10)]));
    assert!((590..=661).contains(&lasts("9001")), "{}", lasts("9001"));
    let version = stored(node.commit("9001", version, vec![put(2, "sip:two", 1_000)]));
    assert!((1_000..=1_061).contains(&lasts("9001")), "{}", lasts("9001"));
    let version = stored(node.commit("9001", version, vec![put(3, "sip:three", 0)]));
    assert_eq!(lasts("9001"), -1);
    stored(node.commit("9001", version, vec![put(2, "sip:two", 10)]));
    assert_eq!(lasts("9001"), -1);
}

#[test]
fn a_server_that_is_away_takes_nothing_and_is_found_again() {
    let mut redis = Redis::start();
    let mut node = Node::start(&redis, "a");
    let version = stored(node.commit("9001", 0, vec![put(1, "sip:one", 600)]));
    redis.kill();
    assert!(matches!(node.commit("9001", version, vec![put(1, "sip:one", 600)]), CommitOutcome::Failed(_)));
    assert!(node.load("9001").is_err());
    let doubts =
        |node: &Node| node.heard.lock().unwrap().iter().filter(|one| **one == Change::Doubtful).count();
    wait_for("its doubt", PATIENCE, || (doubts(&node) >= 2).then_some(()));
    redis.restart();
    // What it had said that it has it has.
    let record = wait_for("the record", PATIENCE, || node.load("9001").ok());
    assert_eq!((record.version, record.rows.len()), (version, 1));
    wait_for("a change", PATIENCE, || {
        matches!(node.commit("9001", version, vec![put(1, "sip:one", 600)]), CommitOutcome::Stored(_))
            .then_some(())
    });
    let Node { running, handle, .. } = node;
    drop(handle);
    let begun = std::time::Instant::now();
    running.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "it ends");
}
