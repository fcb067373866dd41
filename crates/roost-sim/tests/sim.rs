//! The simulated world: promises hold, one seed gives one trace, and the checks can fail.

use std::path::Path;

use roost_sim::shortest::shortest;
use roost_sim::world::{Options, run};

#[test]
fn forty_worlds_break_no_promise() {
    for seed in 0..40 {
        if let Err(failure) = run(seed, Options::default()) {
            panic!("seed {seed}: {failure}\nreplay it: cargo xtask sim --seed {seed}");
        }
    }
}

#[test]
fn one_seed_gives_one_trace() {
    let report = |seed| run(seed, Options::default());
    assert_eq!(report(1), report(1));
    let hashes: Vec<_> = (1..5).map(|seed| report(seed).map(|report| report.trace_hash)).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]), "{hashes:?}");
}

/// Listening changes nothing that is sent, and what is told is so.
#[test]
fn events_are_told_in_order_and_change_nothing() {
    for seed in 0..10 {
        let silent = run(seed, Options::default()).expect("no promise is broken");
        let told = run(seed, Options { listens: true, ..Options::default() }).expect("what is told is so");
        assert!(told.told > 0, "seed {seed}");
        assert_eq!(told.trace_hash, silent.trace_hash, "seed {seed}");
    }
}

/// What `roost try` says is what happens, and asking changes nothing.
#[test]
fn requests_go_as_their_preview_said_and_nothing_changes() {
    let mut previewed = 0;
    for seed in 0..10 {
        let plain = run(seed, Options::default()).expect("no promise is broken");
        let asked = run(seed, Options { previews: true, ..Options::default() });
        let asked = asked.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert_eq!(asked.trace_hash, plain.trace_hash, "seed {seed}");
        previewed += asked.previewed;
    }
    assert!(previewed >= 1_000, "{previewed}");
}

/// Of forty worlds that are broken on purpose so many show it (others have no such call, or no such row), and to the check
/// that is there for it.
fn is_found(options: Options, words: &str, at_least: usize) {
    let found: Vec<_> = (0..40).filter_map(|seed| run(seed, options).err()).collect();
    assert!(found.len() >= at_least, "{found:?}");
    for failure in &found {
        assert!(failure.what.contains(words), "{failure}");
    }
}

/// A database that acknowledges and writes nothing: the first 200 is a lie, found at once.
#[test]
fn a_200_without_a_durable_row_is_found() {
    is_found(Options { store_lies: true, ..Options::default() }, "no durable row", 30);
}

/// Phones that do not know CANCEL ring on.
#[test]
fn a_cancelled_phone_that_rings_on_is_found() {
    is_found(Options { ignores_cancel: true, ..Options::default() }, "still rings", 8);
}

/// A 2xx that does not go on to its caller is found at once.
#[test]
fn a_2xx_that_is_not_forwarded_is_found() {
    is_found(Options { swallows_answers: true, ..Options::default() }, "is not forwarded", 25);
}

/// A server that forgets its calls when it starts again is found.
#[test]
fn calls_that_a_restart_forgets_are_found() {
    is_found(Options { forgets_calls: true, ..Options::default() }, "calls", 5);
}

/// A server that lets anybody call is found.
#[test]
fn a_call_of_somebody_who_is_not_registered_is_found() {
    is_found(Options { lets_anybody_call: true, ..Options::default() }, "not registered where", 8);
}

/// A registrar that follows other rules than the model's is found.
#[test]
fn a_registrar_that_the_model_contradicts_is_found() {
    is_found(Options { model_has_more_room: true, ..Options::default() }, "the model", 25);
}

/// What a failure does not need is left out.
#[test]
fn a_failure_is_made_short() {
    let lying = Options { store_lies: true, ..Options::default() };
    let short = shortest(3, lying).expect("a lie is found");
    assert!(short.failure.what.contains("no durable row"), "{}", short.failure);
    assert!(short.needed.len() <= 2 && short.without.len() > 20, "{:?}", short.needed);
}

/// What the engines send in these worlds, and when, does not change unless a commit says why. With `ROOST_WRITE_TRACES` set
/// the file is written anew.
#[test]
fn traces_are_as_they_were() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces.txt");
    let noted = std::fs::read_to_string(&file).expect("tests/traces.txt");
    let mut lines = Vec::new();
    for line in noted.lines() {
        let seed = line.split(' ').next().and_then(|seed| seed.parse().ok());
        lines.push(match seed {
            Some(seed) => {
                let report = run(seed, Options::default()).expect("a world that breaks no promise");
                format!("{seed} {:016x} {:016x}", report.trace_hash, report.masked_hash)
            }
            None => line.to_string(),
        });
    }
    let found = lines.join("\n") + "\n";
    if std::env::var_os("ROOST_WRITE_TRACES").is_some() {
        std::fs::write(&file, found).expect("tests/traces.txt can be written");
    } else {
        assert_eq!(found, noted, "what is sent has changed (left: as it is, right: tests/traces.txt)");
    }
}
