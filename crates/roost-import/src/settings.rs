//! Parameters of the core and of modules, and OpenSIPS's defaults where they are others than roost's.

use crate::ast::{Item, Span};
use crate::config::{Config, From, Value};
use crate::lines::note_span;
use crate::params::{self, As, To};
use crate::report::{Fate, Notes};

pub(crate) fn take(items: &[Item], config: &mut Config, notes: &mut Notes, differences: &mut Vec<String>) {
    let mut own = Settings { config, notes, differences, modules: Vec::new(), http: Http::default() };
    for item in items {
        match item {
            Item::Global { name, value, span } => own.global(name, value, *span),
            Item::Module { name, span } => own.module(name, *span),
            Item::Param { module, name, value, span } => own.param(module, name, value, *span),
            Item::Include { .. } | Item::Route { .. } => {}
        }
    }
    own.mi();
    own.defaults();
}

struct Settings<'a> {
    config: &'a mut Config,
    notes: &'a mut Notes,
    differences: &'a mut Vec<String>,
    modules: Vec<String>,
    http: Http,
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
        match params::core(name) {
            Ok(To::Key(_, "database", _)) => self.database(value, span),
            Ok(To::Key(_, "domains", _)) => {
                let host = value.split(':').nth(1).unwrap_or(value).trim_matches('"').to_string();
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
        let (at, number) = (From::Line(span.at), value.trim().parse::<i64>());
        match (module, name) {
            ("usrloc", "db_mode") => {
                let mode = if number == Ok(0) { "memory" } else { "write-through" };
                if number.as_ref().is_ok_and(|number| *number > 1) {
                    self.differences.push(format!(
                        "usrloc db_mode {value}: every accepted registration is in the database before its 200 OK (`usrloc.db_mode = \
                         \"write-through\"`)"
                    ));
                }
                self.config.set("usrloc", "db_mode", Value::Text(mode.to_string()), at);
                self.carried(span, "usrloc.db_mode");
            }
            ("usrloc", "working_mode_preset") => {
                let mode = if value.ends_with("no-db") { "memory" } else { "write-through" };
                self.config.set("usrloc", "db_mode", Value::Text(mode.to_string()), at);
                match value.starts_with("single-instance") || value == "sql-only" {
                    true => self.carried(span, "usrloc.db_mode"),
                    false => {
                        let remedy = "nodes share one store: set [cluster], see docs/nodes.md";
                        note_span(span, &Fate::Missing(remedy.to_string()), self.notes);
                    }
                }
            }
            ("usrloc" | "auth_db", "db_url") => self.database(value, span),
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
                let value = value.split_once(']').map_or(value, |(_, file)| file);
                self.known(module, name, value, span);
            }
            _ => self.known(module, name, value, span),
        }
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
        let shown = if section.is_empty() { key.to_string() } else { format!("{section}.{key}") };
        let Some(value) = read(kind, value) else {
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
        match key {
            "use_domain" => self.config.replace(section, key, value, From::Line(span.at)),
            _ => self.config.set(section, key, value, From::Line(span.at)),
        }
        self.carried(span, &shown);
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
        let port = port.unwrap_or(if matches!(proto, "tls" | "wss") { "5061" } else { "5060" });
        let host = if host == "*" { "0.0.0.0" } else { host };
        if host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_err() {
            let fate = Fate::Missing(format!("`listen` takes addresses: write that of {host}"));
            return note_span(span, &fate, self.notes);
        }
        let mut listener = format!("{proto}:{host}:{port}");
        if let Some(told) = advertised {
            let (ip, told_port) = host_and_port(told);
            listener += &format!(" as {ip}:{}", told_port.unwrap_or(port));
        }
        self.config.add("", "listen", listener, From::Line(span.at));
        self.carried(span, "listen");
    }

    fn database(&mut self, value: &str, span: Span) {
        let value = value.trim();
        let url = match value.split_once("://") {
            Some(("mysql" | "postgres" | "postgresql", _)) => Some(value.to_string()),
            Some(("sqlite", path)) => Some(format!("sqlite:{path}")),
            _ => None,
        };
        match url {
            Some(url) => {
                self.config.set("", "database", Value::Text(url), From::Line(span.at));
                self.carried(span, "database");
            }
            None => {
                let remedy = "`database` takes MariaDB, MySQL, PostgreSQL and SQLite: `roost db copy` brings rows over";
                note_span(span, &Fate::Missing(remedy.to_string()), self.notes);
            }
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
