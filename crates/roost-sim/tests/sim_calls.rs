//! The simulated world of calls: promises hold, one seed gives one trace, and the checks can fail.

use roost_sim::call_world::{CallOptions, run};

#[test]
fn twenty_worlds_of_calls_break_no_promise() {
    for seed in 0..20 {
        if let Err(failure) = run(seed, CallOptions::default()) {
            panic!("seed {seed}: {failure}\nreplay it: cargo run --release -p roost-sim -- --seed {seed}");
        }
    }
}

#[test]
fn one_seed_gives_one_trace_of_calls() {
    let report = |seed| run(seed, CallOptions::default());
    assert_eq!(report(1), report(1));
    let hashes: Vec<_> = (1..5).map(|seed| report(seed).map(|report| report.trace_hash)).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]), "{hashes:?}");
}

/// Phones that do not know CANCEL ring on, and no check may pass that by.
#[test]
fn a_cancelled_phone_that_rings_on_is_found() {
    let deaf = CallOptions { ignores_cancel: true, ..CallOptions::default() };
    let found: Vec<_> = (0..20).filter_map(|seed| run(seed, deaf).err()).collect();
    assert!(found.len() > 10, "{found:?}");
    for failure in &found {
        assert!(failure.what.contains("still rings"), "{failure}");
    }
}

/// A 2xx that does not go on to its caller is found at once.
#[test]
fn a_2xx_that_is_not_forwarded_is_found() {
    let mute = CallOptions { swallows_answers: true, ..CallOptions::default() };
    let found: Vec<_> = (0..20).filter_map(|seed| run(seed, mute).err()).collect();
    assert!(found.len() > 10, "{found:?}");
    for failure in &found {
        assert!(failure.what.contains("is not forwarded"), "{failure}");
    }
}
