//! Answers as OpenSIPS 2.4 writes them: a status line, then a tree of `NAME:: VALUE ATTRIBUTE=VALUE`, indented by tabs.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::dump::Aors;
use crate::rpc::RpcError;
use crate::shapes::{HASH_SIZE, TABLE, aor, brief_aor};

/// Lists, what one of their entries is called, which member is its value, and which are its attributes.
const LISTS: &[(&str, &str, &str, &[&str])] = &[
    ("Domains", "Domain", "name", &["hash_size"]),
    ("AORs", "AOR", "AOR", &[]),
    ("Contacts", "Contact", "Contact", &["Q"]),
    ("Processes", "Process", "", &["ID", "PID", "Type"]),
    ("PARTITIONS", "PARTITION", "name", &[]),
    ("SETS", "SET", "id", &[]),
    ("Destinations", "URI", "URI", &["state", "first_hit_counter"]),
    ("Addresses", "Address", "address", &["failures"]),
    ("Dialogs", "dialog", "", &["ID"]),
    ("Events", "Event", "name", &["id"]),
    ("Subscribers", "Subscriber", "socket", &["expire", "ttl"]),
    ("Connections", "Connection", "", &["ID", "Type", "State", "Source", "Destination"]),
];

/// A result.
pub(crate) fn reply(value: &Value) -> String {
    let mut out = String::from("200 OK\n");
    match value {
        Value::String(text) if text == "OK" => {}
        // One AOR stands without its list.
        Value::Object(members) if members.contains_key("AOR") => entry("AORs", value, 0, &mut out),
        value => members(value, 0, &mut out),
    }
    out.push('\n');
    out
}

/// An error.
pub(crate) fn error(error: &RpcError) -> String {
    // JSON-RPC's own codes are HTTP's here.
    let code = match error.code {
        -32601 => 404,
        -32602 | -32600 | -32700 => 400,
        code if code < 100 => 500,
        code => code,
    };
    let data = error.data.as_ref().map_or(String::new(), |data| format!(": {data}"));
    format!("{code} {}{data}\n\n", error.message)
}

/// All AORs, part by part.
pub(crate) async fn dump(mut aors: Aors, parts: &mpsc::Sender<String>) {
    let mut text = format!("200 OK\nDomain:: {TABLE} hash_size={HASH_SIZE}\n");
    while let Some(records) = aors.records.recv().await {
        let Some(records) = records else {
            text.push('\n');
            let _ = parts.send(text).await;
            return;
        };
        for record in &records {
            let shown = if aors.is_brief { brief_aor(record) } else { aor(record) };
            entry("AORs", &shown, 1, &mut text);
        }
        if parts.send(std::mem::take(&mut text)).await.is_err() {
            return;
        }
    }
}

/// The members of an object, or the entries of a list, each on its line.
fn members(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(all) => {
            for (name, value) in all {
                member(name, value, depth, out);
            }
        }
        Value::Array(all) => {
            for value in all {
                match value {
                    Value::Object(_) | Value::Array(_) => members(value, depth, out),
                    value => line(depth, "", Some(&plain(value)), out),
                }
            }
        }
        value => line(depth, "", Some(&plain(value)), out),
    }
}

fn member(name: &str, value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| match one {
            Value::Object(_) => entry(name, one, depth, out),
            other => line(depth, name, Some(&plain(other)), out),
        }),
        Value::Object(_) => {
            line(depth, name, None, out);
            members(value, depth + 1, out);
        }
        value => line(depth, name, Some(&plain(value)), out),
    }
}

/// One entry of a list of objects.
fn entry(list: &str, value: &Value, depth: usize, out: &mut String) {
    let Value::Object(own) = value else { return };
    let known = LISTS.iter().find(|(name, ..)| *name == list);
    let (word, value_of, attributes): (&str, &str, &[&str]) =
        known.map_or((list, "", &[]), |(_, word, value, attributes)| (word, value, attributes));
    let text = own.get(value_of).map(plain).unwrap_or_default();
    let mut shown = text;
    for name in attributes {
        if let Some(value) = own.get(*name) {
            let _ = write!(shown, " {name}={}", plain(value));
        }
    }
    line(depth, word, Some(&shown), out);
    let rest: Map<String, Value> = own
        .iter()
        .filter(|(name, _)| *name != value_of && !attributes.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    members(&Value::Object(rest), depth + 1, out);
}

fn line(depth: usize, name: &str, value: Option<&str>, out: &mut String) {
    (0..depth).for_each(|_| out.push('\t'));
    out.push_str(name);
    if let Some(value) = value {
        out.push_str(":: ");
        // A line break in a value would begin another line.
        out.extend(value.chars().filter(|c| !matches!(c, '\n' | '\r')));
    }
    out.push('\n');
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_aor_is_shown_as_2_4_shows_it() {
        let value = json!({ "AOR": "9001", "Contacts": [{
            "Contact": "sip:9001@127.0.0.1:38427", "ContactID": "2279525098891253104", "Expires": 30, "Q": "",
            "Callid": "3f6f", "Cseq": 3, "State": "CS_SYNC", "Cflags": "", "Socket": "udp:127.0.0.1:28901"
        }] });
        let expected = "200 OK\nAOR:: 9001\n\tContact:: sip:9001@127.0.0.1:38427 Q=\n\
            \t\tContactID:: 2279525098891253104\n\t\tExpires:: 30\n\t\tCallid:: 3f6f\n\t\tCseq:: 3\n\
            \t\tState:: CS_SYNC\n\t\tCflags:: \n\t\tSocket:: udp:127.0.0.1:28901\n\n";
        assert_eq!(reply(&value), expected);
    }

    #[test]
    fn other_answers_are_trees_too() {
        assert_eq!(reply(&json!("OK")), "200 OK\n\n");
        assert_eq!(reply(&json!({ "tm:inuse_transactions": 3 })), "200 OK\ntm:inuse_transactions:: 3\n\n");
        assert_eq!(
            reply(&json!({ "Processes": [{ "ID": 0, "PID": 7, "Type": "attendant" }] })),
            "200 OK\nProcess::  ID=0 PID=7 Type=attendant\n\n"
        );
        assert_eq!(
            reply(&json!({ "PARTITIONS": [{ "name": "default", "SETS": [{ "id": 1, "Destinations": [
                { "URI": "sip:a", "state": "Active", "first_hit_counter": 2 }] }] }] })),
            "200 OK\nPARTITION:: default\n\tSET:: 1\n\t\tURI:: sip:a state=Active first_hit_counter=2\n\n"
        );
        assert_eq!(reply(&json!(["ul_dump", "ps"])), "200 OK\n:: ul_dump\n:: ps\n\n");
        assert_eq!(reply(&json!({ "a": "b\nc:: d" })), "200 OK\na:: bc:: d\n\n");
        assert_eq!(error(&RpcError::new(404, "AOR not found")), "404 AOR not found\n\n");
        assert_eq!(error(&RpcError::new(-32601, "Method not found")), "404 Method not found\n\n");
    }
}
