//! `roost serve`: opens everything, joins the threads with one another, and takes them down again.

mod accounts;
mod certificates;
mod config_file;
mod console;
mod delivery;
mod drain;
mod event_log;
mod floating;
mod handover;
mod inherited;
mod interfaces;
mod listening;
mod lists;
mod loading;
mod location;
mod logging;
mod news;
mod reload;
mod server;
mod signals;
mod sockets;
mod systemd;
mod tables;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use roost_core::{CallRecord, Config, Listener, number_apart};
use roost_net::Tls;
use roost_store::{Journal, Left, Store, StoreError};

use crate::serve::console::Console;
use crate::serve::handover::{Handed, Heritage, Rest, become_binary};
use crate::serve::interfaces::Interfaces;
use crate::serve::lists::Lists;
use crate::serve::server::{Outcome, Server, Stopped};
use crate::serve::signals::Signals;
use crate::serve::sockets::{datagram_sockets, stream_sockets};
use crate::settings::{self, Settings};

/// Runs the server until it is told to stop.
///
/// # Errors
/// What it could not start with, and the remedy.
pub(crate) fn run(settings: &Settings, with_link: bool) -> Result<()> {
    let levels = logging::start(settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { Signals::new() })?;
    let mut config = complete(settings)?;
    let mut heritage = Heritage::take()?;
    heritage.settle(&config.policy.listeners, server::reads_table(&config));
    let Heritage { mut inherited, streams, rest } = heritage;
    if let Some(rest) = &rest {
        config.identity.hash_seed = rest.hash_seed;
    }
    let (journal, left) = open_journal(settings)?;
    if let Some(key) = left.key.filter(|_| settings.secret.is_empty()) {
        // Phones name their calls by marks of the process before.
        config.identity.mac_key = key;
    }
    let calls = calls_to_restore(left, &config.identity.mac_key);
    config.identity.epoch = fresh_epoch(&calls)?;
    // What could be in the way is found out before anything runs.
    inherited.close_others(&config.policy.listeners);
    for listener in &config.policy.listeners {
        if !inherited.has_datagrams(listener.address) || listener.transport.is_reliable() {
            roost_net::probe(listener)?;
        }
    }
    let tls = settings.tls().map(Tls::load).transpose()?.map(Arc::new);
    let workers = usize::from(config.identity.shards);
    let sockets = (
        stream_sockets(&config.policy.listeners, &mut inherited)?,
        datagram_sockets(&config.policy.listeners, workers, &mut inherited)?,
    );
    config.policy.listeners.extend(console::listener(settings));
    number_apart(&mut config.policy.listeners, &[]);
    let console = Console::open(settings, with_link)?;
    let interfaces = runtime.block_on(async { Interfaces::open(settings) })?;
    let store = Arc::new(settings.open_store()?);
    if config.identity.write_through {
        config.identity.widths = store.widths();
    }
    Lists::read(settings, &store)?.put(&mut config.policy);
    let config = Arc::new(config);
    let hash_seed = config.identity.hash_seed;
    let moved = rest.map_or_else(Vec::new, |rest| rest.moved);
    let left = server::CallsLeft { journal, calls, moved, streams };
    let mut server = Server::start(settings, Arc::clone(&config), &store, left, sockets, tls)?;
    announce(settings, &config, &store, console.as_ref());
    systemd::ready();
    let outcome = runtime.block_on(server.wait(settings, (interfaces, console), &levels, signals));
    end(outcome, server, settings, hash_seed)
}

/// Stops a server; it ends, or the process becomes another binary.
fn end(outcome: Result<Outcome>, server: Server, settings: &Settings, hash_seed: u64) -> Result<()> {
    let upgrade = match &outcome {
        Ok(Outcome::Upgrade(binary)) => Some(binary.clone()),
        _ => None,
    };
    if upgrade.is_none() {
        systemd::stopping();
    }
    let Stopped { kept, moved, streams } = server.stop(settings, upgrade.is_some());
    if let Some(binary) = upgrade {
        let handed = Handed::new(Rest { hash_seed, moved }, &kept, &streams);
        tracing::info!(binary = %binary.display(), "this process becomes another binary");
        let error = become_binary(&binary, &kept, &streams, &handed);
        tracing::error!(error = format!("{error:#}"), "it does not: the one that ran goes on");
        return Err(become_binary(Path::new("/proc/self/exe"), &kept, &streams, &handed));
    }
    outcome.map(drop)
}

