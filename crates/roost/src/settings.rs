//! The effective settings: defaults of the key table, overlaid by a TOML file whose every mistake is explained.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use roost_core::Config;
use roost_net::{StreamSettings, overlap, parse_listen};
use roost_store::{Access, Columns, LocationColumns, Store};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::keys::{KEYS, Key, Kind, Value};
use crate::routes::{self, Route};

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "roost.toml";

/// Everything that the file can say.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// What it says, by the whole name of the key.
    pub(crate) given: BTreeMap<String, Value>,
    /// Its `[[route]]`s, in order.
    pub(crate) routes: Vec<Route>,
    pub(crate) core: Config,
    pub(crate) listen: Vec<String>,
    pub(crate) streams: StreamSettings,
    pub(crate) database: String,
    pub(crate) database_password_file: String,
    pub(crate) database_tls_ca: String,
    pub(crate) access: Access,
    pub(crate) location_columns: LocationColumns,
    pub(crate) workers: usize,
    /// Subscribers that are kept in memory at most, see `auth_db.preload`.
    pub(crate) preload: usize,
    pub(crate) trusted: Vec<String>,
    pub(crate) log_level: i64,
    pub(crate) log_stderror: bool,
    pub(crate) log_facility: String,
    pub(crate) secret: String,
    pub(crate) user_column: String,
    pub(crate) domain_column: String,
    pub(crate) password_column: String,
    pub(crate) password_column_2: String,
    pub(crate) dns: Vec<String>,
    /// The name servers to ask; none: the system's.
    pub(crate) dns_servers: Vec<SocketAddr>,
    pub(crate) mi_listen: String,
    pub(crate) mi_address: Option<SocketAddr>,
}

