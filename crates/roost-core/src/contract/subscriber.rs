//! Rows of `subscriber`, as the store reads them and an engine takes them.

/// A part of a whole reading of the subscriber table. Readings follow one another; the first tells every row, a later
/// one those that are new or have changed.
#[derive(Debug, Clone)]
pub enum Reading {
    Rows(Vec<SubscriberRow>),
    /// Rows that the reading before had are gone; the next one tells every row again.
    SomeGone,
    /// All rows were read: what was told of them before still holds.
    Done,
}

/// One row of `subscriber`.
#[derive(Debug, Clone)]
pub struct SubscriberRow {
    pub user: Box<[u8]>,
    pub domain: Box<[u8]>,
    pub secrets: Secrets,
}

/// A subscriber's secrets as the columns hold them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// `auth_db.password_column`: plaintext, or HA1 in hex when `calculate_ha1` is off.
    pub password: Box<[u8]>,
    /// `auth_db.password_column_2`: HA1 of `user@domain` in hex.
    pub password_2: Box<[u8]>,
    /// Column `ha1_sha256`, where there is one.
    pub sha256: Box<[u8]>,
    /// Column `ha1_sha512t256`, where there is one.
    pub sha512t256: Box<[u8]>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}
