//! Something that is dear to read, kept for all who look: the dearer it was, the longer, so that no number of consoles makes the server busy.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What was read is fresh for so many times as long as the reading took.
const TIMES: u32 = 10;

/// And never for longer than so.
const LONGEST: Duration = Duration::from_secs(30);

/// The last reading.
#[derive(Debug)]
pub(crate) struct Kept<T: ?Sized> {
    last: RwLock<Option<Reading<T>>>,
    least: Duration,
    /// One reads at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Reading<T: ?Sized> {
    fresh_until: Instant,
    found: Arc<T>,
}

impl<T: ?Sized> Kept<T> {
    /// Fresh for so long at least.
    pub(crate) fn new(least: Duration) -> Kept<T> {
        Kept { last: RwLock::new(None), least, turn: tokio::sync::Mutex::new(()) }
    }

    /// What was read last where it is fresh, else what is read now.
    ///
    /// # Errors
    /// The reading's own.
    pub(crate) async fn get<E>(&self, read: impl Future<Output = Result<Arc<T>, E>>) -> Result<Arc<T>, E> {
        if let Some(found) = self.fresh() {
            return Ok(found);
        }
        let _turn = self.turn.lock().await;
        if let Some(found) = self.fresh() {
            return Ok(found);
        }
        let begun = Instant::now();
        let found = read.await?;
        let now = Instant::now();
        let reading =
            Reading { fresh_until: now + lasts(now - begun, self.least), found: Arc::clone(&found) };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        Ok(found)
    }

    /// Forgets it, and what is being read.
    pub(crate) async fn forget(&self) {
        let _turn = self.turn.lock().await;
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn fresh(&self) -> Option<Arc<T>> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|last| Instant::now() < last.fresh_until).map(|last| Arc::clone(&last.found))
    }
}

/// How long a reading is fresh that took so long.
fn lasts(took: Duration, least: Duration) -> Duration {
    least.max((took * TIMES).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_soon_gets_the_same_and_who_asks_late_a_new_one() {
        let reading = |found: u32| async move { Ok::<_, ()>(Arc::new(found)) };
        let kept = Kept::<u32>::new(Duration::from_secs(3_600));
        assert_eq!((*kept.get(reading(1)).await.unwrap(), *kept.get(reading(2)).await.unwrap()), (1, 1));
        kept.last.write().unwrap().as_mut().unwrap().fresh_until = Instant::now();
        assert_eq!(*kept.get(reading(3)).await.unwrap(), 3);
    }

    #[test]
    fn a_dear_reading_lasts_longer() {
        let ms = Duration::from_millis;
        assert_eq!([5, 30, 60_000].map(|took| lasts(ms(took), ms(200))), [ms(200), ms(300), LONGEST]);
    }
}
