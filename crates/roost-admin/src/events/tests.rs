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
    let stream = hub.stream(Topics::of(Loss), Reads::All, None).unwrap();
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
    for bad in ["tcp:localhost:1", "udp:localhost:1", "unix:relative", ""] {
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

/// What a reader gets next: the extension of each event, or how many it has lost.
async fn next(stream: &mut Stream) -> Result<Vec<(u64, String)>, u64> {
    match stream.next().await.expect("the hub is there") {
        Next::Lost(lost) => Err(lost),
        Next::Told(batch, from) => {
            let aor_of = |told: Told<'_>| {
                let params: Value = serde_json::from_str(told.params()).unwrap();
                let aor = params["aor"].as_str().unwrap().to_owned();
                assert!(told.is_about(&aor) && !told.is_about("900"));
                assert_eq!(
                    String::from_utf8_lossy(told.frame),
                    format!("id: {}\nevent: {}\ndata: {{\"aor\":\"{aor}\"}}\n\n", told.id, told.name)
                );
                (told.id, aor)
            };
            Ok(batch.from(from).map(aor_of).collect())
        }
    }
}

#[tokio::test]
async fn a_reader_that_comes_back_gets_what_it_missed_and_a_slow_one_loses_its_own() {
    let hub = hub();
    let mut first = hub.stream(Topics::ALL, Reads::All, None).unwrap();
    let mut slow = hub.stream(Topics::ALL, Reads::All, None).unwrap();
    hub.publish(&[flow_lost(b"9001"), flow_lost(b"9002"), flow_lost(b"9003")]);
    let told = next(&mut first).await.unwrap();
    let ids: Vec<_> = told.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [ids[0], ids[0] + 1, ids[0] + 2]);
    assert!(first.try_next().is_none());
    drop(first);
    hub.publish(&[flow_lost(b"9004")]);
    // From the middle of a batch on.
    let mut again = hub.stream(Topics::ALL, Reads::All, Some(ids[0])).unwrap();
    let named = |aors: &[&str], from: u64| -> Vec<_> {
        aors.iter().zip(from..).map(|(aor, id)| (id, (*aor).to_owned())).collect()
    };
    assert_eq!(next(&mut again).await, Ok(named(&["9002", "9003"], ids[1])));
    assert_eq!(next(&mut again).await, Ok(named(&["9004"], ids[2] + 1)));
    for _ in 0..KEPT + 10 {
        hub.publish(&[flow_lost(b"9005")]);
        assert_eq!(next(&mut again).await.map(|told| told.len()), Ok(1));
    }
    assert_eq!(next(&mut slow).await, Err(14));
    assert!(hub.statistics().contains(&("event:streams_lost", 14)));
    assert!(next(&mut slow).await.is_ok());
    let mut late = hub.stream(Topics::ALL, Reads::All, Some(u64::MAX)).unwrap();
    assert!(late.try_next().is_none(), "a number of the future is as good as none");
    let all: Vec<_> = (0..MAX_STREAMS).map_while(|_| hub.stream(Topics::ALL, Reads::All, None)).collect();
    assert_eq!(all.len(), MAX_STREAMS - 3);
}

#[test]
fn many_events_are_kept_in_batches_that_are_not_too_large() {
    let hub = hub();
    let mut stream = hub.stream(Topics::ALL, Reads::All, None).unwrap();
    let many: Vec<_> = (0..1_200).map(|_| flow_lost(b"9001")).collect();
    hub.publish(&many);
    let mut seen = Vec::new();
    while let Some(Next::Told(batch, from)) = stream.try_next() {
        assert!(batch.iter().all(|told| told.at_ms > 0));
        seen.push(batch.from(from).count());
    }
    assert_eq!(seen, [512, 512, 176]);
}
