//! The effective settings: defaults of the key table, overlaid by a TOML file whose every mistake is explained.

pub(crate) mod alias;
mod aliases;
mod calls;
mod cluster;
mod console;
mod database;
pub(crate) mod hep;
mod heps;
mod interfaces;
pub(crate) mod key;
pub(crate) mod keys;
pub(crate) mod keys_of_tables;
pub(crate) mod live;
pub(crate) mod masked;
mod route;
mod routes;
mod source;
mod tables;
mod tls;
pub(crate) mod tls_domain;
mod together;
mod values;
pub(crate) mod webhook;
mod webhooks;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use toml::de::{DeTable, DeValue};

use crate::settings::keys::KEYS;
use crate::settings::source::Source;

pub(crate) use values::Settings;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "roost.toml";
/// The machine's.
const SYSTEM_FILE: &str = "/etc/roost/roost.toml";

impl Settings {
    /// Reads `file`, or the first that is there of [`looked_for`], or takes the defaults.
    ///
    /// # Errors
    /// With the file, the line, what is wrong and what would be right.
    pub(crate) fn load(file: Option<&Path>) -> Result<Settings> {
        let file = match file {
            Some(file) => Some(file.to_path_buf()),
            None => looked_for().into_iter().find(|file| file.exists()),
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
                _ if key.get_ref() == route::TABLE => settings.routes = routes::read(&source, key, value)?,
                _ if key.get_ref() == alias::TABLE => settings.aliases = aliases::read(&source, key, value)?,
                _ if key.get_ref() == webhook::TABLE => {
                    settings.webhooks = webhooks::read(&source, key, value)?;
                }
                _ if key.get_ref() == hep::TABLE => settings.hep = heps::read(&source, key, value)?,
                DeValue::Table(section) => {
                    source.check_section(key)?;
                    for (name, value) in section {
                        if key.get_ref() == "tls" && name.get_ref() == "domain" {
                            settings.tls_domains = tls::read(&source, name, value)?;
                            continue;
                        }
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
        settings.core.policy.routes = route::rules(&settings.routes).into();
        Ok(settings)
    }

    /// What the key table says when nothing else is said.
    fn defaults() -> Result<Settings> {
        let mut settings = Settings::default();
        for key in KEYS {
            (key.set)(&mut settings, key.default()?);
        }
        Ok(settings)
    }
}

/// The files that are looked for where none is named, in this order.
pub(crate) fn looked_for() -> Vec<PathBuf> {
    let named = std::env::var_os("ROOST_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
    [PathBuf::from(DEFAULT_FILE)].into_iter().chain(named).chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

impl Settings {
    /// Reads the files that they name, as the start does.
    ///
    /// # Errors
    /// What is wrong with one.
    pub(crate) fn check_files(&self) -> Result<()> {
        self.tls().map_or(Ok(()), |tls| Ok(roost_net::Tls::load(tls).map(drop)?))
    }
}

/// `roost config check`.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn check(file: Option<&Path>) -> Result<String> {
    let settings = Settings::load(file)?;
    settings.check_files()?;
    if let Some(folder) = settings.missing_folder()? {
        eprintln!(
            "roost: `database` = \"{}\": there is no folder {} yet; the server does not make it",
            settings.database,
            folder.display()
        );
    }
    Ok(match settings.file {
        Some(file) => format!("{}: ok", file.display()),
        None => format!("no {DEFAULT_FILE} here: the defaults are used"),
    })
}

#[cfg(test)]
mod tests {
    use roost_core::{Config, Listener, Transport};

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_core() {
        let settings = Settings::parse("", "x").unwrap();
        let any = "0.0.0.0:5060".parse().unwrap();
        let mut core = Config::default();
        let both = [Transport::Udp, Transport::Tcp];
        core.policy.listeners = both.map(|transport| Listener::new(transport, any)).to_vec();
        assert_eq!(format!("{:?}", settings.core), format!("{core:?}"));
        assert_eq!(settings.core.policy.listeners[0].to_string(), "udp:0.0.0.0:5060");
        assert_eq!(settings.mi_address.unwrap().to_string(), "127.0.0.1:8888");
    }

    #[test]
    fn keys_are_named_once_and_explained() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(!key.meaning.is_empty(), "{}", key.name);
            let twin = KEYS.iter().skip(index + 1).any(|other| other.shown() == key.shown());
            assert!(!twin, "{} stands twice", key.shown());
        }
    }

    /// Whether there is such a key (`section.key`, or a section with tables of its own).
    fn is_key(name: &str) -> bool {
        let of = |section: &str, key: &str| {
            if section.is_empty() { key.to_string() } else { format!("{section}.{key}") }
        };
        let keys = KEYS.iter().map(|key| of(key.section, key.name));
        let routes = keys_of_tables::ROUTE_KEYS.iter().map(|key| of(key.section, key.name));
        keys.chain(routes).chain(["route", "alias"].map(str::to_string)).any(|known| known == name)
    }

    /// The source files below a folder.
    fn sources(folder: &std::path::Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => sources(&entry, into),
                false => into.push(std::fs::read_to_string(entry).unwrap()),
            }
        }
    }

