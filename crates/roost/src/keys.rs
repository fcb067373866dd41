//! Every configuration key, once: its name, type, default and meaning. The parser, its errors and the reference are
//! made from this table.

use roost_core::{Algorithm, Authorize, PathMode};

use crate::routes::Route;
use crate::settings::Settings;

/// One key of `roost.toml`, or of one of its `[[route]]`s.
pub(crate) struct Key<T: 'static = Settings> {
    /// The table it stands in; empty for the top level.
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The default as TOML text.
    pub(crate) default: &'static str,
    /// One line for people.
    pub(crate) meaning: &'static str,
    /// The module and parameter of OpenSIPS that it stands for; empty: there is none.
    pub(crate) opensips: &'static str,
    pub(crate) set: fn(&mut T, Value),
}

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    /// A text that is never shown.
    Secret,
    /// A database's URL, whose password is never shown.
    Url,
    /// true, false, 1 or 0.
    Switch,
    /// An integer from the first to the second.
    Number(i64, i64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of strings.
    List,
    /// A list of words of these.
    Choices(&'static [&'static str]),
}

/// A value that fits its key's kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Switch(bool),
    Number(i64),
    List(Vec<String>),
}

/// As it stands in a TOML file.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // JSON's escapes are TOML's too.
        let quoted = |text: &String| serde_json::Value::from(text.as_str()).to_string();
        match self {
            Value::Text(text) => write!(f, "{}", quoted(text)),
            Value::Switch(is_on) => write!(f, "{is_on}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::List(list) => write!(f, "[{}]", list.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Value {
    pub(crate) fn text(self) -> String {
        match self {
            Value::Text(text) => text,
            _ => String::new(),
        }
    }

    fn switch(self) -> bool {
        matches!(self, Value::Switch(true))
    }

    fn number(self) -> u32 {
        match self {
            Value::Number(number) => u32::try_from(number).unwrap_or(u32::MAX),
            _ => 0,
        }
    }

    fn list(self) -> Vec<String> {
        match self {
            Value::List(list) => list,
            _ => Vec::new(),
        }
    }
}

/// The longest time a key may set, in seconds: ten years.
const MAX_S: i64 = 315_360_000;

const FACILITIES: &[&str] = &[
    "LOG_LOCAL0",
    "LOG_LOCAL1",
    "LOG_LOCAL2",
    "LOG_LOCAL3",
    "LOG_LOCAL4",
    "LOG_LOCAL5",
    "LOG_LOCAL6",
    "LOG_LOCAL7",
    "LOG_DAEMON",
    "LOG_USER",
];

macro_rules! key {
    ($section:literal, $name:literal, $kind:expr, $default:literal, $meaning:literal, $set:expr) => {
        key!($section, $name, $kind, $default, $meaning, "", $set)
    };
    ($section:literal, $name:literal, $kind:expr, $default:literal, $meaning:literal, $opensips:literal, $set:expr) => {
        Key {
            section: $section,
            name: $name,
            kind: $kind,
            default: $default,
            meaning: $meaning,
            opensips: $opensips,
            set: $set,
        }
    };
}

/// All keys, in the order of the reference.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key!("", "listen", Kind::List, r#"["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]"#,
        "addresses to listen on, each udp:ADDRESS:PORT or tcp:ADDRESS:PORT",
        "core listen",
        |s, v| s.listen = v.list()),
    key!("", "database", Kind::Url, r#""sqlite:roost.db""#,
        "sqlite:FILE, beside the configuration file if relative, mysql://USER:PASSWORD@HOST:PORT/NAME or postgres://USER:PASSWORD@HOST:PORT/NAME",
        "core db_default_url; auth_db, usrloc db_url",
        |s, v| s.database = v.text()),
    key!("", "database_password_file", Kind::Text, r#""""#,
        "a file whose first line is the database's password, in place of the URL's; the environment variable ROOST_DATABASE_PASSWORD goes before both",
        |s, v| s.database_password_file = v.text()),
    key!("", "database_tls", Kind::Switch, "false",
        "reach the database server by TLS only; its certificate must be right for its name",
        "db_mysql use_tls; db_postgres use_tls",
        |s, v| s.access.tls = v.switch()),
    key!("", "database_tls_ca", Kind::Text, r#""""#,
        "a file of certificate authorities in PEM for database_tls; empty: those that everybody knows",
        "tls_mgm ca_list",
        |s, v| s.database_tls_ca = v.text()),
    key!("", "use_domain", Kind::Switch, "false",
        "AORs and subscribers are user@domain (multi-tenant), not bare users",
        "auth_db, usrloc use_domain",
        |s, v| s.core.identity.use_domain = v.switch()),
    key!("", "workers", Kind::Number(0, 64), "0",
        "worker threads; 0 is one per core",
        "core children (udp_workers)",
        |s, v| s.workers = v.number() as usize),
    key!("", "advertised_address", Kind::Text, r#""""#,
        "the address that Via and Record-Route name in place of ours",
        "core advertised_address",
        |s, v| s.core.policy.advertised_address = v.text()),
    key!("", "server_header", Kind::Text, r#""roost/VERSION""#,
        "the Server header of answers; VERSION stands for the program's, empty sends none",
        "core server_header",
        |s, v| s.core.policy.server_header = v.text().replace("VERSION", env!("CARGO_PKG_VERSION"))),
    key!("", "tcp_connection_lifetime", Kind::Number(1, MAX_S), "120",
        "how long a connection may be silent, in seconds; one that a phone has registered over lives as long as its bindings",
        "core tcp_connection_lifetime",
        |s, v| s.streams.lifetime_ms = u64::from(v.number()) * 1000),
    key!("", "tcp_max_connections", Kind::Number(1, 1_000_000), "20480",
        "connections in all; for one more the longest silent one without bindings is closed",
        "core tcp_max_connections",
        |s, v| s.streams.max_connections = v.number() as usize),
    key!("", "tcp_max_connections_per_source", Kind::Number(1, 1_000_000), "1024",
        "connections of one IP address; more are refused",
        |s, v| s.streams.max_per_source = v.number() as usize),
    key!("", "tcp_max_msg_time", Kind::Number(1, 3_600), "4",
        "how long a message may take to arrive over a connection, in seconds",
        "core tcp_max_msg_time",
        |s, v| s.streams.message_ms = u64::from(v.number()) * 1000),
    key!("", "log_level", Kind::Number(-3, 4), "3",
        "OpenSIPS's scale: -1 errors, 1 warnings, 3 information, 4 every request",
        "core log_level",
        |s, v| s.log_level = if let Value::Number(level) = v { level } else { 3 }),
    key!("", "log_stderror", Kind::Switch, "true",
        "log to standard error; else to syslog",
        "core log_stderror",
        |s, v| s.log_stderror = v.switch()),
    key!("", "log_facility", Kind::Choice(FACILITIES), r#""LOG_LOCAL0""#,
        "the syslog facility",
        "core log_facility",
        |s, v| s.log_facility = v.text()),

    key!("auth", "realm", Kind::Text, r#""""#,
        "the realm of challenges; empty takes the domain of To (REGISTER) or From",
        "auth_db www_authorize(realm, …), auth www_challenge(realm, …)",
        |s, v| s.core.policy.auth.realm = v.text()),
    key!("auth", "nonce_expire", Kind::Number(1, 86_400), "30",
        "how long a nonce may be used, in seconds",
        "auth nonce_expire",
        |s, v| s.core.policy.auth.nonce_expire_s = v.number()),
    key!("auth", "qop", Kind::Choice(&["off", "auth"]), r#""off""#,
        "whether challenges offer qop=\"auth\"",
        "auth www_challenge(realm, qop)",
        |s, v| s.core.policy.auth.qop_auth = v.text() == "auth"),
    key!("auth", "algorithms", Kind::Choices(&["MD5", "SHA-256", "SHA-512-256"]), r#"["MD5"]"#,
        "digest algorithms, in the order offered; phones take the first that they know, old ones may take none but MD5",
        "auth www_challenge(realm, qop, algorithms) of 3.2",
        |s, v| s.core.policy.auth.algorithms = v.list().iter().map(|name| match name.as_str() {
            "SHA-256" => Algorithm::Sha256,
            "SHA-512-256" => Algorithm::Sha512Trunc256,
            _ => Algorithm::Md5,
        }).collect()),
    key!("auth", "disable_nonce_check", Kind::Switch, "true",
        "a nonce may be used again until it expires; false makes each good for one request",
        "auth disable_nonce_check",
        |s, v| s.core.policy.auth.disable_nonce_check = v.switch()),
    key!("auth", "secret", Kind::Secret, r#""""#,
        "keeps nonces valid over a restart; empty makes a random one at each start",
        "auth secret",
        |s, v| s.secret = v.text()),
    key!("auth", "check_to", Kind::Switch, "true",
        "the digest user must be the To user",
        "uri db_check_to() in the script",
        |s, v| s.core.policy.auth.check_to = v.switch()),
    key!("auth", "hide_unknown_users", Kind::Switch, "false",
        "answer an unknown user like a wrong password (403)",
        |s, v| s.core.policy.auth.hide_unknown_users = v.switch()),

    key!("auth", "ban_failures", Kind::Number(0, 1_000_000), "5",
        "wrong passwords of one extension from one address that ban the two; 0: never. A registered phone is never banned by others' failures",
        |s, v| s.core.policy.auth.ban_failures = v.number()),
    key!("auth", "ban_source_failures", Kind::Number(0, 1_000_000), "50",
        "wrong names and passwords from one address (of IPv6: one /64) that ban it for all who are not registered from it; 0: never",
        |s, v| s.core.policy.auth.ban_source_failures = v.number()),
    key!("auth", "ban_user_failures", Kind::Number(0, 1_000_000), "100",
        "wrong passwords of one extension from anywhere that ban it for all addresses but its phone's; 0: never",
        |s, v| s.core.policy.auth.ban_user_failures = v.number()),
    key!("auth", "ban_time", Kind::Number(1, MAX_S), "60",
        "how long the first ban lasts, in seconds; each next one twice as long; a failure is forgiven after as long",
        |s, v| s.core.policy.auth.ban_time_s = v.number()),
    key!("auth", "ban_max_time", Kind::Number(1, MAX_S), "3600",
        "how long a ban lasts at most, in seconds; after as long without failures the next one is short again",
        |s, v| s.core.policy.auth.ban_max_time_s = v.number()),

    key!("pike", "sampling_time_unit", Kind::Number(1, 3_600), "2",
        "in how many seconds the requests of an address are counted",
        "pike sampling_time_unit",
        |s, v| s.core.policy.pike.sampling_time_unit_s = v.number()),
    key!("pike", "reqs_density_per_unit", Kind::Number(0, 1_000_000), "0",
        "how many requests one address may send in that time to one worker; more are dropped; 0: any number. Trusted addresses and next hops may send any number",
        "pike reqs_density_per_unit",
        |s, v| s.core.policy.pike.reqs_density_per_unit = v.number()),
    key!("pike", "drop_user_agents", Kind::List,
        r#"["friendly-scanner", "sipvicious", "sipcli", "sip-scan", "sundayddr", "iwar", "pplsip"]"#,
        "requests whose User-Agent begins so, in any case, are not answered; []: all are",
        "if ($ua =~ …) drop in the script",
        |s, v| s.core.policy.pike.drop_user_agents = v.list().into_iter().filter(|agent| !agent.is_empty()).collect()),

    key!("auth_db", "calculate_ha1", Kind::Switch, "true",
        "the password column holds plaintext; false: HA1 hashes",
        "auth_db calculate_ha1",
        |s, v| s.core.policy.auth_db.calculate_ha1 = v.switch()),
    key!("auth_db", "user_column", Kind::Text, r#""username""#,
        "subscriber's column of users",
        "auth_db user_column",
        |s, v| s.user_column = v.text()),
    key!("auth_db", "domain_column", Kind::Text, r#""domain""#,
        "subscriber's column of domains",
        "auth_db domain_column",
        |s, v| s.domain_column = v.text()),
    key!("auth_db", "password_column", Kind::Text, r#""password""#,
        "subscriber's column of passwords; \"ha1\" when calculate_ha1 is off and nothing is set",
        "auth_db password_column",
        |s, v| s.password_column = v.text()),
    key!("auth_db", "password_column_2", Kind::Text, r#""ha1b""#,
        "subscriber's column of HA1 hashes of user@domain, for calculate_ha1 = false",
        "auth_db password_column_2",
        |s, v| s.password_column_2 = v.text()),
    key!("auth_db", "cache_ttl", Kind::Number(0, 86_400), "60",
        "how long a loaded secret is believed, in seconds",
        |s, v| s.core.policy.auth_db.cache_ttl_s = v.number()),

    key!("auth_db", "preload", Kind::Number(0, 10_000_000), "1000000",
        "a subscriber table of at most this many rows is kept in memory, and read again twice each cache_ttl; 0: never",
        |s, v| s.preload = v.number() as usize),

    key!("usrloc", "db_mode", Kind::Choice(&["write-through", "memory"]), r#""write-through""#,
        "write-through: a 200 means that the binding is on disk; memory: nothing is written",
        "usrloc db_mode: 1 write-through, 0 memory",
        |s, v| s.core.identity.write_through = v.text() == "write-through"),
    key!("usrloc", "timer_interval", Kind::Number(1, 3_600), "60",
        "how long one sweep over all bindings takes, in seconds",
        "usrloc timer_interval",
        |s, v| s.core.policy.usrloc.timer_interval_s = v.number()),
    key!("usrloc", "cseq_delay", Kind::Number(0, 3_600), "20",
        "how long an equal CSeq counts as a retransmission, in seconds",
        "usrloc cseq_delay",
        |s, v| s.core.policy.usrloc.cseq_delay_s = v.number()),

    key!("usrloc", "contactid_column", Kind::Text, r#""contact_id""#,
        "column of `location` that holds the key of a binding",
        "usrloc contactid_column",
        |s, v| s.location_columns.0[0] = v.text()),
    key!("usrloc", "user_column", Kind::Text, r#""username""#,
        "column of `location` that holds the AOR's user",
        "usrloc user_column",
        |s, v| s.location_columns.0[1] = v.text()),
    key!("usrloc", "domain_column", Kind::Text, r#""domain""#,
        "column of `location` that holds the AOR's domain",
        "usrloc domain_column",
        |s, v| s.location_columns.0[2] = v.text()),
    key!("usrloc", "contact_column", Kind::Text, r#""contact""#,
        "column of `location` that holds the Contact URI",
        "usrloc contact_column",
        |s, v| s.location_columns.0[3] = v.text()),
    key!("usrloc", "received_column", Kind::Text, r#""received""#,
        "column of `location` that holds where a REGISTER came from, if that is elsewhere",
        "usrloc received_column",
        |s, v| s.location_columns.0[4] = v.text()),
    key!("usrloc", "path_column", Kind::Text, r#""path""#,
        "column of `location` that holds the Path",
        "usrloc path_column",
        |s, v| s.location_columns.0[5] = v.text()),
    key!("usrloc", "expires_column", Kind::Text, r#""expires""#,
        "column of `location` that holds when it expires, unix time",
        "usrloc expires_column",
        |s, v| s.location_columns.0[6] = v.text()),
    key!("usrloc", "q_column", Kind::Text, r#""q""#,
        "column of `location` that holds the priority",
        "usrloc q_column",
        |s, v| s.location_columns.0[7] = v.text()),
    key!("usrloc", "callid_column", Kind::Text, r#""callid""#,
        "column of `location` that holds the Call-ID",
        "usrloc callid_column",
        |s, v| s.location_columns.0[8] = v.text()),
    key!("usrloc", "cseq_column", Kind::Text, r#""cseq""#,
        "column of `location` that holds the CSeq",
        "usrloc cseq_column",
        |s, v| s.location_columns.0[9] = v.text()),
    key!("usrloc", "last_modified_column", Kind::Text, r#""last_modified""#,
        "column of `location` that holds when the row was written",
        "",
        |s, v| s.location_columns.0[10] = v.text()),
    key!("usrloc", "flags_column", Kind::Text, r#""flags""#,
        "column of `location` that holds flags",
        "usrloc flags_column",
        |s, v| s.location_columns.0[11] = v.text()),
    key!("usrloc", "cflags_column", Kind::Text, r#""cflags""#,
        "column of `location` that holds the branch flags",
        "usrloc cflags_column",
        |s, v| s.location_columns.0[12] = v.text()),
    key!("usrloc", "user_agent_column", Kind::Text, r#""user_agent""#,
        "column of `location` that holds the User-Agent",
        "usrloc user_agent_column",
        |s, v| s.location_columns.0[13] = v.text()),
    key!("usrloc", "socket_column", Kind::Text, r#""socket""#,
        "column of `location` that holds our address that it came to",
        "usrloc socket_column",
        |s, v| s.location_columns.0[14] = v.text()),
    key!("usrloc", "methods_column", Kind::Text, r#""methods""#,
        "column of `location` that holds the methods that the contact takes",
        "usrloc methods_column",
        |s, v| s.location_columns.0[15] = v.text()),
    key!("usrloc", "sip_instance_column", Kind::Text, r#""sip_instance""#,
        "column of `location` that holds the +sip.instance",
        "usrloc sip_instance_column",
        |s, v| s.location_columns.0[16] = v.text()),
    key!("registrar", "min_expires", Kind::Number(0, MAX_S), "30",
        "the shortest binding granted, in seconds; 0 sets no limit",
        "registrar min_expires",
        |s, v| s.core.policy.registrar.min_expires_s = v.number()),
    key!("registrar", "max_expires", Kind::Number(0, MAX_S), "300",
        "the longest binding granted, in seconds; 0 sets no limit",
        "registrar max_expires",
        |s, v| s.core.policy.registrar.max_expires_s = v.number()),
    key!("registrar", "default_expires", Kind::Number(1, MAX_S), "120",
        "granted where the phone asks for nothing, in seconds",
        "registrar default_expires",
        |s, v| s.core.policy.registrar.default_expires_s = v.number()),
    key!("registrar", "max_contacts", Kind::Number(0, 100), "1",
        "bindings per AOR; 0 sets no limit but 100",
        "registrar max_contacts",
        |s, v| s.core.policy.registrar.max_contacts = v.number()),
    key!("registrar", "force_registration", Kind::Switch, "true",
        "the binding refreshed longest ago makes room for a new one; false answers 503",
        "registrar save(…, \"f\")",
        |s, v| s.core.policy.registrar.force_registration = v.switch()),
    key!("registrar", "exclusive", Kind::Choice(&["ip", "off"]), r#""ip""#,
        "ip: an AOR that is registered from one address is Occupied (403) for others",
        "registrar is_ip_registered(), is_registered() in the script",
        |s, v| s.core.policy.registrar.exclusive_ip = v.text() == "ip"),
    key!("registrar", "exclusive_check", Kind::Choice(&["memory", "database"]), r#""memory""#,
        "where the Occupied rule looks; database: in the commit, for several nodes that share one, slow without an index on location's username (`roost db migrate` makes it)",
        "avp_db_query() in the script",
        |s, v| s.core.policy.registrar.exclusive_in_database = v.text() == "database"),
    key!("registrar", "retry_after", Kind::Number(0, MAX_S), "0",
        "Retry-After of the registrar's 5xx answers, in seconds; 0 sends none",
        "registrar retry_after",
        |s, v| s.core.policy.registrar.retry_after_s = v.number()),
    key!("registrar", "add_date", Kind::Switch, "true",
        "a 200 carries Date, by which phones set their clock",
        |s, v| s.core.policy.registrar.add_date = v.switch()),
    key!("registrar", "case_sensitive", Kind::Switch, "true",
        "the user part of an AOR distinguishes case",
        "registrar case_sensitive",
        |s, v| s.core.identity.case_sensitive = v.switch()),
    key!("registrar", "path", Kind::Choice(&["ignore", "off", "lazy", "strict"]), r#""lazy""#,
        "Path of a REGISTER: lazy: kept, used, and echoed to phones that know it; strict: others get 420; off: never echoed; ignore: not kept",
        |s, v| s.core.policy.registrar.path = match v.text().as_str() {
            "ignore" => PathMode::Ignore,
            "off" => PathMode::Off,
            "strict" => PathMode::Strict,
            _ => PathMode::Lazy,
        }),
    key!("registrar", "only_request_contacts", Kind::Switch, "false",
        "a 200 lists the contacts of its REGISTER only, not all of the AOR",
        |s, v| s.core.policy.registrar.only_request_contacts = v.switch()),

    key!("tm", "fr_timeout", Kind::Number(1, 3_600), "5",
        "no answer at all for this long: 408, in seconds",
        "tm fr_timeout",
        |s, v| s.core.policy.tm.fr_timeout_s = v.number()),
    key!("tm", "fr_inv_timeout", Kind::Number(1, 86_400), "30",
        "ringing for this long: CANCEL and 408, in seconds",
        "tm fr_inv_timeout",
        |s, v| s.core.policy.tm.fr_inv_timeout_s = v.number()),
    key!("tm", "restart_fr_on_each_reply", Kind::Switch, "false",
        "each provisional answer starts fr_inv_timeout anew",
        "tm restart_fr_on_each_reply",
        |s, v| s.core.policy.tm.restart_fr_on_each_reply = v.switch()),

    key!("rr", "append_fromtag", Kind::Switch, "false",
        "Record-Route carries ;ftag=",
        "rr append_fromtag",
        |s, v| s.core.policy.rr.append_fromtag = v.switch()),

    key!("proxy", "authorize", Kind::Choice(&["registered", "challenge", "off"]), r#""registered""#,
        "who may call: registered phones as they are and others by password, all by password, or anybody",
        "auth_db proxy_authorize() in the script",
        |s, v| s.core.policy.proxy.authorize = match v.text().as_str() {
            "challenge" => Authorize::Challenge,
            "off" => Authorize::Off,
            _ => Authorize::Registered,
        }),
    key!("proxy", "check_from", Kind::Switch, "true",
        "the digest user must be the From user",
        "uri db_check_from() in the script",
        |s, v| s.core.policy.proxy.check_from = v.switch()),
    key!("proxy", "trusted", Kind::List, "[]",
        "addresses that are never challenged",
        |s, v| s.trusted = v.list()),
    key!("proxy", "serial_fork", Kind::Switch, "false",
        "call contacts by falling q instead of all at once",
        "core serialize_branches() in the script",
        |s, v| s.core.policy.proxy.serial_fork = v.switch()),

    key!("dispatcher", "ds_ping_interval", Kind::Number(0, 3_600), "10",
        "how often each next hop is pinged with OPTIONS, in seconds; 0: never, and then none counts as down",
        "dispatcher ds_ping_interval, with ds_probing_mode 1",
        |s, v| s.core.policy.dispatcher.ping_interval_s = v.number()),
    key!("dispatcher", "ds_probing_threshold", Kind::Number(1, 100), "3",
        "pings and calls in a row without an answer that make a next hop count as down (Probing)",
        "dispatcher ds_probing_threshhold",
        |s, v| s.core.policy.dispatcher.probing_threshold = v.number()),
    key!("dispatcher", "ds_ping_from", Kind::Text, r#""sip:roost@localhost""#,
        "the From URI of pings",
        "dispatcher ds_ping_from",
        |s, v| s.core.policy.dispatcher.ping_from = v.text()),

    key!("dns", "servers", Kind::List, "[]",
        "name servers, each ADDRESS or ADDRESS:PORT; empty: those of the system",
        |s, v| s.dns = v.list()),

    key!("mi", "listen", Kind::Text, r#""127.0.0.1:8888""#,
        "where the management interface listens, a loopback ADDRESS:PORT; empty: nowhere",
        "mi_fifo fifo_name (httpd ip, port of 3.x)",
        |s, v| s.mi_listen = v.text()),
];

