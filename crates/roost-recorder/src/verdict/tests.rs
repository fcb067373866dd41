use super::*;

use roost_core::{AorText, Asked, Ban, CallEnd, Event, Flow, Gone, PingsRecord, Reason};

use crate::note::{CallOutcome, Note, What};
use crate::{Language, Life, Recorder};

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
        more: Box::default(),
    };
    Event::Refused { asked, code: reason.code(), reason }
}

fn elsewhere() -> Namesake {
    let last = Note {
        last_ms: NOW - 4_000,
        ..Note::new(refusal(Reason::UnknownUser)).from("10.0.0.9:5061".parse().unwrap())
    };
    Namesake { name: "9001@other.test".to_string(), last }
}

fn facts() -> Facts<'static> {
    Facts {
        language: Language::English,
        aor: "9001",
        now_ms: NOW,
        started_ms: NOW - 3_600_000,
        exists: Some(true),
        contacts: &[],
        bans: &[],
        life: None,
        similar: &[],
        mistaken: &[],
        elsewhere: &[],
        nodes_down: &[],
        is_database_away: false,
        is_loading: false,
        natping_interval_s: 0,
        max_expires_s: 3_600,
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
            granted_s: Some(60),
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
            is_register: true,
        },
    )]);
    let stranded = [ContactRecord { is_stranded: true, ..contact() }];
    let (away, down) = (
        [ContactRecord { path: b"<sip:9001@10.0.0.5:5070;transport=tcp;lr>".to_vec(), ..contact() }],
        ["10.0.0.5:5070".to_string()],
    );
    let deaf = [ContactRecord { methods: 0, ..contact() }];
    let silent = [ContactRecord { pings: Some(PingsRecord { latency_ms: None, lost: 3 }), ..contact() }];
    let elsewhere = [elsewhere()];
    for (facts, word, part) in [
        (facts(), "never-seen", "No REGISTER of it has come since"),
        (Facts { exists: Some(false), ..facts() }, "unknown-user", "There is no such extension."),
        (
            Facts { exists: Some(false), similar: &other, ..facts() },
            "similar-name",
            "There is no such extension. Like it is 9002.",
        ),
        (Facts { exists: None, is_database_away: true, ..facts() }, "database-away", "The database is away"),
        (
            Facts { elsewhere: &elsewhere, ..facts() },
            "other-domain",
            "A phone at 10.0.0.9:5061 registers as 9001@other.test instead, 4 s ago",
        ),
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
        (
            Facts { contacts: &away, nodes_down: &down, ..facts() },
            "node-down",
            "the node that has its phone (10.0.0.5:5070) is down",
        ),
        (Facts { contacts: &away, ..facts() }, "fine", "Everything is right."),
        (Facts { contacts: &silent, ..facts() }, "pings-lost", "the last 3 pings"),
    ] {
        let found = verdict(&facts);
        assert_eq!(found.word, word, "{}", found.sentence);
        assert!(found.sentence.contains(part), "{}", found.sentence);
        assert!(found.word == "fine" || !found.remedy.is_empty(), "{word} has no remedy");
        assert!(crate::Explanation::of(word).is_some(), "{word} is no reason");
        is_the_same_in_chinese(&facts, &found);
    }
}

/// The same verdict in Chinese, and written as Chinese is.
fn is_the_same_in_chinese(facts: &Facts<'_>, english: &Verdict) {
    let chinese = verdict(&Facts { language: Language::Chinese, ..*facts });
    assert_eq!(
        (&chinese.word, chinese.is_online, chinese.remedy.len()),
        (&english.word, english.is_online, english.remedy.len())
    );
    assert!(chinese.sentence.ends_with('。') && !chinese.sentence.contains("。。"), "{}", chinese.sentence);
    for text in chinese.remedy.iter().chain([&chinese.sentence]) {
        // Its own punctuation has no blanks around it.
        for (at, sign) in text.char_indices().filter(|(_, sign)| "。；，：（）「」".contains(*sign)) {
            let (before, after) = (&text[..at], &text[at + sign.len_utf8()..]);
            assert!(!before.ends_with(' ') && !after.starts_with(' '), "a blank beside {sign}: {text}");
        }
        assert_eq!(english_words(text), Vec::<&str>::new(), "{text}");
    }
}

