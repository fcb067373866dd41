use super::*;
use crate::shelf::Weigh as _;

use roost_core::{AorText, Ban, Flow};

fn challenged(user: &str, source: &str) -> Event {
    Event::Challenged {
        user: AorText::from_slice(user.as_bytes()),
        host: AorText::from_slice(b"pbx.test"),
        source: source.parse().unwrap(),
        reason: Reason::NoCredentials,
        is_register: true,
    }
}

fn refused(user: &str, source: &str, reason: Reason) -> Event {
    let flow = Flow::udp("10.0.0.1:5060".parse().unwrap(), source.parse().unwrap());
    let asked = Asked {
        method: (*b"REGISTER").into(),
        user: user.as_bytes().into(),
        host: (*b"pbx.test").into(),
        flow,
        user_agent: (*b"Yealink\r\nT21P").into(),
        more: Box::default(),
    };
    Event::Refused { asked, code: reason.code(), reason }
}

fn refreshed(user: &str, left_ms: i64) -> Event {
    let aor = AorText::from_slice(user.as_bytes());
    Event::Refreshed {
        aor,
        source: Some("10.0.0.7:5060".parse().unwrap()),
        granted_s: Some(60),
        left_ms: Some(left_ms),
        agent: AorText::new(),
    }
}

#[test]
fn what_is_repeated_is_one_note_and_an_answered_challenge_none() {
    let recorder = Recorder::new(1 << 20, false);
    for at in 0..14 {
        let events =
            [challenged("9001", "10.0.0.7:5060"), refused("9001", "10.0.0.7:5060", Reason::WrongPassword)];
        recorder.take(&events, at * 1000);
    }
    let life = recorder.life(b"9001").unwrap();
    let notes: Vec<_> = life.notes().collect();
    let [note] = notes[..] else { panic!("{notes:#?}") };
    assert_eq!((note.count, note.first_ms, note.last_ms), (14, 0, 13_000));
    assert_eq!((&*note.text, note.source.unwrap().port()), ("Yealink  T21P", 5060));
    recorder.take(&[challenged("9001", "10.0.0.8:5060")], 20_000);
    assert!(
        matches!(recorder.life(b"9001").unwrap().last().unwrap().what, What::Challenged { .. }),
        "it never came back"
    );
    for (at, left_ms) in [(30_000, 5_000), (60_000, -700), (90_000, 9_000)] {
        recorder.take(&[refreshed("9001", left_ms)], at);
    }
    let life = recorder.life(b"9001").unwrap();
    let last = life.last().unwrap();
    assert_eq!((last.what, last.count), (What::Refreshed { least_left_ms: -700, moves: 0 }, 3));
    assert_eq!(recorder.life(b"9002"), None);
}

#[test]
fn a_flood_of_names_that_nobody_knows_pushes_no_extension_out() {
    let recorder = Recorder::new(400_000, true);
    recorder.take(&[refreshed("9001@pbx.test", 1)], 1);
    for n in 0..50_000 {
        // After some the address is banned, whatever the name.
        let reason = if n % 2 == 0 { Reason::BannedSource } else { Reason::UnknownUser };
        recorder.take(&[refused(&format!("u{n}"), "10.0.0.9:5060", reason)], n);
    }
    assert_eq!(recorder.statistics()[0].1, 1, "guessers are no extensions");
    assert!(recorder.life(b"9001@pbx.test").is_some());
    assert!(recorder.life(b"u49999@pbx.test").is_some() && recorder.life(b"u0@pbx.test").is_none());
    let [_, (_, strangers), (_, bytes), (_, evicted), ..] = recorder.statistics();
    assert!(bytes <= 400_000 && strangers > 100 && evicted > 49_000, "{bytes} {strangers} {evicted}");
    // A name that turns out to be an extension moves with what was known of it.
    recorder.take(&[refused("u49999", "10.0.0.9:5060", Reason::UnknownUser)], 50_000);
    recorder.take(&[refreshed("u49999@pbx.test", 1)], 50_001);
    assert_eq!(recorder.life(b"u49999@pbx.test").unwrap().notes().count(), 2);
    assert_eq!(recorder.statistics()[0].1, 2);
}

