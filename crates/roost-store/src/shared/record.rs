//! An AOR's record: its rows of `location`, each with the Route to the node that has it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use roost_core::{PackedRow, Row, StoredRecord, contact_id, split_aor, split_route};

use crate::client::Client;
use crate::columns::LocationColumns;
use crate::database::Database;
use crate::error::DbError;
use crate::location::{read_row, select_with};
use crate::store::Store;
use crate::value::Value;

/// AORs of one statement: few statements are ever prepared.
const AT_ONCE: [usize; 3] = [32, 8, 1];

/// How records are read.
#[derive(Debug, Clone)]
pub(super) struct Records {
    select: String,
    /// The condition for one AOR.
    one: String,
    pub(super) use_domain: bool,
    case_sensitive: bool,
}

/// The rows of an AOR, by their ids; the path of a row begins with the Route to its node.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) rows: BTreeMap<u64, Row>,
}

/// What stands before a row's path: the Route to its node.
pub(super) const ROUTE: &str =
    "(SELECT route FROM roost_flow WHERE roost_flow.contact_id = location.{contact_id})";

impl Records {
    pub(super) fn new(store: &Store, case_sensitive: bool) -> Records {
        let (columns, use_domain) = (&store.columns.location, store.columns.use_domain);
        // An id begins with the hash of its AOR: they are found by the table's key.
        let domain = if use_domain { " AND {domain} = ?" } else { "" };
        let one = format!("({{contact_id}} BETWEEN ? AND ? AND {{username}} = ?{domain})");
        Records {
            select: select_all(&store.database, columns),
            one: columns.sql(&one),
            use_domain,
            case_sensitive,
        }
    }

    /// The records of these AORs, in their order.
    pub(super) fn read(&self, client: &mut Client, aors: &[&[u8]]) -> Result<Vec<Record>, DbError> {
        let places: HashMap<&[u8], usize> = aors.iter().enumerate().map(|(at, aor)| (*aor, at)).collect();
        let mut records = vec![Record::default(); aors.len()];
        let mut rest = aors;
        while let Some(count) = AT_ONCE.into_iter().find(|count| *count <= rest.len()) {
            let (some, later) = rest.split_at(count);
            rest = later;
            let conditions = vec![self.one.as_str(); count].join(" OR ");
            let params: Vec<Value> = some.iter().flat_map(|aor| self.params(aor)).collect();
            client.each(&format!("{} WHERE {conditions}", self.select), &params, &mut |columns| {
                if let Some(row) = read_joined(columns)
                    && let Some(at) = self.aor_of(&row).and_then(|aor| places.get(&*aor))
                {
                    records[*at].rows.insert(row.contact_id, row);
                }
                true
            })?;
        }
        Ok(records)
    }

    fn params(&self, aor: &[u8]) -> impl Iterator<Item = Value> {
        let (user, domain) = self.split(aor);
        let range = [contact_id::compose(aor, 0, 0), contact_id::compose(aor, u32::MAX, u16::MAX)];
        let range = range.map(|id| Value::Int(id as i64));
        range.into_iter().chain([Value::from(user)]).chain(domain.map(Value::from))
    }

    /// User and domain of an AOR.
    pub(super) fn split<'a>(&self, aor: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        split_aor(aor, self.use_domain)
    }

    /// The AOR that a row belongs to.
    pub(super) fn aor_of(&self, row: &Row) -> Option<Vec<u8>> {
        row.aor(self.use_domain, self.case_sensitive)
    }
}

impl Record {
    /// What it is told by: another number if another change was made. 0: it has no rows.
    pub(super) fn version(&self) -> u64 {
        if self.rows.is_empty() {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        for row in self.rows.values() {
            let path = row.path.as_deref().unwrap_or(&[]);
            let texts =
                [&*row.callid, row.received.as_deref().unwrap_or(&[]), row.socket.as_deref().unwrap_or(&[])];
            (row.contact_id, row.cseq, row.expires, texts, split_route(path).0).hash(&mut hasher);
        }
        hasher.finish().max(1)
    }

    pub(super) fn stored(&self) -> StoredRecord {
        let rows: Vec<PackedRow> = self.rows.values().map(Row::pack).collect();
        StoredRecord { version: self.version(), rows }
    }
}

/// The beginning of a statement whose rows [`read_joined`] takes.
pub(super) fn select_all(database: &Database, columns: &LocationColumns) -> String {
    columns.sql(&select_with(database, &format!(", {ROUTE}")))
}

/// A row whose last column is the Route to its node.
pub(super) fn read_joined(mut columns: Vec<Value>) -> Option<Row> {
    let route = columns.pop().and_then(Value::into_text);
    let mut row = read_row(columns)?;
    if let Some(route) = route {
        row.path = Some(match row.path {
            Some(path) => [&*route, b",", &*path].concat().into(),
            None => route,
        });
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &[u8] = b"<sip:9001@10.0.0.5:5070;transport=tcp;lr;binding=01-02>";

    #[test]
    fn a_version_is_another_one_after_each_change_that_counts() {
        let row = Row::<Box<[u8]>> { contact_id: 7, cseq: 1, expires: 9, ..Row::default() };
        let version = |row: &Row| Record { rows: [(row.contact_id, row.clone())].into() }.version();
        let all = [
            row.clone(),
            Row { contact_id: 8, ..row.clone() },
            Row { cseq: 2, ..row.clone() },
            Row { expires: 0, ..row.clone() },
            Row { callid: (*b"a").into(), ..row.clone() },
            Row { received: Some((*b"a").into()), ..row.clone() },
            Row { socket: Some((*b"a").into()), ..row.clone() },
            Row { path: Some(ROUTE.into()), ..row.clone() },
        ];
        let versions: std::collections::HashSet<_> = all.iter().map(version).collect();
        assert_eq!((versions.len(), Record::default().version()), (all.len(), 0));
        assert_eq!(version(&row), version(&Row { last_modified: 5, ..row.clone() }));
    }
}
