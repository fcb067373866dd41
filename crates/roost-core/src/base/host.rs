//! Hosts that mean something only where they were written.

use std::net::{IpAddr, Ipv6Addr};

use roost_sip::Uri;

/// Whether a host is neither a global name nor a global address: `localhost`, one label, a name of a local network, an
/// address of a private network or of the machine itself. Somebody elsewhere reaches nobody by it, or somebody else.
pub(crate) fn is_local_host(uri: &Uri<'_>) -> bool {
    match uri.host_ip() {
        Some(ip) => is_private(ip),
        None => is_local_name(uri.host),
    }
}

/// Whether a name is no global one (RFC 6761, RFC 6762, RFC 8375, and what routers at home call their network).
pub(crate) fn is_local_name(host: &[u8]) -> bool {
    const LOCAL: [&str; 9] =
        ["localhost", "local", "invalid", "lan", "localdomain", "internal", "intranet", "home", "arpa"];
    let host = host.strip_suffix(b".").unwrap_or(host);
    match host.rsplit(|byte| *byte == b'.').next() {
        Some(last) if last.len() < host.len() => {
            LOCAL.iter().any(|name| last.eq_ignore_ascii_case(name.as_bytes()))
        }
        _ => true,
    }
}

/// Whether an address belongs to a private network, a link, a carrier's NAT or the machine itself.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_anywhere() {
        let is_local = |host: &str| is_local_host(&Uri::parse(format!("sip:a@{host}").as_bytes()).unwrap());
        for local in [
            "localhost",
            "LOCALHOST.",
            "phone5",
            "box.local",
            "ua.invalid",
            "a.b.lan",
            "x.localdomain",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.5",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "[::1]",
            "[fd00::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(is_local(local), "{local}");
        }
        for global in
            ["example.com", "local.example.com.", "8.8.8.8", "172.32.0.1", "100.128.0.1", "[2001:db8::1]"]
        {
            assert!(!is_local(global), "{global}");
        }
    }
}
