//! A configuration's text, and errors that point into it.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Result, anyhow};
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::key::{Key, Value, nearest, read};
use crate::settings::keys::KEYS;
use crate::settings::route::TABLE;
use crate::settings::values::Settings;

/// A configuration's text, to point into.
pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    pub(crate) name: &'a str,
}

impl Source<'_> {
    /// Sets a key.
    ///
    /// # Errors
    /// With the line, what is wrong and what would be right.
    pub(crate) fn apply(
        &self,
        settings: &mut Settings,
        section: &str,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<()> {
        let Some(key) = KEYS.iter().find(|key| key.section == section && key.name == name.get_ref()) else {
            return Err(self.unknown_key(section, name));
        };
        let value = self.read(key, value)?;
        settings.given.insert(key.shown(), value.clone());
        (key.set)(settings, value);
        Ok(())
    }

    /// A key's value.
    pub(crate) fn read<T>(&self, key: &Key<T>, value: &Spanned<DeValue<'_>>) -> Result<Value> {
        read(key.kind, value.get_ref()).map_err(|wanted| {
            self.error(value.span(), format!("`{}` {wanted}\n      ({})", key.shown(), key.meaning))
        })
    }

    pub(crate) fn check_section(&self, name: &Spanned<std::borrow::Cow<'_, str>>) -> Result<()> {
        if KEYS.iter().any(|key| key.section == name.get_ref()) {
            return Ok(());
        }
        if KEYS.iter().any(|key| key.section.is_empty() && key.name == name.get_ref()) {
            return Err(self.error(name.span(), format!("`{}` is a key, not a section", name.get_ref())));
        }
        let sections: BTreeSet<_> =
            KEYS.iter().map(|key| key.section).chain([TABLE]).filter(|name| !name.is_empty()).collect();
        let hint = nearest(name.get_ref(), sections.iter().copied());
        Err(self.error(name.span(), format!("unknown section [{}]{hint}", name.get_ref())))
    }

    fn unknown_key(&self, section: &str, name: &Spanned<std::borrow::Cow<'_, str>>) -> anyhow::Error {
        let name_text: &str = name.get_ref();
        let tables = [TABLE].into_iter().filter(|_| section.is_empty());
        let here = KEYS.iter().filter(|key| key.section == section).map(|key| key.name).chain(tables);
        let elsewhere = KEYS.iter().find(|key| key.name == name_text);
        let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
        let hint = match elsewhere {
            Some(key) if key.section.is_empty() => "; it belongs above all sections".to_string(),
            Some(key) => format!("; it belongs into [{}]", key.section),
            None => nearest(name_text, here),
        };
        self.error(name.span(), format!("unknown key `{name_text}`{place}{hint}"))
    }

    /// `FILE:LINE: message`, and the line.
    pub(crate) fn error(&self, span: Range<usize>, message: String) -> anyhow::Error {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or("");
        let number = before.matches('\n').count() + 1;
        let line = self.text.lines().nth(number - 1).unwrap_or("");
        let (message, more) = message.split_once('\n').unwrap_or((&message, ""));
        let more = if more.is_empty() { String::new() } else { format!("\n{more}") };
        anyhow!("{}:{number}: {message}\n{number:>5} | {line}{more}", self.name)
    }
}
