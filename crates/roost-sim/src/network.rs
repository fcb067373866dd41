//! The network: each datagram may be lost, doubled, and delayed past others; how often is drawn for each seed.

use crate::dice::Dice;

/// How bad the network is; shares are in thousandths, times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct NetworkFaults {
    /// Datagrams that never arrive.
    pub loss: u64,
    /// Datagrams that arrive twice.
    pub duplicate: u64,
    /// Datagrams that take the long way, and are overtaken there.
    pub detour: u64,
    pub delay_ms: (u64, u64),
    pub detour_ms: (u64, u64),
}

impl NetworkFaults {
    /// A network without faults.
    pub const NONE: NetworkFaults =
        NetworkFaults { loss: 0, duplicate: 0, detour: 0, delay_ms: (1, 5), detour_ms: (0, 0) };

    /// One of many networks, good and bad.
    pub fn draw(dice: &mut Dice) -> NetworkFaults {
        let quickest = dice.between((0, 20));
        NetworkFaults {
            loss: dice.pick(&[0, 10, 50, 150, 300]),
            duplicate: dice.pick(&[0, 10, 50, 200]),
            detour: dice.pick(&[0, 20, 100]),
            delay_ms: (quickest, quickest + dice.between((1, 100))),
            detour_ms: (200, dice.pick(&[500, 3_000, 8_000])),
        }
    }
}

/// One network, both ways.
#[derive(Debug)]
pub struct Network {
    faults: NetworkFaults,
    dice: Dice,
    /// Datagrams that were sent.
    pub carried: u64,
    pub lost: u64,
    pub duplicated: u64,
}

impl Network {
    pub fn new(faults: NetworkFaults, dice: Dice) -> Network {
        Network { faults, dice, carried: 0, lost: 0, duplicated: 0 }
    }

    /// From here on nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.faults = NetworkFaults::NONE;
    }

    /// What becomes of one datagram: after how many milliseconds each copy of it arrives.
    pub fn copies(&mut self) -> Vec<u64> {
        self.carried += 1;
        if self.dice.chance(self.faults.loss) {
            self.lost += 1;
            return Vec::new();
        }
        let mut copies = vec![self.delay_ms()];
        if self.dice.chance(self.faults.duplicate) {
            self.duplicated += 1;
            copies.push(self.delay_ms());
        }
        copies
    }

    fn delay_ms(&mut self) -> u64 {
        let is_detour = self.dice.chance(self.faults.detour);
        self.dice.between(if is_detour { self.faults.detour_ms } else { self.faults.delay_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_as_often_as_asked_and_end_when_healed() {
        let faults = NetworkFaults { loss: 300, duplicate: 200, ..NetworkFaults::NONE };
        let mut network = Network::new(faults, Dice::new(1));
        for _ in 0..10_000 {
            network.copies();
        }
        assert!((2_700..3_300).contains(&network.lost), "{network:?}");
        assert!((1_200..1_600).contains(&network.duplicated), "{network:?}");
        network.heal();
        assert!((0..1_000).all(|_| network.copies().len() == 1));
    }
}
