//! Records in OpenSIPS's tables: answered calls in `acc`, others in `missed_calls`, as `do_accounting("db", "cdr|missed")`
//! writes them. Columns beside OpenSIPS's are written where the tables have them.

use std::sync::Arc;

use crate::calls::stored::Cdr;
use crate::calls::{Numbered, Sink, Written};
use crate::client::Client;
use crate::database::Database;
use crate::error::{DbError, StoreError};
use crate::link::Link;
use crate::store::Store;
use crate::value::Value;

/// As the journal names it.
pub(super) const NAME: &str = "db";
/// Rows of one statement.
const ROWS: usize = 32;

/// A column, whether it holds a time, and what goes into it.
type Column = (&'static str, bool, fn(&Cdr<'_>) -> Value);

/// Columns of `acc`.
const ANSWERED: &[Column] = &[
    ("method", false, |_| "INVITE".into()),
    ("from_tag", false, |cdr| (&*cdr.from_tag).into()),
    ("to_tag", false, |cdr| (&*cdr.to_tag).into()),
    ("callid", false, |cdr| (&*cdr.call_id).into()),
    ("sip_code", false, |cdr| (&*cdr.code.to_string()).into()),
    ("sip_reason", false, |cdr| (&*cdr.reason).into()),
    ("time", true, |cdr| Value::Int(cdr.time_s() as i64)),
    ("duration", false, |cdr| Value::Int(cdr.duration_s() as i64)),
    ("ms_duration", false, |cdr| Value::Int(cdr.lasted_ms as i64)),
    ("setuptime", false, |cdr| Value::Int(cdr.setup_s() as i64)),
    ("created", true, |cdr| Value::Int(cdr.begun_s as i64)),
    ("caller", false, |cdr| (&*cdr.caller).into()),
    ("callee", false, |cdr| (&*cdr.callee).into()),
    ("caller_aor", false, |cdr| (&*cdr.caller_aor).into()),
    ("callee_aor", false, |cdr| (&*cdr.callee_aor).into()),
    ("ended_by", false, |cdr| (&*cdr.ended_by).into()),
];

/// The columns without which a table is none of these.
const NEEDED: [&str; 7] = ["method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time"];

/// Writes the tables.
#[derive(Debug)]
pub(crate) struct Acc {
    link: Link,
    answered: Target,
    missed: Target,
}

/// A table, as it is.
#[derive(Debug)]
struct Target {
    table: &'static str,
    columns: Vec<(Column, Option<usize>)>,
    /// The expression for a time that is given in seconds of unix time.
    time: &'static str,
}

impl Cdr<'_> {
    /// When it was answered, or that it was not.
    fn time_s(&self) -> u64 {
        self.answered_s.unwrap_or(self.ended_s)
    }
}

impl Acc {
    /// Looks at the tables; makes those that are not there.
    pub(crate) fn open(store: &Store) -> Result<Acc, StoreError> {
        let database = &store.database;
        let mut client = database.connect()?;
        for table in database.make_acc(&mut client)? {
            tracing::info!(table, "made the table of call records (`acc.db`)");
        }
        let target = |client: &mut Client, table: &'static str| {
            let has = database.columns(client, table)?;
            let widths = database.widths(client, table)?;
            let is_it = |column: &str, name: &str| name.eq_ignore_ascii_case(column);
            if let Some(column) = NEEDED.iter().find(|column| !has.iter().any(|name| is_it(column, name))) {
                return Err(StoreError::AccColumn { table, column });
            }
            let width =
                |column: &str| widths.iter().find(|(name, _)| is_it(column, name)).map(|(_, width)| *width);
            let columns = ANSWERED.iter().filter(|(column, ..)| has.iter().any(|name| is_it(column, name)));
            let columns = columns.map(|column| (*column, width(column.0))).collect();
            Ok(Target { table, columns, time: database.local_time() })
        };
        Ok(Acc {
            answered: target(&mut client, "acc")?,
            missed: target(&mut client, "missed_calls")?,
            link: Link::new(database.clone()),
        })
    }
}

