//! What is done while more arrives than can be handled.
//!
//! A queue that stands helps nobody: by the time that a datagram's turn comes its phone has sent it again, and the copy
//! stands behind it. The kernel says when each datagram came; where even the youngest of a while are old, the queue stands.
//! Then its socket's buffer is shortened, so that the kernel loses what comes too much, which costs nothing here, and a
//! REGISTER without credentials that is old all the same is passed over unanswered: its phone sends it again (RFC 3261
//! 17.1.2.2), and there is time for what has been begun. Once the queue is gone the buffer is as long as before: a burst
//! that fits into it loses nothing. While it loses some, every other REGISTER without credentials is passed over.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// How long is looked at the ages before they count, in milliseconds: longer than a process is kept from running where its
/// time is limited.
const WINDOW_MS: u64 = 100;
/// A queue stands where no datagram of a window was younger, in milliseconds.
const STANDING_MS: u64 = 10;
/// In a short buffer no queue is old: there it stands still where no datagram of a window was younger than this.
const SHORT_STANDING_MS: u64 = 2;
/// A queue that does not stand for so long is gone, in milliseconds.
const CALM_MS: u64 = 2_000;
/// What begins something and is older is passed over while the queue stands, in milliseconds.
const STALE_MS: u64 = 50;

/// How long after a loss of the long buffer every other one is, in milliseconds.
const LOSS_MS: u64 = 200;

/// Part of the name of the header that carries credentials, whose first letter may be a capital.
static CREDENTIALS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"uthorization"));

/// How one socket is doing.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// When the window ends, in monotonic milliseconds.
    until_ms: u64,
    /// The age of the youngest first datagram of a batch in it, in milliseconds; `None`: nothing came.
    youngest_ms: Option<u64>,
    /// Until when the queue counts as standing, in monotonic milliseconds.
    stands_until_ms: u64,
    /// Datagrams that the kernel has lost, since the socket was made, and until when that counts.
    lost: u32,
    loss_until_ms: u64,
    turn: bool,
}

/// What becomes of the socket's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffer {
    Shorten,
    Restore,
}

impl Overload {
    /// A batch has come whose first datagram had waited so long, or none (0); how many the kernel has lost by now, where it
    /// says so.
    pub(crate) fn heard(&mut self, lost: Option<u32>, age_ms: u64, now_ms: u64) -> Option<Buffer> {
        if let Some(lost) = lost.filter(|lost| *lost != self.lost) {
            self.lost = lost;
            self.loss_until_ms = now_ms + LOSS_MS;
        }
        self.youngest_ms = Some(self.youngest_ms.map_or(age_ms, |youngest| youngest.min(age_ms)));
        if now_ms < self.until_ms {
            return None;
        }
        let has_stood = self.stands_until_ms != 0;
        let limit_ms = if has_stood { SHORT_STANDING_MS } else { STANDING_MS };
        // After a silence one old datagram tells of a pause of ours, not of a queue that stands.
        let is_whole = self.until_ms != 0 && now_ms < self.until_ms + WINDOW_MS;
        let stands = is_whole && self.youngest_ms.is_some_and(|youngest| youngest > limit_ms);
        self.until_ms = now_ms + WINDOW_MS;
        self.youngest_ms = None;
        if stands {
            self.stands_until_ms = now_ms + CALM_MS;
            return (!has_stood).then_some(Buffer::Shorten);
        }
        let is_calm = has_stood && self.stands_until_ms <= now_ms;
        if is_calm {
            self.stands_until_ms = 0;
        }
        is_calm.then_some(Buffer::Restore)
    }

