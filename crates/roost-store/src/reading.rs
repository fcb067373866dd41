//! Whole readings of the subscriber table: at start, and again and again while the server runs, so that a phone's
//! first REGISTER after a restart waits for no query. Only what is new or has changed is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::mysql::prelude::Queryable as _;
use roost_core::{Reading, Secrets, SubscriberRow};
use rusqlite::Connection;

use crate::mysql::{self, Link};
use crate::sqlite::bytes;
use crate::{Preload, ReadTold, Store, StoreError};

/// Rows that are told at once.
const CHUNK: usize = 512;
/// A reading takes at most this part of one core's time.
const PART: u32 = 50;

/// The thread that reads the table again and again; dropping it ends it.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    thread: Option<JoinHandle<()>>,
    stop: Option<Sender<()>>,
}

impl Readings {
    /// Reads the table once before it returns, then in a thread. A table with more than `preload.limit` rows is not
    /// kept in memory: its users are looked up one by one.
    pub(crate) fn start(store: &Store, preload: Preload) -> Result<Readings, StoreError> {
        let Preload { limit, every, mut tell } = preload;
        let mut none = Readings::default();
        if limit == 0 || every.is_zero() {
            return Ok(none);
        }
        let mut reader = Reader::new(store, limit)?;
        let begun = Instant::now();
        match reader.read(&mut *tell)? {
            Some(rows) => {
                tracing::info!(rows, milliseconds = begun.elapsed().as_millis() as u64, "subscribers read");
            }
            None => {
                tracing::info!(
                    limit,
                    "more subscribers than auth_db.preload: each is looked up when it is needed"
                );
                return Ok(none);
            }
        }
        let (stop, stopped) = channel();
        let took = begun.elapsed();
        let run = move || read_again(&mut reader, every.max(took * PART), &mut *tell, &stopped);
        let thread = std::thread::Builder::new().name("roost-readings".into()).spawn(run);
        none.thread = Some(thread.map_err(StoreError::Thread)?);
        none.stop = Some(stop);
        Ok(none)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.stop.is_some() && self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Readings {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_again(
    reader: &mut Reader,
    mut every: Duration,
    tell: &mut dyn FnMut(ReadTold),
    stopped: &Receiver<()>,
) {
    let shortest = every;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
        let begun = Instant::now();
        match reader.read(tell) {
            Ok(_) => every = shortest.max(begun.elapsed() * PART),
            // What is in memory counts until its time is over; then each user is looked up.
            Err(error) => tracing::warn!(%error, "subscriber cannot be read"),
        }
    }
}

/// Where the rows come from.
enum Source {
    Sqlite(Connection),
    MySql(Link),
}

/// Reads the table and remembers of each row a fingerprint.
struct Reader {
    source: Source,
    sql: String,
    seen: Seen,
}

/// What was read before.
struct Seen {
    limit: usize,
    use_domain: bool,
    /// By the hash of user and domain: that of the secrets, and the reading that it was seen in last.
    rows: HashMap<u64, (u64, u32)>,
    hasher: RandomState,
    reading: u32,
    count: usize,
    chunk: Vec<SubscriberRow>,
}

impl Reader {
    fn new(store: &Store, limit: usize) -> Result<Reader, StoreError> {
        let (source, columns, names) = match store {
            Store::Sqlite(sqlite) => {
                let names = sqlite.columns.lookup_columns(|column| sqlite.has_column(column));
                (Source::Sqlite(sqlite.connect()?), &sqlite.columns, names)
            }
            Store::MySql(mysql) => {
                let names = mysql.columns.lookup_columns(|column| mysql.has_column(column));
                (Source::MySql(mysql.link()), &mysql.columns, names)
            }
        };
        Ok(Reader {
            source,
            sql: format!("SELECT {} FROM subscriber", names.join(", ")),
            seen: Seen {
                limit,
                use_domain: columns.use_domain,
                rows: HashMap::new(),
                hasher: RandomState::new(),
                reading: 0,
                count: 0,
                chunk: Vec::new(),
            },
        })
    }

    /// How many rows there are; `None`, and nothing more is told, when there are too many.
    fn read(&mut self, tell: &mut dyn FnMut(ReadTold)) -> Result<Option<usize>, StoreError> {
        self.seen.begin(tell);
        let seen = &mut self.seen;
        let is_whole = match &mut self.source {
            Source::Sqlite(connection) => read_sqlite(connection, &self.sql, |row| seen.take(row, tell))
                .map_err(StoreError::sql("reading subscriber"))?,
            Source::MySql(link) => link.run(|conn| {
                let mut rows = conn.query_iter(&self.sql)?;
                for row in rows.by_ref() {
                    let columns: Vec<_> = row?.unwrap().into_iter().map(mysql::bytes).collect();
                    let Ok(columns) = <[Box<[u8]>; 6]>::try_from(columns) else { continue };
                    if !seen.take(columns, tell) {
                        return Ok(false);
                    }
                }
                Ok(true)
            })?,
        };
        Ok(if is_whole { Some(self.seen.end(tell)) } else { None })
    }
}

/// Gives all rows to `take`; false when it wants no more.
fn read_sqlite(
    connection: &Connection,
    sql: &str,
    mut take: impl FnMut([Box<[u8]>; 6]) -> bool,
) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let column = |index| Ok::<_, rusqlite::Error>(bytes(row.get_ref(index)?));
        if !take([column(0)?, column(1)?, column(2)?, column(3)?, column(4)?, column(5)?]) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Seen {
    fn begin(&mut self, tell: &mut dyn FnMut(ReadTold)) {
        tell(ReadTold::Begin);
        self.reading = self.reading.wrapping_add(1);
        self.count = 0;
        self.chunk.clear();
    }

    /// Takes a row: user, domain and the four secrets; false when there are too many.
    fn take(&mut self, row: [Box<[u8]>; 6], tell: &mut dyn FnMut(ReadTold)) -> bool {
        let [user, domain, password, password_2, sha256, sha512t256] = row;
        let domain = if self.use_domain { domain.to_ascii_lowercase() } else { Vec::new() };
        let secrets = Secrets { password, password_2, sha256, sha512t256 };
        let name = self.hasher.hash_one((&user, &domain));
        let Secrets { password, password_2, sha256, sha512t256 } = &secrets;
        let print = self.hasher.hash_one((password, password_2, sha256, sha512t256));
        match self.rows.entry(name) {
            // Without domains the first of a user's rows is the user's.
            Entry::Occupied(known) if known.get().1 == self.reading => return true,
            Entry::Occupied(mut known) => {
                let is_same = known.get().0 == print;
                known.insert((print, self.reading));
                self.count += 1;
                if is_same {
                    return true;
                }
            }
            Entry::Vacant(place) => {
                place.insert((print, self.reading));
                self.count += 1;
            }
        }
        if self.count > self.limit {
            return false;
        }
        self.chunk.push(SubscriberRow { user, domain: domain.into(), secrets });
        if self.chunk.len() == CHUNK {
            tell(ReadTold::Part(Reading::Rows(std::mem::take(&mut self.chunk))));
        }
        true
    }

    /// All rows were taken; how many there are.
    fn end(&mut self, tell: &mut dyn FnMut(ReadTold)) -> usize {
        if !self.chunk.is_empty() {
            tell(ReadTold::Part(Reading::Rows(std::mem::take(&mut self.chunk))));
        }
        if self.count < self.rows.len() {
            self.rows = HashMap::new();
            tell(ReadTold::Part(Reading::SomeGone));
        } else {
            tell(ReadTold::Part(Reading::Done));
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Columns;

    fn told(reader: &mut Reader) -> (Option<usize>, Vec<String>) {
        let mut told = Vec::new();
        let count = reader
            .read(&mut |part| match part {
                ReadTold::Part(Reading::Rows(rows)) => told.extend(rows.iter().map(|row| {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    format!("{}@{}={}", text(&row.user), text(&row.domain), text(&row.secrets.password))
                })),
                ReadTold::Part(Reading::SomeGone) => told.push("gone".to_string()),
                ReadTold::Part(Reading::Done) => told.push("done".to_string()),
                ReadTold::Begin => {}
            })
            .unwrap();
        (count, told)
    }

    #[test]
    fn each_reading_tells_what_is_new_or_changed() {
        let folder = tempfile::tempdir().unwrap();
        let columns = Columns {
            user: "username".into(),
            domain: "domain".into(),
            password: "password".into(),
            password_2: "ha1b".into(),
            calculate_ha1: true,
            use_domain: true,
        };
        let store = Store::open("sqlite:test.db", folder.path(), columns).unwrap();
        let mut reader = Reader::new(&store, 3).unwrap();
        let Store::Sqlite(sqlite) = store else { panic!("SQLite") };
        let run = |sql: &str| sqlite.connect().unwrap().execute_batch(sql).unwrap();
        run(
            "INSERT INTO subscriber (username, domain, password) VALUES ('1', 'A.com', 'x'), ('2', 'a.com', 'y')",
        );
        let line = |text: &[&str]| text.iter().map(|line| (*line).to_string()).collect::<Vec<_>>();
        assert_eq!(told(&mut reader), (Some(2), line(&["1@a.com=x", "2@a.com=y", "done"])));
        assert_eq!(told(&mut reader), (Some(2), line(&["done"])));
        run("UPDATE subscriber SET password = 'z' WHERE username = '2'");
        assert_eq!(told(&mut reader), (Some(2), line(&["2@a.com=z", "done"])));
        run("DELETE FROM subscriber WHERE username = '1'");
        assert_eq!(told(&mut reader), (Some(1), line(&["gone"])));
        assert_eq!(told(&mut reader), (Some(1), line(&["2@a.com=z", "done"])));
        run("INSERT INTO subscriber (username, domain) VALUES ('3', 'b'), ('4', 'b'), ('5', 'b')");
        assert_eq!(told(&mut reader), (None, Vec::new()));
    }
}
