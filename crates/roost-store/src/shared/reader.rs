//! The thread that reads records: everything that is asked goes in few statements.

use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use roost_cluster::{Question, Receipts};
use roost_core::{Receipt, StoredRecord};

use crate::error::StoreError;
use crate::job::spawn;
use crate::link::Link;
use crate::shared::record::Records;

/// Questions that are answered together at most.
const AT_ONCE: usize = 512;

pub(super) fn start(
    mut link: Link,
    records: Records,
    queue: Receiver<Question>,
    receipts: Receipts,
) -> Result<JoinHandle<()>, StoreError> {
    spawn("roost-records", move || {
        while let Ok(first) = queue.recv() {
            let mut questions = vec![first];
            questions.extend(queue.try_iter().take(AT_ONCE - 1));
            let aors: Vec<&[u8]> = questions.iter().map(|question| &*question.aor).collect();
            let found = link.run(|client| records.read(client, &aors));
            let record = |at: usize| match &found {
                Ok(records) => Ok(records.get(at).map_or_else(StoredRecord::default, |one| one.stored())),
                Err(error) => Err(error.to_string()),
            };
            let told = questions.iter().enumerate();
            receipts(told.map(|(at, one)| (one.shard, Receipt::Record(one.ticket, record(at)))).collect());
        }
    })
}