    #[test]
    fn decisions_and_remedies_name_keys_that_exist() {
        let mut core = Vec::new();
        sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../roost-core/src"), &mut core);
        let calls = core.iter().flat_map(|text| text.split("decide(").chain(text.split("decide_each(")));
        let decided = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split_once('"'));
        let decided: Vec<_> = decided.map(|(keys, _)| keys).filter(|keys| !keys.is_empty()).collect();
        assert!(decided.len() > 10, "{decided:?}");
        for key in decided.iter().flat_map(|keys| keys.split(", ")) {
            assert!(is_key(key), "a decision names {key}, which is no key");
        }
        let languages = [roost_recorder::Language::English, roost_recorder::Language::Chinese];
        for (entry, language) in
            roost_recorder::REASONS.iter().flat_map(|entry| languages.map(|one| (entry, one)))
        {
            for text in entry.texts(language, &roost_recorder::Names::EXAMPLE) {
                let quoted =
                    text.split('`').skip(1).step_by(2).map(|quoted| quoted.split(' ').next().unwrap());
                let is_like_one = |name: &&str| {
                    name.split_once('.')
                        .is_some_and(|(section, _)| KEYS.iter().any(|key| key.section == section))
                };
                for key in quoted.filter(is_like_one) {
                    assert!(is_key(key), "{} names {key}, which is no key", entry.code());
                }
            }
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
            ("[registrar]\n\nmax_expires = 10", "x:3: `min_expires` (30) is above `max_expires` (10)"),
            (
                "[registrar]\ndefault_expires = 400",
                "x:2: `default_expires` (400) is above `max_expires` (300)",
            ),
            ("[mi]\nlisten = \"localhost\"", "x:2: `mi.listen` must be ADDRESS:PORT"),
            (
                "[mi]\nlisten = \"0.0.0.0:8888\"",
                "x:2: `mi.listen` is reached from elsewhere: set `token` or `token_file`",
            ),
            ("[mi]\ntoken = \"short\"", "x:2: `mi.token` is shorter than 16 characters"),
            ("[[webhook]]\nurl = \"ftp://x\"", "x:2: a [[webhook]] needs `url`, which begins with http://"),
            (
                "[[webhook]]\nurl = \"http://x\"\nevents = [\"E_UL_CONTACT_INSERTED\"]",
                "x:3: `events` holds \"E_UL_CONTACT_INSERTED\", which is no event; did you mean `E_UL_CONTACT_INSERT`?",
            ),
            ("listen = [\"udp:0.0.0.0:5060\", \"udp:127.0.0.1:5060\"]", "which overlap"),
            ("listen = []", "x:1: `listen` is empty"),
            (
                "listen = [\"tls:0.0.0.0:5061\"]",
                "x:1: `listen` names tls:0.0.0.0:5061, but there is no certificate",
            ),
            ("[tls]\ncertificate = \"c.pem\"", "x:2: `tls.certificate` without `private_key`"),
            ("[[tls.domain]]\nserver_domain = \"a\"", "x:1: a [[tls.domain]] needs `certificate`"),
            ("listen = [\"tcp:0.0.0.0:5060\", \"ws:0.0.0.0:5060\"]", "which overlap"),
            ("server_header = \"a\\r\\nb\"", "x:1: `server_header` holds a control character"),
            ("domains = [\"a b\"]", "x:1: `domains`: \"a b\" is not a name"),
            ("[proxy]\ntrusted = [\"pbx\"]", "x:2: `proxy.trusted` holds \"pbx\", which is no network"),
            ("[permissions]\ngroups = [\"a\"]", "x:2: `permissions.groups` holds \"a\", which is no number"),
            (
                "[[alias]]\nnumber = \"1\"",
                "x:1: an [[alias]] needs `number` and `extension`: `extension` is missing",
            ),
            ("[[alias]]\nnumber = \"1\"\nextension = \"1\"", "x:1: [[alias]]: 1 stands for itself"),
            ("advertised_address = \"a:5060\"", "x:1: `advertised_address` must be"),
            (
                "[auth]\nalgorithms = [\"SHA-1\"]",
                "x:2: `auth.algorithms` must be one of \"MD5\", \"SHA-256\"",
            ),
            ("[dns]\nservers = [\"dns.example.com\"]", "x:2: `dns.servers` holds \"dns.example.com\""),
            ("[dispatcher]\nds_ping_from = \"roost\"", "x:2: `dispatcher.ds_ping_from` must be a SIP URI"),
            ("[nathelper]\nsipping_from = \"roost\"", "x:2: `nathelper.sipping_from` must be a SIP URI"),
            (
                "[nathelper]\nsipping_method = \"INVITE\"",
                "x:2: `nathelper.sipping_method` must be a method that",
            ),
            (
                "[nathelper]\nsipping_method = \"O P\"",
                "x:2: `nathelper.sipping_method` must be a method that",
            ),
            ("[mi]\nallow = [\"10.0.0.0/33\"]", "x:2: `mi.allow` holds \"10.0.0.0/33\", which is no network"),
            ("[mi_fifo]\nfifo_mode = \"rw\"", "x:2: `mi_fifo.fifo_mode` must be octal, such as \"0660\""),
            ("[mi_datagram]\nsocket_name = \"udp:x\"", "x:2: `mi_datagram.socket_name` must be a path, or"),
            ("[[hep]]\nuri = \"homer\"", "x:2: a [[hep]] needs `uri`: `homer` is no collector"),
            ("[[hep]]\nuri = \"a:1\"\nfilter = [\"x=1\"]", "x:3: `x=1` is no filter"),
            ("= 1", "x:1: "),
        ] {
            let error = Settings::parse(text, "x").unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
