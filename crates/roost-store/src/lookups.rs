//! The thread that looks subscribers up one by one, over a connection of its own.

use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Instant;

use roost_core::{Receipt, Secrets};

use crate::client::Client;
use crate::error::{DbError, StoreError};
use crate::job::{Health, Lookup, Receipts, spawn};
use crate::link::Link;
use crate::store::Store;
use crate::value::Value;

/// Lookups that are answered in one batch.
const BATCH: usize = 256;

/// Starts the thread; it ends when nobody can ask any more.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(
    store: &Store,
    queue: Receiver<Lookup>,
    receipts: Receipts,
    health: Health,
) -> Result<JoinHandle<()>, StoreError> {
    let mut link = Link::new(store.database.clone());
    let sql = sql_of(store);
    let run = move || {
        while let Ok(first) = queue.recv() {
            let batch = std::iter::once(first).chain(queue.try_iter().take(BATCH - 1));
            // SQLite takes its locks once for all of them.
            let _ = link.run(|client| begin_reading(client, "BEGIN"));
            let mut answers = Vec::new();
            for lookup in batch {
                let begun = Instant::now();
                let found = link.run(|client| look_up(client, &sql, &lookup.user, lookup.domain.as_deref()));
                let found = found.map_err(|error| error.to_string());
                health.timed("a look-up of a subscriber", begun.elapsed());
                answers.push((lookup.shard, Receipt::Credentials(lookup.ticket, found)));
            }
            let _ = link.run(|client| begin_reading(client, "COMMIT"));
            receipts(answers);
        }
    };
    spawn("roost-lookup", run)
}

fn begin_reading(client: &mut Client, sql: &str) -> Result<(), DbError> {
    if matches!(client, Client::Sqlite(_)) { client.run(sql) } else { Ok(()) }
}

/// Selects the secrets of a user, in a domain where they count.
fn sql_of(store: &Store) -> String {
    let [user, domain, password, second, sha256, sha512t256] = store.lookup_columns();
    let by_domain =
        if store.columns.use_domain { format!(" AND LOWER({domain}) = ?") } else { String::new() };
    format!(
        "SELECT {password}, {second}, {sha256}, {sha512t256} FROM subscriber WHERE {user} = ?{by_domain} LIMIT 1"
    )
}

impl Store {
    /// The secrets of a subscriber, looked up now; `domain` only with `use_domain`. `None`: there is no such subscriber.
    ///
    /// # Errors
    /// [`StoreError`]: the database does not answer, or the tables are others.
    pub fn secrets_of(&self, user: &[u8], domain: Option<&[u8]>) -> Result<Option<Secrets>, StoreError> {
        let mut client = self.database.connect()?;
        look_up(&mut client, &sql_of(self), user, domain).map_err(StoreError::sql("looking for a subscriber"))
    }
}

fn look_up(
    client: &mut Client,
    sql: &str,
    user: &[u8],
    domain: Option<&[u8]>,
) -> Result<Option<Secrets>, DbError> {
    let mut names = vec![Value::from(user)];
    names.extend(domain.map(|domain| Value::from(&*domain.to_ascii_lowercase())));
    Ok(client.all(sql, &names)?.into_iter().next().map(|row| {
        let mut columns = row.into_iter().map(Value::into_bytes);
        let mut next = || columns.next().unwrap_or_default();
        Secrets { password: next(), password_2: next(), sha256: next(), sha512t256: next() }
    }))
}
