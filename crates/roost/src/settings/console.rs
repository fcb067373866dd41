//! What the settings say of the console.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use crate::settings::Settings;
use crate::settings::together::File;

impl Settings {
    pub(super) fn check_console(&self, file: &File<'_>) -> Result<()> {
        if self.console_listen.is_empty() {
            return Ok(());
        }
        let Some(address) = self.console_address() else {
            let message = format!(
                "`console.listen` must be ADDRESS:PORT such as \"127.0.0.1:8080\", not \"{}\"",
                self.console_listen
            );
            return Err(file.error("console", "listen", message));
        };
        if !address.ip().is_loopback() && self.tls_certificate.is_empty() {
            let message = "`console.listen` is reached from elsewhere: set `certificate` and `private_key` in [tls] (`roost tls new \
                           NAME` makes them), or listen on a loopback address";
            return Err(file.error("console", "listen", message));
        }
        if self.mi_address == Some(address) {
            return Err(file.error(
                "console",
                "listen",
                "`console.listen` and `mi.listen` are the same address",
            ));
        }
        Ok(())
    }

    /// With a console at the usual address, where it is wanted and none is named.
    pub(crate) fn with_console(self, is_wanted: bool) -> Settings {
        match is_wanted && self.console_listen.is_empty() {
            true => Settings { console_listen: "127.0.0.1:8080".to_string(), ..self },
            false => self,
        }
    }

    /// Where the console listens, if it does.
    pub(crate) fn console_address(&self) -> Option<SocketAddr> {
        self.console_listen.parse().ok()
    }

    pub(crate) fn console_people_file(&self) -> PathBuf {
        match self.console_people.as_str() {
            "" => self.beside("people"),
            file => self.folder().join(file),
        }
    }

    /// As the server takes it.
    pub(crate) fn console(&self, hosts: Vec<String>) -> Option<roost_console::Settings> {
        Some(roost_console::Settings {
            address: self.console_address()?,
            hosts,
            certificates: None,
            people: self.console_people_file(),
            audit: match self.console_audit.as_str() {
                "" => self.beside("audit"),
                file => self.folder().join(file),
            },
        })
    }
}
