//! One `[[hep]]`: what it says, and reading them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Result;
use roost_hep::{Collector, Filter};
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::key::Value;
use crate::settings::keys::HEP_KEYS;
use crate::settings::source::Source;
use crate::settings::tables;

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

/// Reads the tables.
///
/// # Errors
/// With the line, what is wrong and what would be right.
pub(crate) fn read(
    source: &Source<'_>,
    name: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Hep>> {
    let mut all: Vec<Hep> = Vec::new();
    for table in tables::read(source, (TABLE, HEP_KEYS), name, value)? {
        let item = &table.item;
        let number = all.len() + 1;
        if let Err(error) = Collector::parse("", &item.uri) {
            return Err(table.error(source, "uri", format!("a [[{TABLE}]] needs `uri`: {error}")));
        }
        if let Err(error) = Filter::parse(item.filter.iter().map(String::as_str)) {
            return Err(table.error(source, "filter", error.to_string()));
        }
        let own = if item.name.is_empty() { format!("hep{number}") } else { item.name.clone() };
        if all.iter().any(|other| other.name == own) {
            let message = format!("two [[{TABLE}]]s are called \"{own}\"");
            return Err(table.error(source, "name", message));
        }
        all.push(Hep { given: table.given, name: own, ..table.item });
    }
    Ok(all)
}
