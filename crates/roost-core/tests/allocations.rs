//! What a call costs in memory: nothing new once the shard has seen its load, and little while it lingers.

use std::net::SocketAddr;

use allocation_counter::{AllocationInfo, measure};
use roost_core::{Authorize, Config, Engine, Flow, Listener, Now, Outbox, Rng, Row, ShardId};
use roost_sip::{Head, HeaderName};

const CALLER: &str = "10.0.0.1:5062";
const CALLEE: &str = "10.0.0.2:5064";

/// The 13 messages of a call: 6 in, 7 out (a 100 is one of them).
#[test]
fn a_forwarded_call_allocates_nothing_in_steady_state() {
    for path in ["", "<sip:10.0.0.2:5064;lr>"] {
        let mut stage = Stage::with_path(path);
        for number in 0..50 {
            stage.call(number);
            stage.pass(40_000);
        }
        let mut spent = AllocationInfo::default();
        for number in 50..60 {
            spent += stage.call(number);
            stage.pass(40_000);
        }
        assert_eq!(spent.count_total, 0, "{path} {spent:?}");
    }
}

#[test]
fn a_lingering_call_holds_at_most_4_kb() {
    let mut stage = Stage::with_path("");
    for number in 0..100 {
        stage.call(number);
    }
    let calls = 2_000;
    let mut held = 0;
    for number in 100..100 + calls {
        held += stage.call(number).bytes_current;
    }
    let each = held / calls as i64;
    eprintln!("a lingering call holds {each} bytes");
    assert!(each <= 4_096, "{each} bytes");
    assert_eq!(stage.in_use(), 2 * (calls as u64 + 100), "INVITE and BYE linger");
    stage.pass(40_000);
    assert_eq!(stage.in_use(), 0);
}

/// One engine with one binding, which is reached directly or by a path through the callee's own address.
struct Stage {
    engine: Engine,
    head: Box<Head>,
    out: Outbox,
    now: Now,
    has_path: bool,
}

impl Stage {
    fn with_path(path: &str) -> Stage {
        let mut config = Config::default();
        config.policy.listeners = vec![Listener::udp("10.0.0.9:5060".parse().unwrap())];
        config.policy.proxy.authorize = Authorize::Off;
        config.identity.write_through = false;
        let mut engine = Engine::new(&config, ShardId(0), Rng::new(7));
        let now = Now { mono_ms: 1 << 40, unix_s: 1_800_000_000 };
        let row = Row {
            contact_id: 1,
            username: (*b"9002").into(),
            contact: format!("sip:9002@{CALLEE}").into_bytes().into(),
            expires: 0,
            callid: (*b"c").into(),
            path: (!path.is_empty()).then(|| path.as_bytes().into()),
            socket: Some((*b"udp:10.0.0.9:5060").into()),
            ..Row::default()
        };
        engine.load(&row, now).unwrap();
        Stage { engine, head: Head::new(), out: Outbox::default(), now, has_path: !path.is_empty() }
    }

    /// A whole call; what the engine allocated for it.
    fn call(&mut self, number: usize) -> AllocationInfo {
        let mut spent = AllocationInfo::default();
        let body = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";
        let request = |method: &str, uri: &str, branch: &str, to_tag: &str, route: &str, body: &str| {
            format!(
                "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{branch}{number};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:9001@10.0.0.9>;tag=f{number}\r\nTo: <sip:9002@10.0.0.9>{to_tag}\r\n\
                 Call-ID: call-{number}@10.0.0.1\r\nCSeq: 1 {method}\r\nContact: <sip:9001@{CALLER}>\r\n{route}\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        spent += self.receive(CALLER, request("INVITE", "sip:9002@10.0.0.9", "i", "", "", body).as_bytes());
        assert_eq!(self.out.transmits.len(), 2, "100 and INVITE");
        let invite = self.sent(1);
        let routes = invite.windows(7).filter(|bytes| bytes == b"\nRoute:").count();
        assert_eq!(routes, usize::from(self.has_path));
        for (status, body) in [("180 Ringing", ""), ("200 OK", body)] {
            spent += self.receive(CALLEE, &answer(&invite, status, body));
            assert_eq!(self.out.transmits.len(), 1, "{status}");
        }
        let route = "Route: <sip:10.0.0.9;lr>\r\n";
        let target = format!("sip:9002@{CALLEE}");
        spent += self.receive(CALLER, request("ACK", &target, "a", ";tag=t", route, "").as_bytes());
        assert_eq!(self.out.transmits.len(), 1, "ACK");
        spent += self.receive(CALLER, request("BYE", &target, "b", ";tag=t", route, "").as_bytes());
        assert_eq!(self.out.transmits.len(), 1, "BYE");
        let bye = self.sent(0);
        spent += self.receive(CALLEE, &answer(&bye, "200 OK", ""));
        assert_eq!(self.out.transmits.len(), 1, "200 of BYE");
        spent
    }

    fn receive(&mut self, from: &str, message: &[u8]) -> AllocationInfo {
        let from: SocketAddr = from.parse().unwrap();
        let flow = Flow::udp("10.0.0.9:5060".parse().unwrap(), from);
        let Stage { engine, head, out, now, .. } = self;
        measure(|| {
            out.clear();
            head.parse(message).unwrap();
            engine.handle_message(&flow, message, head, *now, out);
        })
    }

    fn sent(&self, index: usize) -> Vec<u8> {
        self.out.message(&self.out.transmits[index]).to_vec()
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.out.clear();
        self.engine.handle_timeout(self.now, &mut self.out);
    }

    fn in_use(&mut self) -> u64 {
        use roost_core::{Admin, AdminReply, Command, Ticket};
        self.out.clear();
        self.engine.handle_admin(Ticket(1), Admin::Statistics, self.now, &mut self.out);
        let Some(Command::AdminReply { reply: AdminReply::Statistics(all), .. }) = self.out.commands.first()
        else {
            panic!("statistics")
        };
        all.values.iter().find(|(name, _)| *name == "tm:inuse_transactions").unwrap().1
    }
}

/// The callee's answer to a request that roost sent.
fn answer(request: &[u8], status: &str, body: &str) -> Vec<u8> {
    let mut head = Head::new();
    head.parse(request).unwrap();
    let mut text = format!("SIP/2.0 {status}\r\n").into_bytes();
    for line in head.lines() {
        match line.name {
            HeaderName::Via
            | HeaderName::RecordRoute
            | HeaderName::From
            | HeaderName::CallId
            | HeaderName::CSeq => {
                text.extend_from_slice(line.whole.of(request));
            }
            HeaderName::To => {
                text.extend_from_slice(b"To: <sip:9002@10.0.0.9>;tag=t\r\n");
            }
            _ => {}
        }
    }
    text.extend_from_slice(
        format!("Contact: <sip:9002@{CALLEE}>\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
    );
    text
}