/// Words that are neither of a command nor of the field.
fn english_words(text: &str) -> Vec<&str> {
    const FIELD: [&str; 5] = ["ping", "nonce", "realm", "roost", "sip"];
    let plain = text.split('`').step_by(2);
    let runs = plain.flat_map(|part| part.split(|sign: char| !sign.is_ascii()));
    // A command goes on to the end of its run.
    let prose = runs.map(|run| run.split("roost ").next().unwrap_or_default());
    let words =
        prose.flat_map(str::split_whitespace).map(|word| word.trim_matches(|sign| ",;:()".contains(sign)));
    let is_english = |word: &&str| {
        word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase()) && !FIELD.contains(word)
    };
    words.filter(is_english).collect()
}

#[test]
fn one_that_was_removed_is_told_to_be_added_and_not_to_register_again() {
    let life = noted(&[(60_000, What::Registered, 7), (3_000, What::Gone(Gone::Removed), 7)]);
    let facts = Facts { exists: Some(false), life: Some(&life), ..facts() };
    let found = verdict(&facts);
    assert_eq!(
        (found.word.as_str(), found.remedy),
        ("unknown-user", vec!["roost user add 9001 …".to_string()])
    );
    is_the_same_in_chinese(&facts, &verdict(&facts));
}

#[test]
fn english_left_in_a_chinese_text_is_found() {
    assert_eq!(english_words("它的注册 5 s ago过期"), ["ago"]);
    assert!(english_words("执行 roost ul rm 9001 后，`registrar.max_contacts`，ping 与 CSeq").is_empty());
}

#[test]
fn what_a_stranger_calls_itself_is_one_word_of_a_command() {
    let life = noted(&[(3_000, refusal(Reason::UnknownUser), 9)]);
    let found = verdict(&Facts { aor: "x;reboot", exists: Some(false), life: Some(&life), ..facts() });
    assert!(found.sentence.starts_with("x;reboot is offline"), "{}", found.sentence);
    assert_eq!(found.remedy, ["roost user add 'x;reboot' …"]);
    let entry = crate::Explanation::of("unknown-user").expect("an entry");
    let names = crate::Names { extension: "-`x`", ..crate::Names::EXAMPLE };
    let [_, remedy, _] = entry.texts(Language::English, &names);
    assert!(remedy.contains("roost user add -- '-`x`' …"), "{remedy}");
    // Nor does one name stand within another's quotes.
    let names = crate::Names { extension: "{callee}", callee: "$(reboot)", ..crate::Names::EXAMPLE };
    let [_, remedy, _] = entry.texts(Language::English, &names);
    assert!(remedy.contains("roost user add '{callee}' …") && !remedy.contains("reboot"), "{remedy}");
}

/// Notes, and the word and a part of the sentence that they lead to.
type Case<'c> = (&'c [(u64, What, u8)], &'c str, &'c str);

/// What is remembered of 9001 after these notes, so many milliseconds before now, from this address where it has a last part.
fn noted(notes: &[(u64, What, u8)]) -> Life {
    let mut life = Life::default();
    for (before_ms, what, host) in notes {
        let source = (*host > 0).then(|| format!("10.0.0.{host}:5060").parse().unwrap());
        let at_ms = NOW - before_ms;
        let text = if what.is_call() { "9002" } else { "Yealink T21P" };
        life.add(Note {
            first_ms: at_ms,
            last_ms: at_ms,
            source,
            ..Note::new(*what).with_text(text.as_bytes())
        });
    }
    life
}

fn refusal(reason: Reason) -> What {
    What::Refused { code: reason.code(), reason, is_register: true }
}

