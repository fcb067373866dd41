//! One `[[hep]]`: what it says.

use std::collections::BTreeMap;

use roost_hep::{Collector, Filter};

use crate::settings::key::Value;

/// The table's name.
pub(crate) const TABLE: &str = "hep";

/// Who is sent messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hep {
    /// What the table says, by the name of the key.
    pub(crate) given: BTreeMap<&'static str, Value>,
    pub(crate) name: String,
    pub(crate) uri: String,
    pub(crate) capture_id: u32,
    pub(crate) password: String,
    pub(crate) filter: Vec<String>,
}

impl Hep {
    /// As the tracer takes it; reading has shown that it is right.
    pub(crate) fn collector(&self) -> Option<(Collector, Filter)> {
        let collector = Collector::parse(&self.name, &self.uri).ok()?;
        let filter = Filter::parse(self.filter.iter().map(String::as_str)).ok()?;
        let (capture_id, key) = (self.capture_id, self.password.clone());
        Some((Collector { capture_id, key, ..collector }, filter))
    }
}
