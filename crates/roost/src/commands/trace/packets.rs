//! What the server sends to a trace.

use std::io::Read as _;
use std::net::TcpStream;

use anyhow::{Context as _, Result};
use roost_hep::{Packet, decode, packet_len};

/// Gives each packet away, until `take` has enough or the stream ends.
///
/// # Errors
/// Those of `take`, and of the connection.
pub(super) fn read_packets(
    mut stream: TcpStream,
    mut take: impl FnMut(&Packet<'_>) -> Result<bool>,
) -> Result<()> {
    let (mut bytes, mut room) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        while let Some(len) = packet_len(&bytes).filter(|len| *len <= bytes.len()) {
            if let Some(packet) = decode(bytes.get(..len).unwrap_or(&[]))
                && !take(&packet)?
            {
                return Ok(());
            }
            bytes.drain(..len.max(1));
        }
        let len = stream.read(&mut room).context("the server's connection")?;
        if len == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(room.get(..len).unwrap_or(&[]));
    }
}

/// One packet, for tests.
#[cfg(test)]
pub(super) fn packet<'a>(source: &str, destination: &str, ms: u64, payload: &'a str) -> Packet<'a> {
    Packet {
        at: std::time::Duration::from_millis(ms),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        is_stream: false,
        capture_id: 1,
        key: "",
        correlation: b"c",
        is_log: false,
        is_sent: Some(source.starts_with("10.0.0.1:")),
        payload: payload.as_bytes(),
    }
}