#[test]
fn one_that_is_registered_and_yet_not_right_is_told() {
    let live = [contact()];
    let call = |code, has_rung| {
        What::WasCalled(CallOutcome { end: CallEnd::Failed(code), has_rung, rang_s: 2, talked_s: 0 })
    };
    let refreshed = What::Refreshed { least_left_ms: 5, moves: 0 };
    let (expired, replaced) = (What::Gone(Gone::Expired), What::Gone(Gone::Replaced));
    let fight = [
        (9_000, replaced, 7),
        (9_000, What::Registered, 8),
        (6_000, replaced, 8),
        (6_000, What::Registered, 7),
        (3_000, replaced, 7),
        (3_000, What::Registered, 8),
    ];
    let cases: [Case<'_>; 9] = [
        (
            &[(60_000, What::Registered, 7), (5_000, refusal(Reason::CseqOrder), 7)],
            "cseq-order",
            "but its last refresh, 5 s ago, was refused: ",
        ),
        (
            &[(60_000, What::Registered, 7), (5_000, What::NotStored, 0)],
            "not-stored",
            "it will be offline in 55 s.",
        ),
        (
            &[(60_000, What::Registered, 7), (5_000, refusal(Reason::Occupied), 9)],
            "occupied",
            "; another REGISTER of it, 5 s ago from 10.0.0.9:5060 (Yealink T21P), was refused: ",
        ),
        (&[(60_000, refusal(Reason::CseqOrder), 7), (5_000, refreshed, 7)], "fine", "Everything is right."),
        (
            &[(60_000, What::Registered, 7), (5_000, call(408, false), 0)],
            "no-response",
            "but the phone answered nothing at all when 9002 called it at ",
        ),
        (
            &[(60_000, What::Registered, 7), (9_000, call(408, false), 0), (5_000, refreshed, 7)],
            "fine",
            "right",
        ),
        (
            &[(60_000, What::Registered, 7), (5_000, What::FlowLost, 0)],
            "flow-lost",
            "its connection ended 5 s ago",
        ),
        (
            &[(60_000, What::Registered, 7), (9_000, expired, 7), (6_000, What::Registered, 7)],
            "refreshes-late",
            "it was offline for up to 3 s, before it came again",
        ),
        (&fight, "two-phones", "have replaced one another 3 times"),
    ];
    for (notes, word, part) in cases {
        let life = noted(notes);
        let facts = Facts { contacts: &live, life: Some(&life), ..facts() };
        let found = verdict(&facts);
        is_the_same_in_chinese(&facts, &found);
        assert!(found.word == word && found.sentence.contains(part), "{} {}", found.word, found.sentence);
        assert!(found.is_online && (word == "fine") == found.remedy.is_empty(), "{:?}", found.remedy);
        assert!(crate::Explanation::of(word).is_some(), "{word} is no reason");
    }
    // The same phone at another address: it keeps its Call-ID.
    let mut moved = noted(&[(60_000, What::Registered, 7)]);
    let note = Note::new(refusal(Reason::Occupied)).with_call_id(b"c");
    moved.add(Note { source: Some("10.0.0.9:5060".parse().unwrap()), first_ms: NOW, last_ms: NOW, ..note });
    let found = verdict(&Facts { contacts: &live, life: Some(&moved), ..facts() });
    assert!(
        found.sentence.contains("the same phone (it keeps its Call-ID) has moved to 10.0.0.9:5060"),
        "{}",
        found.sentence
    );
}

#[test]
fn one_that_is_offline_is_told_what_came_last() {
    let expired = What::Gone(Gone::Expired);
    let elsewhere = [elsewhere()];
    let mistaken = ["9010".to_string()];
    let cases: [Case<'_>; 8] = [
        (
            &[(60_000, What::Registered, 7), (2_000, expired, 7)],
            "expired",
            "the phone at 10.0.0.7:5060 (Yealink T21P) did not refresh it; it was heard of last 60 s ago.",
        ),
        (
            &[(60_000, What::Registered, 7), (9_000, refusal(Reason::CseqOrder), 7), (2_000, expired, 7)],
            "cseq-order",
            "ended 2 s ago, because its refresh at ",
        ),
        (
            &[(60_000, What::Registered, 7), (9_000, refusal(Reason::Occupied), 9), (2_000, expired, 7)],
            "occupied",
            "a REGISTER from 10.0.0.9:5060 (Yealink T21P) at ",
        ),
        (
            &[
                (9_000, What::Registered, 7),
                (2_000, What::PingsLost(3), 0),
                (2_000, What::Gone(Gone::PingsLost), 7),
            ],
            "pings-lost",
            "did not answer 3 pings, and its registration was removed",
        ),
        (&[(2_000, What::Gone(Gone::Removed), 7)], "removed", "by an operator or a program"),
        (&[(2_000, What::Gone(Gone::Unregistered), 7)], "unregistered", "has unregistered 2 s ago"),
        (
            &[(2_000, What::Challenged { reason: Reason::NonceExpired, is_register: true }, 7)],
            "nonce-expired",
            "was answered 401 again: ",
        ),
        (
            &[
                (9_000, refusal(Reason::WrongPassword), 7),
                (8_000, What::Challenged { reason: Reason::NoCredentials, is_register: true }, 7),
                (7_000, refusal(Reason::WrongPassword), 7),
                (6_000, What::Banned { seconds: 60 }, 7),
                (5_000, refusal(Reason::BannedPair), 7),
            ],
            "banned-pair",
            "; 3 tries since ",
        ),
    ];
    for (notes, word, part) in cases {
        let life = noted(notes);
        let found = verdict(&Facts { life: Some(&life), ..facts() });
        assert!(found.word == word && found.sentence.contains(part), "{} {}", found.word, found.sentence);
        assert!(!found.is_online && !found.remedy.is_empty(), "{word}");
        assert!(crate::Explanation::of(word).is_some(), "{word} is no reason");
    }
    let gone = noted(&[(2_000, What::Gone(Gone::Unregistered), 7)]);
    let found = verdict(&Facts { life: Some(&gone), elsewhere: &elsewhere, ..facts() });
    assert!(found.word == "other-domain" && found.sentence.contains("9001@other.test"), "{}", found.sentence);
    let found = verdict(&Facts { mistaken: &mistaken, ..facts() });
    assert!(found.sentence.contains("a phone registers as 9010, which does not exist"), "{}", found.sentence);
    // It never rang: what the caller waited is no ringing.
    let silent = CallOutcome { end: CallEnd::Failed(408), has_rung: false, rang_s: 2, talked_s: 0 };
    assert_eq!(
        (crate::call_words(Language::English, &silent).as_str(), crate::call_word(&silent)),
        ("never rang in 2 s, no answer (408)", Some("no-response"))
    );
    let rang = CallOutcome { has_rung: true, ..silent };
    assert_eq!(
        (crate::call_words(Language::English, &rang).as_str(), crate::call_word(&rang)),
        ("rang 2 s, no answer (408)", Some("rang-out"))
    );
}

