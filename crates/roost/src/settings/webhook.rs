//! One `[[webhook]]`: what it says.

use std::collections::BTreeMap;

use crate::settings::key::Value;

/// The table's name.
pub(crate) const TABLE: &str = "webhook";

/// Where events are posted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Webhook {
    /// What the table says, by the name of the key.
    pub(crate) given: BTreeMap<&'static str, Value>,
    pub(crate) url: String,
    pub(crate) events: Vec<String>,
    pub(crate) secret: String,
    pub(crate) secret_file: String,
}
