//! The one place where messages wait: for credentials, for rows that are still being read, for a commit, for a name.
//!
//! What waits is a message, or an operator's request, and a continuation that says how it goes on. Everything is bounded
//! and counted; what waits for an event that does not come is given back in time by the part that awaits the event.

use std::collections::VecDeque;

use crate::base::flow::{Flow, Ticket};
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::base::stats::Counter;
use crate::base::tickets::Tickets;
use crate::contract::context::Ctx;
use crate::contract::reason::Reason;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    /// A user's credentials, asked for under this ticket.
    Credentials(Ticket),
    /// An AOR's commit of this ticket.
    Commit(Ticket),
    /// Whether an AOR's commit of this ticket was too late: then its REGISTER is planned again.
    Again(Ticket),
    /// An AOR's record, asked for under this ticket.
    Record(Ticket),
    /// The rows of AORs, in the order of their hashes.
    Rows,
    /// All rows.
    AllRows,
}

/// A message that waits, a request or a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) flow: Flow,
    pub(crate) bytes: &'a [u8],
    /// When it came, in monotonic milliseconds.
    pub(crate) since_ms: u64,
    /// What a retransmission of it shares.
    pub(crate) identity: u64,
}

/// What waited, and how it goes on.
#[derive(Debug)]
pub(crate) struct Parked<T> {
    pub(crate) flow: Flow,
    /// Empty where no message waits.
    pub(crate) bytes: Box<[u8]>,
    identity: u64,
    /// When its message came, and since when it waits here, in monotonic milliseconds.
    pub(crate) since_ms: u64,
    waits_since_ms: u64,
    /// Whether it waits for a name, else in a queue.
    awaits_name: bool,
    pub(crate) then: T,
}

/// What a topic's end has released, in order.
#[derive(Debug, Default)]
pub(crate) struct Released(VecDeque<Ticket>);

impl Released {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Everything that waits in one shard.
#[derive(Debug)]
pub(crate) struct Parking<T> {
    entries: Tickets<Parked<T>>,
    queues: hashbrown::HashMap<Topic, VecDeque<Ticket>, KeyedState>,
    /// Messages that wait in queues, and their bytes.
    messages: usize,
    bytes: usize,
    /// What waits for names.
    names: usize,
}

/// A flow of nothing: what waits without a message has one.
const NOWHERE: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

impl<T> Parking<T> {
    pub(crate) fn new(hash_seed: u64) -> Parking<T> {
        Parking {
            entries: Tickets::default(),
            queues: hashbrown::HashMap::with_hasher(KeyedState::new(hash_seed)),
            messages: 0,
            bytes: 0,
            names: 0,
        }
    }

    /// A message waits; a retransmission of one that waits for the same is absorbed.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn wait(
        &mut self,
        ctx: &mut Ctx<'_>,
        topic: Topic,
        message: Message<'_>,
        then: T,
    ) -> Result<(), Reason> {
        let queue = self.queues.get(&topic);
        let is_it = |ticket: &Ticket| {
            self.entries.get(*ticket).is_some_and(|parked| parked.identity == message.identity)
        };
        if queue.is_some_and(|queue| queue.iter().any(is_it)) {
            ctx.count(Counter::Absorbed);
            return Ok(());
        }
        if let Some(reason) = limit_of(topic)
            && queue.is_some_and(|queue| queue.len() >= limits::MAX_WAITING_PER_AOR)
        {
            ctx.count(Counter::WaitingFull);
            return Err(reason);
        }
        self.check_room(ctx, message.bytes.len())?;
        self.messages += 1;
        self.bytes += message.bytes.len();
        let Message { flow, bytes, since_ms, identity } = message;
        let waits_since_ms = ctx.now.mono_ms;
        let bytes = bytes.into();
        let parked = Parked { flow, bytes, identity, since_ms, waits_since_ms, awaits_name: false, then };
        let ticket = self.entries.insert(parked);
        self.queues.entry(topic).or_default().push_back(ticket);
        Ok(())
    }

    /// Whether one more message of so many bytes may wait.
    ///
    /// # Errors
    /// [`Reason::TooManyWaiting`].
    pub(crate) fn check_room(&self, ctx: &mut Ctx<'_>, len: usize) -> Result<(), Reason> {
        if self.messages >= limits::MAX_PARKED || self.bytes + len > limits::MAX_PARKED_BYTES {
            ctx.count(Counter::ParkedFull);
            return Err(Reason::TooManyWaiting);
        }
        Ok(())
    }

    /// Something without a message waits, an operator's request; whether fewer than `most` did before.
    pub(crate) fn wait_without_message(&mut self, ctx: &Ctx<'_>, topic: Topic, most: usize, then: T) -> bool {
        let queue = self.queues.entry(topic).or_default();
        if queue.len() >= most {
            return false;
        }
        queue.push_back(self.entries.insert(without_message(ctx, then)));
        true
    }

