//! What a store that nodes share must do, on real servers and on that of the simulated world: a change counts only against the record
//! that it was planned on.

mod simulated;

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roost_cluster::{Change, Commit, Handle, Member, News, Receipts, Running};
use roost_core::{CommitOutcome, Planned, Receipt, Row, ShardId, StoredRecord, Ticket, Write, contact_id};
use roost_redis::Durability;
use roost_rig::{Database, Kind, PATIENCE, Redis, RedisCluster, Sentinels, wait_for};
use roost_store::{Access, Columns, SharedWith, Store};
use simulated::Simulated;

/// A server of each kind.
enum Server {
    Redis(Redis),
    Cluster(RedisCluster),
    Database(Database),
    Simulated(Simulated),
}

impl Server {
    fn all() -> Vec<Server> {
        let databases = [Kind::MariaDb, Kind::Postgres].map(|kind| Server::Database(Database::start(kind)));
        let others = [
            Server::Redis(Redis::start()),
            Server::Redis(Redis::valkey()),
            Server::Cluster(RedisCluster::start()),
            Server::Simulated(Simulated::default()),
        ];
        others.into_iter().chain(databases).collect()
    }

    fn kill(&mut self) {
        match self {
            Server::Redis(redis) => redis.kill(),
            Server::Cluster(cluster) => cluster.0.iter_mut().for_each(Redis::kill),
            Server::Database(database) => database.kill(),
            Server::Simulated(store) => store.kill(),
        }
    }

    fn restart(&mut self) {
        match self {
            Server::Redis(redis) => redis.restart(),
            Server::Cluster(cluster) => cluster.0.iter_mut().for_each(Redis::restart),
            Server::Database(database) => database.restart(),
            Server::Simulated(store) => store.restart(),
        }
    }

    fn tells_of_changes(&self) -> bool {
        !matches!(self, Server::Database(_))
    }

    fn share(&self, member: Member, receipts: &Receipts, news: &News) -> Running {
        match self {
            Server::Simulated(store) => store.share(receipts, news),
            Server::Redis(redis) => share_redis(&redis.url(), Durability::Fsync, member, receipts, news),
            Server::Cluster(cluster) => {
                share_redis(&cluster.url(), Durability::Replicated, member, receipts, news)
            }
            Server::Database(database) => {
                let store =
                    Store::open(&database.url(), Path::new("/"), &Access::default(), Columns::default())
                        .expect("the tables");
                let with = SharedWith {
                    case_sensitive: false,
                    is_own_socket: Arc::new(|socket| socket == "udp:10.0.0.5:5060"),
                };
                store.share(with, member, receipts, news, Arc::new(|_| {})).expect("it starts")
            }
        }
    }
}

fn share_redis(
    url: &str,
    durability: Durability,
    member: Member,
    receipts: &Receipts,
    news: &News,
) -> Running {
    roost_redis::start((url, None), durability, member, receipts, news, Arc::new(|_| {})).expect("it starts")
}

struct Node {
    running: Running,
    handle: Handle,
    receipts: Receiver<Receipt>,
    heard: Arc<Mutex<Vec<Change>>>,
    next: u64,
}

impl Node {
    fn start(server: &Server, name: &str) -> Node {
        Node::sharing(name, |member, receipts, news| server.share(member, receipts, news))
    }

