//! Networks from which nobody is asked for a password (`proxy.trusted`, OpenSIPS's table `address`).

use std::net::IpAddr;

use ipnet::IpNet;

/// Some networks. Looking an address up takes as many steps as the number of networks has digits in binary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trusted {
    /// In their order; none holds another.
    networks: Box<[IpNet]>,
}

impl Trusted {
    /// Those networks, as few as say the same.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Trusted {
        let mut networks = IpNet::aggregate(&networks.into_iter().collect());
        networks.sort_unstable_by_key(IpNet::network);
        Trusted { networks: networks.into() }
    }

    /// Single addresses.
    pub fn of_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Trusted {
        Trusted::new(addresses.into_iter().map(IpNet::from))
    }

    /// Whether an address is of one of them.
    pub fn has(&self, ip: IpAddr) -> bool {
        if self.networks.is_empty() {
            return false;
        }
        let after = self.networks.partition_point(|network| network.network() <= ip);
        let found = after.checked_sub(1).and_then(|at| self.networks.get(at));
        found.is_some_and(|network| network.contains(&ip))
    }

    /// The networks.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_networks() {
        let networks = ["10.0.0.0/8", "10.2.0.0/16", "192.0.2.7/32", "2001:db8::/32", "192.0.2.6/32"];
        let trusted = Trusted::new(networks.map(|text| text.parse().unwrap()));
        assert_eq!(trusted.networks().len(), 3, "two lie in others, and two make one: {trusted:?}");
        for (ip, expected) in [
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.6", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::", false),
            ("::", false),
        ] {
            assert_eq!(trusted.has(ip.parse().unwrap()), expected, "{ip}");
        }
        assert!(!Trusted::default().has("10.0.0.1".parse().unwrap()));
    }
}
