//! Reads the `[[hep]]`s of a file: who is sent messages.

use std::borrow::Cow;

use anyhow::Result;
use roost_hep::{Collector, Filter};
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::hep::{Hep, TABLE};
use crate::settings::keys_of_tables::HEP_KEYS;
use crate::settings::source::Source;
use crate::settings::tables;

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
