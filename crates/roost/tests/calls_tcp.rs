//! Real phones over TCP and UDP call one another, before and after the TCP phone's connection was cut.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use support::{Answers, Baresip, PATIENCE, Server, wait_for};

#[test]
fn a_tcp_phone_and_a_udp_phone_call_one_another() {
    let server = server();
    let tcp = Baresip::registered_at(&server, server.sip, "9001", Answers::WhenTold, ";transport=tcp");
    let udp = Baresip::registered(&server, "9002", Answers::WhenTold);
    both_ways(&server, tcp, udp);
}

#[test]
fn two_tcp_phones_call_one_another() {
    let server = server();
    let phone = |user| Baresip::registered_at(&server, server.sip, user, Answers::WhenTold, ";transport=tcp");
    let (one, other) = (phone("9001"), phone("9002"));
    both_ways(&server, one, other);
}

#[test]
fn after_its_connection_was_cut_and_remade_a_phone_calls_and_is_called() {
    let server = server();
    let relay = TcpRelay::start(server.sip);
    let params = ";transport=tcp;regint=4";
    let tcp = Baresip::registered_at(&server, relay.address, "9001", Answers::WhenTold, params);
    let udp = Baresip::registered(&server, "9002", Answers::WhenTold);
    let before = relay.made();
    relay.cut();
    wait_for("the loss", PATIENCE, || (server.statistic("net:tcp_connections") == 0).then_some(()));
    // The phone comes back when its registration is due.
    wait_for("a new connection", PATIENCE, || (relay.made() > before).then_some(()));
    wait_for("the new registration", PATIENCE, || {
        (server.statistic("net:tcp_connections") == 1 && tcp.is_bound(&server)).then_some(())
    });
    both_ways(&server, tcp, udp);
}

fn server() -> Server {
    let server = Server::started("", "[registrar]\nmin_expires = 4\n");
    for user in ["9001", "9002"] {
        server.add_user(user, user);
    }
    server
}

/// Each calls the other; they hear one another; the caller hangs up, then the callee.
fn both_ways(server: &Server, one: Baresip, other: Baresip) {
    let mut phones = [one, other];
    for (caller, callee) in [(0, 1), (1, 0)] {
        let target = format!("sip:{}@{}", phones[callee].user, server.sip);
        phones[caller].command("dial", &target);
        phones[callee].wait_call("CALL_INCOMING");
        phones[caller].wait_call("CALL_RINGING");
        phones[callee].command("accept", "");
        for phone in &phones {
            phone.wait_calls(&["CALL_ESTABLISHED", "CALL_RTPESTAB"]);
        }
        phones[1].command("hangup", "");
        phones[1].wait_call("CALL_CLOSED");
        assert_eq!(phones[0].wait_call("CALL_CLOSED"), "Connection reset by peer");
    }
}

/// Passes connections on, until it cuts them.
struct TcpRelay {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl TcpRelay {
    fn start(towards: SocketAddr) -> TcpRelay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        let streams = Arc::new(Mutex::new(Vec::new()));
        let made = Arc::clone(&streams);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(towards) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    thread::spawn(move || pass(from, to));
                }
                made.lock().expect("the streams").extend([near, far]);
            }
        });
        TcpRelay { address, streams }
    }

    /// How many connections there have been.
    fn made(&self) -> usize {
        self.streams.lock().expect("the streams").len() / 2
    }

    fn cut(&self) {
        for stream in self.streams.lock().expect("the streams").iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 65_536];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
