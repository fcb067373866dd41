//! `roost mcp`: an assistant asks, by the protocol, and is told what an operator is told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, wait_for_end};

#[test]
fn an_assistant_is_told_what_an_operator_is_told_and_changes_nothing() {
    let server = Server::for_calls("");
    server.registered("9001");
    let mut command = server.command(&["mcp"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("its input");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (sender, lines) = channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut ask = |id: u64, method: &str, params: Value| -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(input, "{request}").expect("it reads");
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no answer to {request}"));
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(answer["id"], id, "{answer}");
        answer["result"].clone()
    };
    let begun = json!({
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" }
    });
    assert_eq!(ask(1, "initialize", begun)["serverInfo"]["name"], "roost");
    let listed = ask(2, "tools/list", json!({}));
    let tools: Vec<_> = listed["tools"].as_array().into_iter().flatten().collect();
    let mut names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["calls", "config_check", "doctor", "explain", "ul_show", "why"]);
    assert!(tools.iter().all(|tool| tool["annotations"]["readOnlyHint"] == true), "{listed}");
    let mut call = |id: u64, name: &str, arguments: Value| -> (String, bool) {
        let result = ask(id, "tools/call", json!({ "name": name, "arguments": arguments }));
        let text = result["content"][0]["text"].as_str().unwrap_or_default().to_string();
        (text, result["isError"] == true)
    };
    let (why, failed) = call(3, "why", json!({ "extension": "9001" }));
    assert!(!failed && why.contains("9001 is registered"), "{why}");
    assert!(call(4, "ul_show", json!({ "aor": "9001" })).0.contains("sip:9001@"));
    assert!(call(5, "explain", json!({ "reason": "R207" })).0.contains("\"word\""));
    assert!(!call(6, "calls", json!({})).1 && !call(7, "config_check", json!({})).1);
    assert!(call(8, "doctor", json!({})).0.contains("\"check\""));
    // What looks like an option is none.
    let (text, failed) = call(9, "explain", json!({ "reason": "--help" }));
    assert!(failed && text.contains("there is no reason --help"), "{text}");
    drop(input);
    wait_for_end(&mut child, PATIENCE).expect("it ends with its input");
}
