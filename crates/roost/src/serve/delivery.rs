//! Joins the crates: what an engine asks for goes to what does it, and answers go to the inbox of the shard that asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use roost_core::{Admin, AdminReply, Command, Config, Reading, Receipt, ShardId, Ticket};
use roost_net::{Clock, Inbox, InboxItem, Resolver, Streams};
use roost_store::{Commit, ReadTold, StoreHandle};
use tokio::sync::oneshot;

/// Operators' requests that wait for their answers.
pub(super) type Questions = Arc<Mutex<HashMap<Ticket, oneshot::Sender<AdminReply>>>>;

/// Takes the commands of a worker.
pub(super) type Dispatch = Box<dyn FnMut(&mut Vec<Command>) + Send>;

/// Hands receipts to the inboxes of their shards, a batch for each.
pub(super) fn deliver(inboxes: &[Inbox], receipts: Vec<(ShardId, Receipt)>) {
    let mut by_shard: Vec<Vec<InboxItem>> = inboxes.iter().map(|_| Vec::new()).collect();
    for (shard, receipt) in receipts {
        if let Some(batch) = by_shard.get_mut(usize::from(shard.0)) {
            batch.push(InboxItem::Receipt(receipt));
        }
    }
    for (inbox, batch) in inboxes.iter().zip(by_shard) {
        if !batch.is_empty() {
            inbox.post(batch);
        }
    }
}

/// Takes rows of the subscriber table to the shards of their users.
pub(super) fn reading_teller(
    config: Arc<Config>,
    inboxes: Arc<Vec<Inbox>>,
    clock: Clock,
) -> Box<dyn FnMut(ReadTold) + Send> {
    let mut since_ms = 0;
    Box::new(move |told| match told {
        ReadTold::Begin => since_ms = clock.now().mono_ms,
        ReadTold::Part(Reading::Rows(rows)) => {
            let mut by_shard: Vec<Vec<_>> = inboxes.iter().map(|_| Vec::new()).collect();
            for row in rows {
                let shard = config.identity.shard_of(&row.user);
                if let Some(batch) = by_shard.get_mut(usize::from(shard.0)) {
                    batch.push(row);
                }
            }
            for (inbox, rows) in inboxes.iter().zip(by_shard) {
                inbox.post([InboxItem::Reading(Reading::Rows(rows), since_ms)]);
            }
        }
        ReadTold::Part(other) => {
            for inbox in inboxes.iter() {
                inbox.post([InboxItem::Reading(other.clone(), since_ms)]);
            }
        }
    })
}

/// Takes a worker's commands to what does them.
pub(super) fn dispatcher(
    shard: ShardId,
    (store, location): (StoreHandle, Option<roost_cluster::Handle>),
    questions: Questions,
    resolver: Resolver,
    streams: Option<Streams>,
) -> Dispatch {
    Box::new(move |commands| {
        let (mut commits, mut shared) = (Vec::new(), Vec::new());
        for command in commands.drain(..) {
            match command {
                Command::Commit { ticket, writes, planned: Some(planned), .. } if location.is_some() => {
                    shared.push(roost_cluster::Commit { shard, ticket, writes, planned: *planned });
                }
                Command::Commit { ticket, writes, exclusive, .. } => {
                    commits.push(Commit { shard, ticket, writes, exclusive });
                }
                // A shared store forgets by itself what has expired.
                Command::Purge { .. } if location.is_some() => {}
                Command::Purge { writes } => store.purge(writes),
                Command::LoadRecord { ticket, aor } => {
                    if let Some(location) = &location {
                        location.load(shard, ticket, aor);
                    }
                }
                Command::LoadCredentials { ticket, user, domain } => {
                    store.load_credentials(shard, ticket, user, domain);
                }
                Command::AdminReply { ticket, reply } => {
                    let asked = questions.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
                    if let Some(answer) = asked {
                        let _ = answer.send(reply);
                    }
                }
                Command::Resolve { ticket, name } => resolver.resolve(shard, ticket, name),
                Command::KeepConnection { connection, until_ms } => {
                    if let Some(streams) = &streams {
                        streams.keep(connection, until_ms);
                    }
                }
                // The worker has taken these: it knows which shards are its own.
                Command::ToShard(_) | Command::Tell { .. } => {}
            }
        }
        if !commits.is_empty() {
            store.commit(commits);
        }
        if let Some(location) = location.as_ref().filter(|_| !shared.is_empty()) {
            location.commit(shared);
        }
    })
}

/// Takes operators' requests to the shards.
pub(super) fn asker(inboxes: Arc<Vec<Inbox>>, questions: Questions) -> roost_admin::Ask {
    let next = AtomicU64::new(1);
    Arc::new(move |shard: ShardId, request: Admin| {
        let (answer, answered) = oneshot::channel();
        let ticket = Ticket(next.fetch_add(1, Ordering::Relaxed));
        if let Some(inbox) = inboxes.get(usize::from(shard.0)) {
            questions.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, answer);
            inbox.post([InboxItem::Admin(ticket, request)]);
        }
        answered
    })
}