    /// Something waits for a name, with or without a message; the ticket to ask with.
    pub(crate) fn wait_for_name(&mut self, ctx: &Ctx<'_>, message: Option<(Flow, &[u8])>, then: T) -> Ticket {
        self.names += 1;
        let parked = Parked { awaits_name: true, ..without_message(ctx, then) };
        self.entries.insert(match message {
            Some((flow, bytes)) => Parked { flow, bytes: bytes.into(), ..parked },
            None => parked,
        })
    }

    /// Whether one more call may wait for a name.
    pub(crate) fn has_room_for_name(&self, ctx: &mut Ctx<'_>) -> bool {
        let has_room = self.names < limits::MAX_RESOLVING;
        if !has_room {
            ctx.count(Counter::ResolvingFull);
        }
        has_room
    }

    /// What waited for a name under this ticket; `None` for a ticket that is not known any more.
    pub(crate) fn take_named(&mut self, ticket: Ticket) -> Option<Parked<T>> {
        self.entries.get(ticket).filter(|parked| parked.awaits_name)?;
        self.names -= 1;
        self.entries.remove(ticket)
    }

    /// Whether anything waits for this.
    pub(crate) fn is_awaited(&self, topic: Topic) -> bool {
        !self.queues.is_empty() && self.queues.contains_key(&topic)
    }

    /// What was waited for has come. [`Parking::next`] gives what waited, one after the other.
    pub(crate) fn release(&mut self, topic: Topic) -> Released {
        match self.queues.is_empty() {
            true => Released::default(),
            false => Released(self.queues.remove(&topic).unwrap_or_default()),
        }
    }

    /// The next of what was released.
    pub(crate) fn next(&mut self, released: &mut Released) -> Option<Parked<T>> {
        let parked = self.entries.remove(released.0.pop_front()?)?;
        if !parked.bytes.is_empty() {
            self.messages -= 1;
            self.bytes -= parked.bytes.len();
        }
        Some(parked)
    }

    /// What was released waits again, behind what waits already.
    pub(crate) fn wait_again(&mut self, released: Released, topic: Topic) {
        if !released.is_empty() {
            self.queues.entry(topic).or_default().extend(released.0);
        }
    }

    /// Releases those of a topic that `may_go`; the others wait on.
    pub(crate) fn release_some(&mut self, topic: Topic, may_go: impl Fn(&T) -> bool) -> Released {
        let Some(queue) = self.queues.remove(&topic) else { return Released::default() };
        let may_go = |ticket: &Ticket| self.entries.get(*ticket).is_none_or(|parked| may_go(&parked.then));
        let (ready, waiting): (VecDeque<_>, VecDeque<_>) = queue.into_iter().partition(may_go);
        self.wait_again(Released(waiting), topic);
        Released(ready)
    }

    /// Releases those of a topic that have waited for so long.
    pub(crate) fn release_late(&mut self, topic: Topic, now_ms: u64, patience_ms: u64) -> Released {
        let Some(queue) = self.queues.get_mut(&topic) else { return Released::default() };
        let is_late = |ticket: &&Ticket| {
            self.entries.get(**ticket).is_none_or(|parked| parked.waits_since_ms + patience_ms <= now_ms)
        };
        let late = queue.iter().take_while(is_late).count();
        Released(queue.drain(..late).collect())
    }

    /// The tickets of what has waited for a name for so long.
    pub(crate) fn late_names(&self, now_ms: u64, patience_ms: u64) -> Vec<Ticket> {
        if self.names == 0 {
            return Vec::new();
        }
        self.entries.tickets(|parked| parked.awaits_name && parked.waits_since_ms + patience_ms <= now_ms)
    }

    /// What operators may know of it: names and values.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 2] {
        [("roost:parked", self.messages as u64), ("roost:resolving", self.names as u64)]
    }
}

fn without_message<T>(ctx: &Ctx<'_>, then: T) -> Parked<T> {
    let flow = Flow::udp(NOWHERE, NOWHERE);
    let now_ms = ctx.now.mono_ms;
    let (since_ms, waits_since_ms) = (now_ms, now_ms);
    Parked { flow, bytes: Box::default(), identity: 0, since_ms, waits_since_ms, awaits_name: false, then }
}

