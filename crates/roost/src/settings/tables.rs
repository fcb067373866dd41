//! Reads the tables of a list, such as `[[route]]`: each with the keys of its own key table.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::key::{Key, Value, nearest};
use crate::settings::source::Source;

/// Tables that a list may have.
const MAX_TABLES: usize = 1_000;

/// One table.
pub(crate) struct Table<T> {
    pub(crate) item: T,
    /// What it says, by the name of the key.
    pub(crate) given: BTreeMap<&'static str, Value>,
    spans: BTreeMap<&'static str, Range<usize>>,
    span: Range<usize>,
}

impl<T> Table<T> {
    /// An error about one of its keys.
    pub(crate) fn error(&self, source: &Source<'_>, key: &str, message: String) -> anyhow::Error {
        source.error(self.spans.get(key).unwrap_or(&self.span).clone(), message)
    }
}

/// Reads the tables of a list that is called `title`.
///
/// # Errors
/// With the line, what is wrong and what would be right.
pub(crate) fn read<T: Default>(
    source: &Source<'_>,
    (title, keys): (&str, &'static [Key<T>]),
    name: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Table<T>>> {
    let not_tables = || {
        let last = title.rsplit('.').next().unwrap_or(title);
        let message = format!("{last}s are tables: write [[{title}]], with two brackets");
        source.error(name.span(), message)
    };
    let tables = value.get_ref().as_array().ok_or_else(not_tables)?;
    if tables.len() > MAX_TABLES {
        return Err(source.error(name.span(), format!("more than {MAX_TABLES} [[{title}]]s")));
    }
    let one = |table: &Spanned<DeValue<'_>>| {
        let mut read =
            Table { item: T::default(), given: BTreeMap::new(), spans: BTreeMap::new(), span: table.span() };
        for key in keys {
            (key.set)(&mut read.item, key.default()?);
        }
        for (name, value) in table.get_ref().as_table().ok_or_else(not_tables)? {
            let text: &str = name.get_ref();
            let Some(key) = keys.iter().find(|key| key.name == text) else {
                let known = || keys.iter().map(|key| key.name);
                let hint = match nearest(text, known()) {
                    near if near.is_empty() => {
                        format!("; it takes {}", known().collect::<Vec<_>>().join(", "))
                    }
                    near => near,
                };
                return Err(source.error(name.span(), format!("unknown key `{text}` in [[{title}]]{hint}")));
            };
            let value_of = source.read(key, value)?;
            read.given.insert(key.name, value_of.clone());
            read.spans.insert(key.name, value.span());
            (key.set)(&mut read.item, value_of);
        }
        Ok(read)
    };
    tables.iter().map(one).collect()
}
