//! The server of the simulated world: a process of several engines, which is fed, listened to, killed and started.
//!
//! It stands where the workers of `roost-net` and the threads of `roost-store` stand: it carries out what the engines
//! want, in their order, and decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use roost_core::{
    CallCount, Command, Engine, Flow, HandOver, Mark, Now, Outbox, Receipt, Row, ShardEvent, ShardId, Write,
};
use roost_sip::Head;

use crate::checks::Scene;
use crate::client::Reply;
use crate::harness::statistic;
use crate::scenario::{Crash, Loading, SERVER};
use crate::store::{Answer, aor_of};
use crate::world::previews::handle_previewed;
use crate::world::{BASE_MS, Event, World, is_of_register};

/// A running process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) engines: Vec<Engine>,
    /// When each engine is called next.
    ticks: Vec<u64>,
    /// When its monotonic clock stood at [`BASE_MS`].
    pub(crate) started_ms: u64,
    /// While rows are read: all with smaller ids have been.
    pub(crate) read_up_to: Option<u64>,
}

impl World {
    /// Calls an engine, then carries out and checks what it wants.
    pub(crate) fn with_engine(
        &mut self,
        shard: ShardId,
        call: impl FnOnce(&mut Engine, &mut Head, Now, &mut Outbox),
    ) -> Result<(), String> {
        self.sent.clear();
        let now = self.now();
        let Some(server) = &mut self.server else { return Ok(()) };
        let Some(engine) = server.engines.get_mut(usize::from(shard.0)) else {
            return Err(format!("a message for shard {}, which is not there", shard.0));
        };
        call(engine, &mut self.head, now, &mut self.outbox);
        self.flush(shard)?;
        self.schedule(shard);
        self.glance()
    }

    fn flush(&mut self, shard: ShardId) -> Result<(), String> {
        let mut outbox = std::mem::take(&mut self.outbox);
        for transmit in &outbox.transmits {
            let (to, bytes) = (transmit.flow.remote, outbox.message(transmit));
            if is_of_register(&mut self.head, bytes) {
                self.transmit(transmit.flow, bytes)?;
            } else {
                self.transmit_call(to, bytes)?;
            }
        }
        for command in outbox.commands.drain(..) {
            self.command(shard, command, &outbox.bytes)?;
        }
        for event in outbox.events.drain(..) {
            self.told(&event)?;
        }
        outbox.clear();
        self.outbox = outbox;
        Ok(())
    }

    /// What an engine tells is so: a binding is shown, and its row is in the table; one that is gone is not shown.
    fn told(&mut self, event: &roost_core::Event) -> Result<(), String> {
        self.told += 1;
        self.kept_calls.take(event);
        let (roost_core::Event::Registered { aor, contact, .. }
        | roost_core::Event::Unregistered { aor, contact, .. }) = event
        else {
            return Ok(());
        };
        let is_there = self.store.tables.rows_of(aor).any(|row| row.contact_id == contact.contact_id);
        let is_registered = matches!(event, roost_core::Event::Registered { .. });
        match is_registered && self.config.identity.write_through && !is_there {
            true => Err(format!("told before it is durable: {event:?}")),
            false => Ok(()),
        }
    }

    fn transmit(&mut self, flow: Flow, bytes: &[u8]) -> Result<(), String> {
        self.trace.add(self.now_ms, flow.remote, bytes);
        let Some(reply) = Reply::parse(&mut self.head, bytes) else {
            return Err(format!("an answer that is none: {}", String::from_utf8_lossy(bytes)));
        };
        self.note(|| format!("{} <- {} {} (CSeq {})", flow.remote, reply.status, reply.reason, reply.cseq));
        let place = self.checks.asker(reply.branch).unwrap_or(0);
        let aor = self.phones[place].plan.aor.clone();
        let shown = self.lookup(place);
        let scene = Scene {
            now_ms: self.now_ms,
            unix_s: self.unix_s(),
            tables: &self.store.tables,
            aor: &aor,
            shown: &shown,
        };
        self.checks.reply(scene, flow, bytes.len(), &reply)?;
        if let Some(asked) = self.checks.asked(reply.branch) {
            self.model.answered(&aor, asked, flow.remote, &reply, self.now_ms)?;
        }
        self.answered.push(place);
        for delay_ms in self.network.copies() {
            let event = Event::Deliver { to: flow.remote, bytes: bytes.to_vec() };
            self.queue.push(self.now_ms + delay_ms, event);
        }
        Ok(())
    }

