//! Routes and next hops, and what would become of a request.

use serde_json::{Map, Value, json};

use crate::pages::{Asked, Failed, Made};
use crate::shared::Shared;

/// Fields of the form, as `try` names them.
const FIELDS: [&str; 6] = ["method", "who", "target", "from", "transport", "headers"];

pub(crate) async fn page(shared: &Shared, asked: &Asked) -> Result<Made, Failed> {
    let hops = shared.backend.mi("ds_list", json!({})).await?;
    let keys = shared.backend.mi("config_show", json!({})).await?;
    let mut question = Map::new();
    for name in FIELDS.into_iter().filter(|name| !asked.query(name).is_empty()) {
        question.insert(name.to_string(), asked.query(name).into());
    }
    let (answer, error) = match question.contains_key("who") {
        false => (None, None),
        true => match shared.backend.mi("try", Value::Object(question.clone())).await {
            Ok(answer) => (Some(answer), None),
            Err(error) => (None, Some(error)),
        },
    };
    let data = json!({
        "sets": hops["PARTITIONS"][0]["SETS"],
        "routes": routes(&keys),
        "question": question,
        "answer": answer,
        "error": error,
    });
    Ok(Made { template: "routes.html", title: "routes", data })
}

/// The `[[route]]`s in the order in which they are tried: of each the keys that say something.
fn routes(keys: &Value) -> Vec<Vec<(String, Value)>> {
    let mut all: Vec<Vec<(String, Value)>> = Vec::new();
    for key in keys.as_array().into_iter().flatten() {
        let Some(rest) = key["name"].as_str().and_then(|name| name.strip_prefix("route[")) else { continue };
        let Some((number, name)) = rest.split_once("].") else { continue };
        let Some(index) = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) else {
            continue;
        };
        if all.len() <= index {
            all.resize_with(index + 1, Vec::new);
        }
        if let Some(route) = all.get_mut(index).filter(|_| key["value"] != key["default"]) {
            route.push((name.to_string(), key["value"].clone()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_show_what_they_say() {
        let keys = json!([
            { "name": "listen", "value": [], "default": [] },
            { "name": "route[1].prefix", "value": "8", "default": "" },
            { "name": "route[1].strip", "value": 0, "default": 0 },
            { "name": "route[2].hops", "value": ["sip:a"], "default": [] },
        ]);
        let expected =
            [vec![("prefix".to_string(), json!("8"))], vec![("hops".to_string(), json!(["sip:a"]))]];
        assert_eq!(routes(&keys), expected);
    }
}
