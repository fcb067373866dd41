//! Who may log in, and who has changed what.

use serde_json::{Value, json};

use crate::pages::Made;
use crate::shared::Shared;

pub(crate) fn page(shared: &Shared) -> Made {
    let people: Vec<Value> = shared
        .logins
        .people()
        .list()
        .into_iter()
        .map(|(name, role)| json!({ "name": name, "role": role.as_str() }))
        .collect();
    let data = json!({ "people": people, "changes": shared.audit.last() });
    Made { template: "people.html", title: "people", data }
}
