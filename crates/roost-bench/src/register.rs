//! REGISTER: with a challenge each (`register`), or with the nonce of the last time (`refresh`).

use memchr::memmem;
use roost_sip::Head;

use crate::context::Context;
use crate::digest::{Asked, Challenge};
use crate::tally::Outcome;
use crate::template::{Id, Template, Values};
use crate::timers::Side;

/// The letter of its ids.
const KIND: u8 = b'r';

/// Marks our contact, in the request and in the answer that lists it.
const LINE: &str = "line=7f3a91c04d2be865";

/// A hard phone's REGISTER. The Call-ID stays the same for one user, as RFC 3261 10.2 wants it.
const TEXT: &str = "\
REGISTER sip:{domain} SIP/2.0
Via: SIP/2.0/UDP {ip}:{port};branch=z9hG4bK{branch};rport
Max-Forwards: 70
From: \"{user}\" <sip:{user}@{domain}>;tag={dialog}
To: \"{user}\" <sip:{user}@{domain}>
Call-ID: {dialog}@{ip}
CSeq: {cseq} REGISTER
Contact: <sip:{user}@{ip}:{port};{line}>
Expires: {expires}
{credentials}Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REFER, NOTIFY, UPDATE, MESSAGE
User-Agent: roost-bench/{version} (as long as a phone's)
Content-Length: 0

";

/// What one user's phone remembers.
#[derive(Debug)]
struct Account {
    challenge: Challenge,
    cseq: u32,
    busy: bool,
}

/// What one REGISTER under way needs.
#[derive(Debug, Clone, Copy, Default)]
struct Attempt {
    user: u32,
    with_credentials: bool,
    /// Challenges answered in this operation.
    answered: u8,
}

#[derive(Debug)]
pub(crate) struct Register {
    template: Template,
    accounts: Vec<Account>,
    attempts: Vec<Attempt>,
    /// Whether a nonce of an earlier operation is used again.
    keep_nonce: bool,
    head: Box<Head>,
    credentials: Vec<u8>,
    uri: Vec<u8>,
}

impl Register {
    pub(crate) fn new(ip: &str, expires_s: u32, users: u32) -> Register {
        let expires = expires_s.to_string();
        let constants = [
            ("ip", ip),
            ("expires", expires.as_str()),
            ("line", LINE),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        let account = || Account { challenge: Challenge::with_room(), cseq: 0, busy: false };
        Register {
            template: Template::new(TEXT, &constants),
            accounts: (0..users).map(|_| account()).collect(),
            attempts: Vec::new(),
            keep_nonce: false,
            head: Head::new(),
            credentials: Vec::with_capacity(512),
            uri: Vec::with_capacity(64),
        }
    }

    /// Prepares a phase with so many slots.
    pub(crate) fn clear(&mut self, slots: u32, keep_nonce: bool) {
        self.attempts.resize(slots as usize, Attempt::default());
        self.accounts.iter_mut().for_each(|account| account.busy = false);
        self.keep_nonce = keep_nonce;
    }

    /// Starts the nth operation; false while that user's previous one is under way.
    pub(crate) fn start(&mut self, context: &mut Context, slot: u32, nth: u64) -> bool {
        let user = (nth % self.accounts.len() as u64) as u32;
        let account = &mut self.accounts[user as usize];
        if account.busy {
            return false;
        }
        account.busy = true;
        let with_credentials = self.keep_nonce && account.challenge.is_known();
        self.attempts[slot as usize] = Attempt { user, with_credentials, answered: 0 };
        self.begin(context, slot);
        true
    }

    /// A new transaction for the slot's user.
    fn begin(&mut self, context: &mut Context, slot: u32) {
        let attempt = self.attempts[slot as usize];
        self.accounts[attempt.user as usize].cseq += 1;
        let id = context.transaction(KIND, slot);
        self.send(context, id);
        context.start_timer(id, Side::Client);
    }

    fn send(&mut self, context: &mut Context, transaction: Id) {
        let attempt = self.attempts[transaction.slot as usize];
        let account = &mut self.accounts[attempt.user as usize];
        let user = context.users.get(attempt.user);
        self.credentials.clear();
        if attempt.with_credentials {
            self.uri.clear();
            self.uri.extend_from_slice(b"sip:");
            self.uri.extend_from_slice(user.domain);
            let asked = Asked {
                method: b"REGISTER",
                uri: &self.uri,
                user: user.name,
                password: user.password,
                cnonce: transaction.generation ^ context.run,
            };
            account.challenge.answer(&asked, &mut self.credentials);
        }
        let socket = context.socket(attempt.user);
        let values = Values {
            user: user.name,
            domain: user.domain,
            peer: &[],
            peer_domain: &[],
            port: context.port(socket),
            transaction,
            dialog: Id { kind: b'u', slot: attempt.user, generation: 0, run: context.run },
            cseq: account.cseq,
            credentials: &self.credentials,
        };
        self.template.fill(&values, context.sender.message(socket));
    }

    /// Sends the request of a transaction under way once more.
    pub(crate) fn retransmit(&mut self, context: &mut Context, transaction: Id) {
        let transaction = Id { kind: KIND, ..transaction };
        context.tally.retransmissions += 1;
        // The same bytes: the nonce count must not go on.
        let attempt = self.attempts[transaction.slot as usize];
        if attempt.with_credentials {
            self.accounts[attempt.user as usize].challenge.take_back();
        }
        self.send(context, transaction);
    }

    pub(crate) fn give_up(&mut self, context: &mut Context, slot: u32) {
        self.end(context, slot, Outcome::TimedOut);
    }

    /// Takes the final or provisional answer to the transaction under way.
    pub(crate) fn handle_answer(&mut self, context: &mut Context, id: Id, code: u16, message: &[u8]) {
        match code {
            100..=199 => {}
            200..=299 => {
                // RFC 3261 10.3, step 8: the answer lists the bindings.
                if memmem::find(message, LINE.as_bytes()).is_none() {
                    context.tally.unlisted += 1;
                }
                self.end(context, id.slot, Outcome::Ok);
            }
            401 | 407 if self.may_answer(context, id, code, message) => self.begin(context, id.slot),
            _ => self.end(context, id.slot, Outcome::Failed),
        }
    }

    /// Reads the challenge; true if it deserves an answer. One is answered; a second only if it says `stale`, since
    /// without it the password was refused (RFC 3261 22.2).
    fn may_answer(&mut self, context: &mut Context, id: Id, code: u16, message: &[u8]) -> bool {
        let attempt = &mut self.attempts[id.slot as usize];
        let challenge = &mut self.accounts[attempt.user as usize].challenge;
        if self.head.parse(message).is_err() || !challenge.read(&self.head, message, code == 407) {
            return false;
        }
        if attempt.with_credentials {
            context.tally.stale += 1;
        }
        let allowed = attempt.answered == 0 || (attempt.answered == 1 && challenge.is_stale());
        attempt.answered += 1;
        attempt.with_credentials = true;
        allowed
    }

    fn end(&mut self, context: &mut Context, slot: u32, outcome: Outcome) {
        self.accounts[self.attempts[slot as usize].user as usize].busy = false;
        context.end(slot, outcome);
    }
}
