//! The simulated world's store behind the queues of a real one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use roost_cluster::{Change, News, Nodes, Receipts, Running, queues};
use roost_core::{CommitOutcome, Receipt};
use roost_sim::nodes::Store;

/// Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Simulated {
    store: Arc<Mutex<Store>>,
    is_away: Arc<AtomicBool>,
    hears: Arc<Mutex<Vec<News>>>,
}

impl Simulated {
    pub(crate) fn kill(&self) {
        self.is_away.store(true, Ordering::Relaxed);
        self.tell(&Change::Doubtful);
    }

    pub(crate) fn restart(&self) {
        self.is_away.store(false, Ordering::Relaxed);
    }

    fn tell(&self, change: &Change) {
        self.hears.lock().unwrap().iter().for_each(|news| news(change.clone()));
    }

    /// What cannot be done while it is away.
    fn check(&self) -> Result<(), String> {
        let is_away = self.is_away.load(Ordering::Relaxed);
        if is_away { Err("it is away".to_string()) } else { Ok(()) }
    }

    pub(crate) fn share(&self, receipts: &Receipts, news: &News) -> Running {
        let (handle, speaker, queues) = queues();
        news(Change::Doubtful);
        self.hears.lock().unwrap().push(Arc::clone(news));
        let (own, told) = (self.clone(), Arc::clone(receipts));
        let write = move || {
            for commit in queues.commits.iter().flatten() {
                let outcome = match own.check() {
                    Ok(()) => {
                        own.store.lock().unwrap().compare_and_set(&commit.planned, &commit.writes, true)
                    }
                    Err(why) => CommitOutcome::Failed(why),
                };
                if let CommitOutcome::Stored(version) = outcome {
                    own.tell(&Change::Record { aor: commit.planned.aor, version });
                }
                told(vec![(commit.shard, Receipt::Commit(commit.ticket, outcome))]);
            }
        };
        let (own, told) = (self.clone(), Arc::clone(receipts));
        let read = move || {
            for question in queues.questions {
                let found = own.check().map(|()| own.store.lock().unwrap().record(&question.aor));
                told(vec![(question.shard, Receipt::Record(question.ticket, found))]);
            }
        };
        let workers: Vec<JoinHandle<()>> = vec![std::thread::spawn(write), std::thread::spawn(read)];
        Running::new((handle, speaker), workers, Vec::new(), Nodes::default())
    }
}
