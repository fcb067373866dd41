//! The forms that change something, but for the configuration: where each is sent, who may, and what it changes.

use crate::audit::Change;
use crate::fields::Fields;
use crate::people::Role;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    EndCall,
    Unban,
    RemoveBinding,
    Hop,
    Password,
    AddExtension,
    RemoveExtension,
    Person,
    RemovePerson,
}

impl Form {
    /// By its path.
    pub(crate) fn at(path: &str) -> Option<Form> {
        Some(match path {
            "/do/end-call" => Form::EndCall,
            "/do/unban" => Form::Unban,
            "/do/remove" => Form::RemoveBinding,
            "/do/hop" => Form::Hop,
            "/do/password" => Form::Password,
            "/do/extension" => Form::AddExtension,
            "/do/extension-remove" => Form::RemoveExtension,
            "/do/person" => Form::Person,
            "/do/person-remove" => Form::RemovePerson,
            _ => return None,
        })
    }

    pub(crate) fn role(self) -> Role {
        match self {
            Form::EndCall | Form::Unban | Form::RemoveBinding | Form::Hop => Role::Operator,
            Form::Password
            | Form::AddExtension
            | Form::RemoveExtension
            | Form::Person
            | Form::RemovePerson => Role::Administrator,
        }
    }

    /// What it changes, for the audit log.
    pub(crate) fn change(self, fields: &Fields) -> Change<'_> {
        let get = |name| fields.get(name);
        let (what, of) = match self {
            Form::EndCall => ("end call", get("id")),
            Form::Unban => ("lift ban", get("aor")),
            Form::RemoveBinding => ("remove binding", get("aor")),
            Form::Hop => ("hop", get("address")),
            Form::Password => ("password", get("aor")),
            Form::AddExtension => ("add extension", get("aor")),
            Form::RemoveExtension => ("remove extension", get("aor")),
            Form::Person => ("person", get("name")),
            Form::RemovePerson => ("remove person", get("name")),
        };
        let (before, after) = match self {
            Form::RemoveBinding => (get("contact"), ""),
            Form::Hop => (get("before"), if get("state") == "i" { "Inactive" } else { "Active" }),
            Form::Person => ("", get("role")),
            _ => ("", ""),
        };
        Change { what, of, before, after }
    }
}
