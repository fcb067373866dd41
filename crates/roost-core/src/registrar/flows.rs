//! Connections as the engine knows them: which bindings were made over one, and what becomes of them, and of messages
//! under way, when it is gone. The connections themselves are kept by a shell.

use std::net::SocketAddr;

use roost_sip::{HeaderName, StartLine, Via};

use crate::base::flow::{Flow, Now, Transport};
use crate::base::stats::Counter;
use crate::contract::outbox::{Command, News, Outbox};
use crate::dispatch::monitor::PINGS;
use crate::engine::Engine;
use crate::message::branch_id::BranchId;
use crate::registrar::binding::Binding;
use crate::registrar::location::RecordId;

/// How long a connection outlives the last binding that was made over it, in milliseconds (S47).
const AFTER_BINDINGS_MS: u64 = 10_000;

impl Engine {
    /// A binding that was made over a connection is committed: the connection lives as long as it.
    pub(crate) fn keep_connection(
        &mut self,
        record: RecordId,
        connection: u64,
        deadline_ms: u64,
        out: &mut Outbox,
    ) {
        let hasher = self.hasher;
        let of = self.connections.entry(connection);
        of.or_insert_with(|| hashbrown::HashSet::with_hasher(hasher)).insert(record);
        let until_ms = deadline_ms.saturating_add(AFTER_BINDINGS_MS);
        out.commands.push(Command::KeepConnection { connection, until_ms });
    }

    /// A connection is gone: its bindings stay, without a way.
    pub(crate) fn connection_closed(&mut self, connection: u64) {
        for id in self.connections.remove(&connection).into_iter().flatten() {
            self.location.change(id, |record| {
                let lost = record.bindings.iter_mut().filter(|binding| binding.connection() == connection);
                lost.for_each(Binding::lose_connection);
            });
        }
    }

    /// A message of ours could not be sent. A response looks for another way (RFC 3261 18.2.2), a request's branch has
    /// failed.
    pub(crate) fn unsent(&mut self, flow: &Flow, message: &[u8], now: Now, out: &mut Outbox) {
        self.stats.count(Counter::Unsent);
        if flow.connection != 0 {
            self.connection_closed(flow.connection);
        }
        let mut told = None;
        self.with_head(message, |engine, head| {
            let via = head.value(message, HeaderName::Via).and_then(|value| Via::parse(value).ok());
            told = match head.start_line() {
                StartLine::Response { .. } => {
                    // To the address that the request came from, whatever the Via says beside its port.
                    let port = |via: Via<'_>| via.port.unwrap_or(5060);
                    let port = via.filter(|_| flow.connection != 0).map(port);
                    let remote = port.map(|port| SocketAddr::new(flow.remote.ip(), port));
                    let other = remote.map(|to| engine.config.flow_to(Transport::Tcp, flow.local, to));
                    if let Some(Ok(other)) = other {
                        out.send(other, |bytes| bytes.extend_from_slice(message));
                    }
                    None
                }
                StartLine::Request { name, .. } => {
                    let id = via.and_then(|via| BranchId::parse(via.branch?));
                    // A CANCEL has its INVITE's branch, which nobody will answer now.
                    id.filter(|id| name.of(message) != b"ACK" && id.transaction != PINGS)
                }
            };
        });
        let Some(id) = told else { return };
        if id.shard != self.shard {
            let news = News::Unsent(*flow, message.into());
            return out.commands.push(Command::Tell { shard: Some(id.shard), news });
        }
        let code = if flow.connection != 0 { 480 } else { 477 };
        self.branch_unsent(id, code, now, out);
    }
}
