//! Configurations that work and should not be.

use std::net::IpAddr;

use roost_core::Authorize;

use crate::commands::doctor::Finding;
use crate::settings::Settings;

/// How long routers usually keep a way open for UDP, in seconds.
const NAT_KEEPS_S: u32 = 300;

pub(super) fn look(settings: &Settings) -> Vec<Finding> {
    let policy = &settings.core.policy;
    let is_local = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    // Behind a wildcard there may be any address.
    let is_public = policy.listeners.iter().any(|listener| !is_local(listener.address.ip()));
    let mut found = Vec::new();
    if policy.proxy.authorize == Authorize::Off {
        let text = "`proxy.authorize` is \"off\": whoever reaches the server may call";
        found.push(match is_public {
            true => Finding::error(
                "open relay",
                format!("{text}, from anywhere"),
                "set it to \"registered\", or listen on an inner address",
            ),
            false => Finding::warning("open relay", text, "set it to \"registered\""),
        });
    }
    if policy.auth_db.calculate_ha1 {
        let text = "`auth_db.calculate_ha1` is true: passwords stand in the table as they are";
        found.push(Finding::warning(
            "passwords",
            text,
            "keep HA1 hashes instead, and set it to false, where no other program needs them",
        ));
    }
    let is_pinged = policy.nathelper.natping_interval_s > 0;
    if policy.registrar.max_expires_s > NAT_KEEPS_S && !is_pinged && is_public {
        let text = format!(
            "`registrar.max_expires` is {} s: routers forget the way to a phone sooner",
            policy.registrar.max_expires_s
        );
        found.push(Finding::warning(
            "NAT",
            text,
            "set it to 300 or less, or `nathelper.natping_interval` to 30",
        ));
    }
    if policy.auth.ban_failures == 0 && policy.auth.ban_source_failures == 0 && is_public {
        let text = "nobody is banned who guesses passwords";
        found.push(Finding::warning("bans", text, "set `auth.ban_failures` and `auth.ban_source_failures`"));
    }
    if found.is_empty() {
        found.push(Finding::ok("configuration", "nothing in it is unwise"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Health;

    fn found(text: &str) -> Vec<(&'static str, Health)> {
        let settings = Settings::parse(text, "x").unwrap();
        look(&settings).into_iter().map(|finding| (finding.what, finding.health)).collect()
    }

    #[test]
    fn what_is_unwise_is_said() {
        let hashes = "[auth_db]\ncalculate_ha1 = false\n";
        assert_eq!(found(hashes), [("configuration", Health::Ok)]);
        assert_eq!(found(""), [("passwords", Health::Warning)]);
        let relay = format!("{hashes}[proxy]\nauthorize = \"off\"");
        assert_eq!(found(&relay), [("open relay", Health::Error)]);
        assert_eq!(
            found(&format!("listen = [\"udp:10.0.0.1:5060\"]\n{relay}")),
            [("open relay", Health::Warning)]
        );
        assert_eq!(found(&format!("{hashes}[registrar]\nmax_expires = 3600")), [("NAT", Health::Warning)]);
        assert_eq!(
            found(&format!("{hashes}[auth]\nban_failures = 0\nban_source_failures = 0")),
            [("bans", Health::Warning)]
        );
    }
}