    fn command(&mut self, shard: ShardId, command: Command, bytes: &[u8]) -> Result<(), String> {
        let process = self.process;
        let receipt = match &command {
            Command::Commit { ticket, .. } => Some((shard, *ticket)),
            _ => None,
        };
        match command {
            Command::Commit { writes, .. } | Command::Purge { writes } => {
                if !self.config.identity.write_through {
                    return Err(format!("writes in memory mode: {writes:?}"));
                }
                self.note(|| format!("shard {} writes: {}", shard.0, brief(&writes)));
                if let Some((shard, ticket)) = receipt {
                    self.model.commit_asked(shard, ticket, self.now_ms);
                }
                let due_ms = self.store.submit(self.now_ms, receipt, writes);
                self.queue.push(due_ms, Event::StoreDue { process });
            }
            Command::LoadRecord { aor, .. } => return Err(format!("{aor:?} is read, and nothing is shared")),
            Command::LoadCredentials { ticket, user, domain } => {
                let answer = self.store.lookup(self.now_ms, shard, ticket, &user, domain.as_deref());
                let event = Event::Receipt { process, shard, receipt: answer.receipt };
                self.queue.push(answer.at_ms, event);
            }
            Command::ToShard(HandOver { shard, flow, start, end, mark }) => {
                self.handed_over += 1;
                let at_ms = self.now_ms + self.dice.below(4);
                let bytes = bytes[start..end].into();
                let caused = self.caused + self.sent.len();
                self.queue.push(at_ms, Event::HandOver { process, shard, flow, bytes, mark, caused });
            }
            // No name leads anywhere in this world.
            Command::Resolve { ticket, .. } => {
                let receipt = Receipt::Resolved(ticket, Vec::new());
                self.queue.push(self.now_ms + 1, Event::Receipt { process, shard, receipt });
            }
            Command::Tell { shard: None, event: news @ ShardEvent::Banned(_) } => {
                for shard in (0..self.config.identity.shards).map(ShardId) {
                    let at_ms = self.now_ms + self.dice.below(4);
                    self.news_under_way += 1;
                    self.queue.push(at_ms, Event::Told { process, shard, news: news.clone() });
                }
            }
            Command::Tell {
                shard: Some(shard),
                event: news @ (ShardEvent::CallStep(_) | ShardEvent::Agent(..)),
            } => {
                // Not by the dice: the rest of the world goes on as if there were no calls to tell of.
                self.news_under_way += 1;
                self.queue.push(self.now_ms + 2, Event::Told { process, shard, news });
            }
            Command::Tell { .. } | Command::KeepConnection { .. } => {
                return Err("news of hops or connections that there are not".to_string());
            }
            Command::AdminReply { .. } => {
                return Err("an answer to an operator who asked nothing".to_string());
            }
        }
        Ok(())
    }

    pub(crate) fn store_done(&mut self) {
        let process = self.process;
        for done in self.store.take_due(self.now_ms) {
            let Some(Answer { at_ms, shard, receipt }) = done.receipt else { continue };
            if let Receipt::Commit(ticket, _) = &receipt {
                self.checks.written(shard, *ticket, done.applied, done.is_answer_lost);
            }
            self.queue.push(at_ms, Event::Receipt { process, shard, receipt });
        }
    }

    /// A datagram goes to the worker that the kernel chooses by its source, whichever shard owns its user.
    pub(crate) fn arrive(
        &mut self,
        from: SocketAddr,
        branch: Option<u64>,
        bytes: &[u8],
    ) -> Result<(), String> {
        let Some(server) = &self.server else { return Ok(()) };
        let shard = ShardId(from.port() % server.engines.len() as u16);
        let Some(branch) = branch else { return self.feed_call(shard, from, bytes, None, 0) };
        if let Some(place) = self.checks.asker(branch) {
            self.checks.delivered(branch, from, &self.phones[place].plan.aor, self.now_ms);
        }
        self.note(|| format!("{from} -> shard {}: {}", shard.0, first_lines(bytes)));
        self.give(shard, Flow::udp(SERVER, from), bytes, None)
    }

