//! The simulated world: promises hold, one seed gives one trace, and the checks can fail.

use roost_sim::world::{Options, run};

#[test]
fn twenty_worlds_break_no_promise() {
    for seed in 0..20 {
        if let Err(failure) = run(seed, Options::default()) {
            panic!("seed {seed}: {failure}\nreplay it: cargo run --release -p roost-sim -- --seed {seed}");
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

/// A database that acknowledges and writes nothing: the first 200 is a lie, and no world may pass it by.
#[test]
fn a_200_without_a_durable_row_is_found() {
    let lying = Options { store_lies: true, ..Options::default() };
    let found: Vec<_> = (0..20).filter_map(|seed| run(seed, lying).err()).collect();
    assert!(found.len() > 10, "{found:?}");
    for failure in &found {
        assert!(failure.what.contains("no durable row"), "{failure}");
    }
}
