//! The hub by itself: who is told what, and who loses what.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use serde_json::{Value, json};

use super::*;

fn hub() -> Hub {
    Hub::start(Topics::CALLS, 0, Vec::new()).unwrap()
}

fn flow_lost(aor: &[u8]) -> Event {
    Event::FlowLost { aor: aor.into(), contact_id: 1 }
}

fn wants(hub: &Hub, kind: roost_core::EventKind) -> bool {
    Topics::from_bits(hub.wanted().load(Ordering::Relaxed)).meet(Topics::of(kind))
}

#[test]
fn events_are_made_only_while_somebody_listens() {
    use roost_core::EventKind::{CallRecord, CallState, Loss};
    let hub = hub();
    assert!(wants(&hub, CallRecord) && !wants(&hub, CallState) && !wants(&hub, Loss));
    hub.subscribe_datagrams("E_DLG_STATE_CHANGED", "udp:127.0.0.1:9", 10).unwrap();
    assert!(wants(&hub, CallState) && !wants(&hub, Loss));
    hub.subscribe_datagrams("E_DLG_STATE_CHANGED", "udp:127.0.0.1:9", 0).unwrap();
    assert!(!wants(&hub, CallState));
    let stream = hub.stream(Topics::of(Loss), None).unwrap();
    assert!(wants(&hub, Loss));
    drop(stream);
    hub.publish([]);
    assert!(wants(&hub, Loss), "it may come back");
}

#[test]
fn subscribers_get_datagrams_as_opensips_sends_them() {
    let hub = hub();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.sock");
    let unix = UnixDatagram::bind(&path).unwrap();
    let timeout = Some(Duration::from_secs(5));
    udp.set_read_timeout(timeout).unwrap();
    unix.set_read_timeout(timeout).unwrap();
    let at = udp.local_addr().unwrap();
    hub.subscribe_datagrams("E_ROOST_FLOW_LOST", &format!("udp:{at}"), 10).unwrap();
    hub.subscribe_datagrams("E_ROOST_FLOW_LOST", &format!("unix:{}", path.display()), 10).unwrap();
    hub.subscribe_datagrams("E_ROOST_FLOW_LOST", "unix:/nobody/there", 10).unwrap();
    for bad in ["tcp:127.0.0.1:1", "udp:localhost:1", "unix:relative", ""] {
        assert!(hub.subscribe_datagrams("E_ROOST_FLOW_LOST", bad, 10).is_err(), "{bad}");
    }
    hub.publish(&[flow_lost(b"9001"), Event::CommitFailed { aor: (*b"9002").into() }]);
    let expected = json!({ "jsonrpc": "2.0", "method": "E_ROOST_FLOW_LOST", "params": { "aor": "9001" } });
    let mut buffer = [0; 2048];
    let length = udp.recv(&mut buffer).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&buffer[..length]).unwrap(), expected);
    let length = unix.recv(&mut buffer).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&buffer[..length]).unwrap(), expected);
    let statistics = hub.statistics();
    assert!(
        statistics.contains(&("event:sent", 2)) && statistics.contains(&("event:lost", 1)),
        "{statistics:?}"
    );
}

#[tokio::test]
async fn a_reader_that_comes_back_gets_what_it_missed_and_a_slow_one_loses_its_own() {
    let hub = hub();
    let mut first = hub.stream(Topics::ALL, None).unwrap();
    let slow = hub.stream(Topics::ALL, None).unwrap();
    hub.publish(&[flow_lost(b"9001")]);
    let Some(Next::Told(told)) = first.next().await else { panic!("an event") };
    assert_eq!(
        (told.name, told.is_about("9001"), told.params()),
        ("E_ROOST_FLOW_LOST", true, r#"{"aor":"9001"}"#)
    );
    let seen = told.id;
    drop(first);
    hub.publish(&[flow_lost(b"9002"), flow_lost(b"9003")]);
    let mut again = hub.stream(Topics::ALL, Some(seen)).unwrap();
    for expected in ["9002", "9003"] {
        let Some(Next::Told(told)) = again.next().await else { panic!("an event") };
        assert!(told.is_about(expected));
    }
    let many: Vec<_> = (0..STREAM_ROOM + 10).map(|_| flow_lost(b"9004")).collect();
    for event in many {
        hub.publish([&event]);
        assert!(matches!(again.next().await, Some(Next::Told(_))));
    }
    let mut slow = slow;
    assert!(matches!(slow.next().await, Some(Next::Lost(13))));
    assert!(hub.statistics().contains(&("event:streams_lost", 13)));
    let all: Vec<_> = (0..MAX_STREAMS).map_while(|_| hub.stream(Topics::ALL, None)).collect();
    assert_eq!(all.len(), MAX_STREAMS - 2);
}