    fn sharing(name: &str, share: impl FnOnce(Member, &Receipts, &News) -> Running) -> Node {
        let (told, receipts): (Sender<Receipt>, _) = channel();
        let told = Mutex::new(told);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let member = Member {
            name: name.to_string(),
            address: format!("10.0.0.5:{}", 5070 + name.len()),
            figures: Arc::new(|| "{}".to_string()),
            floating: Arc::new(Vec::new),
        };
        let receipts_to = move |all: Vec<(ShardId, Receipt)>| {
            let told = told.lock().unwrap();
            all.into_iter().for_each(|(_, receipt)| drop(told.send(receipt)));
        };
        let to: Receipts = Arc::new(receipts_to);
        let news: News = Arc::new(move |change| hears.lock().unwrap().push(change));
        let running = share(member, &to, &news);
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

    /// The first binding of a user.
    fn try_put_new(&mut self, user: &str) -> CommitOutcome {
        let contact_id = contact_id::compose(user.as_bytes(), 5, 1);
        let row = Row { contact_id, username: user.as_bytes().into(), ..row(1, "sip:one", 600) };
        self.commit(user, 0, vec![Write::Put(row.pack())])
    }

    fn put_new(&mut self, user: &str) -> u64 {
        stored(self.try_put_new(user))
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

/// A row of 9001 that belongs to the node of this name, as the core writes it.
fn row(number: u16, contact: &str, lasts_s: u64) -> Row {
    let route = format!("<sip:9001@10.0.0.5:5071;transport=tcp;lr;binding={number:016x}-00>");
    Row {
        contact_id: id(number),
        username: (*b"9001").into(),
        contact: contact.as_bytes().into(),
        path: Some(route.into_bytes().into()),
        callid: (*b"call").into(),
        socket: Some((*b"udp:10.0.0.5:5060").into()),
        expires: if lasts_s == 0 { 0 } else { now_s() + lasts_s },
        last_modified: now_s(),
        cseq: 1,
        ..Row::default()
    }
}

fn id(number: u16) -> u64 {
    contact_id::compose(b"9001", 77, number)
}

fn put(number: u16, contact: &str, lasts_s: u64) -> Write {
    Write::Put(row(number, contact, lasts_s).pack())
}

fn remove(number: u16) -> Write {
    Write::Remove { contact_id: id(number), username: (*b"9001").into() }
}

fn stored(outcome: CommitOutcome) -> u64 {
    match outcome {
        CommitOutcome::Stored(version) => version,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_counts_against_the_record_that_it_was_planned_on() {
    Server::all().iter().for_each(compares);
}

fn compares(server: &Server) {
    let (mut a, mut b) = (Node::start(server, "a"), Node::start(server, "bb"));
    assert_eq!(a.load("9001"), Ok(StoredRecord::default()));
    let first = stored(a.commit("9001", 0, vec![put(1, "sip:one", 60)]));
    // The other node has planned against nothing: it is given what there is, and nothing has changed.
    let CommitOutcome::Changed(found) = b.commit("9001", 0, vec![put(2, "sip:two", 60)]) else {
        panic!("it was taken")
    };
    assert_eq!((found.version, found.rows.len()), (first, 1));
    let wanted = row(1, "sip:one", 60);
    let got = found.rows[0].unpack();
    assert_eq!((got.contact_id, &got.path, &got.socket), (wanted.contact_id, &wanted.path, &wanted.socket));
    let second = stored(b.commit("9001", first, vec![remove(1), put(2, "sip:two", 60)]));
    let record = a.load("9001").unwrap();
    assert_eq!((record.version, record.rows[0].contact_id(), record.rows.len()), (second, id(2), 1));
    assert!(matches!(a.commit("9001", first, vec![remove(2)]), CommitOutcome::Changed(_)));
    // What was written is what is read: nobody plans again for nothing.
    let refreshed = Row { cseq: 2, ..row(2, "sip:two", 90) };
    let third = stored(a.commit("9001", second, vec![Write::Put(refreshed.pack())]));
    let fourth = stored(b.commit("9001", third, vec![put(3, "sip:three", 60)]));
    assert_eq!(b.load("9001").unwrap().version, fourth);
    if server.tells_of_changes() {
        let is_told = |node: &Node| {
            let heard = node.heard.lock().unwrap();
            let wanted = Change::Record { aor: (*b"9001").into(), version: second };
            heard.contains(&wanted).then_some(())
        };
        wait_for("news at a", PATIENCE, || is_told(&a));
        wait_for("news at b", PATIENCE, || is_told(&b));
    }
    // A record that is gone and comes again with other bindings has no version that it had.
    stored(a.commit("9001", fourth, vec![remove(2), remove(3)]));
    assert_eq!(a.load("9001"), Ok(StoredRecord::default()));
    let fifth = stored(b.commit("9001", 0, vec![put(4, "sip:four", 60)]));
    assert!(![first, second, third, fourth].contains(&fifth));
}

#[test]
fn changes_of_many_records_in_one_batch_each_stand_for_themselves() {
    for server in Server::all() {
        let mut node = Node::start(&server, "a");
        let users: Vec<String> = (0..100).map(|number| format!("8{number:03}")).collect();
        let commit = |user: &String, at: u64, version: u64| {
            let contact_id = contact_id::compose(user.as_bytes(), at as u32, 1);
            let row = Row { contact_id, username: user.as_bytes().into(), ..row(1, "sip:one", 60) };
            let planned = Planned { aor: user.as_bytes().into(), version };
            Commit {
                shard: ShardId(0),
                ticket: Ticket(1_000 + at),
                writes: vec![Write::Put(row.pack())],
                planned,
            }
        };
        // Every tenth was planned against what is not there.
        let commits = users.iter().zip(0..).map(|(user, at)| commit(user, at, u64::from(at % 10 == 0)));
        node.handle.commit(commits.collect());
        for _ in &users {
            match node.receipts.recv_timeout(PATIENCE).expect("a receipt") {
                Receipt::Commit(Ticket(at), outcome) => match (at - 1_000) % 10 {
                    0 => assert!(matches!(outcome, CommitOutcome::Changed(_)), "{at}: {outcome:?}"),
                    _ => assert_ne!(stored(outcome), 0),
                },
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(node.load("8001").unwrap().rows.len(), 1);
        assert_eq!(node.load("8010").unwrap(), StoredRecord::default());
    }
}

#[test]
fn a_key_that_another_aor_has_is_said_to_be_taken() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let server = Server::Database(Database::start(kind));
        let mut node = Node::start(&server, "a");
        stored(node.commit("9001", 0, vec![put(1, "sip:one", 60)]));
        let row = Row { username: (*b"9002").into(), ..row(1, "sip:two", 60) };
        let outcome = node.commit("9002", 0, vec![Write::Put(row.pack())]);
        assert_eq!(outcome, CommitOutcome::KeyTaken);
        assert_eq!(node.load("9001").unwrap().rows[0].unpack().contact, (*b"sip:one").into());
    }
}

#[test]
fn a_node_finds_its_own_bindings_and_those_that_nobody_has_claimed() {
    for kind in [Kind::MariaDb, Kind::Postgres] {
        let server = Server::Database(Database::start(kind));
        let mut node = Node::start(&server, "a");
        // One of this node, one of another, one of OpenSIPS over our socket, one of OpenSIPS elsewhere.
        let of = |user: &str, change: &dyn Fn(Row) -> Row| {
            let contact_id = contact_id::compose(user.as_bytes(), 5, 1);
            change(Row { contact_id, username: user.as_bytes().into(), ..row(1, "sip:one", 60) })
        };
        let other = |row: Row| {
            let path = String::from_utf8(row.path.clone().unwrap().into()).unwrap().replace(":5071", ":5072");
            Row { path: Some(path.into_bytes().into()), ..row }
        };
        let elsewhere = |row: Row| Row { path: None, socket: Some((*b"udp:10.0.0.6:5060").into()), ..row };
        let rows = [
            of("8001", &|row| row),
            of("8002", &other),
            of("8003", &|row| Row { path: None, ..row }),
            of("8004", &elsewhere),
        ];
        for row in rows {
            let user = String::from_utf8(row.username.to_vec()).unwrap();
            stored(node.commit(&user, 0, vec![Write::Put(row.pack())]));
        }
        let again = Node::start(&server, "a");
        let found = |node: &Node| {
            let heard = node.heard.lock().unwrap();
            let aors = heard.iter().filter_map(|one| match one {
                Change::Found { aor, .. } => Some(String::from_utf8_lossy(aor).into_owned()),
                _ => None,
            });
            aors.collect::<Vec<_>>()
        };
        let mut all = wait_for("its bindings", PATIENCE, || Some(found(&again)).filter(|all| all.len() >= 2));
        all.sort();
        assert_eq!(all, ["8001", "8003"]);
    }
}

#[test]
fn the_server_forgets_what_has_expired_and_nothing_else() {
    let server = Server::Redis(Redis::start());
    let Server::Redis(redis) = &server else { return };
    let mut node = Node::start(&server, "a");
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
    Server::all().into_iter().for_each(is_found_again);
}

fn is_found_again(mut server: Server) {
    let mut node = Node::start(&server, "a");
    let version = stored(node.commit("9001", 0, vec![put(1, "sip:one", 600)]));
    server.kill();
    assert!(matches!(node.commit("9001", version, vec![put(1, "sip:one", 600)]), CommitOutcome::Failed(_)));
    assert!(node.load("9001").is_err());
    let doubts =
        |node: &Node| node.heard.lock().unwrap().iter().filter(|one| **one == Change::Doubtful).count();
    if server.tells_of_changes() {
        wait_for("its doubt", PATIENCE, || (doubts(&node) >= 2).then_some(()));
    }
    server.restart();
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

#[test]
fn a_primary_that_is_gone_takes_nothing_along_that_was_accepted() {
    let (mut primary, replicas) = Redis::with_replicas(2);
    let sentinels = Sentinels::start(&primary);
    let url = sentinels.url();
    let mut node =
        Node::sharing("a", |member, to, news| share_redis(&url, Durability::Replicated, member, to, news));
    let mut accepted = Vec::new();
    for number in 0..50 {
        let user = format!("7{number:03}");
        accepted.push((user.clone(), node.put_new(&user)));
    }
    let old = primary.address.port();
    primary.kill();
    // Nothing is accepted until another one is the primary; all that was accepted is there then.
    let new = wait_for("another primary", PATIENCE, || sentinels.primary().filter(|port| *port != old));
    assert!(replicas.iter().any(|one| one.address.port() == new));
    let version = wait_for("a registration", PATIENCE, || match node.try_put_new("7999") {
        CommitOutcome::Stored(version) => Some(version),
        _ => None,
    });
    accepted.push(("7999".to_string(), version));
    for (user, version) in &accepted {
        let record = wait_for("a record", PATIENCE, || node.load(user).ok());
        assert_eq!((record.version, record.rows.len()), (*version, 1), "{user}");
    }
}
