//! The ways to the management interface beside HTTP, and who may use them.

use anyhow::Result;
use roost_admin::{DatagramAddress, Fifo};

use crate::settings::together::File;
use crate::settings::values::Settings;

impl Settings {
    /// Reads networks, and checks that the others can be read.
    ///
    /// # Errors
    /// With the line of the key, what is wrong and what would be right.
    pub(super) fn check_interfaces(&mut self, file: &File<'_>) -> Result<()> {
        self.mi_networks = file.networks("mi", "allow", &self.mi_allow)?;
        for (section, key, mode) in [
            ("mi_fifo", "fifo_mode", &self.fifo_mode),
            ("mi_datagram", "unix_socket_mode", &self.datagram_mode),
        ] {
            if octal(mode).is_none() {
                let message = format!("`{section}.{key}` must be octal, such as \"0660\", not \"{mode}\"");
                return Err(file.error(section, key, message));
            }
        }
        if !self.datagram_name.is_empty() && self.mi_datagram().is_none() {
            let message = format!(
                "`mi_datagram.socket_name` must be a path, or udp:ADDRESS:PORT, not \"{}\"",
                self.datagram_name
            );
            return Err(file.error("mi_datagram", "socket_name", message));
        }
        Ok(())
    }

    /// The FIFO, if there shall be one.
    pub(crate) fn mi_fifo(&self) -> Option<Fifo> {
        (!self.fifo_name.is_empty()).then(|| Fifo {
            path: self.folder().join(&self.fifo_name),
            mode: octal(&self.fifo_mode).unwrap_or(0o660),
            reply_folder: self.folder().join(&self.fifo_reply_dir),
        })
    }

    /// Where datagrams come, if they shall.
    pub(crate) fn mi_datagram(&self) -> Option<DatagramAddress> {
        match self.datagram_name.strip_prefix("udp:") {
            Some(address) => address.parse().ok().map(DatagramAddress::Udp),
            None if self.datagram_name.is_empty() => None,
            None => {
                let path = self.folder().join(&self.datagram_name);
                Some(DatagramAddress::Unix(path, octal(&self.datagram_mode).unwrap_or(0o660)))
            }
        }
    }
}

/// Permissions, as OpenSIPS writes them.
fn octal(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches("0o");
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777 && !digits.is_empty())
}