impl Sink for Acc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn write(&mut self, records: &[Numbered], in_doubt: u64) -> Result<Written, StoreError> {
        let Acc { link, answered, missed } = self;
        let by_table = |is_answered: bool| -> Vec<&Numbered> {
            records.iter().filter(|(_, cdr)| cdr.answered_s.is_some() == is_answered).collect()
        };
        let parts = [(&*answered, by_table(true)), (&*missed, by_table(false))];
        let done = link.run(|client| {
            client.begin()?;
            for (target, records) in &parts {
                target.insert(client, records, in_doubt)?;
            }
            client.run("COMMIT")
        });
        let refused = match done {
            Ok(()) => return Ok(Written::default()),
            Err(StoreError::Sql { source, .. }) if !source.is_lost() && !source.is_conflict() => source,
            Err(error) => return Err(error),
        };
        // Perhaps it is one row that the table refuses: the others are written.
        tracing::debug!(error = %refused, "records are written one by one");
        link.run(|client| {
            let _ = client.run("ROLLBACK");
            Ok(())
        })?;
        let mut written = Written::default();
        for (target, records) in &parts {
            for record in records {
                match link.run(|client| target.insert(client, &[*record], u64::MAX)) {
                    Ok(()) => {}
                    Err(StoreError::Sql { source, .. }) if source.is_refused_row() => {
                        let (table, call_id) = (target.table, &record.1.call_id);
                        tracing::warn!(error = %source, table, %call_id, "the table refuses the record of a call");
                        written.refused += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(written)
    }
}

impl Target {
    /// Inserts records; of those up to `in_doubt` the ones that are not there yet.
    fn insert(&self, client: &mut Client, records: &[&Numbered], in_doubt: u64) -> Result<(), DbError> {
        let mut new = Vec::with_capacity(records.len());
        for (seq, cdr) in records {
            if *seq > in_doubt || !self.has(client, cdr)? {
                new.push(cdr);
            }
        }
        for some in new.chunks(ROWS) {
            // Two texts of the statement only: each is prepared once.
            let parts = if some.len() == ROWS { ROWS } else { 1 };
            for rows in some.chunks(parts) {
                client.execute(&self.sql(rows.len()), &self.values(rows))?;
            }
        }
        Ok(())
    }

    fn sql(&self, rows: usize) -> String {
        let names: Vec<_> = self.columns.iter().map(|((name, ..), _)| format!("\"{name}\"")).collect();
        let marks: Vec<_> =
            self.columns.iter().map(|((_, is_time, _), _)| if *is_time { self.time } else { "?" }).collect();
        let row = format!("({})", marks.join(", "));
        format!("INSERT INTO {} ({}) VALUES {}", self.table, names.join(", "), vec![row; rows].join(", "))
    }

    fn values(&self, rows: &[&Arc<Cdr<'static>>]) -> Vec<Value> {
        let of_row = |cdr: &&Arc<Cdr<'static>>| {
            self.columns.iter().map(|((.., value), width)| cut(value(cdr), *width)).collect()
        };
        rows.iter().flat_map(|cdr| -> Vec<Value> { of_row(cdr) }).collect()
    }

    fn has(&self, client: &mut Client, cdr: &Cdr<'_>) -> Result<bool, DbError> {
        let is_key = |name: &str| matches!(name, "callid" | "from_tag" | "to_tag" | "time");
        let keys: Vec<_> = self.columns.iter().filter(|((name, ..), _)| is_key(name)).collect();
        let conditions: Vec<_> = keys
            .iter()
            .map(|((name, is_time, _), _)| format!("\"{name}\" = {}", if *is_time { self.time } else { "?" }))
            .collect();
        let sql = format!("SELECT count(*) FROM {} WHERE {}", self.table, conditions.join(" AND "));
        let values: Vec<_> = keys.iter().map(|((.., value), width)| cut(value(cdr), *width)).collect();
        Ok(client.one(&sql, &values)?.and_then(|count| count.int()).unwrap_or(0) > 0)
    }
}

/// What a column holds of a text. No database takes a NUL everywhere.
fn cut(value: Value, width: Option<usize>) -> Value {
    let Value::Text(text) = value else { return value };
    let text = String::from_utf8_lossy(&text);
    let kept: String = text.chars().filter(|one| *one != '\0').take(width.unwrap_or(usize::MAX)).collect();
    Value::from(&*kept)
}

impl Database {
    /// The expression that makes local time of seconds of unix time.
    fn local_time(&self) -> &'static str {
        match self {
            Database::Sqlite(_) => "datetime(?, 'unixepoch', 'localtime')",
            Database::MySql(_) => "FROM_UNIXTIME(?)",
            Database::Postgres(_) => "CAST(to_timestamp(CAST(? AS bigint)) AS timestamp)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::calls::stored::call;
    use crate::columns::Columns;
    use roost_core::CallEnd;

    fn cdr(number: u32, end: CallEnd) -> Arc<Cdr<'static>> {
        let mut call = call(number);
        if matches!(end, CallEnd::Failed(_)) {
            call.answered_s = None;
        } else {
            call.lasted_ms = 61_001;
        }
        Cdr::of(&call, end, 1_800_000_066).into_owned().into()
    }

    #[test]
    fn records_are_written_once_and_as_far_as_the_table_goes() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open("sqlite:x.db", folder.path(), &Access::default(), Columns::default()).unwrap();
        let mut acc = Acc::open(&store).unwrap();
        let mut records: Vec<Numbered> =
            (1..=70).map(|number| (u64::from(number), cdr(number, CallEnd::CalleeHungUp))).collect();
        records.push((71, cdr(71, CallEnd::Failed(486))));
        assert_eq!(acc.write(&records, 0).unwrap(), Written::default());
        // They may have been written before: those that were are not written again.
        records.push((72, cdr(72, CallEnd::Failed(487))));
        acc.write(&records, 71).unwrap();
        let database = store.sqlite();
        let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM acc"), 70);
        assert_eq!(
            count(
                "SELECT count(*) FROM acc WHERE method = 'INVITE' AND sip_code = '200' AND sip_reason = 'OK' AND duration = 62 \
                 AND ms_duration = 61001 AND setuptime = 5 AND caller = 'sip:9001@a.test' AND ended_by = 'callee' \
                 AND time = datetime(1800000005, 'unixepoch', 'localtime') AND created = datetime(1800000000, 'unixepoch', 'localtime')"
            ),
            70
        );
        assert_eq!(
            count(
                "SELECT count(*) FROM missed_calls WHERE sip_code = '486' AND sip_reason = 'Busy Here' AND setuptime = 66"
            ),
            1
        );
        assert_eq!(count("SELECT count(*) FROM missed_calls"), 2);
        assert_eq!(
            count("SELECT sum(table_version) FROM version WHERE table_name IN ('acc', 'missed_calls')"),
            12
        );
    }

    #[test]
    fn a_row_that_the_table_refuses_harms_no_other_and_columns_that_are_not_there_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open("sqlite:x.db", folder.path(), &Access::default(), Columns::default()).unwrap();
        store
            .sqlite()
            .execute_batch(
                "CREATE TABLE acc (id INTEGER PRIMARY KEY, method TEXT, from_tag TEXT, to_tag TEXT CHECK (to_tag <> '2'), \
                 callid TEXT, sip_code TEXT, sip_reason TEXT, time TEXT); CREATE TABLE missed_calls (method TEXT)",
            )
            .unwrap();
        assert!(matches!(
            Acc::open(&store),
            Err(StoreError::AccColumn { table: "missed_calls", column: "from_tag" })
        ));
        store.sqlite().execute_batch("DROP TABLE missed_calls").unwrap();
        let mut acc = Acc::open(&store).unwrap();
        let records: Vec<Numbered> =
            (1..=3).map(|number| (u64::from(number), cdr(number, CallEnd::Operator))).collect();
        assert_eq!(acc.write(&records, 0).unwrap(), Written { refused: 1 });
        let rows: i64 = store.sqlite().query_row("SELECT count(*) FROM acc", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 2);
    }
}
