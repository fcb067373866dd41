//! The fields of a form.

use crate::backend::form;

/// Names and values.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Of a form's body.
    pub(crate) fn of(body: &str) -> Fields {
        Fields(form(body))
    }

    /// A value; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value.as_str())
    }
}
