//! The commands: names of OpenSIPS 2.4 and 3.x, and their 4.0 aliases (`usrloc:dump`).

use std::pin::Pin;
use std::time::SystemTime;

use chrono::{DateTime, Local};
use roost_core::{Admin, AdminReply, AorRecord};
use serde_json::{Value, json};

use crate::across;
use crate::agents;
use crate::ask::{answered, aors, ask, ask_owner, shards, stored_aor};
use crate::bans;
use crate::calls;
use crate::dump::{Aors, dump};
use crate::events;
use crate::health;
use crate::hops;
use crate::reload::{ChangedKey, Scope, reload};
use crate::rpc::{Call, Params, RpcError};
use crate::shapes::{TABLE, aor};
use crate::statistics;
use crate::traces;
use crate::what_if;
use crate::why;
use crate::{Certificates, LogChange, Mi};

/// A command's result.
#[derive(Debug)]
pub(crate) enum Answer {
    Value(Value),
    Aors(Aors),
}

/// One command: its names, and the parameters it takes in order.
struct Command {
    name: &'static str,
    alias: &'static str,
    params: &'static [&'static str],
    /// What it does.
    help: &'static str,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "ul_dump",
        alias: "usrloc:dump",
        params: &["brief"],
        help: "all AORs and their contacts, or the AORs alone",
    },
    Command {
        name: "ul_show_contact",
        alias: "usrloc:show_contact",
        params: &["table_name", "aor"],
        help: "the contacts of an AOR",
    },
    Command {
        name: "ul_add",
        alias: "usrloc:add",
        params: &["table_name", "aor", "contact", "expires", "q", "flags", "cflags", "methods"],
        help: "adds a contact, or replaces it; expires 0 never ends",
    },
    Command {
        name: "ul_rm",
        alias: "usrloc:rm",
        params: &["table_name", "aor"],
        help: "removes an AOR with all its contacts",
    },
    Command {
        name: "ul_rm_contact",
        alias: "usrloc:rm_contact",
        params: &["table_name", "aor", "contact"],
        help: "removes a contact",
    },
    Command {
        name: "ul_flush",
        alias: "usrloc:flush",
        params: &[],
        help: "waits until everything is in the database",
    },
    Command {
        name: "ul_sync",
        alias: "usrloc:sync",
        params: &["table_name", "aor"],
        help: "writes the rows of an AOR, or of all, anew",
    },
    Command {
        name: "ul_cluster_sync",
        alias: "usrloc:cluster_sync",
        params: &[],
        help: "there is no cluster",
    },
    Command {
        name: "ds_list",
        alias: "dispatcher:list",
        params: &["full", "partition"],
        help: "the next hops and their states; full: with their addresses",
    },
    Command {
        name: "ds_set_state",
        alias: "dispatcher:set_state",
        params: &["state", "group", "address"],
        help: "takes a next hop out (i), in (a), or has it prove itself first (p)",
    },
    Command {
        name: "drain",
        alias: "",
        params: &["within", "retry_after"],
        help: "takes the server out of service: no registrations, no new calls; it ends after so many seconds, or when no call is left; 0: back",
    },
    Command {
        name: "config_show",
        alias: "",
        params: &[],
        help: "all keys of the configuration with the values in force, and whether a reload takes another one",
    },
    Command {
        name: "reload",
        alias: "",
        params: &["dry_run"],
        help: "reads the configuration file anew; dry_run: says what that would change, and what needs a restart",
    },
    Command {
        name: "upgrade",
        alias: "",
        params: &["binary"],
        help: "the process becomes another binary and keeps its sockets, calls and what is under way; without one, the file that it was started from",
    },
    Command {
        name: "address_reload",
        alias: "permissions:address_reload",
        params: &["partition"],
        help: "reads the tables of trusted networks and of aliases anew ([permissions], [alias_db])",
    },
    Command {
        name: "address_dump",
        alias: "permissions:address_dump",
        params: &["partition"],
        help: "the networks that are never challenged, and how many aliases there are",
    },
    Command {
        name: "ds_reload",
        alias: "dispatcher:reload",
        params: &["partition", "inherit_state"],
        help: "reads the route tables of the configuration file anew",
    },
    Command { name: "tls_list", alias: "tls_mgm:list", params: &[], help: "the certificates in use" },
    Command {
        name: "tls_reload",
        alias: "tls_mgm:reload",
        params: &[],
        help: "reads the certificates' files anew",
    },
    Command {
        name: "dlg_list",
        alias: "dialog:list",
        params: &["callid", "from_tag", "index", "counter"],
        help: "the calls in progress, or one of them",
    },
    Command {
        name: "dlg_list_ctx",
        alias: "dialog:list_ctx",
        params: &["callid", "from_tag", "index", "counter"],
        help: "the same",
    },
    Command {
        name: "dlg_end_dlg",
        alias: "dialog:end",
        params: &["dialog_id", "extra_hdrs"],
        help: "ends a call: both sides get a BYE",
    },
    Command {
        name: "agent_list",
        alias: "dialog:agent_list",
        params: &["aor"],
        help: "what each extension is doing",
    },
    Command { name: "events_list", alias: "event:list", params: &[], help: "the events that there are" },
    Command {
        name: "event_subscribe",
        alias: "event:subscribe",
        params: &["event", "socket", "expire"],
        help: "has an event sent to udp:ADDRESS:PORT or unix:PATH; expire 0 ends it",
    },
    Command {
        name: "subscribers_list",
        alias: "event:subscribers_list",
        params: &["event", "socket"],
        help: "who is sent which events",
    },
    Command {
        name: "ban_list",
        alias: "auth:ban_list",
        params: &[],
        help: "addresses and extensions that are banned",
    },
    Command {
        name: "ban_add",
        alias: "auth:ban_add",
        params: &["source", "user", "seconds"],
        help: "bans an address, an extension, or an extension at an address",
    },
    Command {
        name: "ban_rm",
        alias: "auth:ban_rm",
        params: &["source", "user"],
        help: "forgets bans and failures",
    },
    Command {
        name: "get_statistics",
        alias: "statistics:get",
        params: &["statistics"],
        help: "values: all, a group (tm:), or names",
    },
    Command {
        name: "list_statistics",
        alias: "statistics:list",
        params: &["statistics"],
        help: "names of statistics, and whether they only grow",
    },
    Command {
        name: "reset_statistics",
        alias: "statistics:reset",
        params: &["statistics"],
        help: "counts from 0 again",
    },
    Command {
        name: "reset_all_statistics",
        alias: "statistics:reset_all",
        params: &[],
        help: "counts everything from 0 again",
    },
    Command {
        name: "nodes",
        alias: "clusterer:list",
        params: &[],
        help: "the nodes that share bindings, and how each is",
    },
    Command { name: "list_tcp_conns", alias: "tcp:list", params: &[], help: "the connections" },
    Command {
        name: "log_level",
        alias: "core:log_level",
        params: &["level", "pid", "only", "seconds"],
        help: "shows or sets the log level (-1 to 4), for an extension or address only, for so many seconds",
    },
    Command {
        name: "trace_start",
        alias: "tracer:start",
        params: &["id", "uri", "filter", "scope", "type", "decisions", "secrets"],
        help: "sends messages to a collector, hep:ADDRESS:PORT;transport=tcp|udp",
    },
    Command { name: "trace_stop", alias: "tracer:stop", params: &["id"], help: "sends them no more" },
    Command {
        name: "trace_last",
        alias: "roost:trace_last",
        params: &["aor", "callid"],
        help: "the messages of what failed last, of an extension or under a Call-ID",
    },
    Command {
        name: "trace",
        alias: "tracer:trace",
        params: &["id", "mode"],
        help: "shows the collectors, or switches one on or off",
    },
    Command {
        name: "sr_get_status",
        alias: "status_report:get_status",
        params: &["group", "identifier"],
        help: "whether roost is ready, and why not",
    },
    Command {
        name: "why",
        alias: "roost:why",
        params: why::PARAMS,
        help: "why an extension is offline, why a call failed, or what is wrong now",
    },
    Command {
        name: "try",
        alias: "roost:try",
        params: &[
            "method",
            "who",
            "target",
            "from",
            "transport",
            "password",
            "contact",
            "expires",
            "user_agent",
            "headers",
        ],
        help: "what would become of a request, decision by decision; nothing is sent",
    },
    Command { name: "ps", alias: "core:ps", params: &[], help: "the threads" },
    Command { name: "uptime", alias: "core:uptime", params: &[], help: "since when roost runs" },
    Command {
        name: "version",
        alias: "core:version",
        params: &["revision"],
        help: "the version of OpenSIPS's interface that this is like, and roost's own",
    },
    Command { name: "pwd", alias: "core:pwd", params: &[], help: "the working directory" },
    Command {
        name: "arg",
        alias: "core:arg",
        params: &[],
        help: "the arguments that roost was started with",
    },
    Command { name: "db_get", alias: "core:db_get", params: &[], help: "the database" },
    Command {
        name: "which",
        alias: "core:which",
        params: &["command"],
        help: "all commands, or the parameters of one",
    },
    Command { name: "help", alias: "core:help", params: &["mi_cmd"], help: "what a command does" },
    Command {
        name: "auth_db_forget",
        alias: "auth_db:forget",
        params: &["user", "domain"],
        help: "forgets cached passwords",
    },
];

