//! Several nodes that share bindings: every promise holds in any world, and a store that breaks them is found out.

use roost_sim::nodes::{Options, run};

#[test]
fn nodes_keep_their_promises_whatever_fails() {
    let mut all = [0; 7];
    for seed in 0..100 {
        let report = run(seed, Options::default()).unwrap_or_else(|broken| panic!("{broken}"));
        let figures = [
            report.accepted,
            report.conflicts,
            report.crashes + report.freezes + report.cuts,
            report.lost_answers,
            report.failovers,
            report.across,
            report.partitions,
        ];
        all.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
    }
    let [accepted, conflicts, faults, lost, failovers, across, partitions] = all;
    assert!(accepted > 4_000 && conflicts > 100 && faults > 1_000 && lost > 50 && failovers > 100, "{all:?}");
    assert!(across > 2_000 && partitions > 200, "{all:?}");
}

#[test]
fn a_store_in_which_the_last_writer_wins_is_found_out() {
    let options = Options { last_writer_wins: true, ..Options::default() };
    let found = (0..1_000).find_map(|seed| run(seed, options).err());
    let broken = found.expect("two places, or two contacts, within 1,000 seeds");
    assert!(broken.contains("is accepted from") || broken.contains("contacts"), "{broken}");
}

#[test]
fn a_version_that_was_lost_with_a_primary_and_is_given_again_is_found_out() {
    let options = Options { versions_again: true, ..Options::default() };
    let found = (0..5_000).find_map(|seed| run(seed, options).err());
    assert!(found.is_some(), "a change on a record that nobody has, within 5,000 seeds");
}

#[test]
fn a_seed_is_always_the_same_world() {
    assert_eq!(run(7, Options::default()), run(7, Options::default()));
}
