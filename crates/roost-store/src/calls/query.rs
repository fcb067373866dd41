//! Reads records back, the newest first.

use crate::client::Client;
use crate::database::Database;
use crate::error::StoreError;
use crate::store::Store;
use crate::value::Value;

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct RecordQuery {
    /// Of this extension, as caller or callee.
    pub aor: Option<String>,
    /// Of this Call-ID.
    pub call_id: Option<String>,
    /// `Some(true)`: answered calls alone; `Some(false)`: the others alone.
    pub is_answered: Option<bool>,
    /// From this second of unix time on, and before that one.
    pub from_s: Option<u64>,
    pub to_s: Option<u64>,
    /// After the record of this place, as [`StoredRecord::place`].
    pub after: Option<(i64, bool, i64)>,
    /// So many.
    pub limit: usize,
}

/// A record as the tables have it. What a table has no column for is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredRecord {
    pub id: i64,
    pub is_answered: bool,
    /// When it was answered, or that it was not, in seconds of unix time.
    pub time_s: i64,
    pub created_s: Option<i64>,
    pub call_id: String,
    pub from_tag: String,
    pub to_tag: String,
    pub sip_code: String,
    pub sip_reason: String,
    pub duration_s: i64,
    pub ms_duration: i64,
    pub setup_s: i64,
    pub caller: String,
    pub callee: String,
    pub caller_aor: String,
    pub callee_aor: String,
    pub ended_by: String,
}

impl StoredRecord {
    /// Where it stands in the order of records.
    pub fn place(&self) -> (i64, bool, i64) {
        (self.time_s, self.is_answered, self.id)
    }
}

/// The columns that are read, in order, where the table has them; besides them `id`, `time` and `created`.
const TEXTS: [&str; 10] = [
    "callid",
    "from_tag",
    "to_tag",
    "sip_code",
    "sip_reason",
    "caller",
    "callee",
    "caller_aor",
    "callee_aor",
    "ended_by",
];
const NUMBERS: [&str; 3] = ["duration", "ms_duration", "setuptime"];

impl Store {
    /// Records of the tables `acc` and `missed_calls`, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn records(&self, query: &RecordQuery) -> Result<Vec<StoredRecord>, StoreError> {
        let mut client = self.database.connect()?;
        let mut all = Vec::new();
        for is_answered in [true, false] {
            if query.is_answered.is_none_or(|wanted| wanted == is_answered) {
                all.extend(read(&self.database, &mut client, query, is_answered)?);
            }
        }
        all.sort_by_key(|record: &StoredRecord| std::cmp::Reverse(record.place()));
        all.truncate(query.limit);
        Ok(all)
    }
}

fn read(
    database: &Database,
    client: &mut Client,
    query: &RecordQuery,
    is_answered: bool,
) -> Result<Vec<StoredRecord>, StoreError> {
    let table = if is_answered { "acc" } else { "missed_calls" };
    let has = database.columns(client, table)?;
    let is_there = |column: &str| has.iter().any(|name| name.eq_ignore_ascii_case(column));
    let at = database.unix_of("\"time\"");
    let mut shown = vec!["\"id\"".to_string(), at.clone()];
    shown.push(if is_there("created") { database.unix_of("\"created\"") } else { "NULL".to_string() });
    shown.extend(
        TEXTS.iter().map(|name| if is_there(name) { format!("\"{name}\"") } else { "''".to_string() }),
    );
    shown.extend(
        NUMBERS.iter().map(|name| if is_there(name) { format!("\"{name}\"") } else { "0".to_string() }),
    );
    let (mut conditions, mut values) = (vec!["1 = 1".to_string()], Vec::new());
    if let Some(aor) = &query.aor {
        let columns = ["caller_aor", "callee_aor"].into_iter().filter(|column| is_there(column));
        let either: Vec<_> = columns.map(|column| format!("\"{column}\" = ?")).collect();
        if either.is_empty() {
            // Whose they are the table does not say.
            return Ok(Vec::new());
        }
        values.extend(either.iter().map(|_| Value::from(&**aor)));
        conditions.push(format!("({})", either.join(" OR ")));
    }
    if let Some(call_id) = &query.call_id {
        conditions.push("\"callid\" = ?".to_string());
        values.push((&**call_id).into());
    }
    for (limit, compare) in [(query.from_s, ">="), (query.to_s, "<")] {
        if let Some(limit) = limit {
            conditions.push(format!("{at} {compare} {limit}"));
        }
    }
    if let Some((time_s, was_answered, id)) = query.after {
        // Of one second answered calls come first.
        let same_second = match (was_answered, is_answered) {
            (true, true) | (false, false) => format!(" OR ({at} = {time_s} AND \"id\" < {id})"),
            (true, false) => format!(" OR {at} = {time_s}"),
            (false, true) => String::new(),
        };
        conditions.push(format!("({at} < {time_s}{same_second})"));
    }
    let sql = format!(
        "SELECT {} FROM {table} WHERE {} ORDER BY \"time\" DESC, \"id\" DESC LIMIT {}",
        shown.join(", "),
        conditions.join(" AND "),
        query.limit
    );
    let rows = client.all(&sql, &values).map_err(StoreError::sql("reading call records"))?;
    Ok(rows.into_iter().map(|row| record(row, is_answered)).collect())
}

fn record(row: Vec<Value>, is_answered: bool) -> StoredRecord {
    let mut values = row.into_iter();
    let mut next = || values.next().unwrap_or(Value::Null);
    let (id, time_s, created_s) = (next().int().unwrap_or(0), next().int().unwrap_or(0), next().int());
    let mut text = || String::from_utf8_lossy(&next().into_bytes()).into_owned();
    let mut record = StoredRecord {
        id,
        is_answered,
        time_s,
        created_s,
        call_id: text(),
        from_tag: text(),
        to_tag: text(),
        sip_code: text(),
        sip_reason: text(),
        caller: text(),
        callee: text(),
        caller_aor: text(),
        callee_aor: text(),
        ended_by: text(),
        ..StoredRecord::default()
    };
    let mut number = || values.next().and_then(|value| value.int()).unwrap_or(0);
    (record.duration_s, record.ms_duration, record.setup_s) = (number(), number(), number());
    record
}
