//! What no single key can know: whether the values of several make sense together.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use ipnet::IpNet;
use roost_core::{Aliases, Trusted, number_apart};
use roost_net::{overlap, parse_listen};
use toml::Spanned;
use toml::de::DeTable;

use crate::settings::alias;
use crate::settings::key::is_host;
use crate::settings::source::Source;
use crate::settings::values::Settings;

/// A token that is not guessed, in characters.
pub(crate) const MIN_TOKEN: usize = 16;

/// A file, to say which of its keys an error is about.
pub(super) struct File<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
}

impl File<'_> {
    /// An error about a key; `section` is empty at the top level.
    pub(super) fn error(&self, section: &str, name: &str, message: impl Into<String>) -> anyhow::Error {
        self.contradiction(section, &[name], message)
    }

    /// An error about keys that contradict each other: at the line of the first that the file has.
    fn contradiction(&self, section: &str, names: &[&str], message: impl Into<String>) -> anyhow::Error {
        let span = names.iter().find_map(|name| self.span(section, name));
        self.source.error(span.unwrap_or(0..0), message.into())
    }

    /// The values of a key that lists IP addresses.
    fn addresses(&self, section: &str, name: &str, texts: &[String]) -> Result<Vec<IpAddr>> {
        let address = |text: &String| {
            let address = text.parse::<IpAddr>().map_err(|_| {
                let message = format!("`{section}.{name}` holds \"{text}\", which is not an IP address");
                self.error(section, name, message)
            })?;
            Ok(address.to_canonical())
        };
        texts.iter().map(address).collect()
    }

    /// The values of a key that lists networks.
    pub(super) fn networks(&self, section: &str, name: &str, texts: &[String]) -> Result<Vec<IpNet>> {
        let network = |text: &String| {
            let network =
                text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical())));
            network.map_err(|_| {
                let message = format!(
                    "`{section}.{name}` holds \"{text}\", which is no network: use addresses, or networks such as 10.0.0.0/8"
                );
                self.error(section, name, message)
            })
        };
        texts.iter().map(network).collect()
    }

    fn span(&self, section: &str, name: &str) -> Option<Range<usize>> {
        let value = match section {
            "" => self.table.get(name),
            _ => self.table.get(section).and_then(|section| section.get_ref().as_table()?.get(name)),
        };
        value.map(Spanned::span)
    }
}

impl Settings {
    /// Reads the values that are addresses, and checks what no single key can know.
    ///
    /// # Errors
    /// With the line of the key, what is wrong and what would be right.
    pub(crate) fn check_together(&mut self, source: &Source<'_>, table: &DeTable<'_>) -> Result<()> {
        let file = File { source, table };
        self.read_listeners(&file)?;
        self.read_cluster(&file)?;
        self.check_certificates(&file)?;
        self.read_trusted(&file)?;
        self.read_aliases(&file)?;
        self.read_balancers(&file)?;
        self.read_domains(&file)?;
        self.read_name_servers(&file)?;
        self.read_mi_address(&file)?;
        self.check_console(&file)?;
        self.check_interfaces(&file)?;
        self.check_database(&file)?;
        self.check_texts(&file)?;
        let registrar = &self.core.policy.registrar;
        let (min, max, usual) =
            (registrar.min_expires_s, registrar.max_expires_s, registrar.default_expires_s);
        let says = |name: &str| self.given.contains_key(&format!("registrar.{name}"));
        let (name, other, one, limit) = match () {
            () if max != 0 && min > max => ("min_expires", "max_expires", min, max),
            () if max != 0 && usual > max && says("default_expires") => {
                ("default_expires", "max_expires", usual, max)
            }
            () => return Ok(()),
        };
        let message = format!("`{name}` ({one}) is above `{other}` ({limit})");
        Err(file.contradiction("registrar", &[name, other], message))
    }

    fn read_listeners(&mut self, file: &File<'_>) -> Result<()> {
        if self.listen.is_empty() {
            return Err(file.error("", "listen", "`listen` is empty: name at least one address"));
        }
        let listeners = &mut self.core.policy.listeners;
        for entry in &self.listen {
            let listener =
                parse_listen(entry).map_err(|error| file.error("", "listen", error.to_string()))?;
            if let Some(other) = listeners.iter().find(|other| overlap(other, &listener)) {
                let message = format!("`listen` names {other} and {listener}, which overlap");
                return Err(file.error("", "listen", message));
            }
            listeners.push(listener);
        }
        number_apart(listeners, &[]);
        Ok(())
    }

    fn check_certificates(&self, file: &File<'_>) -> Result<()> {
        let (given, missing) = match (self.tls_certificate.is_empty(), self.tls_private_key.is_empty()) {
            (false, true) => ("certificate", "private_key"),
            (true, false) => ("private_key", "certificate"),
            _ => ("", ""),
        };
        if !given.is_empty() {
            return Err(file.error("tls", given, format!("`tls.{given}` without `{missing}`")));
        }
        let has_any = !self.tls_certificate.is_empty() || !self.tls_domains.is_empty();
        let secure = self.core.policy.listeners.iter().find(|listener| listener.transport.is_secure());
        if let Some(listener) = secure.filter(|_| !has_any) {
            let message = format!(
                "`listen` names {listener}, but there is no certificate: `roost tls new NAME` makes one, or set \
                 `certificate` and `private_key` in [tls]"
            );
            return Err(file.error("", "listen", message));
        }
        Ok(())
    }

