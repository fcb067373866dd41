use super::*;

use roost_core::{AorText, Asked, Event, Flow, PingsRecord};

use crate::Recorder;

const NOW: u64 = 1_800_000_000_000;

fn contact() -> ContactRecord {
    ContactRecord {
        contact: (*b"sip:9001@10.0.0.7:5060").into(),
        contact_id: 1,
        expires: ShownExpires::Seconds(55),
        q: None,
        callid: (*b"c").into(),
        cseq: 1,
        user_agent: (*b"Yealink T21P").into(),
        received: None,
        path: Vec::new(),
        is_stranded: false,
        is_synced: true,
        socket: None,
        methods: roost_sip::ALL_METHODS,
        sip_instance: Vec::new(),
        pings: None,
    }
}

fn refused(source: &str, reason: Reason) -> Event {
    let flow = Flow::udp("10.0.0.1:5060".parse().unwrap(), source.parse().unwrap());
    let asked = Asked {
        method: (*b"REGISTER").into(),
        user: (*b"9001").into(),
        host: (*b"pbx").into(),
        flow,
        user_agent: (*b"Zoiper").into(),
    };
    Event::Refused { asked, code: reason.code(), reason }
}

fn facts() -> Facts<'static> {
    Facts {
        aor: "9001",
        now_ms: NOW,
        started_ms: NOW - 3_600_000,
        exists: Some(true),
        contacts: &[],
        bans: &[],
        life: None,
        similar: &[],
        elsewhere: &[],
        is_database_away: false,
        is_loading: false,
    }
}

/// What is remembered of 9001 after these events, so many milliseconds before now.
fn life(events: &[(u64, Event)]) -> Life {
    let recorder = Recorder::new(1 << 20, false);
    for (before_ms, event) in events {
        recorder.take([event], NOW - before_ms);
    }
    recorder.life(b"9001").unwrap_or_default()
}

#[test]
fn a_wrong_password_is_said_with_its_tries_and_the_ban() {
    let events: Vec<_> =
        (0..14).map(|n| (30_000 - n * 2_000, refused("10.0.0.9:5061", Reason::WrongPassword))).collect();
    let life = life(&events);
    let ban = Ban {
        source: Some("10.0.0.9".parse().unwrap()),
        user: Box::default(),
        left_s: 300,
        is_manual: false,
    };
    let found = verdict(&Facts { life: Some(&life), bans: &[ban], ..facts() });
    assert_eq!((found.word.as_str(), found.is_online), ("wrong-password", false));
    for part in [
        "9001 is offline. Its last REGISTER, 4 s ago from 10.0.0.9:5061 (Zoiper), was refused: wrong password; 14 tries since ",
        ", the address is banned until ",
    ] {
        assert!(found.sentence.contains(part), "{}", found.sentence);
    }
    assert_eq!(found.remedy[1], "roost ban rm 10.0.0.9");
}

#[test]
fn each_state_has_its_verdict() {
    let (live, other) = ([contact()], ["9002".to_string()]);
    let gone = life(&[(50, Event::FlowLost { aor: (*b"9001").into(), contact_id: 1 })]);
    let occupied = life(&[
        (9_000, refused("10.0.0.9:5061", Reason::Occupied)),
        (6_000, refused("10.0.0.9:5061", Reason::Occupied)),
        (3_000, refused("10.0.0.9:5061", Reason::Occupied)),
    ]);
    let late = life(&[(
        5_000,
        Event::Refreshed {
            aor: AorText::from_slice(b"9001"),
            source: None,
            left_ms: Some(-5_000),
            agent: AorText::new(),
        },
    )]);
    let asked = life(&[(
        5_000,
        Event::Challenged {
            user: AorText::from_slice(b"9001"),
            host: AorText::new(),
            source: "10.0.0.9:5061".parse().unwrap(),
            reason: Reason::NoCredentials,
        },
    )]);
    let stranded = [ContactRecord { is_stranded: true, ..contact() }];
    let deaf = [ContactRecord { methods: 0, ..contact() }];
    let silent = [ContactRecord { pings: Some(PingsRecord { latency_ms: None, lost: 3 }), ..contact() }];
    let elsewhere = ["9001@other.test".to_string()];
    for (facts, word, part) in [
        (facts(), "never-seen", "No REGISTER of it has come since"),
        (Facts { exists: Some(false), ..facts() }, "unknown-user", "There is no such extension."),
        (
            Facts { exists: Some(false), similar: &other, ..facts() },
            "similar-name",
            "There is one like it: 9002.",
        ),
        (Facts { exists: None, is_database_away: true, ..facts() }, "database-away", "The database is away"),
        (Facts { elsewhere: &elsewhere, ..facts() }, "other-domain", "registers as 9001@other.test"),
        (Facts { life: Some(&gone), ..facts() }, "flow-lost", "The connection of its phone ended 0 s ago."),
        (Facts { contacts: &stranded, ..facts() }, "flow-lost", "only the phone can make it again"),
        (
            Facts { life: Some(&asked), ..facts() },
            "no-credentials",
            "asked for its password 5 s ago at 10.0.0.9:5061",
        ),
        (Facts { contacts: &live, ..facts() }, "fine", "Everything is right."),
        (
            Facts { contacts: &live, life: Some(&occupied), ..facts() },
            "two-phones",
            "3 times in the last ten minutes",
        ),
        (Facts { contacts: &live, life: Some(&late), ..facts() }, "refreshes-late", "over for 5 s already"),
        (Facts { contacts: &deaf, ..facts() }, "method-mask", "takes no INVITE"),
        (Facts { contacts: &silent, ..facts() }, "pings-lost", "the last 3 pings"),
    ] {
        let found = verdict(&facts);
        assert_eq!(found.word, word, "{}", found.sentence);
        assert!(found.sentence.contains(part), "{}", found.sentence);
        assert!(found.word == "fine" || !found.remedy.is_empty(), "{word} has no remedy");
        assert!(crate::Explanation::of(word).is_some(), "{word} is no reason");
    }
}
