//! A connection that is made anew when it has failed.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::database::Database;
use crate::error::{DbError, StoreError};

/// How long it is not tried again after a connection has failed: the first time, and at most.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// A connection that was silent for longer is tried before it is used.
const IDLE: Duration = Duration::from_secs(10);

/// A connection that is made anew when it has failed.
#[derive(Debug)]
pub(crate) struct Link {
    database: Database,
    client: Option<Client>,
    used: Instant,
    /// When it may be tried again, and how long after the next failure.
    again: Instant,
    backoff: Duration,
}

impl Link {
    pub(crate) fn new(database: Database) -> Link {
        let now = Instant::now();
        Link { database, client: None, used: now, again: now, backoff: BACKOFF[0] }
    }

    /// Uses the connection, a new one if need be. One that is of no use any more is dropped.
    pub(crate) fn run<T>(
        &mut self,
        use_: impl FnOnce(&mut Client) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        let now = Instant::now();
        if self.client.as_mut().is_some_and(|client| now > self.used + IDLE && !client.is_alive()) {
            self.client = None;
        }
        let client = match &mut self.client {
            Some(client) => client,
            None if now < self.again => return Err(StoreError::Away),
            None => match self.database.connect() {
                Ok(client) => {
                    self.backoff = BACKOFF[0];
                    self.client.insert(client)
                }
                Err(error) => {
                    tracing::warn!(%error, "the database cannot be reached");
                    self.again = Instant::now() + self.backoff;
                    self.backoff = (self.backoff * 2).min(BACKOFF[1]);
                    return Err(StoreError::Away);
                }
            },
        };
        let done = use_(client);
        self.used = Instant::now();
        done.map_err(|source| {
            if source.is_lost() {
                self.client = None;
            }
            StoreError::Sql { doing: "asking the database", source }
        })
    }
}
