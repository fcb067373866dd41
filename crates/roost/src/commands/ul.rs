//! `roost ul`: what is registered with the running server; `show` in the lines that `opensipsctl ul show` printed.

use anyhow::Result;
use roost_admin::TABLE;
use serde_json::{Value, json};

use crate::cli::UlCommand;
use crate::commands::names::Name;
use crate::mi_client::{MiError, call};
use crate::output::{say, say_done, table};
use crate::settings::Settings;

/// Runs one of the commands.
///
/// # Errors
/// What the server answered, or that none runs.
pub(crate) fn run(settings: &Settings, command: &UlCommand, is_json: bool) -> Result<()> {
    match command {
        UlCommand::Show { aor: Some(aor), domain } => {
            show(settings, Some(&Name::new(aor, domain.as_deref())?.to_string()), is_json)
        }
        UlCommand::Show { aor: None, .. } => show(settings, None, is_json),
        UlCommand::Dump { brief } => dump(settings, *brief, is_json),
        UlCommand::Add { aor, domain, contact, expires, q } => {
            let aor = Name::new(aor, domain.as_deref())?.to_string();
            let q = q.map_or(json!(""), |q| json!(q.to_string()));
            let params = json!({
                "table_name": TABLE, "aor": aor, "contact": contact, "expires": expires, "q": q, "flags": 0,
                "cflags": "", "methods": u32::MAX,
            });
            call(settings, "ul_add", &params).map_err(|error| match error {
                MiError::Refused { code: 500, .. } => error
                    .into_error()
                    .context(format!("'{contact}': is it a SIP URI such as sip:9001@192.168.1.201:5060?")),
                _ => error.into_error(),
            })?;
            say_done(&format!("contact '{contact}' added to '{aor}'"), is_json)
        }
        UlCommand::Rm { aor, domain, contact } => {
            let aor = Name::new(aor, domain.as_deref())?.to_string();
            remove(settings, &aor, contact.as_deref(), is_json)
        }
    }
}

fn remove(settings: &Settings, aor: &str, contact: Option<&str>, is_json: bool) -> Result<()> {
    // OpenSIPS's MI is content with an AOR that is not there; who types it is not.
    let shown = call(settings, "ul_show_contact", &json!({ "table_name": TABLE, "aor": aor }));
    shown.map_err(|error| match error {
        MiError::Refused { code: 404, .. } => {
            error.into_error().context(format!("nothing is registered as '{aor}', and nothing was removed"))
        }
        error => error.into_error(),
    })?;
    let mut params = json!({ "table_name": TABLE, "aor": aor });
    let Some(contact) = contact else {
        call(settings, "ul_rm", &params).map_err(MiError::into_error)?;
        return say_done(&format!("bindings of '{aor}' removed"), is_json);
    };
    params["contact"] = json!(contact);
    call(settings, "ul_rm_contact", &params).map_err(MiError::into_error)?;
    say_done(&format!("contact '{contact}' removed from '{aor}'"), is_json)
}

/// A line for each binding.
fn dump(settings: &Settings, is_brief: bool, is_json: bool) -> Result<()> {
    let params = if is_brief { json!({ "brief": 1 }) } else { json!({}) };
    let result = call(settings, "ul_dump", &params).map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&result)?);
    }
    const FIELDS: [&str; 6] = ["Contact", "Expires", "Q", "Received", "Socket", "User-agent"];
    let mut table = table();
    table.set_header(["AOR"].into_iter().chain(FIELDS.into_iter().filter(|_| !is_brief)));
    let aors = items(&result["Domains"]).flat_map(|domain| items(&domain["AORs"]));
    let mut aors: Vec<_> = aors.map(|aor| (shown(&aor["AOR"]), &aor["Contacts"])).collect();
    aors.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    for (name, contacts) in aors {
        if is_brief {
            table.add_row([name]);
            continue;
        }
        for contact in items(contacts) {
            let field = |name: &&str| contact.get(*name).map_or(String::new(), shown);
            table.add_row([name.clone()].into_iter().chain(FIELDS.iter().map(field)));
        }
    }
    say(&table.trim_fmt())
}

/// Prints all AORs, or one.
fn show(settings: &Settings, aor: Option<&str>, is_json: bool) -> Result<()> {
    let result = match aor {
        Some(aor) => call(settings, "ul_show_contact", &json!({ "table_name": TABLE, "aor": aor })),
        None => call(settings, "ul_dump", &json!({})),
    };
    let result = result.map_err(MiError::into_error)?;
    if is_json {
        return say(&serde_json::to_string_pretty(&result)?);
    }
    let mut text = String::new();
    match aor {
        Some(_) => write_aor(&result, 0, &mut text),
        None => {
            for domain in items(&result["Domains"]) {
                let size = &domain["hash_size"];
                line(0, &format!("Domain:: {} hash_size={size}", shown(&domain["name"])), &mut text);
                items(&domain["AORs"]).for_each(|aor| write_aor(aor, 1, &mut text));
            }
        }
    }
    say(text.trim_end_matches('\n'))
}

fn write_aor(aor: &Value, depth: usize, text: &mut String) {
    line(depth, &format!("AOR:: {}", shown(&aor["AOR"])), text);
    for contact in items(&aor["Contacts"]) {
        let (uri, q) = (shown(&contact["Contact"]), shown(&contact["Q"]));
        line(depth + 1, &format!("Contact:: {uri} Q={q}"), text);
        let Value::Object(fields) = contact else { continue };
        for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "Contact" | "Q")) {
            line(depth + 2, &format!("{name}:: {}", shown(value)), text);
        }
    }
}

fn line(depth: usize, content: &str, text: &mut String) {
    text.extend(std::iter::repeat_n('\t', depth));
    text.push_str(content);
    text.push('\n');
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A value without quotes, on one line.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect(),
        other => other.to_string(),
    }
}