#[test]
fn a_life_is_bounded() {
    let recorder = Recorder::new(1 << 20, false);
    for n in 0..1_000_u32 {
        let source = format!("10.0.{}.{}:5060", n / 250, n % 250);
        recorder.take(&[refused("9001", &source, Reason::Occupied)], u64::from(n));
        let ban = Ban { source: None, user: (*b"9001").into(), left_s: 60, is_manual: false };
        recorder.take(&[Event::Banned(ban)], u64::from(n));
    }
    let life = recorder.life(b"9001").unwrap();
    assert!(life.notes().count() <= 14 && life.weight() <= 2_000, "{}", life.weight());
    assert!(recorder.statistics()[2].1 < 2_300);
}

#[test]
fn what_is_remembered_outlives_a_restart_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roost.db-recorder");
    let recorder = Recorder::new(1 << 20, false);
    let ban = Ban { source: None, user: (*b"9001").into(), left_s: 60, is_manual: false };
    let outcome = CallOutcome { end: CallEnd::Failed(486), rang_s: 3, has_rung: true, talked_s: 0 };
    recorder.take(
        &[
            challenged("9002", "10.0.0.7:5060"),
            refused("9001", "10.0.0.7:5060", Reason::WrongPassword),
            Event::Banned(ban),
            refreshed("9001", -5),
            Event::FlowLost { aor: (*b"9001").into(), contact_id: 1 },
            Event::PingsLost { aor: (*b"9001").into(), contact_id: 1, lost: 3 },
            Event::CommitFailed { aor: (*b"9001").into() },
            refused("nobody", "10.0.0.9:5060", Reason::UnknownUser),
        ],
        5_000,
    );
    for why in roost_core::Gone::ALL {
        recorder.inner().note(b"9001", 5_500, Note::new(What::Gone(why)));
    }
    for (end, has_rung) in
        [(CallEnd::Failed(486), false), (CallEnd::CallerHungUp, true), (CallEnd::Timeout, true)]
    {
        let note = Note::new(What::WasCalled(CallOutcome { end, has_rung, ..outcome }))
            .with_text(b"9002")
            .with_call_id(b"c");
        recorder.inner().note(b"9001", 6_000, note);
    }
    recorder.save(&path).unwrap();
    std::fs::write(folder.path().join("x"), b"").unwrap();
    let next = Recorder::new(1 << 20, false);
    assert_eq!(next.load(&path).unwrap(), 3);
    for aor in [&b"9001"[..], b"9002", b"nobody"] {
        assert_eq!(next.life(aor), recorder.life(aor), "{}", String::from_utf8_lossy(aor));
    }
    assert_eq!((next.statistics()[0].1, next.statistics()[1].1), (1, 2));
    assert_eq!(next.load(&path).unwrap(), 0, "it is gone");
    // What nobody has written is passed over.
    std::fs::write(&path, b"garbage\n{\"aor\":1}\n{\"aor\":\"9\",\"is_known\":true,\"notes\":[]}\n\xff\n")
        .unwrap();
    assert_eq!(Recorder::new(1 << 20, false).load(&path).unwrap(), 0);
}

#[test]
fn events_of_several_workers_lose_nothing_in_any_order() {
    let recorder = Recorder::new(1 << 20, false);
    let outcome = CallOutcome { end: CallEnd::Failed(486), rang_s: 0, has_rung: false, talked_s: 0 };
    recorder.take(&[challenged("9001", "10.0.0.7:5060")], 1);
    recorder.inner().note(b"9001", 2, Note::new(What::CalledOthers(outcome)).with_text(b"9002"));
    recorder.take(&[refreshed("9001", 5)], 3);
    let life = recorder.life(b"9001").unwrap();
    let kinds: Vec<_> = life.notes().map(|note| note.what).collect();
    // The challenge was answered.
    assert_eq!(kinds, [What::CalledOthers(outcome), What::Refreshed { least_left_ms: 5, moves: 0 }]);
    assert_eq!(recorder.statistics()[1].1, 0, "no stranger is left");
}