#[test]
fn what_hides_a_cause_does_not_hide_it() {
    let live = [contact()];
    let (expired, replaced) = (What::Gone(Gone::Expired), What::Gone(Gone::Replaced));
    let unregistered = What::Gone(Gone::Unregistered);
    let cseq = refusal(Reason::CseqOrder);
    let occupied = refusal(Reason::Occupied);
    let asked_for_a_call = What::Challenged { reason: Reason::NoCredentials, is_register: false };
    let silent =
        What::WasCalled(CallOutcome { end: CallEnd::Failed(408), has_rung: false, rang_s: 2, talked_s: 0 });
    let refreshed = |moves| What::Refreshed { least_left_ms: 20_000, moves };
    let registered = What::Registered;
    let cases: [(bool, Case<'_>); 12] = [
        // A phone that is refused until its registration has ended, and registers anew then: that is not late.
        (
            true,
            (
                &[(90_000, registered, 7), (60_000, cseq, 7), (30_000, expired, 7), (28_000, registered, 7)],
                "cseq-order",
                "its refreshes are refused, the last one at ",
            ),
        ),
        // The same while it is away.
        (
            false,
            (
                &[
                    (90_000, registered, 7),
                    (60_000, cseq, 7),
                    (30_000, expired, 7),
                    (28_000, registered, 7),
                    (20_000, cseq, 7),
                    (2_000, expired, 7),
                ],
                "cseq-order",
                "because its refresh at ",
            ),
        ),
        // A wrong password that was mended is no trouble any more.
        (
            true,
            (
                &[
                    (90_000, registered, 7),
                    (60_000, expired, 7),
                    (50_000, refusal(Reason::WrongPassword), 7),
                    (28_000, registered, 7),
                ],
                "fine",
                "Everything is right.",
            ),
        ),
        // A late phone, asked while it is away.
        (
            false,
            (
                &[
                    (90_000, registered, 7),
                    (60_000, expired, 7),
                    (57_000, registered, 7),
                    (30_000, expired, 7),
                    (27_000, registered, 7),
                    (1_000, expired, 7),
                ],
                "refreshes-late",
                " its registration had ended, and it was offline for up to 3 s, before it came again",
            ),
        ),
        // A refused phone that dials.
        (
            false,
            (
                &[(9_000, refusal(Reason::WrongPassword), 7), (5_000, asked_for_a_call, 7)],
                "wrong-password",
                "was refused: wrong password",
            ),
        ),
        // Two phones that have the place in turn.
        (
            true,
            (
                &[
                    (90_000, registered, 7),
                    (80_000, occupied, 8),
                    (70_000, unregistered, 7),
                    (60_000, registered, 8),
                    (50_000, occupied, 7),
                    (40_000, unregistered, 8),
                    (30_000, registered, 7),
                    (20_000, occupied, 8),
                ],
                "two-phones",
                "phones at 10.0.0.8:5060 (Yealink T21P) and 10.0.0.7:5060 (Yealink T21P) are refused as Occupied in turn, 3 times in the last ten minutes: two phones use it.",
            ),
        ),
        // The same, when both are gone.
        (
            false,
            (
                &[
                    (90_000, registered, 7),
                    (80_000, occupied, 8),
                    (70_000, occupied, 8),
                    (65_000, occupied, 8),
                    (20_000, unregistered, 7),
                ],
                "two-phones",
                "has unregistered 20 s ago. Before, another phone at 10.0.0.8:5060 (Yealink T21P) was refused",
            ),
        ),
        // A router that forgets the way to a phone between two refreshes.
        (
            true,
            (
                &[(90_000, registered, 7), (20_000, silent, 0), (5_000, refreshed(3), 7)],
                "no-response",
                "its refreshes come from one port after another",
            ),
        ),
        (
            true,
            (
                &[(90_000, registered, 7), (20_000, silent, 0), (5_000, refreshed(0), 7)],
                "fine",
                "Everything is right.",
            ),
        ),
        // One that was refused before its end was heard of until then.
        (
            false,
            (
                &[(90_000, registered, 7), (5_000, occupied, 7), (2_000, expired, 7)],
                "occupied",
                "it was heard of last 5 s ago",
            ),
        ),
        // Of a phone that its pings lost nobody says that a person removed it.
        (
            false,
            (
                &[
                    (90_000, registered, 7),
                    (2_000, What::PingsLost(3), 0),
                    (2_000, What::Gone(Gone::PingsLost), 7),
                ],
                "pings-lost",
                "did not answer 3 pings",
            ),
        ),
        // So many that they do not fit one by one.
        (
            true,
            (
                &[
                    (99_000, replaced, 7),
                    (98_000, registered, 8),
                    (89_000, replaced, 8),
                    (88_000, registered, 7),
                    (79_000, replaced, 7),
                    (78_000, registered, 8),
                    (69_000, replaced, 8),
                    (68_000, registered, 7),
                    (59_000, replaced, 7),
                    (58_000, registered, 8),
                    (49_000, replaced, 8),
                    (48_000, registered, 7),
                    (39_000, replaced, 7),
                    (38_000, registered, 8),
                    (29_000, replaced, 8),
                    (28_000, registered, 7),
                    (19_000, replaced, 7),
                    (18_000, registered, 8),
                    (9_000, replaced, 8),
                    (8_000, registered, 7),
                ],
                "two-phones",
                "have replaced one another 10 times",
            ),
        ),
    ];
    for (is_online, (notes, word, part)) in cases {
        let life = noted(notes);
        let contacts: &[_] = if is_online { &live } else { &[] };
        let found = verdict(&Facts { contacts, life: Some(&life), ..facts() });
        assert!(found.word == word && found.sentence.contains(part), "{} {}", found.word, found.sentence);
        assert_eq!(found.is_online, is_online, "{}", found.sentence);
        assert!((word == "fine") == found.remedy.is_empty(), "{:?}", found.remedy);
        let frees = found.remedy.iter().find(|text| text.contains("roost ul rm"));
        assert!(is_online || frees.is_none(), "there is nothing to remove: {frees:?}");
    }
}

#[test]
fn advice_fits_the_configuration_and_what_exists() {
    let silent = [ContactRecord { pings: Some(PingsRecord { latency_ms: None, lost: 3 }), ..contact() }];
    for (natping_interval_s, part) in
        [(0, "`nathelper.natping_interval = 30`"), (2, "each 2 s already"), (90, "is 90: 30 keeps")]
    {
        let found = verdict(&Facts { contacts: &silent, natping_interval_s, ..facts() });
        assert!(found.remedy[0].contains(part), "{:?}", found.remedy);
    }
    // A name that nobody has needs no password.
    let banned = noted(&[(9_000, refusal(Reason::UnknownUser), 7), (5_000, refusal(Reason::BannedPair), 7)]);
    let found = verdict(&Facts { exists: Some(false), life: Some(&banned), ..facts() });
    assert!(found.sentence.ends_with("There is no such extension."), "{}", found.sentence);
    assert!(found.remedy.iter().all(|text| !text.contains("passwd")), "{:?}", found.remedy);
    assert!(banned.is_of_unknown_name(), "a ban does not hide it");
    // A phone that comes again and again, as if it got no answer.
    let mut life = noted(&[(40_000, What::Registered, 7)]);
    for before_ms in [36_000, 32_000, 28_000, 24_000, 20_000] {
        life.add(Note {
            first_ms: NOW - before_ms,
            last_ms: NOW - before_ms,
            source: Some("10.0.0.7:5060".parse().unwrap()),
            ..Note::new(What::Refreshed { least_left_ms: 3_590_000, moves: 0 })
        });
    }
    let found = verdict(&Facts { contacts: &[contact()], life: Some(&life), ..facts() });
    assert!(found.word == "refreshes-often", "{}", found.sentence);
    assert!(
        found.sentence.contains("it refreshes each 4 s, though it is granted 59 min"),
        "{}",
        found.sentence
    );
}