/// Opens the file that keeps calls; what an earlier process left in it.
fn open_journal(settings: &Settings) -> Result<(Option<Journal>, Left)> {
    let Some(path) = settings.call_journal() else { return Ok((None, Left::default())) };
    match Journal::open(&path) {
        Ok((journal, left)) => Ok((Some(journal), left)),
        Err(StoreError::CallJournal { path, source }) if settings.may_lose_calls() => {
            let path = path.display();
            tracing::warn!(
                %path, error = %source,
                "calls in progress will not outlive a restart: the file cannot be used; set `journal` in [dialog]"
            );
            Ok((None, Left::default()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The calls of the process before, if phones can name them: another `auth.secret` makes other marks.
fn calls_to_restore(left: Left, key: &[u8; 32]) -> Vec<CallRecord> {
    let calls = left.calls.len();
    if calls == 0 {
        return Vec::new();
    }
    if left.key != Some(*key) {
        tracing::warn!(calls, "calls of the process before are forgotten: `secret` in [auth] was another");
        return Vec::new();
    }
    tracing::info!(calls, "calls of the process before go on");
    left.calls
}

/// A number for this process that no call of another one has.
fn fresh_epoch(calls: &[CallRecord]) -> Result<u8> {
    let mut random = [0; 1];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let [first] = random;
    let used: BTreeSet<u8> = calls.iter().map(|call| call.number.epoch()).collect();
    let free = (0..=u8::MAX).map(|more| first.wrapping_add(more)).find(|epoch| !used.contains(epoch));
    Ok(free.unwrap_or(first))
}

/// The core's configuration with what only a process has: shards and secrets.
fn complete(settings: &Settings) -> Result<Config> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = if settings.workers == 0 { cores.min(64) } else { settings.workers };
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let mac_key = match settings.secret.as_str() {
        "" => key,
        secret => blake3::derive_key("roost 2026 auth.secret nonces and tags", secret.as_bytes()),
    };
    let mut config = settings.core.clone();
    config.identity.shards = shards as u16;
    config.identity.mac_key = mac_key;
    config.identity.hash_seed = random()?;
    Ok(config)
}

/// A random number.
fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The entry of `listen` that would hear IPv4 where a wildcard of IPv6 does not.
fn missing_ipv4(listener: &Listener, all: &[Listener]) -> Option<Listener> {
    let address = listener.address;
    let is_any_v6 = address.is_ipv6() && address.ip().is_unspecified();
    let v4 = Listener { address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), ..*listener };
    let has_v4 = all.iter().any(|other| {
        other.transport == v4.transport && other.address.is_ipv4() && other.address.port() == address.port()
    });
    (is_any_v6 && !has_v4).then_some(v4)
}

/// What a newcomer needs to know, on standard error whatever the log level.
fn announce(settings: &Settings, config: &Config, store: &Store, console: Option<&Console>) {
    let version = env!("CARGO_PKG_VERSION");
    eprintln!("roost {version}: database {}", store.name());
    let is_console = |listener: &&Listener| Some(listener.address) == settings.console_address();
    for listener in config.policy.listeners.iter().filter(|listener| !is_console(listener)) {
        eprintln!("roost: listening on {listener} ({} workers)", config.identity.shards);
    }
    match settings.mi_address {
        Some(address) => eprintln!("roost: management interface at http://{address}/mi"),
        None => eprintln!("roost: no management interface (mi.listen is empty)"),
    }
    console.iter().for_each(|console| console.announce(settings));
    for listener in &config.policy.listeners {
        if let Some(missing) = missing_ipv4(listener, &config.policy.listeners) {
            eprintln!("roost: {listener} hears IPv6 alone; for IPv4, too, add \"{missing}\" to `listen`");
        }
    }
    let program = std::env::args().next().unwrap_or_else(|| "roost".to_string());
    let file = settings.file.as_ref().filter(|file| !settings::looked_for().contains(file));
    let config_file = file.map_or(String::new(), |file| format!(" --config {}", file.display()));
    let domain = if config.identity.use_domain { "@DOMAIN" } else { "" };
    eprintln!("roost: add an extension: {program}{config_file} user add 9001{domain} PASSWORD");
    eprintln!(
        "roost: who is registered: {program}{config_file} ul show; all settings: {program} config show"
    );
    eprintln!("roost: ready");
}