impl Settings {
    /// Reads `file`, or `./roost.toml` where there is one, or takes the defaults.
    ///
    /// # Errors
    /// With the file, the line, what is wrong and what would be right.
    pub(crate) fn load(file: Option<&Path>) -> Result<Settings> {
        let file = match file {
            Some(file) => Some(file.to_path_buf()),
            None => Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()),
        };
        let Some(file) = file else { return Settings::parse("", DEFAULT_FILE) };
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read the configuration file {shown}"))?;
        let settings = Settings::parse(&text, &shown)?;
        Ok(Settings { file: Some(file), ..settings })
    }

    /// Reads a configuration's text; `name` stands in errors.
    pub(crate) fn parse(text: &str, name: &str) -> Result<Settings> {
        let mut settings = Settings::defaults()?;
        let source = Source { text, name };
        let table = DeTable::parse(text)
            .map_err(|error| source.error(error.span().unwrap_or(0..0), error.message().to_string()))?;
        for (key, value) in table.get_ref() {
            match value.get_ref() {
                _ if key.get_ref() == routes::TABLE => settings.routes = routes::read(&source, key, value)?,
                DeValue::Table(section) => {
                    source.check_section(key)?;
                    for (name, value) in section {
                        source.apply(&mut settings, key.get_ref(), name, value)?;
                    }
                }
                _ => source.apply(&mut settings, "", key, value)?,
            }
        }
        if !settings.core.policy.auth_db.calculate_ha1
            && !settings.given.contains_key("auth_db.password_column")
        {
            settings.password_column = "ha1".to_string();
        }
        settings.check_together(&source, table.get_ref())?;
        settings.core.policy.routes = routes::rules(&settings.routes).into();
        Ok(settings)
    }

    /// What the key table says when nothing else is said.
    fn defaults() -> Result<Settings> {
        let mut settings = Settings {
            file: None,
            given: BTreeMap::new(),
            routes: Vec::new(),
            core: Config::default(),
            listen: Vec::new(),
            streams: StreamSettings { lifetime_ms: 0, message_ms: 0, max_connections: 0, max_per_source: 0 },
            database: String::new(),
            database_password_file: String::new(),
            database_tls_ca: String::new(),
            access: Access::default(),
            location_columns: LocationColumns::default(),
            workers: 0,
            preload: 0,
            trusted: Vec::new(),
            log_level: 3,
            log_stderror: true,
            log_facility: String::new(),
            secret: String::new(),
            user_column: String::new(),
            domain_column: String::new(),
            password_column: String::new(),
            password_column_2: String::new(),
            dns: Vec::new(),
            dns_servers: Vec::new(),
            mi_listen: String::new(),
            mi_address: None,
        };
        for key in KEYS {
            (key.set)(&mut settings, default_of(key)?);
        }
        Ok(settings)
    }

    /// What no single key can know.
    fn check_together(&mut self, source: &Source<'_>, table: &DeTable<'_>) -> Result<()> {
        let span = |section: &str, name: &str| {
            let value = match section {
                "" => table.get(name),
                _ => table.get(section).and_then(|section| section.get_ref().as_table()?.get(name)),
            };
            value.map_or(0..0, Spanned::span)
        };
        if self.listen.is_empty() {
            return Err(
                source.error(span("", "listen"), "`listen` is empty: name at least one address".into())
            );
        }
        for entry in &self.listen {
            let listener =
                parse_listen(entry).map_err(|error| source.error(span("", "listen"), error.to_string()))?;
            self.core.policy.listeners.push(listener);
        }
        let listeners = &self.core.policy.listeners;
        for (index, one) in listeners.iter().enumerate() {
            if let Some(other) = listeners.iter().skip(index + 1).find(|other| overlap(one, other)) {
                let message = format!("`listen` names {one} and {other}, which overlap");
                return Err(source.error(span("", "listen"), message));
            }
        }
        for text in &self.trusted {
            let wrong = || {
                let message = format!("`proxy.trusted` holds \"{text}\", which is no IP address");
                source.error(span("proxy", "trusted"), message)
            };
            let address = text.parse::<std::net::IpAddr>().map_err(|_| wrong())?;
            self.core.policy.proxy.trusted.push(address.to_canonical());
        }
        for text in &self.dns {
            let wrong = || {
                let message =
                    format!("`dns.servers` holds \"{text}\", which is no IP address, with or without a port");
                source.error(span("dns", "servers"), message)
            };
            let address = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)));
            self.dns_servers.push(address.map_err(|_| wrong())?);
        }
        let is_file = self.database.starts_with("sqlite:");
        if self.core.policy.registrar.exclusive_in_database && (is_file || !self.core.identity.write_through)
        {
            let message =
                "`exclusive_check = \"database\"` is for several nodes that share a database server, with \
                 write-through: an SQLite file belongs to one roost, whose memory knows all"
                    .to_string();
            return Err(source.error(span("registrar", "exclusive_check"), message));
        }
        if self.access.tls && is_file {
            let message = "`database_tls` is for a database server, not for an SQLite file".to_string();
            return Err(source.error(span("", "database_tls"), message));
        }
        if !is_sip_uri(&self.core.policy.dispatcher.ping_from) {
            let message =
                "`dispatcher.ds_ping_from` must be a SIP URI such as \"sip:roost@example.com\"".to_string();
            return Err(source.error(span("dispatcher", "ds_ping_from"), message));
        }
        if !is_host(&self.core.policy.advertised_address) {
            let message = "`advertised_address` must be a host name or address, without a port".to_string();
            return Err(source.error(span("", "advertised_address"), message));
        }
        let registrar = &self.core.policy.registrar;
        if registrar.max_expires_s != 0 && registrar.min_expires_s > registrar.max_expires_s {
            let message = format!(
                "`min_expires` ({}) is above `max_expires` ({})",
                registrar.min_expires_s, registrar.max_expires_s
            );
            return Err(source.error(span("registrar", "min_expires"), message));
        }
        if !self.mi_listen.is_empty() {
            let address =
                self.mi_listen.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
            let wanted = || {
                let message = format!(
                    "`mi.listen` must be a loopback ADDRESS:PORT such as \"127.0.0.1:8888\", not \"{}\"",
                    self.mi_listen
                );
                source.error(span("mi", "listen"), message)
            };
            self.mi_address = Some(address.ok_or_else(wanted)?);
        }
        for (section, name, text) in [
            ("", "server_header", &self.core.policy.server_header),
            ("auth", "realm", &self.core.policy.auth.realm),
        ] {
            if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'"' || byte == b'\\') {
                let message = format!("`{name}` holds a control character, a quote or a backslash");
                return Err(source.error(span(section, name), message));
            }
        }
        Ok(())
    }

    /// The folder that a relative database path starts from.
    pub(crate) fn folder(&self) -> PathBuf {
        let parent = self.file.as_deref().and_then(Path::parent);
        parent.map_or_else(PathBuf::new, Path::to_path_buf)
    }

    /// Opens the database that the settings name.
    ///
    /// # Errors
    /// With the file and the remedy.
    pub(crate) fn open_store(&self) -> Result<Store> {
        let columns = Columns {
            user: self.user_column.clone(),
            domain: self.domain_column.clone(),
            password: self.password_column.clone(),
            password_2: self.password_column_2.clone(),
            calculate_ha1: self.core.policy.auth_db.calculate_ha1,
            use_domain: self.core.identity.use_domain,
            location: self.location_columns.clone(),
        };
        Ok(Store::open(&self.database, &self.folder(), &self.access()?, columns)?)
    }

    /// Whether the database holds any tables; opening it would make them.
    pub(crate) fn has_tables(&self) -> Result<bool> {
        Ok(Store::has_tables(&self.database, &self.folder(), &self.access()?)?)
    }

    /// Makes those of roost's tables that the database does not have; which they are.
    pub(crate) fn migrate_tables(&self) -> Result<Vec<&'static str>> {
        Ok(Store::migrate(&self.database, &self.folder(), &self.access()?)?)
    }

    /// How to get into the database, with the password that stands nowhere in the configuration.
    fn access(&self) -> Result<Access> {
        let file = |name: &str| Some(self.folder().join(name)).filter(|_| !name.is_empty());
        let password = match (std::env::var("ROOST_DATABASE_PASSWORD"), file(&self.database_password_file)) {
            (Ok(password), _) => Some(password),
            (Err(_), Some(path)) => {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {} (`database_password_file`)", path.display()))?;
                Some(text.lines().next().unwrap_or("").to_string())
            }
            (Err(_), None) => None,
        };
        Ok(Access { password, tls: self.access.tls, ca_file: file(&self.database_tls_ca) })
    }
}

