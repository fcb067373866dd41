//! `roost trace`: the live messages of the running server, as a ladder. They come by HEPv3, as to any collector.

mod ladder;
mod packets;
mod pcap;
mod view;

use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use roost_hep::Packet;
use serde_json::json;

use crate::cli::TraceArgs;
use crate::commands::trace::ladder::Ladder;
use crate::commands::trace::packets::read_packets;
use crate::commands::trace::pcap::PcapFile;
use crate::mi_client::{MiError, call};
use crate::output::say;
use crate::settings::Settings;

/// As `trace_start` takes it.
fn filter(wanted: &TraceArgs) -> Vec<String> {
    let whom = wanted.whom.as_ref().map(|whom| match whom.parse::<IpAddr>() {
        Ok(address) => format!("ip={address}"),
        Err(_) => format!("who={whom}"),
    });
    whom.into_iter().chain(wanted.call.as_ref().map(|call| format!("callid={call}"))).collect()
}

/// Shows messages until so many have come, or the server ends; or those of what failed last.
///
/// # Errors
/// What the server answered, or that none runs; the file cannot be written.
pub(crate) fn run(settings: &Settings, wanted: &TraceArgs, is_json: bool) -> Result<()> {
    if wanted.last {
        return last(settings, wanted, is_json);
    }
    let mut file = wanted.write.as_deref().map(PcapFile::create).transpose()?;
    let (listener, at) = listener(settings)?;
    let id = format!("roost-trace-{}", std::process::id());
    let uri = format!("hep:{at};transport=tcp;version=3");
    let params = json!({
        "id": id, "uri": uri, "filter": filter(wanted), "decisions": 1, "secrets": i32::from(wanted.show_secrets)
    });
    call(settings, "trace_start", &params).map_err(MiError::into_error)?;
    let (stream, _) = listener.accept().context("the server did not connect")?;
    let is_screen = !is_json && !wanted.plain && !wanted.full && wanted.count.is_none();
    if is_screen && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        return view::run(stream, |packet| file.as_mut().map_or(Ok(()), |file| file.add(packet)));
    }
    eprintln!("roost: waiting for messages; Ctrl-C ends it");
    let (mut ladder, mut seen) = (Ladder::default(), 0);
    read_packets(stream, |packet| {
        show(packet, &mut ladder, wanted, is_json)?;
        if packet.is_log {
            return Ok(true);
        }
        if let Some(file) = &mut file {
            file.add(packet)?;
        }
        seen += 1;
        Ok(wanted.count.is_none_or(|count| seen < count))
    })?;
    for line in ladder.folded() {
        say(&line)?;
    }
    match wanted.count {
        Some(count) if seen >= count => {
            call(settings, "trace_stop", &json!({ "id": id })).map(drop).or(Ok(()))
        }
        _ => {
            eprintln!("roost: the server has ended the trace");
            Ok(())
        }
    }
}

/// Shows the messages of what failed last, which the server has kept.
fn last(settings: &Settings, wanted: &TraceArgs, is_json: bool) -> Result<()> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let params = json!({ "aor": text(&wanted.whom), "callid": text(&wanted.call) });
    let kept = call(settings, "trace_last", &params).map_err(MiError::into_error)?;
    let mut file = wanted.write.as_deref().map(PcapFile::create).transpose()?;
    let mut ladder = Ladder::default();
    let call_id = kept["Call-ID"].as_str().unwrap_or_default();
    for message in kept["Messages"].as_array().into_iter().flatten() {
        let address = |name: &str| message[name].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        let (source, destination) =
            address("From").zip(address("To")).context("the server's messages have no addresses")?;
        let packet = Packet {
            at: Duration::from_millis(message["At"].as_u64().unwrap_or_default()),
            source,
            destination,
            is_stream: message["Transport"] != "udp",
            capture_id: 0,
            key: "",
            correlation: call_id.as_bytes(),
            is_log: false,
            is_sent: message["Sent"].as_bool(),
            payload: message["Message"].as_str().unwrap_or_default().as_bytes(),
        };
        show(&packet, &mut ladder, wanted, is_json)?;
        if let Some(file) = &mut file {
            file.add(&packet)?;
        }
    }
    for line in ladder.folded() {
        say(&line)?;
    }
    Ok(())
}

fn show(packet: &Packet<'_>, ladder: &mut Ladder, wanted: &TraceArgs, is_json: bool) -> Result<()> {
    let text = String::from_utf8_lossy(packet.payload);
    if is_json {
        return say(&json!({
            "time": packet.at.as_secs_f64(), "from": packet.source.to_string(), "to": packet.destination.to_string(),
            "call_id": String::from_utf8_lossy(packet.correlation), if packet.is_log { "decision" } else { "message" }: text
        })
        .to_string());
    }
    for line in ladder.lines(packet, &text) {
        say(&line)?;
    }
    if wanted.full && !packet.is_log {
        for line in text.lines() {
            say(&format!("    {line}"))?;
        }
    }
    Ok(())
}

/// Where the server reaches this program: at the address that leads to it.
fn listener(settings: &Settings) -> Result<(TcpListener, SocketAddr)> {
    let own = match settings.mi_address {
        Some(address) if !address.ip().is_unspecified() => {
            TcpStream::connect(address).and_then(|stream| stream.local_addr()).map(|local| local.ip()).ok()
        }
        _ => None,
    };
    let listener = TcpListener::bind((own.unwrap_or(IpAddr::from([127, 0, 0, 1])), 0))
        .context("no port to listen on")?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}
