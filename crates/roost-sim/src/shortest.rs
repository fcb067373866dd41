//! The shortest way to a failure: what its world can do without is left out, as long as it still fails like that.

use crate::dice::Dice;
use crate::scenario::{Part, Scenario};
use crate::world::{Failure, Options, run_without};

/// Worlds that are played at most.
const MAX_TRIES: usize = 500;

/// A failure that needs little.
#[derive(Debug)]
pub struct Shortest {
    pub failure: Failure,
    /// What is left out of the seed's scenario.
    pub without: Vec<Part>,
    /// What must stay.
    pub needed: Vec<Part>,
}

/// Leaves out as much as it can of the world of a seed that fails; `None` when it does not fail.
pub fn shortest(seed: u64, options: Options) -> Option<Shortest> {
    let options = Options { trace: false, ..options };
    let mut failure = run_without(seed, options, &[]).err()?;
    let mut needed = Scenario::draw(&mut Dice::new(seed)).parts();
    let mut without: Vec<Part> = Vec::new();
    let (mut tries, mut size) = (0, needed.len().div_ceil(2));
    while size > 0 {
        let (mut at, before) = (0, needed.len());
        while at < needed.len() && tries < MAX_TRIES {
            let end = (at + size).min(needed.len());
            let fewer = [&without[..], &needed[at..end]].concat();
            tries += 1;
            match run_without(seed, options, &fewer).err().filter(|other| is_same(&failure, other)) {
                Some(other) => {
                    failure = other;
                    without = fewer;
                    needed.drain(at..end);
                }
                None => at = end,
            }
        }
        // With single parts until none can go.
        let is_done = size == 1 && needed.len() == before;
        size = if size == 1 && !is_done && tries < MAX_TRIES { 1 } else { size / 2 };
    }
    Some(Shortest { failure, without, needed })
}

/// Whether the same promise is broken: the sentences are alike but for numbers and names.
fn is_same(one: &Failure, other: &Failure) -> bool {
    let words = |failure: &Failure| -> Vec<String> {
        let is_plain =
            |word: &&str| !word.contains(|letter: char| letter.is_ascii_digit() || "@\"".contains(letter));
        failure.what.split_whitespace().filter(is_plain).take(6).map(str::to_string).collect()
    };
    words(one) == words(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_told_apart() {
        let same = |one: &str, other: &str| {
            let failure = |what: &str| Failure { at_ms: 0, what: what.to_string() };
            is_same(&failure(one), &failure(other))
        };
        assert!(same(
            "10.1.0.5:5060 still rings, after 3 CANCELs",
            "10.1.0.9:5061 still rings, after 11 CANCELs"
        ));
        assert!(!same(
            "10.1.0.5:5060 still rings, after 3 CANCELs",
            "3 datagrams, at most 2 were due, for x"
        ));
        assert!(!same("a 200 lists sip:a@b of 1001", "a 200 for CSeq 7, but the durable row is older"));
        assert!(!same("call-7 still waits; 1 was sent", "call-9 has no final response (x)"));
    }
}
