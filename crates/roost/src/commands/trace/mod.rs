//! `roost trace`: the live messages of the running server, as a ladder. They come by HEPv3, as to any collector.

mod ladder;
mod pcap;

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use roost_hep::{Packet, decode, packet_len};
use serde_json::json;

use crate::commands::trace::ladder::Ladder;
use crate::commands::trace::pcap::PcapFile;
use crate::mi_client::{MiError, call};
use crate::output::say;
use crate::settings::Settings;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// An extension, or an IP address.
    pub(crate) whom: Option<String>,
    pub(crate) call: Option<String>,
    pub(crate) is_full: bool,
    pub(crate) file: Option<PathBuf>,
    pub(crate) count: Option<u64>,
}

impl Wanted {
    /// As `trace_start` takes it.
    fn filter(&self) -> Vec<String> {
        let whom = self.whom.as_ref().map(|whom| match whom.parse::<IpAddr>() {
            Ok(address) => format!("ip={address}"),
            Err(_) => format!("who={whom}"),
        });
        whom.into_iter().chain(self.call.as_ref().map(|call| format!("callid={call}"))).collect()
    }
}

/// Shows messages until so many have come, or the server ends.
///
/// # Errors
/// What the server answered, or that none runs; the file cannot be written.
pub(crate) fn run(settings: &Settings, wanted: &Wanted, is_json: bool) -> Result<()> {
    let mut file = wanted.file.as_deref().map(PcapFile::create).transpose()?;
    let (listener, at) = listener(settings)?;
    let id = format!("roost-trace-{}", std::process::id());
    let uri = format!("hep:{at};transport=tcp;version=3");
    let params = json!({ "id": id, "uri": uri, "filter": wanted.filter() });
    call(settings, "trace_start", &params).map_err(MiError::into_error)?;
    let (mut stream, _) = listener.accept().context("the server did not connect")?;
    eprintln!("roost: waiting for messages; Ctrl-C ends it");
    let (mut bytes, mut room, mut ladder, mut seen) = (Vec::new(), vec![0; 64 << 10], Ladder::default(), 0);
    loop {
        while let Some(len) = packet_len(&bytes).filter(|len| *len <= bytes.len()) {
            if let Some(packet) = decode(bytes.get(..len).unwrap_or(&[])) {
                show(&packet, &mut ladder, wanted, is_json)?;
                if let Some(file) = &mut file {
                    file.add(&packet)?;
                }
                seen += 1;
            }
            bytes.drain(..len.max(1));
            if wanted.count.is_some_and(|count| seen >= count) {
                let _ = call(settings, "trace_stop", &json!({ "id": id }));
                return Ok(());
            }
        }
        let len = stream.read(&mut room).context("the server's connection")?;
        if len == 0 {
            eprintln!("roost: the server has ended the trace");
            return Ok(());
        }
        bytes.extend_from_slice(room.get(..len).unwrap_or(&[]));
    }
}

/// Shows the messages of what failed last, which the server has kept.
///
/// # Errors
/// What the server answered, or that none runs; the file cannot be written.
pub(crate) fn last(settings: &Settings, wanted: &Wanted, is_json: bool) -> Result<()> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let params = json!({ "aor": text(&wanted.whom), "callid": text(&wanted.call) });
    let kept = call(settings, "trace_last", &params).map_err(MiError::into_error)?;
    let mut file = wanted.file.as_deref().map(PcapFile::create).transpose()?;
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
            payload: message["Message"].as_str().unwrap_or_default().as_bytes(),
        };
        show(&packet, &mut ladder, wanted, is_json)?;
        if let Some(file) = &mut file {
            file.add(&packet)?;
        }
    }
    Ok(())
}

fn show(packet: &Packet<'_>, ladder: &mut Ladder, wanted: &Wanted, is_json: bool) -> Result<()> {
    let text = String::from_utf8_lossy(packet.payload);
    if is_json {
        return say(&json!({
            "time": packet.at.as_secs_f64(), "from": packet.source.to_string(), "to": packet.destination.to_string(),
            "call_id": String::from_utf8_lossy(packet.correlation), "message": text
        })
        .to_string());
    }
    for line in ladder.lines(packet, &text) {
        say(&line)?;
    }
    if wanted.is_full {
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