/// Why no more may wait behind one user or AOR.
fn limit_of(topic: Topic) -> Option<Reason> {
    match topic {
        Topic::Credentials(_) => Some(Reason::TooManyForUser),
        Topic::Commit(_) | Topic::Record(_) => Some(Reason::TooManyForAor),
        Topic::Again(_) | Topic::Rows | Topic::AllRows => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::context::TestShard;

    const COMMIT: Topic = Topic::Commit(Ticket(7));

    fn message(bytes: &[u8], identity: u64) -> Message<'_> {
        Message { flow: Flow::udp(NOWHERE, NOWHERE), bytes, since_ms: 0, identity }
    }

    fn all<T>(parking: &mut Parking<T>, mut released: Released) -> Vec<(T, Vec<u8>)> {
        let next = || parking.next(&mut released).map(|parked| (parked.then, parked.bytes.to_vec()));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn what_waits_goes_on_in_order_and_a_retransmission_is_absorbed() {
        let (mut shard, mut parking) = (TestShard::new(), Parking::new(1));
        for (identity, then) in [(1, 'a'), (2, 'b'), (1, 'c')] {
            let bytes: &[u8] = if then == 'b' { b"SIP/2.0 200 OK\r\n\r\n" } else { b"REGISTER" };
            parking.wait(&mut shard.ctx(), COMMIT, message(bytes, identity), then).unwrap();
        }
        assert!(parking.wait_without_message(&shard.ctx(), COMMIT, 8, 'd'));
        parking.wait(&mut shard.ctx(), Topic::Rows, message(b"x", 1), 'r').unwrap();
        assert_eq!((shard.stats.get(Counter::Absorbed), parking.gauges()[0].1), (1, 3));
        assert!(parking.is_awaited(COMMIT) && !parking.is_awaited(Topic::Commit(Ticket(8))));
        let released = parking.release(COMMIT);
        let thens: Vec<_> = all(&mut parking, released);
        assert_eq!(thens[0], ('a', b"REGISTER".to_vec()));
        assert_eq!(thens[1], ('b', b"SIP/2.0 200 OK\r\n\r\n".to_vec()), "responses may wait too");
        assert_eq!((thens[2].0, thens.len(), parking.gauges()[0].1), ('d', 3, 1));
        assert!(!parking.is_awaited(COMMIT));
    }

    #[test]
    fn what_was_released_may_wait_again_for_another_end() {
        let (mut shard, mut parking) = (TestShard::new(), Parking::new(1));
        for then in 0..3 {
            parking.wait(&mut shard.ctx(), COMMIT, message(b"x", then), then).unwrap();
        }
        let mut released = parking.release(COMMIT);
        assert_eq!(parking.next(&mut released).map(|parked| parked.then), Some(0));
        let other = Topic::Commit(Ticket(9));
        parking.wait_again(released, other);
        let released = parking.release(other);
        assert_eq!(all(&mut parking, released).iter().map(|(then, _)| *then).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn some_may_go_and_what_is_late_goes_whatever_it_waits_for() {
        let (mut shard, mut parking) = (TestShard::new(), Parking::new(1));
        for then in 0..4 {
            parking.wait(&mut shard.ctx(), Topic::Rows, message(b"x", then), then).unwrap();
            shard.now.mono_ms += 1_000;
        }
        let ready = parking.release_some(Topic::Rows, |then| *then == 2);
        assert_eq!(all(&mut parking, ready).len(), 1);
        let late = parking.release_late(Topic::Rows, shard.now.mono_ms, 3_000);
        assert_eq!(all(&mut parking, late).iter().map(|(then, _)| *then).collect::<Vec<_>>(), [0, 1]);
        let ticket = parking.wait_for_name(&shard.ctx(), Some((Flow::udp(NOWHERE, NOWHERE), b"ACK")), 9);
        assert!(parking.late_names(shard.now.mono_ms, 5_000).is_empty());
        assert_eq!(parking.late_names(shard.now.mono_ms + 5_000, 5_000), [ticket]);
        assert_eq!(parking.take_named(ticket).map(|parked| parked.then), Some(9));
        assert!(parking.take_named(ticket).is_none(), "once");
        assert_eq!(parking.gauges().map(|(_, value)| value), [1, 0]);
    }

    #[test]
    fn the_limits_are_kept_and_counted() {
        let (mut shard, mut parking) = (TestShard::new(), Parking::new(1));
        for identity in 0..limits::MAX_WAITING_PER_AOR as u64 {
            parking.wait(&mut shard.ctx(), COMMIT, message(b"x", identity), ()).unwrap();
        }
        let full = parking.wait(&mut shard.ctx(), COMMIT, message(b"x", 99), ());
        assert_eq!(full, Err(Reason::TooManyForAor));
        let credentials = Topic::Credentials(Ticket(7));
        for identity in 0..limits::MAX_WAITING_PER_AOR as u64 {
            parking.wait(&mut shard.ctx(), credentials, message(b"x", identity), ()).unwrap();
        }
        let full = parking.wait(&mut shard.ctx(), credentials, message(b"x", 99), ());
        assert_eq!((full, shard.stats.get(Counter::WaitingFull)), (Err(Reason::TooManyForUser), 2));
        let large = vec![0; limits::MAX_PARKED_BYTES];
        let full = parking.wait(&mut shard.ctx(), Topic::Rows, message(&large, 1), ());
        assert_eq!((full, shard.stats.get(Counter::ParkedFull)), (Err(Reason::TooManyWaiting), 1));
        assert!(!parking.wait_without_message(&shard.ctx(), COMMIT, limits::MAX_WAITING_PER_AOR, ()));
        for _ in 0..limits::MAX_RESOLVING {
            parking.wait_for_name(&shard.ctx(), None, ());
        }
        assert!(!parking.has_room_for_name(&mut shard.ctx()));
        assert_eq!(shard.stats.get(Counter::ResolvingFull), 1);
    }
}
