//! What can be measured.

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Register,
    Refresh,
    Call,
    Options,
    Raw,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Register => "register",
            Kind::Refresh => "refresh",
            Kind::Call => "call",
            Kind::Options => "options",
            Kind::Raw => "raw",
        }
    }

    /// How many datagrams in and out one operation is at the server, in pairs.
    pub fn pairs_per_op(self) -> f64 {
        match self {
            Kind::Register => 2.0,
            Kind::Refresh | Kind::Options | Kind::Raw => 1.0,
            Kind::Call => 6.5,
        }
    }

    pub(crate) fn default_users(self) -> u32 {
        match self {
            Kind::Register => 100_000,
            Kind::Refresh => 10_000,
            Kind::Call => 2000,
            Kind::Options | Kind::Raw => 1,
        }
    }

    pub(crate) fn default_count(self, users: u32) -> u64 {
        match self {
            Kind::Register => u64::from(users),
            Kind::Refresh => u64::from(users) * 5,
            Kind::Call => 30_000,
            Kind::Options => 200_000,
            Kind::Raw => 1_000_000,
        }
    }

    /// Stateful servers keep every transaction for some seconds: the first touch of that memory is not the
    /// operation's price.
    pub(crate) fn default_warm_up(self, count: u64) -> u64 {
        match self {
            Kind::Call | Kind::Options => count,
            Kind::Register | Kind::Refresh | Kind::Raw => 0,
        }
    }
}