    pub(crate) fn hand_over(
        &mut self,
        shard: ShardId,
        flow: Flow,
        bytes: &[u8],
        mark: Mark,
        caused: usize,
    ) -> Result<(), String> {
        if !is_of_register(&mut self.head, bytes) {
            return self.feed_call(shard, flow.remote, bytes, Some(mark), caused);
        }
        let before = self.handed_over;
        self.give(shard, flow, bytes, Some(mark))?;
        match self.handed_over > before {
            true => Err("a message was handed over twice".to_string()),
            false => Ok(()),
        }
    }

    /// An engine is given a message, by the network or by another shard.
    pub(crate) fn give(
        &mut self,
        shard: ShardId,
        flow: Flow,
        bytes: &[u8],
        mark: Option<Mark>,
    ) -> Result<(), String> {
        let is_previewed = self.options.previews;
        let mut went = Ok(false);
        self.with_engine(shard, |engine, head, now, out| match (head.parse(bytes), mark) {
            (Ok(()), mark) if is_previewed => {
                went = handle_previewed(engine, (&flow, bytes, head), mark, now, out);
            }
            (Ok(()), None) => engine.handle_message(&flow, bytes, head, now, out),
            (Ok(()), Some(mark)) => engine.handle_handed_over(&flow, bytes, head, mark, now, out),
            (Err(error), _) => engine.handle_unreadable(error),
        })?;
        self.previewed += u64::from(went?);
        Ok(())
    }

