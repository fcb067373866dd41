//! What an operator asks of all nodes: one answer from those of all.

use std::collections::HashMap;

use roost_recorder::{Language, say};
use serde_json::{Map, Value, json};

use crate::Mi;
use crate::peers::{Peers, RunHere, Told};
use crate::rpc::{Call, Params, RpcError};
use crate::why;

/// Runs such a call here and at the other nodes.
pub(crate) async fn run(
    mi: &Mi,
    peers: &Peers,
    name: &str,
    call: &Call,
    run_here: RunHere,
) -> Result<Value, RpcError> {
    let here = |call: Call| run_here(mi.clone(), call);
    let same = || Call { id: None, method: name.to_string(), params: call.params.clone() };
    Ok(match name {
        "dlg_list" | "dlg_list_ctx" => {
            let (params, from, most) = whole(&call.params);
            let asked = Call { id: None, method: name.to_string(), params: params.clone() };
            let (own, told) = tokio::join!(here(asked), peers.ask(name, &params));
            calls(peers.own(), own, told, from, most)?
        }
        "dlg_end_dlg" => match here(same()).await {
            Err(error) if error.code == 404 => {
                let told = peers.ask(name, &call.params).await;
                told.answers.into_iter().find_map(|(_, answer)| answer.ok()).ok_or(error)?
            }
            answer => answer?,
        },
        "agent_list" => {
            let (own, told) = tokio::join!(here(same()), peers.ask(name, &call.params));
            agents(own?, told)
        }
        "why" => {
            let (own, told) = tokio::join!(here(same()), peers.ask(name, &call.params));
            let language = why::language(&Params::new(&call.params, why::PARAMS)?)?;
            merged(peers.own(), own, told, language)?
        }
        _ => {
            let (own, told) = tokio::join!(here(same()), peers.ask(name, &call.params));
            // It is done if one of them had something to do.
            told.answers.into_iter().find_map(|(_, answer)| answer.ok()).map_or(own, Ok)?
        }
    })
}

/// The parameters without the part of the list that is wanted; where that begins, and how long it is.
fn whole(params: &Value) -> (Value, usize, usize) {
    let names = ["callid", "from_tag", "index", "counter"];
    let mut named = match params {
        Value::Object(named) => named.clone(),
        Value::Array(values) => {
            names.iter().map(|name| (*name).to_string()).zip(values.iter().cloned()).collect()
        }
        _ => Map::new(),
    };
    let number = |value: Option<Value>| {
        let value = value?;
        value
            .as_u64()
            .or_else(|| value.as_str()?.parse().ok())
            .and_then(|number| usize::try_from(number).ok())
    };
    let from = number(named.remove("index")).unwrap_or(0);
    let most = number(named.remove("counter")).unwrap_or(usize::MAX);
    (Value::Object(named), from, most)
}