/// A configuration's text, to point into.
pub(crate) struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl Source<'_> {
    fn apply(
        &self,
        settings: &mut Settings,
        section: &str,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<()> {
        let Some(key) = KEYS.iter().find(|key| key.section == section && key.name == name.get_ref()) else {
            return Err(self.unknown_key(section, name));
        };
        let value = self.read(key, value)?;
        settings.given.insert(shown(key), value.clone());
        (key.set)(settings, value);
        Ok(())
    }

    /// A key's value.
    pub(crate) fn read<T>(&self, key: &Key<T>, value: &Spanned<DeValue<'_>>) -> Result<Value> {
        read(key.kind, value.get_ref()).map_err(|wanted| {
            self.error(value.span(), format!("`{}` {wanted}\n      ({})", shown(key), key.meaning))
        })
    }

    fn check_section(&self, name: &Spanned<std::borrow::Cow<'_, str>>) -> Result<()> {
        if KEYS.iter().any(|key| key.section == name.get_ref()) {
            return Ok(());
        }
        if KEYS.iter().any(|key| key.section.is_empty() && key.name == name.get_ref()) {
            return Err(self.error(name.span(), format!("`{}` is a key, not a section", name.get_ref())));
        }
        let sections: BTreeSet<_> = KEYS
            .iter()
            .map(|key| key.section)
            .chain([routes::TABLE])
            .filter(|name| !name.is_empty())
            .collect();
        let hint = nearest(name.get_ref(), sections.iter().copied());
        Err(self.error(name.span(), format!("unknown section [{}]{hint}", name.get_ref())))
    }

    fn unknown_key(&self, section: &str, name: &Spanned<std::borrow::Cow<'_, str>>) -> anyhow::Error {
        let name_text: &str = name.get_ref();
        let tables = [routes::TABLE].into_iter().filter(|_| section.is_empty());
        let here = KEYS.iter().filter(|key| key.section == section).map(|key| key.name).chain(tables);
        let elsewhere = KEYS.iter().find(|key| key.name == name_text);
        let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
        let hint = match elsewhere {
            Some(key) if key.section.is_empty() => "; it belongs above all sections".to_string(),
            Some(key) => format!("; it belongs into [{}]", key.section),
            None => nearest(name_text, here),
        };
        self.error(name.span(), format!("unknown key `{name_text}`{place}{hint}"))
    }

    /// `FILE:LINE: message`, and the line.
    pub(crate) fn error(&self, span: Range<usize>, message: String) -> anyhow::Error {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or("");
        let number = before.matches('\n').count() + 1;
        let line = self.text.lines().nth(number - 1).unwrap_or("");
        let (message, more) = message.split_once('\n').unwrap_or((&message, ""));
        let more = if more.is_empty() { String::new() } else { format!("\n{more}") };
        anyhow!("{}:{number}: {message}\n{number:>5} | {line}{more}", self.name)
    }
}

