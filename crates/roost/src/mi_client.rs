//! Calls to the running server's management interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};

use crate::settings::Settings;

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum MiError {
    /// No server listens there, or none is meant to.
    NotRunning(anyhow::Error),
    /// The server refused: OpenSIPS's code and message, and what it said besides.
    Refused { code: i64, message: String, details: Option<String> },
    /// Anything else.
    Other(anyhow::Error),
}

impl MiError {
    /// For commands that are about the running server.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            MiError::NotRunning(error) | MiError::Other(error) => error,
            MiError::Refused { code, message, details: None } => anyhow!("{code} {message}"),
            MiError::Refused { code, message, details: Some(details) } => {
                anyhow!("{code} {message}: {details}")
            }
        }
    }
}

/// Calls a method of the running server.
pub(crate) fn call(settings: &Settings, method: &str, params: &Value) -> Result<Value, MiError> {
    let address = settings.mi_address.ok_or_else(|| {
        MiError::NotRunning(anyhow!("mi.listen is empty: a running server cannot be reached"))
    })?;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let token = settings.token().map_err(MiError::Other)?;
    let text = post(address, token.as_deref(), &body)?;
    let reply: Value = serde_json::from_str(&text)
        .context("the answer of the running server is not JSON (did it stop meanwhile?)")
        .map_err(MiError::Other)?;
    match reply.get("error") {
        Some(error) => Err(MiError::Refused {
            code: error["code"].as_i64().unwrap_or(0),
            message: error["message"].as_str().unwrap_or("unknown error").to_string(),
            details: error["data"].as_str().map(str::to_string),
        }),
        None => Ok(reply["result"].clone()),
    }
}

fn post(address: SocketAddr, token: Option<&str>, body: &str) -> Result<String, MiError> {
    // One that listens everywhere listens here.
    let here = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(here, address.port());
    let url = format!("http://{address}/mi");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .proxy(None)
        .build()
        .into();
    let request = agent.post(&url).header("content-type", "application/json");
    let sent = match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")).send(body),
        None => request.send(body),
    };
    let unreachable = |error: &dyn std::fmt::Display| {
        anyhow!(
            "cannot reach the running server at {url}: {error}; is it running? Start it with `roost serve`, with the \
             same configuration (mi.listen)"
        )
    };
    let mut response = sent.map_err(|error| match &error {
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
            MiError::NotRunning(unreachable(&error))
        }
        ureq::Error::ConnectionFailed => MiError::NotRunning(unreachable(&error)),
        _ => MiError::Other(unreachable(&error)),
    })?;
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_string();
    body.with_context(|| format!("reading the answer of {url}")).map_err(MiError::Other)
}
