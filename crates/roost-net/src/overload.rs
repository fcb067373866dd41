//! Which datagrams are shed while more arrive than can be handled.
//!
//! What the kernel has no room for is lost, whatever it is: also the REGISTER that answers a challenge, and then the
//! challenge was work for nothing. While the kernel loses datagrams, every other REGISTER without credentials is passed
//! over unanswered, which costs a quarter of an answer: its phone sends it again (RFC 3261 17.1.2.2), and there is more
//! time for what has been begun.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// How long after the last loss a socket counts as overloaded, in milliseconds.
const LASTS_MS: u64 = 200;

/// Part of the name of the header that carries credentials, whose first letter may be a capital.
static CREDENTIALS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"uthorization"));

/// How one socket is doing.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// Datagrams that the kernel has lost, since the socket was made.
    lost: u32,
    until_ms: u64,
    turn: bool,
}

impl Overload {
    /// How many datagrams the kernel has lost by now; nothing is said until it has lost one.
    pub(crate) fn heard(&mut self, lost: Option<u32>, now_ms: u64) {
        if let Some(lost) = lost.filter(|lost| *lost != self.lost) {
            self.lost = lost;
            self.until_ms = now_ms + LASTS_MS;
        }
    }

    /// Whether this datagram is to be passed over.
    pub(crate) fn sheds(&mut self, datagram: &[u8], now_ms: u64) -> bool {
        if self.until_ms <= now_ms || !begins(datagram) {
            return false;
        }
        self.turn = !self.turn;
        self.turn
    }
}

/// Whether a datagram begins what another one must end.
fn begins(datagram: &[u8]) -> bool {
    datagram.starts_with(b"REGISTER ") && CREDENTIALS.find(datagram).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = b"REGISTER sip:a SIP/2.0\r\nCSeq: 1 REGISTER\r\n\r\n";
    const SECOND: &[u8] = b"REGISTER sip:a SIP/2.0\r\nauthorization: Digest x\r\n\r\n";

    #[test]
    fn what_begins_is_passed_over_while_datagrams_are_lost() {
        let mut overload = Overload::default();
        let passed =
            |overload: &mut Overload, datagram, ms| (0..10).filter(|_| overload.sheds(datagram, ms)).count();
        overload.heard(None, 1_000);
        assert_eq!(passed(&mut overload, FIRST, 1_000), 0);
        overload.heard(Some(7), 1_000);
        assert_eq!(passed(&mut overload, FIRST, 1_000), 5);
        assert_eq!(passed(&mut overload, SECOND, 1_000), 0);
        assert_eq!(passed(&mut overload, b"INVITE sip:a SIP/2.0\r\n\r\n", 1_000), 0);
        overload.heard(Some(7), 1_199);
        assert_eq!(passed(&mut overload, FIRST, 1_199), 5);
        assert_eq!(passed(&mut overload, FIRST, 1_200), 0, "none was lost since");
        overload.heard(Some(8), 1_300);
        assert_eq!(passed(&mut overload, FIRST, 1_300), 5);
    }
}