/// A key's default.
///
/// # Errors
/// The table itself is wrong.
pub(crate) fn default_of<T>(key: &Key<T>) -> Result<Value> {
    let value = DeValue::parse(key.default).map_err(|error| anyhow!("{}: {error}", shown(key)))?;
    read(key.kind, value.get_ref()).map_err(|wanted| anyhow!("{}: {wanted}", shown(key)))
}

/// Reads a value of a kind; the error says what is wanted.
fn read(kind: Kind, value: &DeValue<'_>) -> Result<Value, String> {
    let found = value.type_str();
    let strings = |value: &DeValue<'_>| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_string)).collect()
    };
    let one_of = |choices: &[&str], text: &str| {
        let hint = nearest(text, choices.iter().copied());
        format!("must be one of {}, not \"{text}\"{hint}", quoted(choices))
    };
    match kind {
        Kind::Text | Kind::Secret | Kind::Url => value
            .as_str()
            .map(|text| Value::Text(text.into()))
            .ok_or(format!("must be a string, not {found}")),
        Kind::Switch => match (value.as_bool(), integer(value)) {
            (Some(is_on), _) => Ok(Value::Switch(is_on)),
            (_, Some(number @ 0..=1)) => Ok(Value::Switch(number == 1)),
            _ => Err(format!("must be true or false (or 1 or 0), not {found}")),
        },
        Kind::Number(least, most) => match integer(value) {
            Some(number) if (least..=most).contains(&number) => Ok(Value::Number(number)),
            Some(number) => Err(format!("must be from {least} to {most}, not {number}")),
            None => Err(format!("must be an integer, not {found}")),
        },
        Kind::Choice(choices) => match value.as_str() {
            Some(text) if choices.contains(&text) => Ok(Value::Text(text.into())),
            Some(text) => Err(one_of(choices, text)),
            None => Err(format!("must be one of {}, not {found}", quoted(choices))),
        },
        Kind::List => {
            strings(value).map(Value::List).ok_or(format!("must be a list of strings, not {found}"))
        }
        Kind::Choices(choices) => {
            let list = strings(value).ok_or(format!("must be a list of strings, not {found}"))?;
            match list.iter().find(|text| !choices.contains(&text.as_str())) {
                Some(text) => Err(one_of(choices, text)),
                None if list.is_empty() => Err(format!("must name at least one of {}", quoted(choices))),
                None => Ok(Value::List(list)),
            }
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
}

fn quoted(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ")
}

/// `; did you mean …?` where something is near.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near =
        known.map(|other| (strsim::jaro_winkler(name, other), other)).max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((likeness, other)) if likeness > 0.7 => format!("; did you mean `{other}`?"),
        _ => String::new(),
    }
}

/// Whether a text may stand for our host in a Via; empty says nothing.
pub(crate) fn is_host(text: &str) -> bool {
    let is_v6 = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match is_v6 {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')),
    }
}

fn is_sip_uri(text: &str) -> bool {
    roost_sip::Uri::parse(text.as_bytes()).is_ok_and(|uri| !uri.host.is_empty())
}

