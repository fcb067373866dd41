//! The console: pages that show what the server does, served by itself. They are rendered here, from what the management interface and the API
//! say; what changes comes as server-sent events (`live.rs`); the JavaScript in `assets/` only makes them handier.
//!
//! Nobody but this machine may read without a login, nobody at all change anything; see `guard.rs` and `people.rs`.
#![forbid(unsafe_code)]

mod actions;
mod audit;
mod backend;
mod bridge;
mod chart;
mod fields;
mod forms;
mod guard;
mod heard;
mod history;
mod index;
mod kept;
mod ladders;
mod live;
mod pages;
mod people;
mod places;
mod refusals;
mod server;
mod sessions;
mod shared;
mod since;
mod templates;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use roost_admin::Mi;
use rustls::ServerConfig;
use serde_json::Value;

pub use people::{People, PeopleError, Role};
pub use server::serve;
pub use sessions::OnceLink;

/// What is in the configuration file, and may be put there.
pub trait ConfigFile: Send + Sync {
    /// `None`: the server was started without one, or it cannot be read.
    fn read(&self) -> Option<ConfigText>;

    /// What would change with a text (`key`, `old`, `new`, `live`). Masks stand for the secrets that are there.
    ///
    /// # Errors
    /// What is wrong with it, with its line; for people.
    fn check(&self, text: &str) -> Result<Vec<Value>, String>;

    /// The same, and another text with its secrets masked as there; of that `None`: it cannot be read, and where they stand in it
    /// is not known.
    fn read_beside(&self, text: &str) -> Option<(ConfigText, Option<String>)>;

    /// Checks a text and puts it into the file's place, if that is still the one of this mark; the one before is kept beside it
    /// (`.bak`).
    ///
    /// # Errors
    /// [`NotSaved`]; the file is as it was.
    fn save(&self, text: &str, mark: &str) -> Result<(), NotSaved>;
}

/// The text of the configuration file.
#[derive(Debug, Clone)]
pub struct ConfigText {
    /// With secrets masked.
    pub text: String,
    /// Tells it from every other text that the file has had.
    pub mark: String,
    pub is_writable: bool,
}

/// Why a text was not put into the file's place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSaved {
    #[error("another has changed the file meanwhile")]
    Changed,
    /// For people.
    #[error("{0}")]
    Why(String),
}

impl std::convert::From<String> for NotSaved {
    fn from(why: String) -> NotSaved {
        NotSaved::Why(why)
    }
}

/// The extensions in the database, each by its AOR. Errors are for people.
pub trait Accounts: Send + Sync {
    /// # Errors
    /// It is there already, it does not fit, or the database does not take it.
    fn add(&self, aor: &str, password: &str) -> Result<(), String>;

    /// # Errors
    /// There is none, the password does not fit, or the database does not take it.
    fn set_password(&self, aor: &str, password: &str) -> Result<(), String>;

    /// The AOR whose bindings are nobody's then: an extension may live on in another row.
    ///
    /// # Errors
    /// There is none, or the database does not take it.
    fn remove(&self, aor: &str) -> Result<Option<String>, String>;
}

/// Gives a connection that carries WebSocket to the SIP server: the connection, our address, the peer's.
pub type Adopt = Arc<dyn Fn(std::net::TcpStream, SocketAddr, SocketAddr) + Send + Sync>;

/// The certificates that are in use now.
pub type Certificates = Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>;

/// What a console works with.
#[derive(Clone)]
pub struct Settings {
    pub address: SocketAddr,
    /// Names of this machine that browsers may use beside its addresses.
    pub hosts: Vec<String>,
    /// `None`: plain HTTP, on a loopback address alone.
    pub certificates: Option<Certificates>,
    pub people: PathBuf,
    pub audit: PathBuf,
}

/// What it shows and changes.
#[derive(Clone)]
pub struct Parts {
    pub mi: Mi,
    pub config: Arc<dyn ConfigFile>,
    pub accounts: Arc<dyn Accounts>,
    /// `None`: nothing speaks WebSocket.
    pub phone: Option<Adopt>,
    /// The domain that a phone in the page registers with.
    pub domain: String,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Where a connection is from, and which address of ours it came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// The peer of a request.
pub(crate) type From = axum::extract::ConnectInfo<Peer>;
