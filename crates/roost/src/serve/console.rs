//! The console of the running server: what it may read and change beside the management interface.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use roost_admin::Mi;
use roost_console::{ConfigFile, Language, OnceLink, Parts};
use roost_core::{Listener, Transport};
use roost_net::{Streams, Tls};
use roost_recorder::{Explanation, Names, answer_of};
use roost_store::Store;
use serde_json::json;
use tokio::sync::oneshot;

use crate::commands::account::set_password_of;
use crate::serve::reload::changes;
use crate::settings::Settings;
use crate::settings::masked::{masked, masked_if_sound, unmasked};

/// What is listened on, before anything runs, and the link that is printed.
#[derive(Debug)]
pub(super) struct Console {
    listener: TcpListener,
    once: Option<OnceLink>,
}

/// What a phone in the page comes to: no socket of its own, but an address of ours.
pub(super) fn listener(settings: &Settings) -> Option<Listener> {
    settings.console_address().map(|address| Listener::new(Transport::Ws, address))
}

impl Console {
    /// Opens it, where there is to be one; `with_link`: with a link for an administrator.
    ///
    /// # Errors
    /// The address is taken, and the remedy.
    pub(super) fn open(settings: &Settings, with_link: bool) -> Result<Option<Console>> {
        let Some(address) = settings.console_address() else { return Ok(None) };
        let listener = TcpListener::bind(address).with_context(|| {
            format!("cannot listen on {address} for the console; set `listen` in [console] to another port")
        })?;
        listener.set_nonblocking(true)?;
        let once = with_link.then(OnceLink::new).transpose();
        let once = once.map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        Ok(Some(Console { listener, once }))
    }

    /// Where people find it, on standard error.
    pub(super) fn announce(&self, settings: &Settings) {
        let Some(address) = settings.console_address() else { return };
        let scheme = if address.ip().is_loopback() { "http" } else { "https" };
        eprintln!("roost: console at {scheme}://{address}/");
        if let Some(once) = &self.once {
            eprintln!(
                "roost: to change things there, open this within 15 minutes, once: {scheme}://{address}/login?once={}",
                once.token()
            );
        }
    }

    /// Serves it until it is told to stop, by a thread of its own: what looks at pages keeps no tool and no health check waiting.
    pub(super) fn serve(self, settings: &Settings, with: With<'_>) -> Option<Served> {
        let With { mi, store, streams, tls } = with;
        let own = settings.console(mi.gate.hosts.clone())?;
        let is_local = own.address.ip().is_loopback();
        let certificates = tls
            .filter(|_| !is_local)
            .map(|tls| -> roost_console::Certificates { Arc::new(move || tls.server(Transport::Wss)) });
        let own = roost_console::Settings { certificates, ..own };
        let parts = Parts {
            mi: mi.clone(),
            config: config_file(settings),
            explain: Arc::new(explain),
            set_password: set_password(settings, store),
            phone: streams.map(|streams| -> roost_console::Adopt {
                Arc::new(move |stream, local, remote| streams.adopt(Transport::Ws, stream, local, remote))
            }),
            domain: settings.domains.first().map_or_else(String::new, |name| host_of(name, own.address)),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || -> std::io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let served = runtime.block_on(async {
                tokio::select! {
                    served = roost_console::serve(self.listener, own, parts, self.once) => served,
                    _ = stopped => Ok(()),
                }
            });
            // Who watches a page is let go; a password that is being checked is not waited for.
            runtime.shutdown_background();
            served
        };
        let run = move || run().unwrap_or_else(|error| tracing::error!(%error, "the console failed"));
        let thread = std::thread::Builder::new().name("roost-console".to_string()).spawn(run);
        let thread = thread.inspect_err(|error| tracing::error!(%error, "no thread for the console")).ok()?;
        Some(Served { stop, thread })
    }
}

/// What the console is joined with.
pub(super) struct With<'a> {
    pub(super) mi: &'a Mi,
    pub(super) store: &'a Arc<Store>,
    pub(super) streams: Option<Streams>,
    pub(super) tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
