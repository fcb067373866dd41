//! `reload`: what of the configuration file is other than what is in force, and who takes it.

use std::sync::{Arc, Mutex, PoisonError};

use roost_admin::{ChangedKey, Found, Hub, LogChange, ReadFile, Reload, Scope, Show};
use roost_core::{Config, Listener, Policy, number_apart};
use roost_hep::Tracer;
use roost_net::Tls;
use roost_store::Store;

use crate::commands::config_show::{Line, lines};
use crate::serve::listening::Listening;
use crate::serve::lists::Lists;
use crate::serve::logging::Levels;
use crate::settings::Settings;
use crate::settings::hep::Hep;

/// Who takes what the shards do not.
#[derive(Clone)]
pub(super) struct Takers {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) tracer: Tracer,
    pub(super) hub: Hub,
    pub(super) levels: Levels,
    pub(super) store: Arc<Store>,
    pub(super) listening: Listening,
    /// The console's address, which a reload does not change.
    pub(super) console: Option<Listener>,
}

/// What reads the file that the server was started with.
pub(super) fn reloader(settings: &Settings, takers: Takers) -> Reload {
    let running = Arc::new(Mutex::new(settings.clone()));
    let shown = Arc::clone(&running);
    let show: Show = Arc::new(move || {
        let running = shown.lock().unwrap_or_else(PoisonError::into_inner);
        lines(&running).unwrap_or_default().iter().map(Line::to_json).collect()
    });
    let read: ReadFile = Arc::new(move |scope, config| {
        let before = running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        find(&before, scope, config, (&running, &takers)).map_err(|error| format!("{error:#}"))
    });
    Reload::new(read, show)
}

fn find(
    before: &Settings,
    scope: Scope,
    config: &Config,
    (running, takers): (&Arc<Mutex<Settings>>, &Takers),
) -> anyhow::Result<Found> {
    let mut after = match (scope, &before.file) {
        (Scope::Tables, _) => before.clone(),
        (Scope::All | Scope::Routes, Some(file)) => Settings::load(Some(file))?,
        (_, None) => {
            anyhow::bail!("the server was started without a configuration file: there is nothing to read")
        }
    };
    if scope == Scope::Routes {
        let routes = std::mem::take(&mut after.routes);
        let policy = Policy { routes: after.core.policy.routes, ..before.core.policy.clone() };
        after = Settings { routes, core: Config { policy, ..before.core.clone() }, ..before.clone() };
    }
    let tls = match (&takers.tls, after.tls()) {
        (Some(_), Some(settings)) => Some(Tls::load(settings)?),
        _ => None,
    };
    let lists = Lists::read(&after, &takers.store)?;
    after.core.policy.listeners.extend(takers.console);
    let now = &config.policy.listeners;
    number_apart(&mut after.core.policy.listeners, now);
    let listeners = takers.listening.open(now, &after.core.policy.listeners, config.policy.node.is_some())?;
    let mut changes = changes(before, &after)?;
    for change in changes.iter_mut().filter(|change| change.name == "listen") {
        change.is_live = listeners.is_some();
    }
    if listeners.is_none() {
        after.core.policy.listeners.clone_from(now);
    }
    let has_other_routes = changes.iter().any(|change| change.name.starts_with("route["));
    changes.extend(lists.changes(&config.policy));
    let mut policy = policy(&after, config, has_other_routes);
    lists.put(&mut policy);
    for change in changes.iter().filter(|change| !change.is_live) {
        match before.given.get(&change.name) {
            Some(value) => drop(after.given.insert(change.name.clone(), value.clone())),
            None => drop(after.given.remove(&change.name)),
        }
    }
    let webhooks = after.webhooks()?;
    let (running, takers, before) = (Arc::clone(running), takers.clone(), before.clone());
    let finish = Box::new(move || {
        takers.take(&before, &after, tls.as_ref());
        if let Err(error) = takers.hub.set_webhooks(webhooks) {
            tracing::warn!("[[webhook]]: {error}");
        }
        if let Some(change) = listeners {
            takers.listening.take(change);
        }
        *running.lock().unwrap_or_else(PoisonError::into_inner) = after;
    });
    Ok(Found { changes, policy: Arc::new(policy), finish })
}

/// What the shards are given: what counts from the start on stays.
fn policy(after: &Settings, config: &Config, has_other_routes: bool) -> Policy {
    let (new, now) = (&after.core.policy, &config.policy);
    Policy {
        auth_db: now.auth_db.clone(),
        node: now.node,
        drain_s: now.drain_s,
        routes: Arc::clone(if has_other_routes { &new.routes } else { &now.routes }),
        ..new.clone()
    }
}

/// The keys whose values differ, in the order of the reference.
pub(super) fn changes(before: &Settings, after: &Settings) -> anyhow::Result<Vec<ChangedKey>> {
    let (old, new) = (lines(before)?, lines(after)?);
    fn named<'l>(all: &'l [Line], name: &str) -> Option<&'l Line> {
        all.iter().find(|line| line.name == name)
    }
    let change = |old: Option<&Line>, new: Option<&Line>| {
        let line = old.or(new)?;
        let is_same = match (old, new) {
            (Some(old), Some(new)) => old.value == new.value,
            // Of a table that has come or gone.
            _ => line.value == line.default,
        };
        let (name, is_live) = (line.name.clone(), line.is_live());
        (!is_same).then(|| ChangedKey { name, old: old.map(Line::shown), new: new.map(Line::shown), is_live })
    };
    let of_old = old.iter().enumerate();
    let of_old = of_old.map(|(at, line)| (at, Some(line), named(&new, &line.name)));
    let come = new.iter().enumerate().filter(|(_, line)| named(&old, &line.name).is_none());
    let come = come.map(|(at, line)| (at, None, Some(line)));
    let mut changes: Vec<(usize, ChangedKey)> =
        of_old.chain(come).filter_map(|(at, old, new)| Some((at, change(old, new)?))).collect();
    changes.sort_by_key(|(at, _)| *at);
    Ok(changes.into_iter().map(|(_, change)| change).collect())
}

impl Takers {
    fn take(&self, before: &Settings, after: &Settings, tls: Option<&Tls>) {
        if let (Some(own), Some(other)) = (&self.tls, tls) {
            own.take(other);
        }
        self.hub.set_max_calls(after.core.policy.dialog.max_calls);
        if before.log_level != after.log_level {
            self.levels.change(LogChange { level: after.log_level, only: None, seconds: None });
        }
        let is_in = |one: &Hep, all: &[Hep]| {
            all.iter().any(|other| other.given == one.given && other.collector().is_some())
        };
        for gone in before.hep.iter().filter(|one| !is_in(one, &after.hep)) {
            if let Some((collector, _)) = gone.collector() {
                self.tracer.remove(&collector.id);
            }
        }
        for (collector, filter) in
            after.hep.iter().filter(|one| !is_in(one, &before.hep)).filter_map(Hep::collector)
        {
            if let Err(error) = self.tracer.add(collector, filter) {
                tracing::warn!("[[hep]]: {error}");
            }
        }
    }
}
