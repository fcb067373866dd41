//! Bindings that nodes share in the tables of a database server.
//!
//! An AOR's rows of `location` are its record; what stands in `roost_flow` says which node has the phone of a row. Under a lock of the
//! AOR the rows are read and compared with those that a change was planned against; only if they are the same the change is made.
//! Nobody is told of changes: what was read counts for a while (`cluster.staleness`).

mod lease;
mod reader;
mod record;
mod said;
mod scan;
mod tables;
mod writer;

use std::sync::Arc;

use roost_cluster::{Health, Member, News, Nodes, Receipts, Running, keep_lease, queues};

use crate::error::StoreError;
use crate::link::Link;
use crate::store::Store;

use record::Records;

/// How AORs are written, and what tells a node's own rows that no node has claimed.
#[derive(Clone)]
pub struct SharedWith {
    /// Whether the user part of an AOR distinguishes case.
    pub case_sensitive: bool,
    /// Whether a socket is this node's, as `location.socket` has it.
    pub is_own_socket: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl std::fmt::Debug for SharedWith {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedWith").field("case_sensitive", &self.case_sensitive).finish_non_exhaustive()
    }
}

impl Store {
    /// Makes the tables that are missing, and starts the threads.
    ///
    /// # Errors
    /// [`StoreError`]: the database is of a kind that nodes cannot share, cannot be reached, or another node has this one's name.
    pub fn share(
        &self,
        with: SharedWith,
        member: Member,
        receipts: &Receipts,
        news: &News,
        health: Health,
    ) -> Result<Running, StoreError> {
        if !self.is_shared() {
            return Err(StoreError::Lease(
                "nodes cannot share an SQLite database: use MariaDB or PostgreSQL, or `location`".to_string(),
            ));
        }
        let link = || Link::new(self.database.clone());
        tables::make(&self.database, &mut self.database.connect()?)?;
        let records = Records::new(self, with.case_sensitive);
        let nodes = Nodes::default();
        let scan = scan::start(self, records.clone(), &member, with, Arc::clone(news))?;
        let leases = lease::Table::new(link(), &self.database);
        let lease =
            keep_lease(leases, member.clone(), nodes.clone(), Arc::clone(news)).map_err(StoreError::Lease)?;
        let (handle, speaker, queues) = queues();
        let speaks = said::speak(link(), member.name.clone(), queues.said)?;
        let heard = said::listen(link(), member.name.clone(), Arc::clone(news))?;
        let writer = writer::Writer::new(self, records.clone(), member.name);
        let writer = writer::start(writer, queues.commits, Arc::clone(receipts), health)?;
        let reader = reader::start(link(), records, queues.questions, Arc::clone(receipts))?;
        Ok(Running::new((handle, speaker), vec![writer, reader], vec![scan, speaks, heard, lease], nodes))
    }
}