impl Command {
    /// The command of this name: OpenSIPS 3's, 4's with its module, or 4's without it where only one has it.
    fn named(name: &str) -> Result<&'static Command, RpcError> {
        if let Some(command) = COMMANDS.iter().find(|command| command.name == name || command.alias == name) {
            return Ok(command);
        }
        let is_bare =
            |command: &&Command| command.alias.split_once(':').is_some_and(|(_, bare)| bare == name);
        let found: Vec<_> = COMMANDS.iter().filter(is_bare).collect();
        match found[..] {
            [command] => Ok(command),
            [] => Err(RpcError::new(-32601, "Method not found")),
            _ => {
                let names: Vec<_> = found.iter().map(|command| command.alias).collect();
                let data = Some(format!("supported names: {}", names.join(", ")));
                Err(RpcError { data, ..RpcError::new(-32001, "Method ambiguous") })
            }
        }
    }

    /// What a call asks for: the command, and its parameters matched with their names.
    fn of(call: &Call) -> Result<(&'static Command, Params<'_>), RpcError> {
        let command = Command::named(&call.method)?;
        Ok((command, Params::new(&call.params, command.params)?))
    }
}

/// Whether there is such a command and it takes these parameters.
pub(crate) fn takes(call: &Call) -> bool {
    Command::of(call).is_ok()
}

