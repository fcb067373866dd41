//! The tables `[[tls.domain]]`.

use std::collections::BTreeMap;

use crate::settings::key::Value;

/// The table's name.
pub(crate) const TABLE: &str = "tls.domain";

/// The certificate for a name that clients ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domain {
    /// What the table says, by the name of the key.
    pub(crate) given: BTreeMap<&'static str, Value>,
    pub(crate) server_domain: String,
    pub(crate) certificate: String,
    pub(crate) private_key: String,
}
