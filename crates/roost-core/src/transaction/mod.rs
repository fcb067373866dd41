//! Transactions (RFC 3261 section 17): a server side towards the sender of a request, client sides towards those that it
//! was sent on to, and their timers.
//!
//! The state machines are tables in `machines.rs`; `server.rs` and `client.rs` do what they say. What a response means for
//! its request is not decided here: a client transaction's end goes to its owner as a [`ClientOutcome`]. A transaction is
//! found by what a retransmission of its request repeats (server side) or by our own branch parameter, which leads
//! straight to its slot.

pub(crate) mod arena;
pub(crate) mod client;
mod machines;
pub(crate) mod moved;
pub(crate) mod server;
pub(crate) mod timers;

use std::hash::BuildHasher;

use hashbrown::{HashMap, HashTable};
use roost_sip::{HeaderName, Method};
use smallvec::SmallVec;

use crate::base::flow::{Flow, Ticket};
use crate::base::hash::KeyedState;
use crate::base::mac::{Purpose, mac};
use crate::base::tickets::Tickets;
use crate::contract::context::Ctx;
use crate::message::request::Request;
use crate::message::server_key::server_key;
use arena::{Arena, Arenas, Stored};
use client::{ClientOutcome, ClientTransaction};
use machines::{ClientEvent, ServerEvent};
use server::ServerTransaction;
use timers::{Alarm, AlarmKind, Timers};

/// All transactions of one shard. `O` owns what belongs together: it hears of the ends of its client transactions.
#[derive(Debug)]
pub(crate) struct Transactions<O> {
    entries: Tickets<Transaction<O>>,
    /// Tickets by what a retransmission of the request repeats, see [`server_key`].
    index: HashTable<(u64, Ticket)>,
    /// The newest INVITE of each [`Transactions::cancel_hash`]: its CANCEL is found whatever its Via says of its host.
    invites: HashMap<u64, Ticket, KeyedState>,
    arenas: Arenas,
    timers: Timers,
    /// Makes the branches of this process's life unlike those of the one before.
    salt: u64,
    branches_made: u64,
}

/// A request that is being answered, sent, or both.
#[derive(Debug)]
struct Transaction<O> {
    /// None for a request of roost's own.
    server: Option<ServerTransaction>,
    clients: SmallVec<[ClientTransaction; 1]>,
    arena: Arena,
    owner: O,
}

impl<O> Transaction<O> {
    fn is_terminated(&self) -> bool {
        self.server.as_ref().is_none_or(ServerTransaction::is_terminated)
            && self.clients.iter().all(ClientTransaction::is_terminated)
    }

    /// Whether the server side may still say more than it has said last.
    fn is_answered(&self) -> bool {
        self.server.as_ref().is_none_or(|server| !server.is_open())
    }
}

