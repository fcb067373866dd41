//! Parameters of the core and of modules, and OpenSIPS's defaults where they are others than roost's.

use crate::ast::{Item, Span};
use crate::config::{Config, From, Value};
use crate::lines::note_span;
use crate::params::{self, As, To};
use crate::report::{Fate, Notes};

pub(crate) fn take(items: &[Item], config: &mut Config, notes: &mut Notes, differences: &mut Vec<String>) {
    let mut own = Settings {
        config,
        notes,
        differences,
        modules: Vec::new(),
        http: Http::default(),
        tls: TlsDomains::of(items),
        other_databases: Vec::new(),
        has_sip_pings: false,
    };
    for item in items {
        match item {
            Item::Global { name, value, span } => own.global(name, value, *span),
            Item::Module { name, span } => own.module(name, *span),
            Item::Param { module, name, value, span } => own.param(module, name, value, *span),
            Item::Include { .. } | Item::Route { .. } => {}
        }
    }
    own.mi();
    own.other_database();
    own.defaults();
}

struct Settings<'a> {
    config: &'a mut Config,
    notes: &'a mut Notes,
    differences: &'a mut Vec<String>,
    modules: Vec<String>,
    http: Http,
    tls: TlsDomains,
    /// URLs of modules that keep neither subscribers nor bindings.
    other_databases: Vec<(String, Span)>,
    has_sip_pings: bool,
}

/// The domains of tls_mgm: the first of those that serve is [tls].
#[derive(Debug, Default)]
struct TlsDomains {
    servers: Vec<String>,
    clients: Vec<String>,
}

impl TlsDomains {
    fn of(items: &[Item]) -> TlsDomains {
        let mut all = TlsDomains::default();
        for item in items {
            let Item::Param { module, name, value, .. } = item else { continue };
            let domain = value.split('=').next().unwrap_or_default().trim().to_string();
            match (module.as_str(), name.as_str()) {
                ("tls_mgm", "server_domain") => all.servers.push(domain),
                ("tls_mgm", "client_domain") => all.clients.push(domain),
                _ => {}
            }
        }
        all
    }

    /// What to do about what is said of a domain; `None`: it is [tls].
    fn remedy(&self, domain: &str) -> Option<&'static str> {
        if self.clients.iter().any(|one| one == domain) {
            return Some(
                "[tls] is shown to servers, too: what is said of a client_domain alone is not taken",
            );
        }
        let is_first = self.servers.first().is_none_or(|first| first == domain);
        (!is_first).then_some("write a [[tls.domain]] with `server_domain`, `certificate` and `private_key`")
    }
}

/// Where OpenSIPS's web server listens.
#[derive(Debug, Default)]
struct Http {
    ip: Option<(String, Span)>,
    port: Option<(String, Span)>,
}

