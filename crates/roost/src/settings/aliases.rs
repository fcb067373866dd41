//! Reads the `[[alias]]`es of a file.

use std::borrow::Cow;

use anyhow::Result;
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::alias::{Alias, TABLE};
use crate::settings::keys_of_tables::ALIAS_KEYS;
use crate::settings::source::Source;
use crate::settings::tables;

/// Reads the tables; what makes sense with `use_domain` is seen later, when that is known.
///
/// # Errors
/// With the line, what is wrong and what would be right.
pub(crate) fn read(
    source: &Source<'_>,
    name: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Alias>> {
    let alias = |table: tables::Table<Alias>| {
        for (key, text) in [("number", &table.item.number), ("extension", &table.item.extension)] {
            if text.is_empty() {
                let message = format!("an [[{TABLE}]] needs `number` and `extension`: `{key}` is missing");
                return Err(table.error(source, key, message));
            }
        }
        Ok(Alias { given: table.given, ..table.item })
    };
    tables::read(source, (TABLE, ALIAS_KEYS), name, value)?.into_iter().map(alias).collect()
}