/// Runs a call.
pub(crate) async fn run(mi: &Mi, call: &Call) -> Result<Answer, RpcError> {
    let (command, params) = Command::of(call)?;
    if let Some(peers) = mi.peers.as_ref().filter(|_| is_across(command.name)) {
        // It runs here, too: there it is told to the log.
        return across::run(mi, peers, command.name, call, run_here).await.map(Answer::Value);
    }
    let answer = carry_out(mi, command, &params).await?;
    if changes(command, &params) {
        let given: Vec<_> =
            command.params.iter().filter_map(|name| Some(format!("{name}={}", params.get(name)?))).collect();
        tracing::info!("an operator: {} {}", command.name, given.join(" "));
    }
    Ok(answer)
}

/// Commands that are asked of all nodes.
const ACROSS: [&str; 7] =
    ["dlg_list", "dlg_list_ctx", "dlg_end_dlg", "agent_list", "why", "ban_add", "ban_rm"];

/// Whether a command is asked of all nodes.
fn is_across(name: &str) -> bool {
    ACROSS.contains(&name)
}

/// Runs a call that is asked of all nodes at this one alone.
pub(crate) fn run_here(mi: Mi, call: Call) -> Pin<Box<dyn Future<Output = Result<Value, RpcError>> + Send>> {
    let own = Mi { peers: None, ..mi };
    Box::pin(async move {
        match Command::of(&call).map(|(command, _)| is_across(command.name)) {
            Ok(true) => match run(&own, &call).await? {
                Answer::Value(value) => Ok(value),
                Answer::Aors(_) => Err(RpcError::new(500, "no list of AORs")),
            },
            _ => Err(RpcError::new(-32601, "Method not found")),
        }
    })
}

/// Whether an operator changes something by it: that leaves a line in the log.
fn changes(command: &Command, params: &Params<'_>) -> bool {
    match command.name {
        // Without these they only show.
        "log_level" => params.get("level").is_some(),
        "trace" => params.get("mode").is_some(),
        name => CHANGES.contains(&name),
    }
}

const CHANGES: [&str; 18] = [
    "upgrade",
    "address_reload",
    "reload",
    "drain",
    "reset_statistics",
    "reset_all_statistics",
    "trace_start",
    "trace_stop",
    "dlg_end_dlg",
    "tls_reload",
    "ul_add",
    "ul_rm",
    "ul_rm_contact",
    "ds_set_state",
    "ds_reload",
    "ban_add",
    "ban_rm",
    "auth_db_forget",
];

