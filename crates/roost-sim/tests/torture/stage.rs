//! The stage: one engine as it runs, with a callee who is registered and a caller who may call.

use std::net::SocketAddr;

use roost_core::{
    Command, CommitOutcome, Config, Engine, Flow, Listener, Now, Outbox, Receipt, Rng, Row, Secrets, ShardId,
};
use roost_sim::store::Tables;
use roost_sip::Head;

/// What every subscriber's password is.
pub(crate) const PASSWORD: &str = "secret";

/// How a vector's stage is set; the `given` lines change it.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Our address; `given: IPv6` takes one of that family for us and for everybody.
    pub(crate) local: SocketAddr,
    /// `given: from ADDRESS:PORT`, where the message comes from.
    pub(crate) from: SocketAddr,
    /// `given: callee USER`, who is registered.
    pub(crate) callee: Option<String>,
    /// `given: contact URI`, the callee's where it is not the usual one; it is reached at the usual address.
    pub(crate) contact: Option<String>,
    /// `given: subscriber USER`, who may register.
    pub(crate) subscriber: Option<String>,
    /// `given: check_to off`, where the digest user cannot be spelled as To is.
    pub(crate) check_to: bool,
    /// `given: max_contacts N`
    pub(crate) max_contacts: u32,
    /// `given: advertised HOST`
    pub(crate) advertised: String,
}

impl Setup {
    /// Reads the `given` lines.
    pub(crate) fn of(given: &[String]) -> Result<Setup, String> {
        let mut setup = Setup {
            local: SocketAddr::from(([192, 0, 2, 250], 5060)),
            from: SocketAddr::from(([192, 0, 2, 1], 5060)),
            callee: None,
            contact: None,
            subscriber: None,
            check_to: true,
            max_contacts: 1,
            advertised: String::new(),
        };
        for line in given {
            let bad = || format!("no such thing can be given: {line}");
            match line.rsplit_once(' ').unwrap_or((line, "")) {
                ("IPv6", "") => {
                    setup.local = "[2001:db8::10]:5060".parse().map_err(|_| bad())?;
                    setup.from = "[2001:db8::9:1]:5060".parse().map_err(|_| bad())?;
                }
                ("from", from) => setup.from = from.parse().map_err(|_| bad())?,
                ("callee", user) => setup.callee = Some(user.to_string()),
                ("contact", uri) => setup.contact = Some(uri.to_string()),
                ("subscriber", user) => setup.subscriber = Some(user.to_string()),
                ("check_to", "off") => setup.check_to = false,
                ("max_contacts", number) => setup.max_contacts = number.parse().map_err(|_| bad())?,
                ("advertised", host) => setup.advertised = host.to_string(),
                _ => return Err(bad()),
            }
        }
        Ok(setup)
    }

    /// The callee's Contact and the address that it is reached at.
    pub(crate) fn callee_at(&self) -> (String, SocketAddr) {
        let address = match self.local {
            SocketAddr::V4(_) => SocketAddr::from(([192, 0, 2, 77], 5070)),
            SocketAddr::V6(_) => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77], 5070)),
        };
        let contact = self.contact.clone().unwrap_or_else(|| format!("sip:callee@{address};line=1"));
        (contact, address)
    }
}

/// What left the engine, and where to.
pub(crate) type Sent = Vec<(SocketAddr, Vec<u8>)>;

/// One engine and its database.
pub(crate) struct Stage {
    engine: Engine,
    head: Box<Head>,
    local: SocketAddr,
    tables: Tables,
    subscriber: Option<String>,
}

const NOW: Now = Now { mono_ms: 1 << 40, unix_s: 1_588_990_299 };

impl Stage {
    /// An engine with roost's own defaults. `is_trusted`: the sender may call without credentials.
    pub(crate) fn new(setup: &Setup, is_trusted: bool) -> Result<Stage, String> {
        let mut config = Config::default();
        config.policy.server_header = "roost".to_string();
        config.identity.mac_key = [7; 32];
        config.policy.registrar.add_date = false;
        config.policy.auth.check_to = setup.check_to;
        config.policy.registrar.max_contacts = setup.max_contacts;
        config.policy.listeners = vec![Listener::udp(setup.local)];
        config.policy.advertised_address.clone_from(&setup.advertised);
        if is_trusted {
            config.policy.proxy.trusted = roost_core::Trusted::of_addresses([setup.from.ip()]);
        }
        let mut engine = Engine::new(&config, ShardId(0), Rng::new(1));
        if let Some(user) = &setup.callee {
            let (contact, address) = setup.callee_at();
            let row = Row {
                contact_id: 1,
                username: user.as_bytes().into(),
                contact: contact.as_bytes().into(),
                received: setup.contact.is_some().then(|| format!("sip:{address}").into_bytes().into()),
                callid: b"callee"[..].into(),
                cseq: 1,
                ..Row::default()
            };
            engine.load(&row, NOW).map_err(|error| format!("the callee is not registered: {error}"))?;
        }
        let (tables, subscriber) = (Tables::default(), setup.subscriber.clone());
        Ok(Stage { engine, head: Head::new(), local: setup.local, tables, subscriber })
    }

    /// Gives the engine one datagram and takes all that it sends.
    pub(crate) fn receive(&mut self, from: SocketAddr, message: &[u8]) -> Sent {
        let mut out = Outbox::default();
        match self.head.parse(message) {
            Ok(()) => {
                let flow = Flow::udp(self.local, from);
                self.engine.handle_message(&flow, message, &self.head, NOW, &mut out);
            }
            Err(error) => self.engine.handle_unreadable(error),
        }
        let mut sent = Sent::new();
        loop {
            sent.extend(
                out.transmits.iter().map(|transmit| (transmit.flow.remote, out.message(transmit).to_vec())),
            );
            let commands = std::mem::take(&mut out.commands);
            out.clear();
            if commands.is_empty() {
                return sent;
            }
            for command in commands {
                self.carry_out(command, &mut out);
            }
        }
    }

    fn carry_out(&mut self, command: Command, out: &mut Outbox) {
        let receipt = match command {
            Command::Commit { ticket, writes, .. } => match self.tables.apply(&writes) {
                Ok(_) => Receipt::Commit(ticket, CommitOutcome::Committed),
                Err(error) => Receipt::Commit(ticket, CommitOutcome::Failed(error)),
            },
            Command::LoadCredentials { ticket, user, .. } => {
                let is_known = self.subscriber.as_ref().is_some_and(|name| name.as_bytes() == &*user);
                let secrets = || Secrets { password: PASSWORD.as_bytes().into(), ..Secrets::default() };
                Receipt::Credentials(ticket, Ok(is_known.then(secrets)))
            }
            // No name leads anywhere.
            Command::Resolve { ticket, .. } => Receipt::Resolved(ticket, Vec::new()),
            Command::Purge { .. }
            | Command::LoadRecord { .. }
            | Command::ToShard(_)
            | Command::Tell { .. }
            | Command::KeepConnection { .. }
            | Command::AdminReply { .. } => return,
        };
        self.engine.handle_receipt(receipt, NOW, out);
    }

    /// The contacts of an AOR.
    pub(crate) fn contacts(&self, aor: &[u8]) -> Vec<Vec<u8>> {
        self.engine.lookup(aor, NOW)
    }

    /// How often a counter has counted; `None` when there is none of this name.
    pub(crate) fn counter(&self, name: &str) -> Option<u64> {
        self.engine.stats().iter().find(|(counter, _)| *counter == name).map(|(_, value)| value)
    }
}