/// All calls, each with its node.
fn calls(
    own_name: &str,
    own: Result<Value, RpcError>,
    told: Told,
    from: usize,
    most: usize,
) -> Result<Value, RpcError> {
    let (mut count, mut dialogs, mut missing) = (0, Vec::new(), None);
    let all = std::iter::once((own_name.to_string(), own)).chain(told.answers);
    for (node, answer) in all {
        match answer {
            Ok(mut answer) => {
                count += answer["count"].as_u64().unwrap_or(0);
                for dialog in answer["Dialogs"].as_array_mut().into_iter().flatten() {
                    dialog["node"] = json!(node);
                    dialogs.push(dialog.take());
                }
            }
            Err(error) if error.code == 404 => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    if let Some(missing) = missing.filter(|_| dialogs.is_empty()) {
        return Err(missing);
    }
    let shown: Vec<_> = dialogs.into_iter().skip(from).take(most).collect();
    let mut all = json!({ "count": count, "Dialogs": shown });
    if !told.silent.is_empty() {
        all["Silent"] = json!(told.silent);
    }
    Ok(all)
}

/// Each extension once: its calls at all nodes, and the state that says most.
fn agents(mut own: Value, told: Told) -> Value {
    let weight = |agent: &Value| {
        agent["in_use"].as_u64().unwrap_or(0) * 1_000 + agent["ringing"].as_u64().unwrap_or(0)
    };
    let others = told.answers.into_iter().filter_map(|(_, answer)| answer.ok());
    let Some(agents) = own["Agents"].as_array_mut() else { return own };
    let name_of = |agent: &Value| agent["AOR"].as_str().unwrap_or_default().to_string();
    let mut places: HashMap<String, usize> = agents.iter().map(name_of).zip(0..).collect();
    for agent in
        others.flat_map(|mut answer| answer["Agents"].as_array_mut().map(std::mem::take).unwrap_or_default())
    {
        let place = *places.entry(name_of(&agent)).or_insert(agents.len());
        match agents.get_mut(place) {
            Some(known) => {
                let is_unknown =
                    |state: &Value| state == "UNAVAILABLE" || state == "UNKNOWN" || state == "INVALID";
                if weight(&agent) > weight(known)
                    || weight(&agent) == weight(known) && is_unknown(&known["state"])
                {
                    known["state"] = agent["state"].clone();
                }
                for name in ["ringing", "in_use"] {
                    let sum = known[name].as_u64().unwrap_or(0) + agent[name].as_u64().unwrap_or(0);
                    known[name] = json!(sum);
                }
            }
            None => agents.push(agent),
        }
    }
    agents.sort_by(|one, other| one["AOR"].as_str().cmp(&other["AOR"].as_str()));
    own
}

/// The answer of the node that knows most: where the phone is, else where something happened last.
fn merged(
    own_name: &str,
    own: Result<Value, RpcError>,
    told: Told,
    language: Language,
) -> Result<Value, RpcError> {
    let mut all: Vec<(String, Value)> = Vec::new();
    let mut failure = None;
    for (node, answer) in std::iter::once((own_name.to_string(), own)).chain(told.answers) {
        match answer {
            Ok(answer) => all.push((node, answer)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    // What is wrong now is wrong anywhere.
    if all.iter().any(|(_, answer)| answer.get("Problems").is_some()) {
        return Ok(problems(all, &told.silent, language));
    }
    let latest = |answer: &Value| {
        let at = |note: &Value| note["At"].as_u64().unwrap_or(0);
        let noted = answer["Timeline"].as_array().into_iter().flatten().map(at).max();
        noted.unwrap_or(0).max(at(answer))
    };
    // The last equal one would win: this node stands first.
    let best = all.into_iter().rev().max_by_key(|(_, answer)| (answer["Here"] == true, latest(answer)));
    let (node, mut best) =
        best.ok_or_else(|| failure.unwrap_or_else(|| RpcError::new(404, "nothing is known")))?;
    if let Some(answer) = best.as_object_mut() {
        answer.remove("Here");
    }
    best["Node"] = json!(node);
    if !told.silent.is_empty() {
        best["Silent"] = json!(told.silent);
    }
    Ok(best)
}

fn problems(all: Vec<(String, Value)>, silent: &[String], language: Language) -> Value {
    let mut shown: Vec<Value> = Vec::new();
    for node in silent {
        let text =
            say!(language, "The node {node} is up and did not answer.", "节点 {node} 在运行，但没有应答。");
        shown.push(json!({ "Problem": text, "Do": "roost nodes" }));
    }
    for (node, mut answer) in all {
        for problem in answer["Problems"].as_array_mut().into_iter().flatten() {
            let is_known = shown.iter().any(|one| one["Problem"] == problem["Problem"]);
            if !is_known {
                let mut problem = problem.take();
                problem["Node"] = json!(node);
                shown.push(problem);
            }
        }
    }
    let order = ["the worst of each node first", "每个节点中最严重的在前"];
    let verdict = why::headline(language, shown.len(), order);
    json!({ "Verdict": verdict, "Problems": shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EN: Language = Language::English;

    fn told(answers: Vec<(&str, Result<Value, RpcError>)>) -> Told {
        let answers = answers.into_iter().map(|(node, answer)| (node.to_string(), answer));
        Told { answers: answers.collect(), silent: vec!["c".to_string()] }
    }

    #[test]
    fn calls_of_all_nodes_are_one_list() {
        let dialogs = |ids: &[&str]| {
            let all: Vec<_> = ids.iter().map(|id| json!({ "ID": id })).collect();
            Ok(json!({ "count": all.len(), "Dialogs": all }))
        };
        let all = calls("a", dialogs(&["1", "2"]), told(vec![("b", dialogs(&["3"]))]), 1, 5).unwrap();
        assert_eq!(
            all,
            json!({
                "count": 3, "Dialogs": [{ "ID": "2", "node": "a" }, { "ID": "3", "node": "b" }], "Silent": ["c"],
            })
        );
        let missing = || Err(RpcError::new(404, "Dialog not found"));
        assert!(calls("a", missing(), told(vec![("b", dialogs(&["3"]))]), 0, 9).is_ok());
        assert_eq!(calls("a", missing(), told(vec![("b", missing())]), 0, 9).unwrap_err().code, 404);
        assert_eq!(whole(&json!(["x", null, "2", 3])).1, 2);
        assert_eq!(whole(&json!({ "counter": 3, "callid": "x" })), (json!({ "callid": "x" }), 0, 3));
    }

    #[test]
    fn an_extension_is_told_of_once_and_by_the_node_that_knows_most() {
        let agent = |aor: &str, state: &str, in_use| json!({ "AOR": aor, "state": state, "ringing": 0, "in_use": in_use });
        let own = json!({ "Agents": [agent("9002", "NOT_INUSE", 0)] });
        let theirs = Ok(json!({ "Agents": [agent("9002", "INUSE", 1), agent("9001", "UNAVAILABLE", 0)] }));
        let all = agents(own, told(vec![("b", theirs)]));
        assert_eq!(all, json!({ "Agents": [agent("9001", "UNAVAILABLE", 0), agent("9002", "INUSE", 1)] }));
        let verdict = |text: &str, at: u64, here: bool| {
            Ok(json!({ "Verdict": text, "Here": here, "Timeline": [{ "At": at }] }))
        };
        let best =
            merged("a", verdict("old", 5, false), told(vec![("b", verdict("new", 7, false))]), EN).unwrap();
        assert_eq!((&best["Verdict"], &best["Node"]), (&json!("new"), &json!("b")));
        let best =
            merged("a", verdict("here", 5, true), told(vec![("b", verdict("new", 7, false))]), EN).unwrap();
        assert_eq!((&best["Verdict"], &best["Node"]), (&json!("here"), &json!("a")));
        let problem = |text: &str| Ok(json!({ "Problems": [{ "Problem": text, "Do": "x" }] }));
        let all = merged("a", problem("one"), told(vec![("b", problem("one")), ("d", problem("two"))]), EN)
            .unwrap();
        assert_eq!(all["Verdict"], "3 things are wrong, the worst of each node first.");
        assert_eq!(all["Problems"].as_array().unwrap().len(), 3, "{all}");
        let all = merged("a", problem("一"), told(Vec::new()), Language::Chinese).unwrap();
        assert_eq!(all["Verdict"], "有 2 处问题，每个节点中最严重的在前。");
        assert_eq!(all["Problems"][0]["Problem"], "节点 c 在运行，但没有应答。");
    }
}