/// `upgrade`.
async fn upgrade(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let binary = match params.get("binary") {
        Some(_) => Some(params.text("binary")?),
        None => None,
    };
    let upgrade = std::sync::Arc::clone(&mi.process.upgrade);
    let begun = tokio::task::spawn_blocking(move || upgrade(binary.as_deref())).await;
    let begun = begun.unwrap_or_else(|_| Err("the binary was not looked at".to_string()));
    begun.map(|binary| json!({ "Binary": binary })).map_err(|error| RpcError::new(500, &error))
}

/// `address_dump`.
fn addresses(mi: &Mi) -> Value {
    let policy = &mi.config().policy;
    let networks: Vec<_> = policy.proxy.trusted.networks().iter().map(ToString::to_string).collect();
    json!({ "Networks": networks, "Aliases": policy.aliases.len() })
}

/// How long a drain takes where nobody says so, and when who is refused comes back, in seconds.
const WITHIN_S: i64 = 60;
const RETRY_AFTER_S: i64 = 30;

/// `drain`.
async fn drain(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let within_s = params.number("within")?.unwrap_or(WITHIN_S);
    let retry_after_s = params.number("retry_after")?.unwrap_or(RETRY_AFTER_S).clamp(1, 3_600) as u32;
    let is_drained = within_s > 0;
    let failed = |error: String| RpcError::new(500, &error);
    crate::reload::drain(mi, if is_drained { retry_after_s } else { 0 }).await.map_err(failed)?;
    (mi.process.drain)(is_drained.then(|| std::time::Duration::from_secs(within_s.min(86_400) as u64)));
    match is_drained {
        true => tracing::info!(within_s, "taken out of service: no registrations, no new calls"),
        false => tracing::info!("back in service"),
    }
    Ok(json!("OK"))
}

async fn reloaded(mi: &Mi, scope: Scope, is_dry: bool) -> Result<Vec<ChangedKey>, RpcError> {
    reload(mi, scope, is_dry).await.map_err(|error| RpcError::new(500, &error))
}

fn certificates(mi: &Mi) -> Result<&Certificates, RpcError> {
    mi.certificates.as_ref().ok_or_else(|| RpcError::new(404, "nothing listens for TLS or WSS"))
}

async fn carry_out(mi: &Mi, command: &Command, params: &Params<'_>) -> Result<Answer, RpcError> {
    let value = match command.name {
        "ul_dump" => {
            return Ok(Answer::Aors(dump(mi, params.number("brief")?.is_some_and(|brief| brief != 0))));
        }
        "tls_list" => json!({ "Domains": (certificates(mi)?.list)() }),
        "tls_reload" => match (certificates(mi)?.reload)() {
            Ok(has_changed) => json!(if has_changed { "OK" } else { "OK, unchanged" }),
            Err(error) => return Err(RpcError::new(500, &error)),
        },
        "ul_show_contact" => show_contact(mi, params).await?,
        "ul_add" => add(mi, params).await?,
        "ul_rm" => {
            let aor = aor_param(mi, params)?;
            done(ask_owner(mi, &aor, Admin::Remove { aor: aor.clone() }).await?, "Failed to delete AOR")?
        }
        "ul_rm_contact" => {
            let aor = aor_param(mi, params)?;
            let contact = params.text("contact")?.into_bytes();
            let request = Admin::RemoveContact { aor: aor.clone(), contact };
            done(ask_owner(mi, &aor, request).await?, "Failed to delete contact")?
        }
        "ul_flush" => {
            for shard in shards(mi) {
                done(ask(mi, shard, Admin::Flush).await?, "Failed to flush")?;
            }
            json!("OK")
        }
        "ul_sync" => sync(mi, params).await?,
        "ul_cluster_sync" => return Err(RpcError::new(400, "Clustering not enabled")),
        "ds_list" => {
            hops::check_partition(params)?;
            hops::list(mi, params.number("full")?.is_some_and(|full| full != 0)).await?
        }
        "ds_set_state" => hops::set_state(mi, params).await?,
        "ds_reload" => {
            hops::check_partition(params)?;
            reloaded(mi, Scope::Routes, false).await?;
            json!("OK")
        }
        "dlg_list" | "dlg_list_ctx" => calls::list(mi, params).await?,
        "agent_list" => agents::list(mi, params).await?,
        "dlg_end_dlg" => calls::end(mi, params).await?,
        "events_list" => events::event_list(),
        "event_subscribe" => events::subscribe(mi, params)?,
        "subscribers_list" => events::subscribers(mi, params)?,
        "ban_list" => bans::list(mi).await?,
        "ban_add" => bans::add(mi, params).await?,
        "ban_rm" => bans::rm(mi, params).await?,
        _ => carry_out_own(mi, command, params).await?,
    };
    Ok(Answer::Value(value))
}