/// The keys of a `[[route]]`, in the order of the reference.
#[rustfmt::skip]
pub(crate) const ROUTE_KEYS: &[Key<Route>] = &[
    key!("route", "prefix", Kind::Text, r#""""#,
        "for users of the Request-URI that begin so, such as \"0\"",
        |r, v| r.prefix = v.text()),
    key!("route", "user", Kind::Text, r#""""#,
        "for users in which this regular expression is found, such as \"^8[0-9]{3}$\"",
        |r, v| r.user = v.text()),
    key!("route", "domain", Kind::Text, r#""""#,
        "for this host of the Request-URI; alone, all of it goes there and keeps its Request-URI",
        |r, v| r.domain = v.text()),
    key!("route", "hops", Kind::List, "[]",
        "next hops, tried in this order: each sip:HOST, sip:HOST:PORT, HOST an address or a name (SRV, A, AAAA)",
        "dispatcher destination",
        |r, v| r.hops = v.list()),
    key!("route", "strip", Kind::Number(0, 64), "0",
        "how many characters are taken off the front of the user",
        "core strip()",
        |r, v| r.strip = v.number()),
    key!("route", "prepend", Kind::Text, r#""""#,
        "what is put before the user then",
        "core prefix()",
        |r, v| r.prepend = v.text()),
    key!("route", "offline", Kind::Switch, "false",
        "extensions that exist and are not registered go this way too (voicemail); else they are 404",
        |r, v| r.offline = v.switch()),
    key!("route", "set", Kind::Number(0, 1_000_000), "0",
        "the number of its hops' set in ds_list; 0: its place in the file, from 1",
        "dispatcher setid",
        |r, v| r.set = v.number()),
];
