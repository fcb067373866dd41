//! Messages as they come, for pages that show them: a trace for each extension or call that is watched, begun when a page asks
//! for it and ended when none has asked for a while. While nobody does, no message is copied.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use roost_hep::{Filter, Packet, Tracer, Watch};

/// Ladders at once.
pub(crate) const MOST: usize = 8;
/// Rungs of one, and bytes of their texts.
const RUNGS: usize = 300;
const BYTES: usize = 1 << 20;
/// How long one lasts that no page asks for, and how often that is looked at.
const FORGOTTEN: Duration = Duration::from_secs(15);
const LOOKED_AT: Duration = Duration::from_secs(5);

/// Whose messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    Extension(String),
    /// By its Call-ID.
    Call(String),
}

/// A message, or what was decided about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rung {
    /// Names it among all there ever were.
    pub(crate) number: u64,
    /// Milliseconds of unix time.
    pub(crate) at_ms: i64,
    pub(crate) is_sent: bool,
    pub(crate) peer: String,
    pub(crate) text: String,
    pub(crate) is_decision: bool,
}

/// What a page shows of one.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) rungs: Vec<Arc<Rung>>,
    /// When the first of all came, which may be gone meanwhile; in milliseconds of unix time.
    pub(crate) first_ms: i64,
    /// Whether an operator has ended it, by `trace_stop`.
    pub(crate) is_ended: bool,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoLadder {
    /// [`MOST`] are watched already.
    TooMany,
    /// For people.
    Why(String),
}

#[derive(Debug)]
pub(crate) struct Ladders {
    tracer: Tracer,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    by_whose: HashMap<Whose, Ladder>,
    /// Rungs of all there ever were: a number names one for good.
    count: u64,
}

#[derive(Debug)]
struct Ladder {
    watch: Watch,
    rungs: VecDeque<Arc<Rung>>,
    bytes: usize,
    first_ms: Option<i64>,
    is_ended: bool,
    asked: Instant,
}

impl Ladders {
    pub(crate) fn new(tracer: Tracer) -> Ladders {
        Ladders { tracer, all: Mutex::default() }
    }

    /// What has come since a page asked first, at most the last few hundred. `is_opened`: the page has just been opened; then
    /// one that was ended begins anew.
    ///
    /// # Errors
    /// [`NoLadder`].
    pub(crate) fn of(&self, whose: &Whose, is_opened: bool) -> Result<Shown, NoLadder> {
        let mut all = self.all();
        let All { by_whose, count } = &mut *all;
        if is_opened && by_whose.get(whose).is_some_and(|ladder| ladder.is_ended) {
            by_whose.remove(whose);
        }
        let going = by_whose.values().filter(|ladder| !ladder.is_ended).count();
        if going >= MOST && !by_whose.contains_key(whose) {
            return Err(NoLadder::TooMany);
        }
        let ladder = match by_whose.entry(whose.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Ladder::begin(&self.tracer, whose).map_err(NoLadder::Why)?),
        };
        ladder.asked = Instant::now();
        ladder.read(count);
        Ok(Shown {
            rungs: ladder.rungs.iter().cloned().collect(),
            first_ms: ladder.first_ms.unwrap_or(0),
            is_ended: ladder.is_ended,
        })
    }

    /// Ends those that no page asks for, for ever.
    pub(crate) async fn forget(&self) {
        let mut ticks = tokio::time::interval(LOOKED_AT);
        loop {
            ticks.tick().await;
            self.forget_old(Instant::now());
        }
    }

    fn forget_old(&self, now: Instant) {
        self.all().by_whose.retain(|_, ladder| now.saturating_duration_since(ladder.asked) < FORGOTTEN);
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ladder {
    fn begin(tracer: &Tracer, whose: &Whose) -> Result<Ladder, String> {
        let (part, id) = match whose {
            Whose::Extension(aor) => (format!("who={aor}"), format!("console extension {aor}")),
            Whose::Call(call_id) => (format!("callid={call_id}"), format!("console call {call_id}")),
        };
        let filter = Filter::parse([part.as_str()]).map_err(|error| error.to_string())?;
        let watch = tracer.watch(&id, filter).map_err(|error| error.to_string())?;
        let (rungs, asked) = (VecDeque::new(), Instant::now());
        Ok(Ladder { watch, rungs, bytes: 0, first_ms: None, is_ended: false, asked })
    }

    fn read(&mut self, count: &mut u64) {
        let Ladder { watch, rungs, bytes, first_ms, is_ended, .. } = self;
        *is_ended = !watch.each(|packet| {
            *count += 1;
            let rung = Rung::of(packet, *count);
            first_ms.get_or_insert(rung.at_ms);
            *bytes += rung.text.len();
            rungs.push_back(Arc::new(rung));
            while rungs.len() > RUNGS || *bytes > BYTES {
                *bytes -= rungs.pop_front().map_or(*bytes, |gone| gone.text.len());
            }
        });
    }
}

impl Rung {
    fn of(packet: &Packet<'_>, number: u64) -> Rung {
        let is_sent = packet.is_sent == Some(true);
        let peer = if is_sent { packet.destination } else { packet.source };
        Rung {
            number,
            at_ms: i64::try_from(packet.at.as_millis()).unwrap_or(0),
            is_sent,
            peer: peer.to_string(),
            text: String::from_utf8_lossy(packet.payload).into_owned(),
            is_decision: packet.is_log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_lasts_as_long_as_it_is_asked_for() {
        let ladders = Ladders::new(Tracer::start().unwrap());
        // The two of one text are two.
        let (whose, other) = (Whose::Extension("9001".to_string()), Whose::Call("9001".to_string()));
        assert!(ladders.of(&whose, true).unwrap().rungs.is_empty() && ladders.of(&other, true).is_ok());
        assert_eq!(ladders.tracer.list()[0].filter, ["who=9001"]);
        for number in 2..MOST {
            ladders.of(&Whose::Call(number.to_string()), true).unwrap();
        }
        let more = ladders.of(&Whose::Call("one more".to_string()), true);
        assert_eq!(more.unwrap_err(), NoLadder::TooMany);
        let later = Instant::now() + FORGOTTEN;
        std::thread::sleep(Duration::from_millis(2));
        ladders.of(&whose, false).unwrap();
        ladders.forget_old(later);
        assert_eq!(ladders.all().by_whose.keys().collect::<Vec<_>>(), [&whose]);
        assert_eq!(ladders.tracer.list().len(), 1);
    }

    #[test]
    fn one_that_an_operator_has_ended_says_so_until_its_page_is_opened_again() {
        let ladders = Ladders::new(Tracer::start().unwrap());
        let whose = Whose::Extension("9001".to_string());
        assert!(!ladders.of(&whose, true).unwrap().is_ended);
        assert!(ladders.tracer.remove("console extension 9001"));
        assert!(ladders.of(&whose, false).unwrap().is_ended && ladders.of(&whose, false).unwrap().is_ended);
        assert!(!ladders.of(&whose, true).unwrap().is_ended);
        assert_eq!(ladders.tracer.list().len(), 1);
    }
}
