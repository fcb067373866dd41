//! Reads the `[[webhook]]`s of a file: where events are posted.

use std::borrow::Cow;

use anyhow::Result;
use roost_admin::Webhook as Told;
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::key::nearest;
use crate::settings::keys_of_tables::WEBHOOK_KEYS;
use crate::settings::source::Source;
use crate::settings::tables;
use crate::settings::webhook::{TABLE, Webhook};

/// Reads the tables.
///
/// # Errors
/// With the line, what is wrong and what would be right.
pub(crate) fn read(
    source: &Source<'_>,
    name: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Webhook>> {
    let tables = tables::read(source, (TABLE, WEBHOOK_KEYS), name, value)?;
    let webhook = |table: tables::Table<Webhook>| {
        let item = &table.item;
        if !["http://", "https://"].iter().any(|scheme| item.url.starts_with(scheme)) {
            let message = format!("a [[{TABLE}]] needs `url`, which begins with http:// or https://");
            return Err(table.error(source, "url", message));
        }
        if let Some(unknown) = item.events.iter().find(|name| !Told::knows(name)) {
            let known = Told::known();
            let hint = nearest(unknown, known.split(", "));
            let message =
                format!("`events` holds \"{unknown}\", which is no event{hint}; there are: {known}");
            return Err(table.error(source, "events", message));
        }
        if let Err(error) = item.condition() {
            return Err(table.error(source, "when", format!("`webhook.when`: {error}")));
        }
        if !item.secret.is_empty() && !item.secret_file.is_empty() {
            let message = "`secret` and `secret_file` are both set: one is enough".to_string();
            return Err(table.error(source, "secret_file", message));
        }
        Ok(Webhook { given: table.given, ..table.item })
    };
    tables.into_iter().map(webhook).collect()
}
