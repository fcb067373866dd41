//! Messages as they come, for pages that show them: a trace for each extension or call that is watched, begun when a page asks
//! for it and ended when none has asked for a while. While nobody does, no message is copied.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use roost_hep::{Filter, Packet, Tracer, Watch};

/// Ladders at once.
const MOST: usize = 8;
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
    /// Counts those of a ladder.
    pub(crate) number: u64,
    /// Milliseconds of unix time.
    pub(crate) at_ms: i64,
    pub(crate) is_sent: bool,
    pub(crate) peer: String,
    pub(crate) text: String,
    pub(crate) is_decision: bool,
}

#[derive(Debug)]
pub(crate) struct Ladders {
    tracer: Tracer,
    all: Mutex<HashMap<Whose, Ladder>>,
}

#[derive(Debug)]
struct Ladder {
    watch: Watch,
    rungs: VecDeque<Arc<Rung>>,
    bytes: usize,
    count: u64,
    asked: Instant,
}

impl Ladders {
    pub(crate) fn new(tracer: Tracer) -> Ladders {
        Ladders { tracer, all: Mutex::default() }
    }

    /// What has come since a page asked first, at most the last few hundred.
    ///
    /// # Errors
    /// For people: there are too many, or it cannot be asked for.
    pub(crate) fn of(&self, whose: &Whose) -> Result<Vec<Arc<Rung>>, String> {
        let mut all = self.all();
        if !all.contains_key(whose) {
            if all.len() >= MOST {
                return Err(format!("{MOST} ladders are watched already: close one of their pages"));
            }
            all.insert(whose.clone(), Ladder::begin(&self.tracer, whose)?);
        }
        let Some(ladder) = all.get_mut(whose) else { return Ok(Vec::new()) };
        ladder.asked = Instant::now();
        ladder.read();
        Ok(ladder.rungs.iter().cloned().collect())
    }

    /// Ends those that no page asks for, for ever.
    pub(crate) async fn forget(&self) {
        let mut ticks = tokio::time::interval(LOOKED_AT);
        loop {
            ticks.tick().await;
            self.forget_old();
        }
    }

    fn forget_old(&self) {
        self.all().retain(|_, ladder| ladder.asked.elapsed() < FORGOTTEN);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Whose, Ladder>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ladder {
    fn begin(tracer: &Tracer, whose: &Whose) -> Result<Ladder, String> {
        let (part, name) = match whose {
            Whose::Extension(aor) => (format!("who={aor}"), aor),
            Whose::Call(call_id) => (format!("callid={call_id}"), call_id),
        };
        let filter = Filter::parse([part.as_str()]).map_err(|error| error.to_string())?;
        let watch = tracer.watch(&format!("console {name}"), filter).map_err(|error| error.to_string())?;
        Ok(Ladder { watch, rungs: VecDeque::new(), bytes: 0, count: 0, asked: Instant::now() })
    }

    fn read(&mut self) {
        let Ladder { watch, rungs, bytes, count, .. } = self;
        watch.each(|packet| {
            *count += 1;
            let rung = Rung::of(packet, *count);
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
        let whose = Whose::Extension("9001".to_string());
        assert!(ladders.of(&whose).unwrap().is_empty());
        assert_eq!(ladders.tracer.list()[0].filter, ["who=9001"]);
        for number in 1..MOST {
            ladders.of(&Whose::Call(number.to_string())).unwrap();
        }
        assert!(ladders.of(&Whose::Call("one more".to_string())).unwrap_err().contains("close one"));
        ladders.all().values_mut().for_each(|ladder| ladder.asked -= FORGOTTEN);
        ladders.of(&whose).unwrap();
        ladders.forget_old();
        assert_eq!(ladders.all().keys().collect::<Vec<_>>(), [&whose]);
        assert_eq!(ladders.tracer.list().len(), 1);
    }
}
