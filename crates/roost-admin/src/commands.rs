//! The commands: names of OpenSIPS 2.4 and 3.x, and their 4.0 aliases (`usrloc:dump`).

use std::time::SystemTime;

use chrono::{DateTime, Local};
use roost_core::{Admin, AdminReply, AorRecord};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::agents;
use crate::ask::{answered, aors, ask, ask_owner, shards};
use crate::bans;
use crate::calls;
use crate::events;
use crate::hops;
use crate::rpc::{Call, Params, RpcError};
use crate::shapes::{HASH_SIZE, TABLE, aor, brief_aor};
use crate::{Certificates, Mi};

/// A command's result.
#[derive(Debug)]
pub(crate) enum Answer {
    Value(Value),
    /// JSON text in parts.
    Stream(mpsc::Receiver<String>),
}

/// One command: its names, and the parameters it takes in order.
struct Command {
    name: &'static str,
    alias: &'static str,
    params: &'static [&'static str],
}

const COMMANDS: &[Command] = &[
    Command { name: "ul_dump", alias: "usrloc:dump", params: &["brief"] },
    Command { name: "ul_show_contact", alias: "usrloc:show_contact", params: &["table_name", "aor"] },
    Command {
        name: "ul_add",
        alias: "usrloc:add",
        params: &["table_name", "aor", "contact", "expires", "q", "flags", "cflags", "methods"],
    },
    Command { name: "ul_rm", alias: "usrloc:rm", params: &["table_name", "aor"] },
    Command { name: "ul_rm_contact", alias: "usrloc:rm_contact", params: &["table_name", "aor", "contact"] },
    Command { name: "ul_flush", alias: "usrloc:flush", params: &[] },
    Command { name: "ul_sync", alias: "usrloc:sync", params: &["table_name", "aor"] },
    Command { name: "ds_list", alias: "dispatcher:list", params: &["full"] },
    Command { name: "ds_set_state", alias: "dispatcher:set_state", params: &["state", "group", "address"] },
    Command { name: "ds_reload", alias: "dispatcher:reload", params: &[] },
    Command { name: "tls_list", alias: "tls_mgm:list", params: &[] },
    Command { name: "tls_reload", alias: "tls_mgm:reload", params: &[] },
    Command { name: "dlg_list", alias: "dialog:list", params: &["callid", "from_tag", "index", "counter"] },
    Command {
        name: "dlg_list_ctx",
        alias: "dialog:list_ctx",
        params: &["callid", "from_tag", "index", "counter"],
    },
    Command { name: "agent_list", alias: "dialog:agent_list", params: &["aor"] },
    Command { name: "dlg_end_dlg", alias: "dialog:end", params: &["dialog_id", "extra_hdrs"] },
    Command { name: "events_list", alias: "event:list", params: &[] },
    Command { name: "event_subscribe", alias: "event:subscribe", params: &["event", "socket", "expire"] },
    Command { name: "subscribers_list", alias: "event:subscribers_list", params: &["event", "socket"] },
    Command { name: "ban_list", alias: "auth:ban_list", params: &[] },
    Command { name: "ban_add", alias: "auth:ban_add", params: &["source", "user", "seconds"] },
    Command { name: "ban_rm", alias: "auth:ban_rm", params: &["source", "user"] },
    Command { name: "get_statistics", alias: "statistics:get", params: &["statistics"] },
    Command { name: "uptime", alias: "core:uptime", params: &[] },
    Command { name: "version", alias: "core:version", params: &[] },
    Command { name: "db_get", alias: "core:db_get", params: &[] },
    Command { name: "which", alias: "core:which", params: &["command"] },
    Command { name: "auth_db_forget", alias: "auth_db:forget", params: &["user", "domain"] },
];

impl Command {
    /// The command of this name.
    fn named(name: &str) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| command.name == name || command.alias == name)
    }

    /// What a call asks for: the command, and its parameters matched with their names.
    fn of(call: &Call) -> Result<(&'static Command, Params<'_>), RpcError> {
        let command = Command::named(&call.method);
        let command = command.ok_or_else(|| RpcError::new(-32601, "Method not found"))?;
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
    let answer = carry_out(mi, command, &params).await?;
    if CHANGES.contains(&command.name) {
        let given: Vec<_> =
            command.params.iter().filter_map(|name| Some(format!("{name}={}", params.get(name)?))).collect();
        tracing::info!("an operator: {} {}", command.name, given.join(" "));
    }
    Ok(answer)
}

