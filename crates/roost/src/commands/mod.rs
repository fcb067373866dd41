//! The commands beside `serve`: extensions and tables in the database, and what the running server is asked.

mod account;
pub(crate) mod agents;
pub(crate) mod ban;
pub(crate) mod calls;
pub(crate) mod config_show;
pub(crate) mod db;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod ds;
pub(crate) mod explain;
pub(crate) mod health;
mod import;
pub(crate) mod log_level;
pub(crate) mod mcp;
mod names;
pub(crate) mod nodes;
pub(crate) mod opensips;
pub(crate) mod reload;
pub(crate) mod setup;
pub(crate) mod stats;
pub(crate) mod tls;
pub(crate) mod trace;
pub(crate) mod ul;
pub(crate) mod user;
pub(crate) mod what_if;
pub(crate) mod why;
