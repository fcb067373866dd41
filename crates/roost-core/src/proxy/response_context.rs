//! A request's response context (RFC 3261 16.7): its branches, what is left to try, and the best answer so far.

use std::collections::VecDeque;

use smallvec::SmallVec;

use serde::{Deserialize, Serialize};

use crate::contract::call::CallNumber;
use crate::contract::next_hops::HopId;
use crate::contract::rule::Failure;
use crate::proxy::edits::Begun;
use crate::proxy::target::Target;
use crate::transaction::arena::Stored;

/// What belongs to one forwarded request.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ResponseContext {
    /// One for each client transaction, in their order.
    branches: SmallVec<[Branch; 1]>,
    /// Groups of targets to try when the ones before have failed (`proxy.serial_fork`).
    later: VecDeque<Vec<Target<Stored>>>,
    best: Option<Best>,
    is_cancelled: bool,
    begun: Begun,
    /// Branches that wait for a name.
    #[serde(skip)]
    resolving: u16,
    /// How long a callee rings, in seconds; 0: `tm.fr_inv_timeout`.
    ring_s: u32,
    /// Whether it is a call for an extension that has not been diverted.
    may_be_diverted: bool,
}

/// What one branch has besides its client transaction.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Branch {
    /// The next hop that it went to, where it is one.
    #[serde(skip)]
    pub(crate) hop: Option<HopId>,
    /// What is tried when this one fails, the next one last; mostly empty.
    pub(crate) rest: Vec<Target<Stored>>,
}

/// The best failure so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Best {
    pub(crate) code: u16,
    /// The response without our Via; none where it is our own.
    pub(crate) response: Option<Stored>,
    /// The challenges of all other branches, as header lines.
    pub(crate) challenges: Stored,
}

/// What is to be done with a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is the best so far: its response is kept.
    Better,
    /// A better one is kept, but the caller should see this one's challenges too.
    AddChallenges(Best),
    Worse,
}

impl ResponseContext {
    /// Of a request that begins a dialog.
    pub(crate) fn of(begun: Begun) -> ResponseContext {
        ResponseContext { begun, ..ResponseContext::default() }
    }

    /// Who has begun it, and which call it is.
    pub(crate) fn begun(&self) -> Begun {
        self.begun
    }

    /// It is this call.
    pub(crate) fn set_call(&mut self, call: Option<CallNumber>) {
        self.begun.call = call;
    }

    /// It is a call for an extension, which rings so long: it may be diverted, once.
    pub(crate) fn may_be_diverted(&mut self, ring_s: u32) {
        (self.may_be_diverted, self.ring_s) = (true, ring_s);
    }

    /// Why it has not reached its extension, if it may be diverted. It may not be again.
    pub(crate) fn take_failure(&mut self) -> Option<Failure> {
        let best = self.best.filter(|_| self.may_be_diverted && !self.is_cancelled)?;
        let failure = match best.response {
            Some(_) => Failure::of_code(best.code),
            None => Failure::of_own_code(best.code),
        };
        (self.may_be_diverted, self.ring_s) = (false, 0);
        failure
    }

    /// How long a callee rings, in seconds; 0: `tm.fr_inv_timeout`.
    pub(crate) fn ring_s(&self) -> u32 {
        self.ring_s
    }

    /// A client transaction was started.
    pub(crate) fn add_branch(&mut self, hop: Option<HopId>, rest: Vec<Target<Stored>>) {
        self.branches.push(Branch { hop, rest });
    }

    /// The hop that a branch went to.
    pub(crate) fn hop_of(&self, index: u16) -> Option<HopId> {
        self.branches.get(usize::from(index))?.hop
    }

    /// Takes what a failed branch leaves to try: other addresses of the same target after silence or a 503 (RFC 3263
    /// 4.3), other hops after any 5xx, nothing after an answer that another hop would give too.
    pub(crate) fn left_to_try(
        &mut self,
        index: u16,
        code: Option<u16>,
        has_rung: bool,
    ) -> Vec<Target<Stored>> {
        let Some(branch) = self.branches.get_mut(usize::from(index)) else { return Vec::new() };
        let mut rest = std::mem::take(&mut branch.rest);
        let kept = match code {
            None if has_rung => 0,
            // 430: the flow has failed (RFC 5626 11.5).
            None | Some(430 | 503) => rest.len(),
            Some(500..600) => rest.iter().rposition(|next| !next.is_same).map_or(0, |at| at + 1),
            Some(_) => 0,
        };
        rest.truncate(kept);
        rest
    }

    /// A branch was cancelled: nothing is tried after it.
    pub(crate) fn drop_rest(&mut self, index: u16) {
        if let Some(branch) = self.branches.get_mut(usize::from(index)) {
            branch.rest = Vec::new();
        }
    }