    fn read_trusted(&mut self, file: &File<'_>) -> Result<()> {
        self.trusted_networks = file.networks("proxy", "trusted", &self.trusted)?;
        let trusted = self.trusted_networks.iter().copied();
        self.core.policy.proxy.trusted = Trusted::new(trusted);
        for text in &self.address_groups {
            self.groups.push(text.parse().map_err(|_| {
                let message = format!("`permissions.groups` holds \"{text}\", which is no number");
                file.error("permissions", "groups", message)
            })?);
        }
        Ok(())
    }

    fn read_aliases(&mut self, file: &File<'_>) -> Result<()> {
        let identity = &self.core.identity;
        let rows: Vec<_> = self.aliases.iter().map(|alias| alias.row(identity.use_domain)).collect();
        let (aliases, left_out) = Aliases::new(&rows, identity.use_domain, identity.case_sensitive);
        if let Some(why) = left_out.first() {
            return Err(file.error("", alias::TABLE, format!("[[{}]]: {why}", alias::TABLE)));
        }
        self.core.policy.aliases = Arc::new(aliases);
        Ok(())
    }

    fn read_balancers(&mut self, file: &File<'_>) -> Result<()> {
        self.balancers = file.addresses("nathelper", "proxy_protocol_from", &self.proxy_protocol_from)?;
        Ok(())
    }

    fn read_domains(&mut self, file: &File<'_>) -> Result<()> {
        for text in &self.domains {
            let domain =
                text.parse().map_err(|error| file.error("", "domains", format!("`domains`: {error}")))?;
            self.core.policy.domains.push(domain);
        }
        Ok(())
    }

    fn read_name_servers(&mut self, file: &File<'_>) -> Result<()> {
        for text in &self.dns {
            let address = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)));
            self.dns_servers.push(address.map_err(|_| {
                let message = format!(
                    "`dns.servers` holds \"{text}\", which is not an IP address, with or without a port"
                );
                file.error("dns", "servers", message)
            })?);
        }
        Ok(())
    }

    fn read_mi_address(&mut self, file: &File<'_>) -> Result<()> {
        if self.mi_listen.is_empty() {
            return Ok(());
        }
        let address = self.mi_listen.parse::<SocketAddr>().map_err(|_| {
            let message = format!(
                "`mi.listen` must be ADDRESS:PORT such as \"127.0.0.1:8888\", not \"{}\"",
                self.mi_listen
            );
            file.error("mi", "listen", message)
        })?;
        let has_token = !self.mi_token.is_empty() || !self.mi_token_file.is_empty();
        if !address.ip().is_loopback() && !has_token {
            let message = "`mi.listen` is reached from elsewhere: set `token` or `token_file` in [mi], or listen on a \
                           loopback address";
            return Err(file.error("mi", "listen", message));
        }
        if !self.mi_token.is_empty() && !self.mi_token_file.is_empty() {
            return Err(file.error(
                "mi",
                "token_file",
                "`token` and `token_file` are both set: one is enough",
            ));
        }
        if !self.mi_token.is_empty() && self.mi_token.len() < MIN_TOKEN {
            let message = format!("`mi.token` is shorter than {MIN_TOKEN} characters");
            return Err(file.error("mi", "token", message));
        }
        self.mi_address = Some(address);
        Ok(())
    }

    fn check_database(&self, file: &File<'_>) -> Result<()> {
        let is_file = self.database.starts_with("sqlite:");
        let is_alone = is_file || !self.core.identity.write_through;
        if self.core.policy.registrar.exclusive_in_database && is_alone {
            let message = "`exclusive_check = \"database\"` is for several nodes that share a database server, with \
                 write-through: an SQLite file belongs to one roost, whose memory knows all";
            return Err(file.error("registrar", "exclusive_check", message));
        }
        if self.access.tls && is_file {
            let message = "`database_tls` is for a database server, not for an SQLite file";
            return Err(file.error("", "database_tls", message));
        }
        Ok(())
    }

    /// What goes into messages as it stands.
    fn check_texts(&self, file: &File<'_>) -> Result<()> {
        let policy = &self.core.policy;
        for (section, name, text) in [
            ("dispatcher", "ds_ping_from", &policy.dispatcher.ping_from),
            ("nathelper", "sipping_from", &policy.nathelper.sipping_from),
        ] {
            if !is_sip_uri(text) {
                let message =
                    format!("`{section}.{name}` must be a SIP URI such as \"sip:roost@example.com\"");
                return Err(file.error(section, name, message));
            }
        }
        if !is_ping_method(&policy.nathelper.sipping_method) {
            let message = "`nathelper.sipping_method` must be a method that asks for an answer and begins nothing, such as \
                 \"OPTIONS\" or \"NOTIFY\", or empty";
            return Err(file.error("nathelper", "sipping_method", message));
        }
        if !is_host(&policy.advertised_address) {
            let message = "`advertised_address` must be a host name or address, without a port";
            return Err(file.error("", "advertised_address", message));
        }
        for (section, name, text) in
            [("", "server_header", &policy.server_header), ("auth", "realm", &policy.auth.realm)]
        {
            if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'"' || byte == b'\\') {
                let message = format!("`{name}` holds a control character, a quote or a backslash");
                return Err(file.error(section, name, message));
            }
        }
        Ok(())
    }
}

/// Capital letters, and no method that begins or ends anything; empty is right, too.
fn is_ping_method(method: &str) -> bool {
    let is_harmless = !["INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "SUBSCRIBE"].contains(&method);
    is_harmless && method.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_sip_uri(text: &str) -> bool {
    roost_sip::Uri::parse(text.as_bytes()).is_ok_and(|uri| !uri.host.is_empty())
}
