//! Messages as a file that Wireshark opens: each in a UDP datagram of its own, whatever it came over.

use std::borrow::Cow;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
use roost_hep::Packet;

/// The largest payload of a UDP datagram.
const MAX_PAYLOAD: usize = 65_507;
const TTL: u8 = 64;

/// A file that is being written.
pub(super) struct PcapFile(PcapNgWriter<File>);

impl PcapFile {
    /// Makes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn create(path: &Path) -> Result<PcapFile> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut writer = PcapNgWriter::new(file).context("writing the head of the file")?;
        let interface =
            InterfaceDescriptionBlock { linktype: DataLink::RAW, snaplen: 0, options: Vec::new() };
        writer.write_pcapng_block(interface).context("writing the head of the file")?;
        Ok(PcapFile(writer))
    }

    /// Adds a message.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, packet: &Packet<'_>) -> Result<()> {
        let payload = packet.payload.get(..MAX_PAYLOAD).unwrap_or(packet.payload);
        let (source, destination) = (packet.source, packet.destination);
        let mut data = Vec::with_capacity(payload.len() + 48);
        let written = match (source, destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), TTL)
                    .udp(source.port(), destination.port())
                    .write(&mut data, payload)
            }
            (source, destination) => {
                let v6 = |address: SocketAddr| match address.ip() {
                    std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    std::net::IpAddr::V6(ip) => ip.octets(),
                };
                PacketBuilder::ipv6(v6(source), v6(destination), TTL)
                    .udp(source.port(), destination.port())
                    .write(&mut data, payload)
            }
        };
        written.context("a message that fits no packet")?;
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: packet.at,
            original_len: data.len() as u32,
            data: Cow::Owned(data),
            options: Vec::new(),
        };
        self.0.write_pcapng_block(block).context("writing the file")?;
        Ok(())
    }
}