impl Settings<'_> {
    fn carried(&mut self, span: Span, key: &str) {
        note_span(span, &Fate::Carried(key.to_string()), self.notes);
    }

    fn global(&mut self, name: &str, value: &str, span: Span) {
        if ["listen", "socket"].contains(&name) {
            return self.listen(value, span);
        }
        if name == "server_signature"
            && ["no", "0", "off"].contains(&value.trim().to_ascii_lowercase().as_str())
        {
            return self.carry("", "server_header", Value::Text(String::new()), span);
        }
        match params::core(name) {
            Ok(To::Key(_, "database", _)) => self.database(value, span),
            Ok(To::Key(_, "domains", _)) => {
                let host = match value.split(':').collect::<Vec<_>>().as_slice() {
                    [proto, host, ..] if ["udp", "tcp", "tls", "ws", "wss"].contains(proto) => host,
                    [host, ..] => host,
                    [] => value,
                };
                let host = host.trim_matches('"').to_string();
                self.config.add("", "domains", host, From::Line(span.at));
                self.carried(span, "domains");
            }
            Ok(to) => self.put(to, value, span),
            Err(fate) => note_span(span, &fate, self.notes),
        }
    }

    fn module(&mut self, name: &str, span: Span) {
        note_span(span, &params::module(name), self.notes);
        let name = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".so");
        self.modules.push(name.to_string());
    }

    /// `modparam("a|b", …)` is for both.
    fn param(&mut self, modules: &str, name: &str, value: &str, span: Span) {
        for module in modules.split('|') {
            self.param_of(module.trim(), name, value, span);
        }
    }

    fn param_of(&mut self, module: &str, name: &str, value: &str, span: Span) {
        let at = From::Line(span.at);
        match (module, name) {
            ("usrloc", "db_mode" | "working_mode_preset") => self.usrloc_mode(name, value, span),
            ("usrloc" | "auth_db", "db_url") => self.database(value, span),
            (_, "db_url") => self.other_databases.push((value.to_string(), span)),
            ("db_mysql" | "db_postgres", "exec_query_threshold") => {
                self.put(To::Key("", "exec_query_threshold", As::Number), value, span);
            }
            ("db_mysql" | "db_postgres", "use_tls") => {
                self.put(To::Key("", "database_tls", As::Switch), value, span);
            }
            ("nathelper", "sipping_bflag") => {
                self.has_sip_pings = true;
                self.known(module, name, value, span);
            }
            ("nathelper", "remove_on_timeout_bflag") => {
                self.carry("nathelper", "remove_on_timeout", Value::Switch(true), span);
            }
            ("tls_mgm" | "proto_tls", "tls_method") => self.tls_method(value, span),
            ("acc", "db_flag" | "db_missed_flag") => {
                self.config.set("acc", "db", Value::Switch(true), at);
                self.carried(span, "acc.db");
            }
            ("acc", "log_flag" | "log_missed_flag") => {
                self.config.set("acc", "file", Value::Text("cdr.csv".to_string()), at);
                self.carried(span, "acc.file");
            }
            ("httpd", "ip") => self.http.ip = Some((value.to_string(), span)),
            ("httpd", "port") => self.http.port = Some((value.to_string(), span)),
            // `[domain]file` of OpenSIPS 2.2 on.
            ("tls_mgm", _) if value.starts_with('[') => {
                let (domain, value) = value.trim_start_matches('[').split_once(']').unwrap_or(("", value));
                match self.tls.remedy(domain) {
                    Some(remedy) => note_span(span, &Fate::Missing(remedy.to_string()), self.notes),
                    None => self.known(module, name, value, span),
                }
            }
            _ => self.known(module, name, value, span),
        }
    }

    /// `db_mode` 0 to 3, and what 3.x says in words.
    fn usrloc_mode(&mut self, name: &str, value: &str, span: Span) {
        let number = value.trim().parse::<i64>();
        let is_memory = if name == "db_mode" { number == Ok(0) } else { value.ends_with("no-db") };
        if name == "db_mode" && number.as_ref().is_ok_and(|number| *number > 1) {
            self.differences.push(format!(
                "usrloc db_mode {value}: every accepted registration is in the database before its 200 OK (`usrloc.db_mode = \
                 \"write-through\"`)"
            ));
        }
        let mode = if is_memory { "memory" } else { "write-through" };
        self.carry("usrloc", "db_mode", Value::Text(mode.to_string()), span);
        if name != "db_mode" && !value.starts_with("single-instance") && value != "sql-only" {
            let remedy = "nodes share one store: set [cluster], see docs/nodes.md";
            note_span(span, &Fate::Missing(remedy.to_string()), self.notes);
        }
    }

    /// `[dom]TLSv1_2-TLSv1_3`: the oldest counts.
    fn tls_method(&mut self, value: &str, span: Span) {
        let (domain, value) = match value.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((domain, value)) => (Some(domain), value),
            None => (None, value),
        };
        if let Some(remedy) = domain.and_then(|domain| self.tls.remedy(domain)) {
            return note_span(span, &Fate::Missing(remedy.to_string()), self.notes);
        }
        let oldest = value.split('-').next().unwrap_or_default().trim();
        match oldest {
            "TLSv1_3" => self.carry("tls", "tls_method", Value::Text("TLSv1_3".to_string()), span),
            _ => self.known("tls_mgm", "tls_method", value, span),
        }
    }

    /// The last line that sets a key counts, as in OpenSIPS.
    fn carry(&mut self, section: &'static str, key: &'static str, value: Value, span: Span) {
        let before = self.config.set_last(section, key, value, From::Line(span.at));
        if let Some(before) = before.filter(|before| *before != span.at) {
            let why = format!("line {} sets it again, and the last one counts", span.at.line);
            self.notes.settle(before, Fate::Unneeded(why));
        }
        let shown = if section.is_empty() { key.to_string() } else { format!("{section}.{key}") };
        self.carried(span, &shown);
    }

    fn known(&mut self, module: &str, name: &str, value: &str, span: Span) {
        match params::param(module, name) {
            Ok(to) => self.put(to, value, span),
            Err(fate) => note_span(span, &fate, self.notes),
        }
    }

    fn put(&mut self, to: To, value: &str, span: Span) {
        let (section, key, kind) = match to {
            To::Key(section, key, kind) => (section, key, kind),
            To::Unneeded(why) => return note_span(span, &Fate::Unneeded(why.to_string()), self.notes),
            To::Missing(remedy) => return note_span(span, &Fate::Missing(remedy.to_string()), self.notes),
        };
        let Some(value) = read(kind, value) else {
            let shown = if section.is_empty() { key.to_string() } else { format!("{section}.{key}") };
            let remedy = format!("`{shown}` does not take {value}: set it by hand");
            return note_span(span, &Fate::Missing(remedy), self.notes);
        };
        if key == "fifo_mode" && value == Value::Text("0666".to_string()) {
            self.differences.push(
                "mi_fifo.fifo_mode = \"0666\" is kept: every user of this machine may command roost; \"0660\" is safer".to_string(),
            );
        }
        let value = match (key, value) {
            // OpenSIPS 2.4 counts from -3 to 4, too.
            ("server_header", Value::Text(text)) if text.is_empty() => Value::Text(text),
            ("server_header", Value::Text(text)) => {
                Value::Text(text.strip_prefix("Server:").map_or(text.clone(), |rest| rest.trim().to_string()))
            }
            ("log_level", Value::Number(level)) => Value::Number(level.clamp(-3, 4)),
            ("use_domain", value)
                if self.config.get("", "use_domain").is_some_and(|before| *before != value) =>
            {
                self.differences.push(
                    "auth_db and usrloc differ in use_domain; roost has one for both, and `true` is written"
                        .to_string(),
                );
                Value::Switch(true)
            }
            (_, value) => value,
        };
        self.carry(section, key, value, span);
    }

    /// `udp:10.0.0.1:5060 as 1.2.3.4:5060 use_workers 4`.
    fn listen(&mut self, value: &str, span: Span) {
        let mut words = value.split_whitespace();
        let entry = words.next().unwrap_or_default().to_ascii_lowercase();
        let mut advertised = None;
        while let Some(word) = words.next() {
            if word.eq_ignore_ascii_case("as") {
                advertised = words.next();
            }
        }
        let (proto, rest) = match entry.split_once(':') {
            Some((proto, rest)) if ["udp", "tcp", "tls", "ws", "wss"].contains(&proto) => (proto, rest),
            Some((proto @ ("sctp" | "bin" | "hep_udp" | "hep_tcp" | "smpp" | "msrp" | "msrps"), _)) => {
                let fate = Fate::Missing(format!("nothing is listened on for {proto}"));
                return note_span(span, &fate, self.notes);
            }
            _ => ("udp", entry.as_str()),
        };
        let (host, port) = host_and_port(rest);
        let port = port.unwrap_or(match proto {
            "tls" => "5061",
            "ws" => "80",
            "wss" => "443",
            _ => "5060",
        });
        let host = match host {
            "*" => "0.0.0.0",
            "localhost" => "127.0.0.1",
            host => host,
        };
        if host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err() {
            let fate = Fate::Missing(format!("`listen` takes addresses: write that of {host}"));
            return note_span(span, &fate, self.notes);
        }
        let mut listener = format!("{proto}:{host}:{port}");
        if let Some(told) = advertised {
            let (ip, told_port) = host_and_port(told);
            if ip.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err() {
                let fate = Fate::Missing(format!("`listen … as` takes addresses: write that of {ip}"));
                return note_span(span, &fate, self.notes);
            }
            listener += &format!(" as {ip}:{}", told_port.unwrap_or(port));
        }
        if let Some(other) = self.overlapping(proto, host, port) {
            let fate = Fate::Unneeded(format!("{other} hears this address, too"));
            return note_span(span, &fate, self.notes);
        }
        self.config.add("", "listen", listener, From::Line(span.at));
        self.carried(span, "listen");
    }

    /// The listener of all addresses that hears one, too.
    fn overlapping(&self, proto: &str, host: &str, port: &str) -> Option<String> {
        let Some(Value::List(all)) = self.config.get("", "listen") else { return None };
        let is_v6 = host.starts_with('[');
        let any = if is_v6 { "[::]" } else { "0.0.0.0" };
        let wide = format!("{proto}:{any}:{port}");
        all.iter().find(|entry| **entry == wide && host != any).cloned()
    }

    fn database(&mut self, value: &str, span: Span) {
        let value = value.trim();
        let url = match value.split_once("://") {
            Some(("mysql" | "postgres" | "postgresql", _)) => Some(value.to_string()),
            Some(("sqlite", path)) => Some(format!("sqlite:{path}")),
            _ => None,
        };
        let Some(url) = url else {
            let remedy =
                "`database` takes MariaDB, MySQL, PostgreSQL and SQLite: `roost db copy` brings rows over";
            return note_span(span, &Fate::Missing(remedy.to_string()), self.notes);
        };
        match self.config.get("", "database") {
            Some(Value::Text(before)) if *before != url => {
                let remedy = "`database` is one for all, and another line names another one: bring its rows over by `roost db copy`";
                note_span(span, &Fate::Missing(remedy.to_string()), self.notes);
            }
            _ => {
                self.config.set("", "database", Value::Text(url), From::Line(span.at));
                self.carried(span, "database");
            }
        }
    }

    /// That of other modules, where those of subscribers and bindings say nothing.
    fn other_database(&mut self) {
        for (url, span) in std::mem::take(&mut self.other_databases) {
            self.database(&url, span);
        }
    }

    /// The web server's address, which is reached with a token only unless it is a loopback one.
    fn mi(&mut self) {
        let Http { ip, port } = std::mem::take(&mut self.http);
        let Some(at) = ip.as_ref().or(port.as_ref()).map(|(_, span)| span.at) else { return };
        let told = ip.as_ref().map_or("127.0.0.1", |(ip, _)| ip.as_str());
        let port_text = port.as_ref().map_or("8888", |(port, _)| port.as_str());
        let is_loopback = told.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let host = if is_loopback { told } else { "127.0.0.1" };
        if !is_loopback {
            self.differences.push(format!(
                "the management interface listened on {told}; roost serves other machines only with `mi.token`, so \
                 `mi.listen` is 127.0.0.1"
            ));
        }
        let listen =
            if host.contains(':') { format!("[{host}]:{port_text}") } else { format!("{host}:{port_text}") };
        self.config.set("mi", "listen", Value::Text(listen), From::Line(at));
        for (_, span) in ip.iter().chain(&port) {
            self.carried(*span, "mi.listen");
        }
    }

    /// What a script counts on that does not say it.
    fn defaults(&mut self) {
        let has = |name: &str| self.modules.iter().any(|module| module == name);
        let number = Value::Number;
        let mut all = Vec::new();
        if has("registrar") {
            all.extend([
                ("registrar", "min_expires", number(60)),
                ("registrar", "max_expires", number(0)),
                ("registrar", "default_expires", number(3_600)),
                ("registrar", "max_contacts", number(0)),
            ]);
        }
        if has("usrloc") {
            all.push(("usrloc", "db_mode", Value::Text("memory".to_string())));
        }
        if has("tm") {
            all.extend([
                ("tm", "fr_timeout", number(30)),
                ("tm", "fr_inv_timeout", number(120)),
                ("tm", "restart_fr_on_each_reply", Value::Switch(true)),
            ]);
        }
        if has("rr") {
            all.push(("rr", "append_fromtag", Value::Switch(true)));
        }
        if has("auth_db") {
            all.push(("auth_db", "calculate_ha1", Value::Switch(false)));
        }
        if has("nathelper") && !self.has_sip_pings {
            // Pings are four bytes unless a flag says otherwise.
            all.push(("nathelper", "sipping_method", Value::Text(String::new())));
        }
        if !self.tls.servers.is_empty() || self.config.get("tls", "certificate").is_some() {
            all.push(("tls", "require_cert", Value::Switch(true)));
        }
        if has("dispatcher") {
            all.push(("dispatcher", "ds_ping_interval", number(0)));
        }
        for (section, key, value) in all {
            self.config.set(section, key, value, From::Default);
        }
        self.limits();
    }

    /// roost refuses what contradicts itself; OpenSIPS takes the smaller one.
    fn limits(&mut self) {
        let number = |config: &Config, key| match config.get("registrar", key) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        };
        let (least, most) = (number(self.config, "min_expires"), number(self.config, "max_expires"));
        let usual = number(self.config, "default_expires");
        if most > 0 && least > most {
            self.config.replace("registrar", "min_expires", Value::Number(most), From::Default);
        }
        let wanted = if most > 0 { usual.clamp(least.min(most), most) } else { usual.max(least) };
        if usual > 0 && wanted != usual {
            self.differences.push(format!(
                "default_expires {usual} lies outside of min_expires and max_expires; {wanted} is written"
            ));
            self.config.replace("registrar", "default_expires", Value::Number(wanted), From::Default);
        }
    }
}

/// Of `[::1]:5060` too.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && (host.starts_with('[') || !host.contains(':')) => {
            (host, Some(port))
        }
        _ => (text, None),
    }
}

fn read(kind: As, text: &str) -> Option<Value> {
    let text = text.trim();
    match kind {
        As::Number => text.parse().ok().map(Value::Number),
        As::Switch => match text.to_ascii_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => Some(Value::Switch(true)),
            "0" | "no" | "false" | "off" => Some(Value::Switch(false)),
            _ => None,
        },
        As::Text => Some(Value::Text(text.to_string())),
        As::OneOf => Some(Value::List(vec![text.to_string()])),
        As::Mode => {
            let digits = text.trim_start_matches('0');
            let is_octal = !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
            is_octal.then(|| Value::Text(format!("0{digits}")))
        }
    }
}