/// The commands about roost itself.
async fn carry_out_own(mi: &Mi, command: &Command, params: &Params<'_>) -> Result<Value, RpcError> {
    Ok(match command.name {
        "get_statistics" => statistics::get(mi, params).await?,
        "list_statistics" => statistics::list(mi, params).await?,
        "reset_statistics" => statistics::reset(mi, params).await?,
        "reset_all_statistics" => statistics::reset_all(mi).await?,
        "nodes" => match &mi.nodes {
            Some(nodes) => nodes(),
            None => return Err(RpcError::new(404, "this roost is alone: `location` is not set")),
        },
        "list_tcp_conns" => (mi.process.connections)(),
        "log_level" => log_level(mi, params)?,
        "config_show" => mi.reload.show(),
        "drain" => drain(mi, params).await?,
        "reload" => {
            let is_dry = params.number("dry_run")?.is_some_and(|dry| dry != 0);
            crate::reload::shown(&reloaded(mi, Scope::All, is_dry).await?)
        }
        "address_reload" => {
            crate::reload::shown(&reloaded(mi, Scope::Tables, false).await?)["Changed"].take()
        }
        "upgrade" => upgrade(mi, params).await?,
        "address_dump" => addresses(mi),
        "trace_start" => traces::start(mi, params)?,
        "trace_stop" => traces::stop(mi, params)?,
        "trace_last" => traces::last(mi, params)?,
        "trace" => traces::list(mi, params)?,
        "sr_get_status" => health::status(mi).await?,
        "why" => why::why(mi, params).await?,
        "try" => what_if::what_if(mi, params).await?,
        "ps" => statistics::ps(mi)?,
        "uptime" => uptime(mi),
        "version" => json!({ "Server": mi.server }),
        "pwd" => json!({ "WD": std::env::current_dir().unwrap_or_default().display().to_string() }),
        "arg" => std::env::args().map(Value::from).collect(),
        "db_get" => json!({ "database": mi.database }),
        "which" => which(params)?,
        "help" => help(params)?,
        "auth_db_forget" => forget(mi, params).await?,
        _ => return Err(RpcError::new(-32601, "Method not found")),
    })
}

/// The AOR of a command; the table must be ours, and the domain there when AORs have one.
fn aor_param(mi: &Mi, params: &Params<'_>) -> Result<Vec<u8>, RpcError> {
    let (table, aor) = (params.text("table_name")?, params.text("aor")?);
    if table != TABLE {
        return Err(RpcError::new(404, "Table not found"));
    }
    let aor = stored_aor(mi, &aor).ok_or_else(|| RpcError::new(400, "Domain missing in AOR"))?;
    Ok(aor.as_bytes().to_vec())
}

/// Forgets what the database said of a user, or of all.
async fn forget(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    // Where its phone registers is another matter: every shard may have been asked about it.
    for shard in shards(mi) {
        let request = match params.get("user") {
            Some(_) => Admin::ForgetCredentials {
                user: params.text("user")?.into_bytes(),
                domain: params.text("domain")?.into_bytes(),
            },
            None => Admin::ForgetAllCredentials,
        };
        ask(mi, shard, request).await?;
    }
    Ok(json!("OK"))
}

fn done(reply: AdminReply, failure: &str) -> Result<Value, RpcError> {
    match reply {
        AdminReply::Done => Ok(json!("OK")),
        AdminReply::AorNotFound => Err(RpcError::new(404, "AOR not found")),
        AdminReply::ContactNotFound => Err(RpcError::new(404, "Contact not found")),
        _ => Err(RpcError::new(500, failure)),
    }
}