    /// Groups of targets that follow one another.
    pub(crate) fn set_later(&mut self, later: VecDeque<Vec<Target<Stored>>>) {
        self.later = later;
    }

    /// The next group of targets.
    pub(crate) fn next_group(&mut self) -> Option<Vec<Target<Stored>>> {
        self.later.pop_front()
    }

    /// No other group is tried.
    pub(crate) fn drop_later(&mut self) {
        self.later = VecDeque::new();
    }

    /// The caller gave up.
    pub(crate) fn cancel(&mut self) {
        self.is_cancelled = true;
        self.drop_later();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    /// One more branch waits for a name.
    pub(crate) fn begin_resolving(&mut self) {
        self.resolving += 1;
    }

    /// One fewer does.
    pub(crate) fn end_resolving(&mut self) {
        self.resolving = self.resolving.saturating_sub(1);
    }

    pub(crate) fn is_resolving(&self) -> bool {
        self.resolving > 0
    }

    /// Weighs a failure against the best so far.
    pub(crate) fn weigh(&self, code: u16, has_response: bool) -> Noted {
        match self.best {
            Some(best) if rank(code) >= rank(best.code) => match matches!(code, 401 | 407) && has_response {
                true => Noted::AddChallenges(best),
                false => Noted::Worse,
            },
            _ => Noted::Better,
        }
    }

    /// Whether no branch has failed yet.
    pub(crate) fn has_no_answer(&self) -> bool {
        self.best.is_none()
    }

    pub(crate) fn set_best(&mut self, best: Best) {
        self.best = Some(best);
    }

    pub(crate) fn take_best(&mut self) -> Option<Best> {
        self.best.take()
    }
}

/// Lower is better: 6xx, then the lowest class; in 4xx those that the caller can act on first, silence last.
fn rank(code: u16) -> (u16, u16) {
    match code {
        600.. => (0, 0),
        401 | 407 | 415 | 420 | 484 => (4, 0),
        408 | 480 => (4, 2),
        // A name that leads nowhere: any answer says more.
        476 | 477 => (9, 0),
        _ => (code / 100, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::flow::Flow;
    use crate::proxy::target::NextHop;

    #[test]
    fn the_best_of_several() {
        let best = |codes: &[u16]| codes.iter().copied().min_by_key(|code| rank(*code)).unwrap();
        assert_eq!(best(&[486, 603, 302]), 603);
        assert_eq!(best(&[486, 302, 500]), 302);
        assert_eq!(best(&[486, 407, 404]), 407);
        assert_eq!(best(&[408, 486]), 486);
        assert_eq!(best(&[503, 408]), 408);
        assert_eq!(best(&[486, 404]), 486, "the first of equals");
    }

    #[test]
    fn a_failure_is_kept_if_it_is_better_and_challenges_add_up() {
        let mut context = ResponseContext::default();
        assert_eq!(context.weigh(486, true), Noted::Better);
        let best = |code| Best { code, response: None, challenges: Stored::default() };
        context.set_best(best(486));
        assert_eq!((context.weigh(486, true), context.weigh(603, false)), (Noted::Worse, Noted::Better));
        context.set_best(best(407));
        assert_eq!(context.weigh(401, true), Noted::AddChallenges(best(407)));
        assert_eq!((context.weigh(401, false), context.weigh(404, true)), (Noted::Worse, Noted::Worse));
        assert_eq!((context.take_best(), context.take_best()), (Some(best(407)), None));
    }

    fn target(is_same: bool) -> Target<Stored> {
        let address = "10.0.0.1:5060".parse().unwrap();
        let next_hop = NextHop::Flow(Flow::udp(address, address));
        let (uri, path) = (Stored::default(), Stored::default());
        Target {
            uri,
            path,
            next_hop,
            q: None,
            route: None,
            is_same,
            is_other_flow: false,
            binding: None,
            source: None,
        }
    }

    #[test]
    fn what_is_tried_after_a_failure() {
        for (code, has_rung, left) in [
            (None, false, 3),
            (None, true, 0),
            (Some(503), false, 3),
            (Some(500), false, 2),
            (Some(486), false, 0),
            (Some(600), false, 0),
        ] {
            let mut context = ResponseContext::default();
            // The next one last: another address of the same hop.
            context.add_branch(None, vec![target(false), target(false), target(true)]);
            assert_eq!(context.left_to_try(0, code, has_rung).len(), left, "{code:?} {has_rung}");
            assert!(context.left_to_try(0, None, false).is_empty(), "once");
        }
        let mut context = ResponseContext::default();
        context.add_branch(None, vec![target(false)]);
        context.drop_rest(0);
        assert!(
            context.left_to_try(0, None, false).is_empty() && context.left_to_try(7, None, false).is_empty()
        );
        context.set_later(VecDeque::from([vec![target(false)]]));
        context.cancel();
        assert!(context.next_group().is_none() && context.is_cancelled());
    }
}
