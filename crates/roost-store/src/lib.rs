//! The database of roost: OpenSIPS's tables, a group-commit writer, loading, credentials, subscribers.
//!
//! [`Store`] opens and checks a database and serves what needs no thread (loading at start, the subscriber commands).
//! [`Store::start`] makes the threads that serve a running registrar; they answer through one callback.
//!
//! From the bottom: `value`, `error`, `access`, `columns` and `job` are what all share; `sqlite/`, `mysql` and `postgres`
//! are the dialects, `client` one of them, `link` a client that comes back; `database` knows the tables, `location` the
//! rows; `store` and `running` are what others see. `calls/` is what outlives the process of calls: their journal and records.
#![forbid(unsafe_code)]

mod access;
mod calls;
mod client;
mod columns;
mod copy;
mod database;
mod error;
mod import;
mod job;
mod kv_store;
mod link;
mod lists;
mod location;
mod locks;
mod lookups;
mod mysql;
mod postgres;
mod reading;
mod running;
mod server_writer;
mod shared;
mod sqlite;
mod store;
mod subscriber;
mod value;

pub use access::Access;
pub use calls::{AccSettings, Calls, Cdr, Gatherer, Journal, Left, RecordQuery, StoredRecord};
pub use columns::{Columns, LOCATION_COLUMNS, LocationColumns};
pub use copy::{Copied, Sum};
pub use database::Table;
pub use error::{DbError, StoreError};
pub use import::{Account, Accounts, Imported, OnExisting};
pub use job::{BatchHistograms, Commit, DatabaseNews, Health, Preload, ReadTold, Receipts};
pub use lists::{Addresses, AliasColumns, ListTable, dispatcher};
pub use location::Page;
pub use running::{Running, StoreHandle};
pub use shared::SharedWith;
pub use store::{Loader, Store};
pub use subscriber::{Subscriber, check_account};