pub(super) struct Served {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Served {
    /// Ends it, and waits until its address is free.
    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// The name that phones in the page register with.
fn host_of(name: &str, address: SocketAddr) -> String {
    match name.split(':').next() {
        Some(host) if !host.is_empty() => host.to_string(),
        _ => address.ip().to_string(),
    }
}

fn config_file(settings: &Settings) -> ConfigFile {
    let file = settings.file.clone();
    let (read_from, check_for, write_to) = (file.clone(), file.clone(), file);
    ConfigFile {
        read: Arc::new(move || {
            let file = read_from.as_ref()?;
            let text = std::fs::read_to_string(file).ok()?;
            let is_writable = std::fs::OpenOptions::new().append(true).open(file).is_ok();
            Some((masked(&text), is_writable))
        }),
        check: Arc::new(move |text| match &check_for {
            Some(file) => checked(file, text).map(|(_, after)| would_change(file, &after)),
            None => Err("the server was started without a configuration file".to_string()),
        }),
        mask: Arc::new(masked_if_sound),
        write: Arc::new(move |text| match &write_to {
            Some(file) => write(file, text),
            None => Err("the server was started without a configuration file".to_string()),
        }),
    }
}

/// The text with its secrets, and what it says, if it is right.
fn checked(file: &Path, text: &str) -> Result<(String, Settings), String> {
    let before =
        std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let text = unmasked(text, &before)?;
    let read = || -> Result<Settings> {
        let settings = Settings {
            file: Some(file.to_path_buf()),
            ..Settings::parse(&text, &file.display().to_string())?
        };
        settings.check_files()?;
        Ok(settings)
    };
    let settings = read().map_err(|error| format!("{error:#}"))?;
    Ok((text, settings))
}

/// The keys that these give other values than the file, and whether they count at once.
fn would_change(file: &Path, after: &Settings) -> Vec<serde_json::Value> {
    let shown = |change: roost_admin::ChangedKey| json!({ "key": change.name, "old": change.old, "new": change.new, "live": change.is_live });
    let found = Settings::load(Some(file)).and_then(|before| changes(&before, after));
    // A file that is broken now has no values to compare with.
    found.unwrap_or_default().into_iter().map(shown).collect()
}

/// Puts a text into the file's place; the one before stays beside it.
fn write(file: &Path, text: &str) -> Result<(), String> {
    let (text, _) = checked(file, text)?;
    // A link stays one.
    let file =
        &std::fs::canonicalize(file).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let beside = |end: &str| -> PathBuf {
        let mut name = file.as_os_str().to_os_string();
        name.push(end);
        name.into()
    };
    let put = || -> std::io::Result<()> {
        std::fs::copy(file, beside(".bak"))?;
        let new = beside(".new");
        // Owner and rights as the file has them.
        std::fs::copy(file, &new)?;
        std::fs::write(&new, &text)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, file)
    };
    let put = put().inspect_err(|_| drop(std::fs::remove_file(beside(".new"))));
    put.map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// What a reason means.
fn explain(name: &str, language: Language) -> Option<serde_json::Value> {
    let language = match language {
        Language::English => roost_recorder::Language::English,
        Language::Chinese => roost_recorder::Language::Chinese,
    };
    let entry = Explanation::of(name)?;
    let [what, remedy, besides] = entry.texts(language, &Names::EXAMPLE);
    Some(json!({
        "code": entry.code(), "word": entry.word, "answer": answer_of(entry.word), "what": what, "do": remedy, "besides": besides
    }))
}

fn set_password(settings: &Settings, store: &Arc<Store>) -> roost_console::SetPassword {
    let (settings, store) = (settings.clone(), Arc::clone(store));
    Arc::new(move |aor, password| {
        let set = || -> Result<()> {
            let (user, domain) = aor.split_once('@').unwrap_or((aor, ""));
            let mut domains = store.domains_of(user)?;
            domains.retain(|there| domain.is_empty() || there.eq_ignore_ascii_case(domain));
            anyhow::ensure!(!domains.is_empty(), "there is no extension {aor}");
            domains.iter().try_for_each(|domain| set_password_of(&settings, &store, (user, domain), password))
        };
        set().map_err(|error| format!("{error:#}"))
    })
}