    pub(crate) fn tick(&mut self, shard: ShardId) -> Result<(), String> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let place = usize::from(shard.0);
        if server.ticks[place] != self.now_ms {
            return Ok(());
        }
        server.ticks[place] = u64::MAX;
        self.with_engine(shard, |engine, _, now, out| engine.handle_timeout(now, out))?;
        let now = self.now();
        match self.server.as_ref().map(|server| server.engines[place].poll_timeout()) {
            Some(due_ms) if due_ms <= now.mono_ms => {
                Err(format!("shard {place} wants to be called at once for ever"))
            }
            _ => Ok(()),
        }
    }

    /// Sees to it that an engine is called when it wants to be.
    fn schedule(&mut self, shard: ShardId) {
        let process = self.process;
        let Some(server) = &mut self.server else { return };
        let place = usize::from(shard.0);
        let wanted_ms = server.engines[place].poll_timeout().saturating_sub(BASE_MS) + server.started_ms;
        let due_ms = wanted_ms.max(self.now_ms);
        if due_ms < server.ticks[place] {
            server.ticks[place] = due_ms;
            self.queue.push(due_ms, Event::Tick { process, shard });
        }
    }

    /// The process dies with all that it had in hand.
    pub(crate) fn crash(&mut self, crash: Crash) -> Result<(), String> {
        let now = self.now();
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let has_lost_track =
            server.engines.iter_mut().any(|engine| statistic(engine, "roost:doubts_full", now) > 0);
        self.note(|| "the server dies".to_string());
        self.crashes += 1;
        let news_under_way = std::mem::take(&mut self.news_under_way);
        self.process += 1;
        self.store.crash();
        self.checks.crashed(self.now_ms, has_lost_track);
        let is_exact = news_under_way == 0 && !self.options.lets_anybody_call;
        if crash.has_new_keys {
            // Phones could not name them.
            self.kept_calls.forget();
        }
        self.call_checks.crashed(&self.kept_calls.tags(), is_exact && !crash.has_new_keys, self.now_ms)?;
        self.model.crashed(self.now_ms);
        if crash.has_new_keys {
            let mut config = (*self.config).clone();
            config.identity.mac_key = self.dice.key();
            config.identity.hash_seed = self.dice.next_u64();
            self.config = Arc::new(config);
        }
        self.queue.push(self.now_ms + crash.down_ms, Event::Restart);
        Ok(())
    }

    /// A process starts: rows come in, page by page, beside what is served.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        let mut config = (*self.config).clone();
        config.identity.epoch = self.process as u8;
        config.identity.calls = CallCount::default();
        self.config = Arc::new(config);
        let shards = self.config.identity.shards;
        let mut engines: Vec<Engine> =
            (0..shards).map(|shard| Engine::new(&self.config, ShardId(shard), self.dice.rng())).collect();
        engines.iter_mut().for_each(Engine::begin_loading);
        self.store.tables.purge(self.unix_s());
        let ticks = vec![u64::MAX; engines.len()];
        self.server = Some(Server { engines, ticks, started_ms: self.now_ms, read_up_to: Some(0) });
        (0..shards).for_each(|shard| self.schedule(ShardId(shard)));
        for shard in (0..shards).map(ShardId) {
            if self.options.forgets_calls {
                continue;
            }
            let own = self.kept_calls.of(shard, shards);
            self.with_engine(shard, |engine, _, now, out| engine.restore_calls(&own, now, out))?;
        }
        self.read_page()
    }

    /// Gives the next rows to the engines; after the last ones memory and tables agree.
    pub(crate) fn read_page(&mut self) -> Result<(), String> {
        let Some(from) = self.server.as_ref().and_then(|server| server.read_up_to) else { return Ok(()) };
        let Loading { page, pause_ms } = self.scenario.loading;
        let rows = self.store.tables.page(from, page);
        let up_to = (rows.len() == page).then(|| rows.last().map_or(from, |row| row.contact_id + 1));
        self.note(|| format!("{} rows are read, up to {up_to:x?}", rows.len()));
        for row in &rows {
            self.model.load(aor_of(row), row, self.now_ms, self.unix_s());
        }
        for shard in 0..self.config.identity.shards {
            let own = |row: &&Row| self.config.identity.shard_of(&row.username) == ShardId(shard);
            let own: Vec<Row> = rows.iter().filter(own).cloned().collect();
            self.with_engine(ShardId(shard), |engine, _, now, out| engine.load_page(&own, up_to, now, out))?;
        }
        if let Some(server) = &mut self.server {
            server.read_up_to = up_to;
        }
        if up_to.is_some() {
            let at_ms = self.now_ms + self.dice.between(pause_ms);
            self.queue.push(at_ms, Event::Page { process: self.process });
            return Ok(());
        }
        // Later, a write may be done whose receipt is under way.
        let is_at_once = self.server.as_ref().is_some_and(|server| server.started_ms == self.now_ms);
        self.each_aor(|world, scene| {
            world.checks.shown(scene, &world.phones)?;
            world.model.agrees(scene.aor, scene.shown, scene.now_ms)?;
            if is_at_once { world.checks.agree(scene) } else { Ok(()) }
        })
    }

    /// What the engine shows of a phone's user.
    pub(crate) fn lookup(&self, place: usize) -> Vec<Vec<u8>> {
        let Some(server) = &self.server else { return Vec::new() };
        let plan = &self.phones[place].plan;
        let ShardId(shard) = self.config.identity.shard_of(plan.user.as_bytes());
        server.engines[usize::from(shard)].lookup(&plan.aor, self.now())
    }
}

/// A request's first line, Contact, CSeq and Expires.
fn first_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_told =
        |line: &&str| ["REG", "CSeq", "Contact", "Expires"].iter().any(|start| line.starts_with(start));
    text.split("\r\n").filter(is_told).collect::<Vec<_>>().join(" | ")
}

/// Writes without the columns that say little.
fn brief(writes: &[Write]) -> String {
    let one = |write: &Write| match write {
        Write::Put(packed) => {
            let row = packed.row();
            let contact = String::from_utf8_lossy(row.contact);
            format!("put {:x} {contact} CSeq {} until {}", row.contact_id, row.cseq, row.expires)
        }
        other => format!("{other:x?}"),
    };
    writes.iter().map(one).collect::<Vec<_>>().join(", ")
}
