//! `roost ul`: what is registered, in the lines that `opensipsctl ul show` printed.

use anyhow::Result;
use roost_admin::TABLE;
use serde_json::{Value, json};

use crate::mi_client::{MiError, call};
use crate::settings::Settings;
use crate::user::say;

/// Prints all AORs, or one.
pub(crate) fn show(settings: &Settings, aor: Option<&str>, is_json: bool) -> Result<()> {
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
