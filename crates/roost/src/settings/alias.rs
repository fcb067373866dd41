//! One `[[alias]]`: a number that stands for an extension.

use std::collections::BTreeMap;

use roost_core::{Alias as Row, split_aor};

use crate::settings::key::Value;

/// The table's name.
pub(crate) const TABLE: &str = "alias";

/// As it stands in the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alias {
    /// What the table says, by the name of the key.
    pub(crate) given: BTreeMap<&'static str, Value>,
    pub(crate) number: String,
    pub(crate) extension: String,
}

impl Alias {
    /// As a row of OpenSIPS's table would have it.
    pub(crate) fn row(&self, use_domain: bool) -> Row {
        let parts = |text: &str| -> (Box<str>, Box<str>) {
            let (user, domain) = split_aor(text.as_bytes(), use_domain);
            let text = |part: &[u8]| String::from_utf8_lossy(part).into();
            (text(user), text(domain.unwrap_or(&[])))
        };
        let ((number, number_domain), (extension, domain)) = (parts(&self.number), parts(&self.extension));
        Row { number, number_domain, extension, domain }
    }
}
