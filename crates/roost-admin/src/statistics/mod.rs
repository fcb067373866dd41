//! What is counted and measured: gathered from the shards, the other threads and the kernel, for MI and for metrics.

mod metrics;
mod process;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roost_core::{Admin, AdminReply, Histogram, Reason, Timed};
use roost_recorder::Language;
use serde_json::{Map, Value, json};

use crate::Mi;
use crate::ask::{ask, shards};
use crate::rpc::{Params, RpcError};

pub(crate) use metrics::{CONTENT_TYPE, metrics};
pub use table::{STATISTICS, Statistic, StatisticKind};

/// What is kept between two questions. Clones are one.
#[derive(Clone, Default)]
pub struct Statistics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    load: Mutex<process::Load>,
    /// Where counters stood when they were reset.
    reset: Mutex<HashMap<String, u64>>,
}

impl std::fmt::Debug for Statistics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Statistics")
    }
}

impl Statistics {
    /// Measures the threads' load; every second.
    pub fn sample(&self) {
        lock(&self.0.load).sample();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All figures of one moment.
#[derive(Debug, Default)]
struct Figures {
    /// By name (`group:name`).
    values: Vec<(String, u64)>,
    refusals: BTreeMap<Reason, u64>,
    drops: Vec<(&'static str, u64)>,
    call_ends: Vec<(&'static str, u64)>,
    bindings: Vec<(&'static str, u64)>,
    times: Vec<(Timed, Histogram)>,
}

/// Gathers those of the groups that `is_wanted`.
async fn gather(mi: &Mi, is_wanted: impl Fn(&str) -> bool) -> Result<Figures, RpcError> {
    let mut figures = Figures::default();
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for shard in shards(mi) {
        let AdminReply::Statistics(own) = ask(mi, shard, Admin::Statistics).await? else { continue };
        add(&mut sums, &own.values);
        add(&mut figures.drops, &own.drops);
        add(&mut figures.call_ends, &own.call_ends);
        add(&mut figures.bindings, &own.bindings);
        for (reason, count) in &own.refusals {
            *figures.refusals.entry(*reason).or_default() += count;
        }
        for (what, histogram) in &own.times {
            match figures.times.iter_mut().find(|(other, _)| other == what) {
                Some((_, sum)) => sum.add(histogram),
                None => figures.times.push((*what, *histogram)),
            }
        }
    }
    sums.extend(mi.events.statistics());
    sums.extend((mi.counters)());
    let config = mi.config();
    let registrar = &config.policy.registrar;
    sums.extend([
        ("registrar:max_expires", u64::from(registrar.max_expires_s)),
        ("registrar:max_contacts", registrar.max_contacts as u64),
        ("registrar:default_expire", u64::from(registrar.default_expires_s)),
        ("core:timestamp", mi.started.elapsed().unwrap_or_default().as_secs()),
    ]);
    figures.values = sums.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    if is_wanted("load") {
        figures.values.extend(lock(&mi.statistics.0.load).figures());
    }
    // What the kernel does not say is left out.
    if is_wanted("shmem") || is_wanted("pkmem") {
        figures.values.extend(process::memory().unwrap_or_default());
    }
    if is_wanted("net") {
        figures.values.extend(process::waiting(&mi.config().policy.listeners).unwrap_or_default());
    }
    Ok(figures)
}

fn add(sums: &mut Vec<(&'static str, u64)>, values: &[(&'static str, u64)]) {
    // All shards say the same names in the same order.
    if sums.is_empty() {
        sums.extend(values);
        return;
    }
    sums.iter_mut().zip(values).for_each(|((_, sum), (_, value))| *sum += value);
}

/// Which statistics a list of names asks for: `all`, `group:`, `group:name`, or a name of any group.
struct Wanted(Vec<String>);

impl Wanted {
    /// `None`: the parameter was not given.
    fn of(params: &Params<'_>) -> Result<Option<Wanted>, RpcError> {
        let names = match params.get("statistics") {
            None => return Ok(None),
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
            }
            Some(Value::String(names)) => {
                names.split_ascii_whitespace().map(str::to_ascii_lowercase).collect()
            }
            _ => return Err(RpcError::invalid_params("'statistics' must be an array of names")),
        };
        Ok(Some(Wanted(names)))
    }

    fn has(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        let (group, bare) = name.split_once(':').unwrap_or(("", &name));
        self.0.iter().any(|wanted| match wanted.strip_suffix(':') {
            Some(wanted) => wanted == group,
            None => wanted == "all" || *wanted == name || wanted == bare,
        })
    }

    /// Whether it may ask for anything of a group.
    fn has_of_group(&self, group: &str) -> bool {
        self.0.iter().any(|wanted| match wanted.split_once(':') {
            Some((wanted, _)) => wanted == group,
            None => true,
        })
    }
}

const NOT_FOUND: (i64, &str) = (404, "Statistics Not Found");

/// `get_statistics`.
pub(crate) async fn get(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let wanted = Wanted::of(params)?;
    let wanted = wanted.ok_or_else(|| RpcError::invalid_params("'statistics' must be an array of names"))?;
    let figures = gather(mi, |group| wanted.has_of_group(group)).await?;
    let reset = lock(&mi.statistics.0.reset);
    let found: Map<String, Value> = figures
        .values
        .into_iter()
        .filter(|(name, _)| wanted.has(name))
        .map(|(name, value)| {
            let since = reset.get(&name).copied().unwrap_or(0);
            (name, json!(value.saturating_sub(since)))
        })
        .collect();
    match found.is_empty() {
        true => Err(RpcError::new(NOT_FOUND.0, NOT_FOUND.1)),
        false => Ok(Value::Object(found)),
    }
}

/// `list_statistics`: names and kinds, of all or of those that are asked for.
pub(crate) async fn list(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let wanted = Wanted::of(params)?.unwrap_or_else(|| Wanted(vec!["all".to_string()]));
    let figures = gather(mi, |group| wanted.has_of_group(group)).await?;
    let kind = |name: &str| match table::entry(name).map(|statistic| statistic.kind) {
        Some(StatisticKind::Counter) => "incremental",
        _ => "non-incremental",
    };
    let names = figures.values.into_iter().filter(|(name, _)| wanted.has(name));
    Ok(Value::Object(names.map(|(name, _)| (name.clone(), json!(kind(&name)))).collect()))
}

/// `reset_statistics`: MI counts these from 0 again; metrics do not, as they may only grow.
pub(crate) async fn reset(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let wanted = Wanted::of(params)?;
    let wanted = wanted.ok_or_else(|| RpcError::invalid_params("'statistics' must be an array of names"))?;
    reset_some(mi, &wanted).await
}

async fn reset_some(mi: &Mi, wanted: &Wanted) -> Result<Value, RpcError> {
    let figures = gather(mi, |group| wanted.has_of_group(group)).await?;
    let found: Vec<_> = figures.values.into_iter().filter(|(name, _)| wanted.has(name)).collect();
    if found.is_empty() {
        return Err(RpcError::new(NOT_FOUND.0, NOT_FOUND.1));
    }
    let counters = found.into_iter().filter(|(name, _)| {
        table::entry(name).is_some_and(|statistic| statistic.kind == StatisticKind::Counter)
    });
    lock(&mi.statistics.0.reset).extend(counters);
    Ok(json!("OK"))
}

/// Limits that were reached, and what was lost: names, values and meanings of those that are more than 0.
pub(crate) async fn losses(
    mi: &Mi,
    language: Language,
) -> Result<Vec<(String, u64, &'static str)>, RpcError> {
    let figures = gather(mi, |_| false).await?;
    let told = |(name, value): (String, u64)| {
        let entry = table::entry(&name).filter(|_| value > 0)?;
        Some((name, value, language.pick([entry.help, entry.lost?])))
    };
    Ok(figures.values.into_iter().filter_map(told).collect())
}

/// `reset_all_statistics`.
pub(crate) async fn reset_all(mi: &Mi) -> Result<Value, RpcError> {
    reset_some(mi, &Wanted(vec!["all".to_string()])).await
}

/// `ps`: the threads, as OpenSIPS names its processes.
pub(crate) fn ps(mi: &Mi) -> Result<Value, RpcError> {
    let config = mi.config();
    let listeners = &config.policy.listeners;
    let datagrams = listeners.iter().find(|listener| !listener.transport.is_reliable());
    let threads = process::threads().map_err(|error| RpcError::new(500, &error.to_string()))?;
    let shown = threads.into_iter().map(|thread| {
        let kind = match (thread.id, thread.name.as_str(), datagrams) {
            (0, ..) => "attendant".to_string(),
            (_, name, Some(listener)) if name.starts_with("roost-worker") => {
                format!("SIP receiver {}:{}", listener.transport.as_str(), listener.address)
            }
            (_, name, _) if name.starts_with("roost-stream") => "TCP receiver".to_string(),
            (_, name, _) => name.to_string(),
        };
        json!({ "ID": thread.id, "PID": thread.tid, "Type": kind })
    });
    Ok(json!({ "Processes": shown.collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_the_core_is_in_the_table_and_names_are_there_once() {
        for name in roost_core::COUNTER_NAMES {
            assert!(table::entry(name).is_some(), "{name} is not in the table");
        }
        let mut names: Vec<_> = STATISTICS.iter().map(|statistic| statistic.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(table::entry("load:load-proc-12").is_some() && table::entry("pkmem:0-free_size").is_some());
        assert!(table::entry("load:load-proc-x").is_none() && table::entry("load:").is_none());
    }

    #[test]
    fn statistics_are_asked_for_by_group_name_or_all() {
        let wanted = Wanted(vec!["tm:".to_string(), "rcv_requests".to_string(), "load:load".to_string()]);
        assert!(
            wanted.has("tm:inuse_transactions") && wanted.has("core:rcv_requests") && wanted.has("load:load")
        );
        assert!(!wanted.has("load:load1m") && !wanted.has("core:timestamp"));
        assert!(Wanted(vec!["all".to_string()]).has("any:thing"));
    }
}