impl<O> Transactions<O> {
    /// None yet; `salt` is drawn at random.
    pub(crate) fn new(salt: u64, hash_seed: u64) -> Transactions<O> {
        Transactions {
            entries: Tickets::default(),
            index: HashTable::new(),
            invites: HashMap::with_hasher(KeyedState::new(hash_seed)),
            arenas: Arenas::default(),
            timers: Timers::default(),
            salt,
            branches_made: 0,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that they hold.
    pub(crate) fn held(&self) -> usize {
        self.arenas.held()
    }

    /// The transaction that a request belongs to; an ACK or CANCEL belongs to its INVITE.
    pub(crate) fn find(&self, ctx: &mut Ctx<'_>, request: &Request<'_>) -> Option<Ticket> {
        let method: &[u8] = match request.method {
            Method::Ack | Method::Cancel => b"INVITE",
            _ => request.method_name,
        };
        let mut key = ctx.buffers.take_text();
        server_key(request, method, &mut key);
        let is_it = |(_, ticket): &(u64, Ticket)| {
            self.entries.get(*ticket).is_some_and(|transaction| {
                transaction.server.as_ref().is_some_and(|server| transaction.arena.text(server.key) == key)
            })
        };
        let found = self.index.find(ctx.hasher.hash_one(&key[..]), is_it).map(|(_, ticket)| *ticket);
        ctx.buffers.give_text(key);
        match found {
            None if request.method == Method::Cancel => {
                self.invites.get(&Self::cancel_hash(ctx, request)).copied()
            }
            found => found,
        }
    }

    /// What an INVITE and its CANCEL share although a phone whose address has changed writes another host into the second
    /// Via: branch, Call-ID, From tag, CSeq number and where they come from.
    fn cancel_hash(ctx: &Ctx<'_>, request: &Request<'_>) -> u64 {
        let cseq = request.cseq().map(|cseq| cseq.number);
        let tag = request.sender_tag();
        ctx.hasher.hash_one((request.via.branch, request.call_id(), tag, cseq, request.flow.remote))
    }

    /// Who owns a transaction.
    pub(crate) fn owner(&self, ticket: Ticket) -> Option<&O> {
        self.entries.get(ticket).map(|transaction| &transaction.owner)
    }

    /// The owner, to change it.
    pub(crate) fn owner_mut(&mut self, ticket: Ticket) -> Option<&mut O> {
        self.entries.get_mut(ticket).map(|transaction| &mut transaction.owner)
    }

    /// Keeps a text for as long as its transaction sends requests on; empty where there is none such.
    pub(crate) fn store(&mut self, ticket: Ticket, text: &[u8]) -> Stored {
        match self.entries.get_mut(ticket).filter(|_| !text.is_empty()) {
            Some(transaction) => transaction.arena.add(&mut self.arenas, text),
            None => Stored::default(),
        }
    }

    /// Replaces a text that is kept.
    pub(crate) fn store_instead(&mut self, ticket: Ticket, stored: &mut Stored, text: &[u8]) {
        if let Some(transaction) = self.entries.get_mut(ticket) {
            transaction.arena.set(&mut self.arenas, stored, text);
        }
    }

    /// A text that is kept.
    pub(crate) fn text(&self, ticket: Ticket, stored: Stored) -> &[u8] {
        self.entries.get(ticket).map_or(&[], |transaction| transaction.arena.text(stored))
    }

    /// Where a request came from, and a copy of it; `None` once it was answered finally.
    pub(crate) fn copy_request(&self, ticket: Ticket, copy: &mut Vec<u8>) -> Option<Flow> {
        let transaction = self.entries.get(ticket)?;
        let server = transaction.server.as_ref()?;
        copy.extend_from_slice(transaction.arena.text(server.request));
        (!copy.is_empty()).then_some(server.source)
    }

    /// Does what an alarm is about, if it still fits; what it means for the owner. [`Transactions::close_if_done`] follows.
    pub(crate) fn handle_alarm(&mut self, ctx: &mut Ctx<'_>, alarm: Alarm) -> Option<ClientOutcome> {
        let ticket = alarm.transaction;
        match alarm.kind {
            AlarmKind::ServerResend => self.server_resend(ctx, ticket),
            AlarmKind::ServerEnd => {
                if let Some(server) = self.server_mut(ticket) {
                    server.step(ServerEvent::End);
                }
            }
            AlarmKind::ClientResend(index) => self.client_resend(ctx, ticket, index),
            AlarmKind::ClientTimeout(index) => return self.client_timeout(ctx, ticket, index),
            AlarmKind::ClientEnd(index) => {
                if let Some(client) = self.client_mut(ticket, index) {
                    client.step(ClientEvent::End);
                }
            }
            AlarmKind::CancelResend(index) => self.cancel_resend(ctx, ticket, index),
        }
        None
    }

    /// An alarm that is due, the earliest first.
    pub(crate) fn pop_alarm(&mut self, now_ms: u64) -> Option<Alarm> {
        self.timers.pop_due(now_ms)
    }

    /// When the next alarm is due, in monotonic milliseconds.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.timers.next_due()
    }

    /// Forgets a transaction all of whose sides have ended.
    pub(crate) fn close_if_done(&mut self, ticket: Ticket) {
        if !self.entries.get(ticket).is_some_and(Transaction::is_terminated) {
            return;
        }
        let Some(transaction) = self.entries.remove(ticket) else { return };
        if let Some(server) = &transaction.server
            && let Ok(entry) = self.index.find_entry(server.key_hash, |(_, other)| *other == ticket)
        {
            entry.remove();
        }
        if let Some(hash) = transaction.server.as_ref().and_then(|server| server.cancel_hash)
            && self.invites.get(&hash) == Some(&ticket)
        {
            self.invites.remove(&hash);
        }
        self.arenas.close(transaction.arena);
    }

    /// 64 bits that only this process's life can know.
    pub(crate) fn fresh_secret(&mut self, ctx: &Ctx<'_>, ticket: Ticket) -> u64 {
        self.branches_made = self.branches_made.wrapping_add(1);
        let parts = [self.salt, ticket.0, self.branches_made].map(u64::to_be_bytes);
        let [salt, ticket, made] = &parts;
        let mac = mac(&ctx.identity.mac_key, Purpose::Branch, &[salt, ticket, made]);
        u128::from_be_bytes(mac) as u64
    }

    fn server_mut(&mut self, ticket: Ticket) -> Option<&mut ServerTransaction> {
        self.entries.get_mut(ticket)?.server.as_mut()
    }

    fn client_mut(&mut self, ticket: Ticket, index: u16) -> Option<&mut ClientTransaction> {
        self.entries.get_mut(ticket)?.clients.get_mut(usize::from(index))
    }

    fn set_alarm(&mut self, ctx: &Ctx<'_>, after_ms: u64, transaction: Ticket, kind: AlarmKind) {
        self.timers.set(ctx.now.mono_ms, after_ms, Alarm { transaction, kind });
    }

    /// Gives back what nobody needs any more: once the request is answered and no client transaction is open, that is all
    /// but what a retransmission is known by and answered with.
    fn shrink_if_settled(&mut self, ticket: Ticket) {
        let Some(transaction) = self.entries.get_mut(ticket) else { return };
        if !transaction.is_answered() || transaction.clients.iter().any(ClientTransaction::is_open) {
            return;
        }
        let server = transaction.server.iter_mut().flat_map(|server| [&mut server.key, &mut server.last]);
        let clients = transaction.clients.iter_mut().filter(|client| client.is_completed());
        let texts: SmallVec<[&mut Stored; 4]> =
            server.chain(clients.map(|client| &mut client.sent)).collect();
        let mut kept = self.arenas.open(texts.iter().map(|text| text.len()).sum());
        texts.into_iter().for_each(|text| transaction.arena.move_to(&mut kept, text));
        self.arenas.close(std::mem::replace(&mut transaction.arena, kept));
    }
}

/// A hash of what the routing of a request depends on.
pub(crate) fn routing_hash(ctx: &Ctx<'_>, request: &Request<'_>) -> u32 {
    let routes = request.value(HeaderName::Route);
    let cseq = request.value(HeaderName::CSeq);
    ctx.hasher.hash_one((request.uri, routes, request.call_id(), request.sender_tag(), cseq)) as u32
}

#[cfg(test)]
mod tests;