/// The commands by which an operator changes something: each leaves a line in the log.
const CHANGES: [&str; 10] = [
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

fn certificates(mi: &Mi) -> Result<&Certificates, RpcError> {
    mi.certificates.as_ref().ok_or_else(|| RpcError::new(404, "nothing listens for TLS or WSS"))
}

async fn carry_out(mi: &Mi, command: &Command, params: &Params<'_>) -> Result<Answer, RpcError> {
    let value = match command.name {
        "ul_dump" => return dump(mi, params.number("brief")?.is_some_and(|brief| brief != 0)),
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
        "ds_list" => hops::list(mi, params.number("full")?.is_some_and(|full| full != 0)).await?,
        "ds_set_state" => hops::set_state(mi, params).await?,
        "ds_reload" => hops::reload(mi).await?,
        "dlg_list" | "dlg_list_ctx" => calls::list(mi, params).await?,
        "agent_list" => agents::list(mi, params).await?,
        "dlg_end_dlg" => calls::end(mi, params).await?,
        "events_list" => events::event_list(),
        "event_subscribe" => events::subscribe(mi, params)?,
        "subscribers_list" => events::subscribers(mi, params)?,
        "ban_list" => bans::list(mi).await?,
        "ban_add" => bans::add(mi, params).await?,
        "ban_rm" => bans::rm(mi, params).await?,
        "get_statistics" => statistics(mi, params).await?,
        "uptime" => uptime(mi),
        "version" => json!({ "Server": mi.server }),
        "db_get" => json!({ "database": mi.database }),
        "which" => which(params)?,
        "auth_db_forget" => forget(mi, params).await?,
        _ => return Err(RpcError::new(-32601, "Method not found")),
    };
    Ok(Answer::Value(value))
}

/// The AOR of a command; the table must be ours, and the domain there when AORs have one.
fn aor_param(mi: &Mi, params: &Params<'_>) -> Result<Vec<u8>, RpcError> {
    let (table, mut aor) = (params.text("table_name")?, params.text("aor")?);
    if table != TABLE {
        return Err(RpcError::new(404, "Table not found"));
    }
    let at = aor.rfind('@');
    match (mi.config.identity.use_domain, at) {
        (true, None) => return Err(RpcError::new(400, "Domain missing in AOR")),
        (false, Some(at)) => aor.truncate(at),
        _ => {}
    }
    Ok(aor.into_bytes())
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
    if !mi.config.identity.write_through {
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

/// Every shard in slices, streamed: neither the shards nor the memory feel it.
fn dump(mi: &Mi, is_brief: bool) -> Result<Answer, RpcError> {
    let (parts, answer) = mpsc::channel(4);
    let mi = mi.clone();
    tokio::spawn(async move {
        let before = format!(r#"{{"Domains":[{{"name":"{TABLE}","hash_size":{HASH_SIZE},"AORs":["#);
        let mut text = before;
        let mut is_first = true;
        for shard in shards(&mi) {
            let mut from = Some(0);
            while let Some(place) = from {
                let Ok((records, next)) = aors(&mi, shard, place).await else {
                    // The reader sees JSON that does not end, which no parser takes for a whole dump.
                    return;
                };
                for (_, record) in &records {
                    let shown = if is_brief { brief_aor(record) } else { aor(record) };
                    text.push_str(if is_first { "" } else { "," });
                    text.push_str(&shown.to_string());
                    is_first = false;
                }
                if parts.send(std::mem::take(&mut text)).await.is_err() {
                    return;
                }
                from = next;
            }
        }
        let _ = parts.send("]}]}".to_string()).await;
    });
    Ok(Answer::Stream(answer))
}

async fn statistics(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let wanted: Vec<String> = match params.get("statistics") {
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
        }
        Some(Value::String(name)) => vec![name.to_ascii_lowercase()],
        _ => return Err(RpcError::invalid_params("'statistics' must be an array of names")),
    };
    let mut all = Map::new();
    for shard in shards(mi) {
        if let AdminReply::Statistics(values) = ask(mi, shard, Admin::Statistics).await? {
            for (name, value) in values {
                let sum = all.get(name).and_then(Value::as_u64).unwrap_or(0) + value;
                all.insert(name.to_string(), json!(sum));
            }
        }
    }
    all.extend(mi.events.statistics().into_iter().map(|(name, value)| (name.to_string(), json!(value))));
    all.extend((mi.counters)().into_iter().map(|(name, value)| (name.to_string(), json!(value))));
    let registrar = &mi.config.policy.registrar;
    all.insert("registrar:max_expires".into(), json!(registrar.max_expires_s));
    all.insert("registrar:max_contacts".into(), json!(registrar.max_contacts));
    all.insert("registrar:default_expire".into(), json!(registrar.default_expires_s));
    all.insert("core:timestamp".into(), json!(mi.started.elapsed().unwrap_or_default().as_secs()));
    let is_wanted = |name: &str| {
        let name = name.to_ascii_lowercase();
        let (group, bare) = name.split_once(':').unwrap_or(("", &name));
        wanted.iter().any(|wanted| match wanted.strip_suffix(':') {
            Some(wanted) => wanted == group,
            None => wanted == "all" || *wanted == name || wanted == bare,
        })
    };
    all.retain(|name, _| is_wanted(name));
    match all.is_empty() {
        true => Err(RpcError::new(404, "Statistics Not Found")),
        false => Ok(Value::Object(all)),
    }
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
    let command = Command::named(&name).ok_or_else(|| RpcError::new(404, "unknown MI command"))?;
    Ok(json!([command.params]))
}
