//! What the settings say: a field for each key that the core does not know (`core` has the others), and what follows from
//! several.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use roost_core::Config;
use roost_net::StreamSettings;
use roost_store::{Access, AliasColumns, LocationColumns};

use crate::settings::alias::Alias;
use crate::settings::hep::Hep;
use crate::settings::key::Value;
use crate::settings::route::Route;
use crate::settings::tls_domain::Domain;
use crate::settings::webhook::Webhook;

/// Everything that the file can say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// What it says, by the whole name of the key.
    pub(crate) given: BTreeMap<String, Value>,
    /// Its `[[route]]`s, in order.
    pub(crate) routes: Vec<Route>,
    /// Its `[[alias]]`es, in order.
    pub(crate) aliases: Vec<Alias>,
    pub(crate) core: Config,
    pub(crate) listen: Vec<String>,
    pub(crate) streams: StreamSettings,
    pub(crate) database: String,
    pub(crate) location: String,
    pub(crate) location_tls_ca: String,
    pub(crate) cluster_node: String,
    pub(crate) cluster_listen: String,
    pub(crate) cluster_secrets: Vec<String>,
    pub(crate) cluster_durability: String,
    pub(crate) cluster_staleness_s: u32,
    pub(crate) cluster_tls: bool,
    pub(crate) database_password_file: String,
    pub(crate) database_tls_ca: String,
    pub(crate) access: Access,
    pub(crate) location_columns: LocationColumns,
    pub(crate) workers: usize,
    /// Subscribers that are kept in memory at most, see `auth_db.preload`.
    pub(crate) preload: usize,
    pub(crate) trusted: Vec<String>,
    /// The same, read.
    pub(crate) trusted_networks: Vec<IpNet>,
    pub(crate) address_table: String,
    pub(crate) address_groups: Vec<String>,
    /// The same, read.
    pub(crate) groups: Vec<u32>,
    pub(crate) alias_table: String,
    pub(crate) alias_columns: AliasColumns,
    pub(crate) domains: Vec<String>,
    pub(crate) log_level: i64,
    pub(crate) log_stderror: bool,
    pub(crate) log_facility: String,
    pub(crate) log_target: String,
    pub(crate) log_format: String,
    /// In microseconds, as the next.
    pub(crate) exec_dns_threshold: u32,
    pub(crate) exec_query_threshold: u32,
    pub(crate) secret: String,
    pub(crate) user_column: String,
    pub(crate) domain_column: String,
    pub(crate) password_column: String,
    pub(crate) password_column_2: String,
    pub(crate) dns: Vec<String>,
    /// The name servers to ask; none: the system's.
    pub(crate) dns_servers: Vec<SocketAddr>,
    pub(crate) tls_certificate: String,
    pub(crate) tls_private_key: String,
    pub(crate) tls_ca_list: String,
    pub(crate) tls_require_cert: bool,
    pub(crate) tls_verify_cert: bool,
    pub(crate) tls_method: String,
    pub(crate) tls_domains: Vec<Domain>,
    /// The pages from which a browser may connect; none: all.
    pub(crate) websocket_origins: Vec<String>,
    pub(crate) proxy_protocol_from: Vec<String>,
    /// The same, read.
    pub(crate) balancers: Vec<IpAddr>,
    pub(crate) call_journal: String,
    pub(crate) acc_db: bool,
    pub(crate) acc_file: String,
    pub(crate) acc_journal_max: usize,
    /// Its `[[webhook]]`s, in order.
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) mi_listen: String,
    pub(crate) mi_token: String,
    pub(crate) mi_token_file: String,
    pub(crate) mi_address: Option<SocketAddr>,
    pub(crate) console_listen: String,
    pub(crate) console_people: String,
    pub(crate) console_audit: String,
    pub(crate) recorder_megabytes: usize,
    pub(crate) failed_megabytes: usize,
    pub(crate) mi_allow: Vec<String>,
    /// The same, read.
    pub(crate) mi_networks: Vec<IpNet>,
    pub(crate) fifo_name: String,
    pub(crate) fifo_mode: String,
    pub(crate) fifo_reply_dir: String,
    pub(crate) datagram_name: String,
    pub(crate) datagram_mode: String,
    /// Its `[[hep]]`s, in order.
    pub(crate) hep: Vec<Hep>,
}
