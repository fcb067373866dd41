//! The names of columns (`[auth_db]`, `[usrloc]`), and statements with them.

use roost_core::Widths;

use crate::error::StoreError;

/// Where the subscribers' names and secrets stand, and how they are read (`[auth_db]`); where the bindings stand
/// (`[usrloc]`).
#[derive(Debug, Clone)]
pub struct Columns {
    pub user: String,
    pub domain: String,
    pub password: String,
    pub password_2: String,
    /// The password column holds plaintext.
    pub calculate_ha1: bool,
    /// A subscriber is found by user and domain.
    pub use_domain: bool,
    pub location: LocationColumns,
}

impl Default for Columns {
    fn default() -> Self {
        Columns {
            user: "username".into(),
            domain: "domain".into(),
            password: "password".into(),
            password_2: "ha1b".into(),
            calculate_ha1: true,
            use_domain: false,
            location: LocationColumns::default(),
        }
    }
}

impl Columns {
    /// Whether the table has what is to be read, under names that columns may have.
    pub(crate) fn check(&self, has_column: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let mut asked = vec![
            (&self.user, "user_column"),
            (&self.domain, "domain_column"),
            (&self.password, "password_column"),
        ];
        if !self.calculate_ha1 {
            asked.push((&self.password_2, "password_column_2"));
        }
        for (column, key) in asked {
            if !is_name(column) {
                return Err(StoreError::ColumnName { column: column.clone(), section: "auth_db", key });
            }
            // OpenSIPS's subscriber table of version 8 has no ha1b: then nobody has one.
            if !has_column(column) && key != "password_column_2" {
                let (table, section) = ("subscriber", "auth_db");
                return Err(StoreError::MissingColumn { column: column.clone(), table, section, key });
            }
        }
        Ok(())
    }

    /// User, domain and the four secrets as SQL names columns; `''` for a column that is not there.
    pub(crate) fn lookup_columns(&self, has_column: impl Fn(&str) -> bool) -> [String; 6] {
        let Columns { user, domain, password, password_2, calculate_ha1, .. } = self;
        let quoted = |name: &str| format!("\"{name}\"");
        // Who has the plaintext needs no hash, and should not keep one for each user.
        let hash = |name: &str| match !calculate_ha1 && has_column(name) {
            true => quoted(name),
            false => "''".to_string(),
        };
        let (second, sha256, sha512t256) = (hash(password_2), hash("ha1_sha256"), hash("ha1_sha512t256"));
        [quoted(user), quoted(domain), quoted(password), second, sha256, sha512t256]
    }
}

/// Column names as OpenSIPS makes them, and the keys of `[usrloc]` that name others.
pub const LOCATION_COLUMNS: [(&str, &str); 18] = [
    ("contact_id", "contactid_column"),
    ("username", "user_column"),
    ("domain", "domain_column"),
    ("contact", "contact_column"),
    ("received", "received_column"),
    ("path", "path_column"),
    ("expires", "expires_column"),
    ("q", "q_column"),
    ("callid", "callid_column"),
    ("cseq", "cseq_column"),
    ("last_modified", "last_modified_column"),
    ("flags", "flags_column"),
    ("cflags", "cflags_column"),
    ("user_agent", "user_agent_column"),
    ("socket", "socket_column"),
    ("methods", "methods_column"),
    ("sip_instance", "sip_instance_column"),
    ("kv_store", "kv_store_column"),
];

/// The names of `location`'s columns, in the order of [`LOCATION_COLUMNS`].
#[derive(Debug, Clone)]
pub struct LocationColumns(pub [String; LOCATION_COLUMNS.len()]);

impl Default for LocationColumns {
    fn default() -> Self {
        LocationColumns(LOCATION_COLUMNS.map(|(name, _)| name.to_string()))
    }
}

impl LocationColumns {
    /// Whether the table has them all, under names that columns may have.
    pub(crate) fn check(&self, has_column: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        for (column, (_, key)) in self.0.iter().zip(LOCATION_COLUMNS) {
            if !is_name(column) {
                return Err(StoreError::ColumnName { column: column.clone(), section: "usrloc", key });
            }
            if !has_column(column) {
                let (table, section) = ("location", "usrloc");
                return Err(StoreError::MissingColumn { column: column.clone(), table, section, key });
            }
        }
        Ok(())
    }

    /// What the columns hold, of the widths that the database tells.
    pub(crate) fn widths(&self, told: &[(String, usize)]) -> Widths {
        let most = Widths::default();
        let width = |usual: &str, most: usize| {
            let mut named = self.0.iter().zip(LOCATION_COLUMNS);
            let name = named.find(|(_, (column, _))| *column == usual).map_or(usual, |(name, _)| name);
            let told = told.iter().find(|(column, _)| column.eq_ignore_ascii_case(name));
            told.map_or(most, |(_, width)| most.min(*width))
        };
        Widths {
            contact: width("contact", most.contact),
            path: width("path", most.path),
            callid: width("callid", most.callid),
            user_agent: width("user_agent", most.user_agent),
        }
    }

    /// SQL with the names in place of `{contact_id}`, `{username}` and so on.
    pub(crate) fn sql(&self, template: &str) -> String {
        let names = self.0.iter().zip(LOCATION_COLUMNS);
        names.fold(template.to_string(), |sql, (name, (usual, _))| {
            sql.replace(&format!("{{{usual}}}"), &format!("\"{name}\""))
        })
    }
}

/// The statement that finds rows of bindings that have expired by a time; how many at most is its second parameter.
pub(crate) const EXPIRED: &str =
    "SELECT {contact_id} FROM location WHERE {expires} > 0 AND {expires} <= ? LIMIT ?";

/// Whether a column may be called so.
pub(crate) fn is_name(column: &str) -> bool {
    !column.is_empty() && column.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What any server's text column takes of a User-Agent, which may be any bytes and is only shown: no phone shall be refused
/// for it, and OpenSIPS's tables are often in an encoding of few characters.
pub(crate) fn shown_agent(user_agent: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let fits = |byte: &u8| byte.is_ascii() && *byte != 0;
    match user_agent.iter().all(fits) {
        true => user_agent.into(),
        false => user_agent.iter().map(|byte| if fits(byte) { *byte } else { b'?' }).collect(),
    }
}
