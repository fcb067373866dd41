//! One `[[webhook]]`: what it says.

use std::collections::BTreeMap;

use roost_admin::EVENT;
use roost_filter::{Filter, FilterError};

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
    pub(crate) when: String,
    pub(crate) secret: String,
    pub(crate) secret_file: String,
}

impl Webhook {
    /// What must be so of an event.
    ///
    /// # Errors
    /// Where it is wrong, and what would be right.
    pub(crate) fn condition(&self) -> Result<Option<Filter>, FilterError> {
        (!self.when.is_empty()).then(|| Filter::compile(&self.when, &EVENT)).transpose()
    }
}