/// A key's name with its section.
pub(crate) fn shown<T>(key: &Key<T>) -> String {
    if key.section.is_empty() { key.name.to_string() } else { format!("{}.{}", key.section, key.name) }
}

/// `roost config check`.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn check(file: Option<&Path>) -> Result<String> {
    let settings = Settings::load(file)?;
    Store::exists(&settings.database, &settings.folder())?;
    Ok(match settings.file {
        Some(file) => format!("{}: ok", file.display()),
        None => format!("no {DEFAULT_FILE} here: the defaults are used"),
    })
}

#[cfg(test)]
mod tests {
    use roost_core::{Listener, Transport};

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_core() {
        let settings = Settings::parse("", "x").unwrap();
        let any = "0.0.0.0:5060".parse().unwrap();
        let mut core = Config::default();
        core.policy.listeners = Transport::ALL.map(|transport| Listener { transport, address: any }).to_vec();
        assert_eq!(format!("{:?}", settings.core), format!("{core:?}"));
        assert_eq!(settings.core.policy.listeners[0].to_string(), "udp:0.0.0.0:5060");
        assert_eq!(settings.mi_address.unwrap().to_string(), "127.0.0.1:8888");
    }

    #[test]
    fn keys_are_named_once_and_explained() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(!key.meaning.is_empty(), "{}", key.name);
            let twin = KEYS.iter().skip(index + 1).any(|other| shown(other) == shown(key));
            assert!(!twin, "{} stands twice", shown(key));
        }
    }

    #[test]
    fn hashes_are_read_from_ha1_unless_something_is_said() {
        let column = |text: &str| Settings::parse(text, "x").unwrap().password_column;
        assert_eq!(column(""), "password");
        assert_eq!(column("[auth_db]\ncalculate_ha1 = 0"), "ha1");
        assert_eq!(column("[auth_db]\ncalculate_ha1 = 0\npassword_column = \"secret\""), "secret");
    }

    #[test]
    fn mistakes_are_shown_with_their_line_and_remedy() {
        for (text, expected) in [
            (
                "use_domian = 1",
                "x:1: unknown key `use_domian`; did you mean `use_domain`?\n    1 | use_domian = 1",
            ),
            ("[registar]\na = 1", "x:1: unknown section [registar]; did you mean `registrar`?"),
            (
                "[auth]\nmin_expires = 1",
                "x:2: unknown key `min_expires` in [auth]; it belongs into [registrar]",
            ),
            ("[usrloc]\nuse_domain = 1", "it belongs above all sections"),
            ("[auth]\nqop = \"yes\"", "x:2: `auth.qop` must be one of \"off\", \"auth\", not \"yes\""),
            ("workers = 2\nuse_domain = 2", "x:2: `use_domain` must be true or false (or 1 or 0)"),
            ("[registrar]\nmin_expires = 400", "`min_expires` (400) is above `max_expires` (300)"),
            ("[mi]\nlisten = \"0.0.0.0:8888\"", "x:2: `mi.listen` must be a loopback"),
            ("listen = [\"udp:0.0.0.0:5060\", \"udp:127.0.0.1:5060\"]", "which overlap"),
            ("listen = []", "x:1: `listen` is empty"),
            ("listen = [\"tls:0.0.0.0:5061\"]", "UDP and TCP only"),
            ("server_header = \"a\\r\\nb\"", "x:1: `server_header` holds a control character"),
            ("[proxy]\ntrusted = [\"pbx\"]", "x:2: `proxy.trusted` holds \"pbx\""),
            ("advertised_address = \"a:5060\"", "x:1: `advertised_address` must be"),
            (
                "[auth]\nalgorithms = [\"SHA-1\"]",
                "x:2: `auth.algorithms` must be one of \"MD5\", \"SHA-256\"",
            ),
            ("[dns]\nservers = [\"dns.example.com\"]", "x:2: `dns.servers` holds \"dns.example.com\""),
            ("[dispatcher]\nds_ping_from = \"roost\"", "x:2: `dispatcher.ds_ping_from` must be a SIP URI"),
            ("= 1", "x:1: "),
        ] {
            let error = Settings::parse(text, "x").unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
