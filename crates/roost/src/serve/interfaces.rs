//! The management interface of the running server: what it is told, and the ways to it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use roost_admin::{Mi, MiDatagram, MiFifo, Process, Statistics};
use roost_net::{ConnectionRecord, Streams};
use roost_store::Health;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::serve::drain::Drain;
use crate::serve::handover::Upgrade;
use crate::serve::logging::Levels;
use crate::serve::sockets::bind_mi;
use crate::settings::Settings;

/// What is listened on, before anything runs.
#[derive(Debug)]
pub(super) struct Interfaces {
    http: Option<TcpListener>,
    fifo: Option<MiFifo>,
    datagrams: Option<MiDatagram>,
}

/// Those that are served.
#[derive(Debug)]
pub(super) struct Served {
    http: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    others: Vec<JoinHandle<()>>,
}

impl Interfaces {
    /// Opens all that are configured; within a runtime.
    ///
    /// # Errors
    /// Which cannot be opened, and the remedy.
    pub(super) fn open(settings: &Settings) -> Result<Interfaces> {
        let fifo = settings.mi_fifo().map(|fifo| {
            MiFifo::open(&fifo).with_context(|| {
                format!("cannot make the FIFO {}; set `fifo_name` in [mi_fifo]", fifo.path.display())
            })
        });
        let datagrams = settings.mi_datagram().map(|address| {
            MiDatagram::open(&address).with_context(|| {
                format!("cannot listen on {}; set `socket_name` in [mi_datagram]", settings.datagram_name)
            })
        });
        Ok(Interfaces {
            http: bind_mi(settings)?,
            fifo: fifo.transpose()?,
            datagrams: datagrams.transpose()?,
        })
    }

    /// Serves them.
    pub(super) fn serve(self, mi: &Mi) -> Served {
        let mut others = vec![tokio::spawn(sample(mi.statistics.clone()))];
        if let Some(fifo) = self.fifo {
            others.push(tokio::spawn(told("the FIFO", fifo.serve(mi.clone()))));
        }
        if let Some(datagrams) = self.datagrams {
            others.push(tokio::spawn(told("mi_datagram", datagrams.serve(mi.clone()))));
        }
        let http = self.http.map(|listener| {
            let (stop, stopped) = oneshot::channel();
            (stop, tokio::spawn(serve_http(listener, mi.clone(), stopped)))
        });
        Served { http, others }
    }
}

impl Served {
    /// Ends them; answers that are under way have a second.
    pub(super) async fn stop(self) {
        self.others.iter().for_each(JoinHandle::abort);
        if let Some((stop, served)) = self.http {
            let _ = stop.send(());
            let _ = tokio::time::timeout(Duration::from_secs(1), served).await;
        }
    }
}

/// Measures the load, for ever.
async fn sample(statistics: Statistics) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        statistics.sample();
    }
}

async fn told(what: &str, served: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = served.await {
        tracing::error!(%error, "{what} failed");
    }
}

async fn serve_http(listener: TcpListener, mi: Mi, stopped: oneshot::Receiver<()>) {
    let stop = async {
        let _ = stopped.await;
    };
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => roost_admin::serve(listener, mi, stop).await,
        Err(error) => Err(error),
    };
    told("the management interface", async { served }).await;
}

/// What only the process knows.
pub(super) fn process(
    levels: &Levels,
    health: Health,
    streams: Option<Streams>,
    (drain, upgrade, config): (&Drain, &Upgrade, Option<PathBuf>),
) -> Process {
    let upgrade = upgrade.clone();
    let (drain, drained) = (drain.clone(), streams.clone());
    let connections = move || {
        let all = streams.as_ref().map_or(Vec::new(), Streams::list);
        json!({ "Connections": all.iter().map(shown).collect::<Vec<_>>() })
    };
    Process {
        is_database_away: Arc::new(move || health.is_away()),
        connections: Arc::new(connections),
        drain: Arc::new(move |within| {
            if let Some(streams) = &drained {
                streams.drain(within);
            }
            drain.begin(within);
        }),
        upgrade: Arc::new(move |binary| {
            let begun = upgrade.begin(binary.map(Path::new), config.as_deref());
            begun.map(|binary| binary.display().to_string()).map_err(|error| format!("{error:#}"))
        }),
        log: levels.control(),
    }
}

/// A connection, by OpenSIPS's names.
fn shown(record: &ConnectionRecord) -> Value {
    let flow = &record.flow;
    json!({
        "ID": flow.connection,
        "Type": flow.transport.as_str(),
        "State": if record.is_handshaking { "CONN_HANDSHAKE" } else { "CONN_OK" },
        "Source": flow.remote.to_string(),
        "Destination": flow.local.to_string(),
        "Idle": record.silent_ms / 1000,
        "Kept": record.kept_ms / 1000,
    })
}

/// As OpenSIPS's tools expect it, which look for its name and version: the one whose interface this is like, then roost's own.
pub(super) fn server_name() -> String {
    let machine = format!("{}/{}", std::env::consts::ARCH, std::env::consts::OS);
    format!("OpenSIPS (3.6.0 ({machine})) compatible: roost {}", env!("CARGO_PKG_VERSION"))
}