    /// Whether a datagram that has waited so long is to be passed over.
    pub(crate) fn sheds(&mut self, datagram: &[u8], age_ms: u64, now_ms: u64) -> bool {
        if self.stands_until_ms != 0 {
            return age_ms > STALE_MS && begins(datagram);
        }
        if self.loss_until_ms <= now_ms || !begins(datagram) {
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
    use std::collections::VecDeque;

    use super::*;

    const FIRST: &[u8] = b"REGISTER sip:a SIP/2.0\r\nCSeq: 1 REGISTER\r\n\r\n";
    const SECOND: &[u8] = b"REGISTER sip:a SIP/2.0\r\nauthorization: Digest x\r\n\r\n";
    const CALL: &[u8] = b"INVITE sip:a SIP/2.0\r\n\r\n";

    #[test]
    fn a_queue_that_stands_is_shortened_until_it_is_gone() {
        let mut overload = Overload::default();
        let ages = [(0, 30), (50, 30), (100, 30)];
        let said: Vec<_> = ages.iter().map(|(ms, age)| overload.heard(None, *age, 1_000 + ms)).collect();
        assert_eq!(said, [None, None, Some(Buffer::Shorten)]);
        assert!(overload.sheds(FIRST, STALE_MS + 1, 1_100) && !overload.sheds(FIRST, STALE_MS, 1_100));
        let is_shed = [SECOND, CALL].map(|text| overload.sheds(text, 999, 1_100));
        assert_eq!(is_shed, [false; 2], "what was begun is finished");
        // One young datagram in a window says that the queue is empty now and then; for long enough, that it is gone.
        let mut restored = None;
        for ms in (1_150..9_000).step_by(50) {
            let age = if ms < 3_000 { 5 } else { ms / 50 % 2 * 9 };
            if let Some(buffer) = overload.heard(None, age, ms) {
                assert_eq!((buffer, restored), (Buffer::Restore, None));
                restored = Some(ms);
            }
        }
        assert!(restored.is_some_and(|ms| (4_900..5_500).contains(&ms)), "{restored:?}");
        assert!(!overload.sheds(FIRST, 999, 9_000));
    }

    #[test]
    fn while_datagrams_are_lost_every_other_beginning_is_passed_over() {
        let mut overload = Overload::default();
        let shed =
            |overload: &mut Overload, text, ms| (0..10).filter(|_| overload.sheds(text, 0, ms)).count();
        overload.heard(None, 0, 1_000);
        assert_eq!(shed(&mut overload, FIRST, 1_000), 0);
        overload.heard(Some(7), 0, 1_000);
        assert_eq!([FIRST, SECOND, CALL].map(|text| shed(&mut overload, text, 1_000)), [5, 0, 0]);
        overload.heard(Some(7), 0, 1_199);
        assert_eq!(shed(&mut overload, FIRST, 1_199), 5);
        assert_eq!(shed(&mut overload, FIRST, 1_200), 0, "none was lost since");
    }

    #[test]
    fn a_pause_of_ours_is_no_queue_that_stands() {
        let mut overload = Overload::default();
        for second in 1..20 {
            assert_eq!(overload.heard(None, 60, 10_000 + second * 1_000), None);
            assert!(!overload.sheds(FIRST, 60, 10_000 + second * 1_000));
        }
    }

    #[test]
    fn a_burst_shortens_nothing() {
        let mut overload = Overload::default();
        for ms in 0..2_000 {
            // A burst each half second, whose last waits for 80 ms; between them nothing waits.
            let age = if ms % 500 < 90 { ms % 500 } else { 0 };
            assert_eq!(overload.heard(None, age, 10_000 + ms), None, "{ms}");
        }
    }

    /// When what was sent is sent again, and given up, after it was sent first (timers E and F with a T2 of 4 s).
    const AGAIN_MS: [u64; 4] = [500, 1_500, 3_500, 7_500];

    /// A phone that registers.
    #[derive(Debug, Clone, Copy)]
    struct Phone {
        began_ms: u64,
        has_challenge: bool,
        /// When it sent what it waits for, and how often it has sent that again.
        since_ms: u64,
        again: usize,
        done_ms: Option<u64>,
    }

    /// Phones that come to a server twice as fast as it can answer, for ten seconds, in virtual time: a step is a millisecond,
    /// in which 40 units are done. A challenge costs 4, its answer 6, passing over 1.
    struct Rush {
        phones: Vec<Phone>,
        /// A phone, whether it shows credentials, and when it came.
        queue: VecDeque<(usize, bool, u64)>,
        room: usize,
        /// Phones to look at, by millisecond.
        timers: Vec<Vec<usize>>,
    }

    impl Rush {
        fn send(&mut self, index: usize, ms: u64) {
            let Phone { has_challenge, since_ms, again, .. } = self.phones[index];
            if self.queue.len() < self.room {
                self.queue.push_back((index, has_challenge, ms));
            }
            self.timers[(since_ms + AGAIN_MS[again]) as usize].push(index);
        }

        /// What a phone waits for has not come in time.
        fn wake(&mut self, index: usize, ms: u64) {
            let phone = &mut self.phones[index];
            let is_due = phone.done_ms.is_none() && phone.since_ms + AGAIN_MS[phone.again] == ms;
            if is_due && phone.again + 1 < AGAIN_MS.len() {
                phone.again += 1;
                self.send(index, ms);
            }
        }

        fn answer(&mut self, index: usize, has_credentials: bool, ms: u64) {
            let phone = &mut self.phones[index];
            let has_given_up = ms >= phone.since_ms + AGAIN_MS[AGAIN_MS.len() - 1];
            if phone.done_ms.is_some() || has_given_up {
                return;
            }
            if has_credentials {
                phone.done_ms = Some(ms);
            } else if !phone.has_challenge {
                *phone = Phone { has_challenge: true, since_ms: ms, again: 0, ..*phone };
                self.send(index, ms);
            }
        }
    }

    /// The part that is registered in the end, and the median of the times that it took.
    fn rush(is_minded: bool) -> (f64, u64) {
        let mut overload = Overload::default();
        let (phones, queue, timers) = (Vec::new(), VecDeque::new(), vec![Vec::new(); 40_000]);
        let mut rush = Rush { phones, queue, room: 4_000, timers };
        let mut credit = 0;
        for ms in 0..30_000 {
            for _ in 0..if ms < 10_000 { 8 } else { 0 } {
                let phone =
                    Phone { began_ms: ms, has_challenge: false, since_ms: ms, again: 0, done_ms: None };
                rush.phones.push(phone);
                rush.send(rush.phones.len() - 1, ms);
            }
            std::mem::take(&mut rush.timers[ms as usize]).into_iter().for_each(|index| rush.wake(index, ms));
            let oldest_ms = rush.queue.front().map_or(0, |(_, _, came_ms)| ms - came_ms);
            match overload.heard(None, oldest_ms, ms + 1).filter(|_| is_minded) {
                Some(Buffer::Shorten) => rush.room = 300,
                Some(Buffer::Restore) => rush.room = 4_000,
                None => {}
            }
            credit = (credit + 40).min(40);
            while credit > 0
                && let Some((index, has_credentials, came_ms)) = rush.queue.pop_front()
            {
                if is_minded && overload.sheds(if has_credentials { SECOND } else { FIRST }, ms - came_ms, ms)
                {
                    credit -= 1;
                    continue;
                }
                credit -= if has_credentials { 6 } else { 4 };
                rush.answer(index, has_credentials, ms);
            }
        }
        let times = rush.phones.iter().filter_map(|phone| Some(phone.done_ms? - phone.began_ms));
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        (times.len() as f64 / rush.phones.len() as f64, times[times.len() / 2])
    }

    #[test]
    fn in_a_rush_phones_are_registered_at_once_and_nearly_as_many() {
        let ((share, median_ms), (share_before, median_before_ms)) = (rush(true), rush(false));
        // A long queue keeps some who would have given up, and lets all others wait.
        assert!(share > 0.65 && share_before < 0.7, "{share} against {share_before}");
        assert!(median_ms < 100 && median_before_ms > 900, "{median_ms} ms against {median_before_ms} ms");
    }
}
