//! How many calls each extension of one shard has: what it is doing, by Asterisk's names, and whether it may have another.

use hashbrown::HashMap;

use crate::base::hash::KeyedState;
use crate::contract::call::{AgentCalls, AgentStep, AorText};

/// The extensions of one shard that have calls.
#[derive(Debug)]
pub(crate) struct Agents {
    calls: HashMap<AorText, AgentCalls, KeyedState>,
}

impl Agents {
    pub(crate) fn new(hash_seed: u64) -> Agents {
        Agents { calls: HashMap::with_hasher(KeyedState::new(hash_seed)) }
    }

    /// What is known of these extensions.
    pub(crate) fn excerpt(&self, hash_seed: u64, aors: &[Vec<u8>]) -> Agents {
        let mut excerpt = Agents::new(hash_seed);
        for aor in aors {
            if let Some(calls) = self.calls.get(aor.as_slice()) {
                excerpt.calls.insert(aor.as_slice().into(), *calls);
            }
        }
        excerpt
    }

    /// The calls of an extension.
    pub(crate) fn of(&self, aor: &[u8]) -> AgentCalls {
        self.calls.get(aor).copied().unwrap_or_default()
    }

    /// How many extensions have any.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// All that have any.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], AgentCalls)> {
        self.calls.iter().map(|(aor, calls)| (aor.as_slice(), *calls))
    }

    /// A call of an extension has come so far.
    pub(crate) fn take(&mut self, aor: &[u8], step: AgentStep) {
        let calls = match self.calls.get_mut(aor) {
            Some(calls) => calls,
            None => self.calls.entry(aor.into()).or_default(),
        };
        match step {
            AgentStep::Rings => calls.ringing += 1,
            AgentStep::Calls => calls.in_use += 1,
            AgentStep::Answers => {
                calls.ringing = calls.ringing.saturating_sub(1);
                calls.in_use += 1;
            }
            AgentStep::RingsNoMore => calls.ringing = calls.ringing.saturating_sub(1),
            AgentStep::HangsUp => calls.in_use = calls.in_use.saturating_sub(1),
        }
        if *calls == AgentCalls::default() {
            self.calls.remove(aor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_who_has_no_call() {
        let mut agents = Agents::new(7);
        for (step, ringing, in_use) in [
            (AgentStep::Rings, 1, 0),
            (AgentStep::Rings, 2, 0),
            (AgentStep::Answers, 1, 1),
            (AgentStep::RingsNoMore, 0, 1),
            (AgentStep::Calls, 0, 2),
            (AgentStep::HangsUp, 0, 1),
            (AgentStep::HangsUp, 0, 0),
        ] {
            agents.take(b"9001", step);
            assert_eq!(agents.of(b"9001"), AgentCalls { ringing, in_use }, "{step:?}");
        }
        assert_eq!(agents.iter().count(), 0);
    }
}
