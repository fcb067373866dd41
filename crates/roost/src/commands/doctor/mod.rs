//! `roost doctor`: what is wrong, or will be, with the machine, the configuration and the running server; each with one line of advice.

mod machine;
mod smells;

use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use roost_net::Tls;
use serde_json::{Value, json};

use crate::mi_client::{MiError, call};
use crate::output::{say, table, told};
use crate::settings::Settings;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Health {
    Ok,
    /// It works, and will not always.
    Warning,
    /// It does not work.
    Error,
}

impl Health {
    fn as_str(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Warning => "warning",
            Health::Error => "error",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) what: &'static str,
    pub(crate) health: Health,
    pub(crate) text: String,
    /// Empty where nothing is to be done.
    pub(crate) advice: String,
}

impl Finding {
    pub(crate) fn ok(what: &'static str, text: impl Into<String>) -> Finding {
        Finding { what, health: Health::Ok, text: text.into(), advice: String::new() }
    }

    pub(crate) fn warning(what: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { what, health: Health::Warning, text: text.into(), advice: advice.into() }
    }

    pub(crate) fn error(what: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { what, health: Health::Error, text: text.into(), advice: advice.into() }
    }
}

/// Looks at everything. The exit code is 1 where something does not work.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn run(file: Option<&Path>, is_json: bool) -> Result<ExitCode> {
    let mut findings = Vec::new();
    match Settings::load(file) {
        Err(error) => {
            findings.push(Finding::error(
                "configuration",
                told(&error),
                "mend the line; `roost config check` says the same",
            ));
        }
        Ok(settings) => look(&settings, &mut findings),
    }
    let worst = findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Ok);
    if is_json {
        let shown: Vec<_> = findings
            .iter()
            .map(|one| json!({ "check": one.what, "health": one.health.as_str(), "text": one.text, "do": one.advice }))
            .collect();
        say(&serde_json::to_string_pretty(&shown)?)?;
    } else {
        let mut table = table();
        for Finding { what, health, text, advice } in &findings {
            let advice = if advice.is_empty() { String::new() } else { format!("\nDo: {advice}") };
            table.add_row([health.as_str().to_string(), (*what).to_string(), format!("{text}{advice}")]);
        }
        say(&table.trim_fmt())?;
    }
    Ok(if worst == Health::Error { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn look(settings: &Settings, findings: &mut Vec<Finding>) {
    let from = settings.file.as_ref().map_or("the defaults".to_string(), |file| file.display().to_string());
    findings.push(Finding::ok("configuration", format!("{from} is right")));
    let running = call(settings, "version", &json!({}));
    findings.push(match &running {
        Ok(_) => Finding::ok("server", "it runs"),
        Err(MiError::NotRunning(_)) => Finding::ok("server", "it does not run"),
        Err(_) => Finding::warning(
            "server",
            "it runs, but does not answer",
            "look at its log; set the same `token` here",
        ),
    });
    let is_running = !matches!(running, Err(MiError::NotRunning(_)));
    ports(settings, is_running, findings);
    findings.extend(machine::look(settings));
    database(settings, findings);
    hops(settings, findings);
    certificates(settings, findings);
    findings.extend(smells::look(settings));
    if running.is_ok() {
        problems(settings, findings);
    }
}

fn ports(settings: &Settings, is_running: bool, findings: &mut Vec<Finding>) {
    for listener in &settings.core.policy.listeners {
        let probed = match listener.transport.is_reliable() {
            false => roost_net::probe(listener),
            true => roost_net::stream_socket(listener).map(drop),
        };
        findings.push(match probed {
            Ok(()) if is_running => Finding::error(
                "port",
                format!("the running server does not listen on {listener}"),
                "restart it, if `listen` was changed",
            ),
            Ok(()) => Finding::ok("port", format!("{listener} is free")),
            Err(_) if is_running => Finding::ok("port", format!("{listener} is the running server's")),
            Err(error) => Finding::error("port", error.to_string(), "ss -lunpt shows who has it"),
        });
    }
}

fn database(settings: &Settings, findings: &mut Vec<Finding>) {
    let begun = Instant::now();
    let opened = match settings.has_tables() {
        Ok(false) => {
            findings.push(Finding::ok("database", "it has no tables yet: the server makes them"));
            return;
        }
        Ok(true) => settings.open_store(),
        Err(error) => Err(error),
    };
    match opened.and_then(|store| Ok((store.tables()?, store.name()))) {
        Ok((tables, name)) => {
            let rows: Vec<_> = tables.iter().map(|table| format!("{} {}", table.name, table.rows)).collect();
            let took = begun.elapsed();
            let text = format!("{name}: {}; opened and read in {} ms", rows.join(", "), took.as_millis());
            findings.push(match took.as_millis() {
                0..1_000 => Finding::ok("database", text),
                _ => Finding::warning(
                    "database",
                    text,
                    "a slow database makes registrations slow: look at its load and the network",
                ),
            });
        }
        Err(error) => findings.push(Finding::error("database", told(&error), "roost db check")),
    }
}

fn hops(settings: &Settings, findings: &mut Vec<Finding>) {
    for hop in settings.routes.iter().flat_map(|route| &route.hops) {
        let text = hop.trim_start_matches("sips:").trim_start_matches("sip:");
        let host = text.split([';', '?']).next().unwrap_or(text);
        let with_port = match host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()) {
            Some(_) => host.to_string(),
            None => format!("{host}:5060"),
        };
        match with_port.to_socket_addrs().map(Iterator::count) {
            Ok(count) if count > 0 => {
                findings.push(Finding::ok("next hop", format!("{hop} has {count} addresses")))
            }
            _ => findings.push(Finding::warning(
                "next hop",
                format!("{hop} has no address (an SRV name may be right all the same)"),
                "look at the name, and at `dns.servers`",
            )),
        }
    }
}

fn certificates(settings: &Settings, findings: &mut Vec<Finding>) {
    let Some(tls) = settings.tls() else { return };
    match Tls::load(tls) {
        Err(error) => {
            findings.push(Finding::error("certificate", error.to_string(), "roost tls new NAME makes one"))
        }
        Ok(tls) => {
            for one in tls.certificates() {
                let (file, days) = (one.file.display().to_string(), one.days_left());
                let text = format!("{file} for {} is good for {days} days", one.names.join(", "));
                findings.push(match days {
                    ..=0 => Finding::error("certificate", text, "renew it now: phones refuse it"),
                    1..14 => Finding::warning("certificate", text, "renew it"),
                    _ => Finding::ok("certificate", text),
                });
            }
        }
    }
}

/// What the running server says of itself.
fn problems(settings: &Settings, findings: &mut Vec<Finding>) {
    let Ok(said) = call(settings, "why", &json!({})) else { return };
    let problems = said["Problems"].as_array().into_iter().flatten();
    findings.extend(problems.map(|problem| {
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_string();
        Finding::warning("running server", text("Problem"), text("Do"))
    }));
    if said["Problems"] == Value::Array(Vec::new()) {
        findings.push(Finding::ok("running server", "nothing is wrong"));
    }
}
