//! Transactions that go on in the process after this one (`roost upgrade`): with their tickets, so that answers to what was sent before
//! find them.

use std::hash::BuildHasher;

use roost_sip::Method;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::base::flow::Ticket;
use crate::contract::context::Ctx;
use crate::message::request::Request;
use crate::transaction::arena::Arena;
use crate::transaction::client::ClientTransaction;
use crate::transaction::server::ServerTransaction;
use crate::transaction::timers::{AlarmKind, LINGER_MS, T1_MS, T2_MS};
use crate::transaction::{Transaction, Transactions};

/// One of them, with what its owner takes along.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MovedTransaction<P> {
    ticket: Ticket,
    server: ServerTransaction,
    clients: SmallVec<[ClientTransaction; 1]>,
    arena: Arena,
    owner: P,
}

impl<O> Transactions<O> {
    /// Takes those out whose owner can go along, once nothing else happens here.
    pub(crate) fn moved<P>(&mut self, mut owner: impl FnMut(O) -> Option<P>) -> Vec<MovedTransaction<P>> {
        let tickets = self.entries.tickets(|one| one.server.is_some() && !one.is_terminated());
        let mut moved = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            let Some(Transaction { server: Some(server), clients, arena, owner: own }) =
                self.entries.remove(ticket)
            else {
                continue;
            };
            if let Some(owner) = owner(own) {
                moved.push(MovedTransaction { ticket, server, clients, arena, owner });
            }
        }
        moved
    }

    /// Takes up those of another process. There must be none here yet. The tickets of those that nothing is awaited for any more.
    pub(crate) fn take_moved<P>(
        &mut self,
        ctx: &mut Ctx<'_>,
        moved: Vec<MovedTransaction<P>>,
        owner: impl Fn(P) -> O,
    ) -> Vec<Ticket> {
        let mut entries = Vec::with_capacity(moved.len());
        for MovedTransaction { ticket, mut server, clients, arena, owner: own } in moved {
            // Hashes are of each process.
            server.key_hash = ctx.hasher.hash_one(arena.text(server.key));
            self.index.insert_unique(server.key_hash, (server.key_hash, ticket), |(hash, _)| *hash);
            let (request, source) = (arena.text(server.request), server.source);
            server.cancel_hash = ctx
                .with_head(request, |ctx, head| {
                    let request = Request::new(ctx.policy, source, request, head)?;
                    (request.method == Method::Invite).then(|| Self::cancel_hash(ctx, &request))
                })
                .flatten();
            if let Some(hash) = server.cancel_hash {
                self.invites.insert(hash, ticket);
            }
            entries.push((ticket, Transaction { server: Some(server), clients, arena, owner: owner(own) }));
        }
        let tickets: Vec<Ticket> = entries.iter().map(|(ticket, _)| *ticket).collect();
        self.entries.restore(entries);
        tickets.iter().for_each(|ticket| self.set_alarms(ctx, *ticket));
        tickets.into_iter().filter(|ticket| self.is_open(*ticket) && !self.is_any_awaited(*ticket)).collect()
    }

    /// Sets what alarms a transaction's state needs; each looks again whether its time has come.
    fn set_alarms(&mut self, ctx: &Ctx<'_>, ticket: Ticket) {
        let Some(transaction) = self.entries.get(ticket) else { return };
        let mut alarms: Vec<(u64, AlarmKind)> = Vec::new();
        if let Some(server) = transaction.server.as_ref().filter(|server| !server.is_open()) {
            alarms.push((LINGER_MS, AlarmKind::ServerEnd));
            alarms.extend(server.resends_after_ms().map(|ms| (ms, AlarmKind::ServerResend)));
        }
        for (index, client) in transaction.clients.iter().enumerate() {
            let index = index as u16;
            if !client.is_open() {
                alarms.push((LINGER_MS, AlarmKind::ClientEnd(index)));
                continue;
            }
            let left_ms = client.deadline_ms.saturating_sub(ctx.now.mono_ms);
            let after_ms = match client.is_ringing() {
                true => [LINGER_MS, T2_MS].into_iter().find(|ms| *ms <= left_ms).unwrap_or(T1_MS),
                // It is not looked at twice: late rather than early.
                false => u64::from(ctx.policy.tm.fr_timeout_s) * 1_000,
            };
            alarms.push((after_ms, AlarmKind::ClientTimeout(index)));
            if !client.flow.transport.is_reliable() {
                alarms.push((T1_MS, AlarmKind::ClientResend(index)));
                alarms.push((T1_MS, AlarmKind::CancelResend(index)));
            }
        }
        for (after_ms, kind) in alarms {
            self.set_alarm(ctx, after_ms, ticket, kind);
        }
    }
}
