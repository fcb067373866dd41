//! The thread that finds this node's own bindings at its start: it pings their phones, and notices their loss. Rows that no node has
//! claimed and that were made over a socket of this one (those of OpenSIPS, or of roost alone) are its own, too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use roost_cluster::{Background, Change, Member, News};
use roost_core::{Row, split_route};

use crate::client::Client;
use crate::error::{DbError, StoreError};
use crate::link::Link;
use crate::shared::SharedWith;
use crate::shared::record::{ROUTE, Records, read_joined, select_all};
use crate::store::Store;
use crate::value::Value;

/// Rows of one page, and AORs that are read together.
const PAGE: usize = 1_000;
/// How long it waits after the database has not answered.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

struct Scan {
    records: Records,
    page: String,
    /// What a Route to this node has in it.
    own: String,
    with: SharedWith,
    floating: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

pub(super) fn start(
    store: &Store,
    records: Records,
    member: &Member,
    with: SharedWith,
    news: News,
) -> Result<Background, StoreError> {
    let columns = &store.columns.location;
    let page = columns.sql(&format!(
        " WHERE {{contact_id}} >= ? AND ({{expires}} = 0 OR {{expires}} > ?) AND (COALESCE({ROUTE}, ?) LIKE ? \
         OR {{socket}} LIKE ?) ORDER BY {{contact_id}} LIMIT {PAGE}"
    ));
    let page = select_all(&store.database, columns) + &page;
    let mut link = Link::new(store.database.clone());
    let scan = Scan {
        records,
        page,
        own: format!("@{};", member.address),
        with,
        floating: Arc::clone(&member.floating),
    };
    let started = Background::start("roost-scan", move |ends| {
        while !ends.load(Ordering::Relaxed) {
            scan.find(&mut link, &news, ends);
            std::thread::park();
        }
    });
    started.map_err(StoreError::Thread)
}

impl Scan {
    fn find(&self, link: &mut Link, news: &News, ends: &AtomicBool) {
        let (begun, here) = (Instant::now(), (self.floating)());
        let (mut from, mut found) = (Some(0), 0);
        while let Some(id) = from.filter(|_| !ends.load(Ordering::Relaxed)) {
            match link.run(|client| self.some(client, id, &here, news)) {
                Ok((next, some)) => {
                    found += some;
                    from = next;
                }
                Err(error) => {
                    tracing::warn!(%error, "the bindings of this node are not all read yet");
                    std::thread::sleep(AGAIN_AFTER);
                }
            }
        }
        let milliseconds = begun.elapsed().as_millis() as u64;
        tracing::info!(extensions = found, milliseconds, "the bindings of this node are known");
    }

    /// Tells of the records of one page; where the next one begins, and how many AORs there were.
    fn some(
        &self,
        client: &mut Client,
        from: u64,
        here: &[String],
        news: &News,
    ) -> Result<(Option<u64>, usize), DbError> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let like = format!("%{}%", self.own);
        // Where none floats every socket would do.
        let socket = if here.is_empty() { "" } else { "%" };
        let params = [
            Value::Int(from as i64),
            Value::Int(now_s as i64),
            like.as_str().into(),
            like.as_str().into(),
            socket.into(),
        ];
        let (mut aors, mut last, mut count) = (BTreeSet::new(), 0, 0);
        client.each(&self.page, &params, &mut |columns| {
            count += 1;
            if let Some(row) = read_joined(columns) {
                last = row.contact_id;
                aors.extend(self.is_own(&row, here).then(|| self.records.aor_of(&row)).flatten());
            }
            true
        })?;
        let names: Vec<&[u8]> = aors.iter().map(Vec::as_slice).collect();
        for (aor, record) in names.iter().zip(self.records.read(client, &names)?) {
            news(Change::Found { aor: (*aor).into(), record: record.stored() });
        }
        Ok(((count == PAGE).then_some(last + 1), names.len()))
    }

    fn is_own(&self, row: &Row, here: &[String]) -> bool {
        let socket = row.socket.as_deref().and_then(|socket| std::str::from_utf8(socket).ok());
        if socket.is_some_and(|socket| here.iter().any(|one| one == socket)) {
            return true;
        }
        let contains = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
        match split_route(row.path.as_deref().unwrap_or(&[])).0 {
            Some(route) => contains(route, self.own.as_bytes()),
            None => socket.is_some_and(|socket| (self.with.is_own_socket)(socket)),
        }
    }
}