/// Rewrites the rows of one AOR, or of all: a slice of them at a time, which share their commits.
async fn sync(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    const FAILURE: &str = "Failed to sync";
    if !mi.config().identity.write_through {
        return Err(RpcError::new(200, "Contacts already synced"));
    }
    if params.get("aor").is_some() {
        let aor = aor_param(mi, params)?;
        return done(ask_owner(mi, &aor, Admin::Sync { aor: aor.clone() }).await?, FAILURE);
    }
    if params.text("table_name")? != TABLE {
        return Err(RpcError::new(404, "Table not found"));
    }
    for shard in shards(mi) {
        let mut from = Some(0);
        while let Some(place) = from {
            let (records, next) = aors(mi, shard, place).await?;
            let sync = |(_, record): (usize, AorRecord)| (mi.ask)(shard, Admin::Sync { aor: record.aor });
            let asked: Vec<_> = records.into_iter().map(sync).collect();
            for answer in asked {
                match answered(answer).await? {
                    // It has gone meanwhile.
                    AdminReply::AorNotFound => {}
                    reply => drop(done(reply, FAILURE)?),
                }
            }
            from = next;
        }
    }
    Ok(json!("OK"))
}

async fn show_contact(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let name = aor_param(mi, params)?;
    match ask_owner(mi, &name, Admin::Show { aor: name.clone() }).await? {
        AdminReply::Record(record) => Ok(aor(&record)),
        _ => Err(RpcError::new(404, "AOR not found")),
    }
}

async fn add(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let bad = || RpcError::new(400, "Bad parameter value");
    let aor = aor_param(mi, params)?;
    let contact = params.text("contact")?.into_bytes();
    if aor.is_empty() || contact.len() > roost_core::limits::MAX_CONTACT {
        return Err(bad());
    }
    let expires = params.number("expires")?.unwrap_or(0);
    let q = match params.get("q") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(_) => {
            let q: f64 = params.text("q")?.parse().map_err(|_| bad())?;
            (0.0..=1.0).contains(&q).then_some(Some((q * 1000.0) as u16)).ok_or_else(bad)?
        }
    };
    let methods =
        params.number("methods")?.map(|methods| u32::try_from(methods).map_err(|_| bad())).transpose()?;
    let request = Admin::Add {
        aor: aor.clone(),
        contact,
        expires_s: u32::try_from(expires).map_err(|_| bad())?,
        q,
        methods,
    };
    done(ask_owner(mi, &aor, request).await?, "Failed to add contact")
}

fn uptime(mi: &Mi) -> Value {
    let ctime = |time: SystemTime| DateTime::<Local>::from(time).format("%a %b %e %H:%M:%S %Y").to_string();
    let up = mi.started.elapsed().unwrap_or_default().as_secs();
    json!({ "Now": ctime(SystemTime::now()), "Up since": ctime(mi.started), "Up time": format!("{up} [sec]") })
}

/// All names, or the parameters of one command as a list of lists.
fn which(params: &Params<'_>) -> Result<Value, RpcError> {
    if params.get("command").is_none() {
        return Ok(COMMANDS.iter().map(|command| json!(command.name)).collect());
    }
    let name = params.text("command")?;
    Ok(json!([known(&name)?.params]))
}

fn known(name: &str) -> Result<&'static Command, RpcError> {
    Command::named(name).map_err(|_| RpcError::new(404, "unknown MI command"))
}

/// What a command does; without one, what `help` is for.
fn help(params: &Params<'_>) -> Result<Value, RpcError> {
    if params.get("mi_cmd").is_none() {
        let usage = "help mi_cmd: what a command does; which: all commands";
        return Ok(json!({ "Help": usage }));
    }
    let name = params.text("mi_cmd")?;
    let Command { name, params, help, .. } = known(&name)?;
    Ok(json!({ "Help": format!("{} {}: {help}", name, params.join(" ")) }))
}

/// Shows or sets the level.
fn log_level(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let Some(level) = params.number("level")? else {
        return Ok((mi.process.log.show)());
    };
    let level = Some(level).filter(|level| (-3..=4).contains(level));
    let level = level.ok_or_else(|| RpcError::new(400, "the level is a number from -3 to 4"))?;
    let only = params.filled_text("only")?;
    let seconds = params.number("seconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    if only.is_none() && seconds.is_some() {
        return Err(RpcError::new(400, "'seconds' goes with 'only'"));
    }
    (mi.process.log.set)(LogChange { level, only, seconds });
    Ok((mi.process.log.show)())
}
