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
        let lasts = self.least.max(((now - begun) * TIMES).min(LONGEST));
        let reading = Reading { fresh_until: now + lasts, found: Arc::clone(&found) };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        Ok(found)
    }

    fn fresh(&self) -> Option<Arc<T>> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|last| Instant::now() < last.fresh_until).map(|last| Arc::clone(&last.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_soon_gets_the_same_and_a_dear_reading_lasts_longer() {
        let kept = Kept::<u32>::new(Duration::from_millis(20));
        let slow = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Ok::<_, ()>(Arc::new(1))
        };
        assert_eq!(*kept.get(slow).await.unwrap(), 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(*kept.get(async { Ok::<_, ()>(Arc::new(2)) }).await.unwrap(), 1, "ten times 30 ms");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(*kept.get(async { Ok::<_, ()>(Arc::new(3)) }).await.unwrap(), 3);
    }
}
