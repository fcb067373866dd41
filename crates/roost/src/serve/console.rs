//! The console of the running server: what it may read and change beside the management interface.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use roost_admin::Mi;
use roost_console::{OnceLink, Parts};
use roost_core::{Listener, Transport};
use roost_net::{Streams, Tls};
use roost_store::Store;
use tokio::sync::oneshot;

use crate::serve::accounts::Accounts;
use crate::serve::config_file::ConfigFile;
use crate::settings::Settings;

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
            config: Arc::new(ConfigFile::new(settings.file.clone())),
            accounts: Arc::new(Accounts { in_force: mi.in_force.clone(), store: Arc::clone(store) }),
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
