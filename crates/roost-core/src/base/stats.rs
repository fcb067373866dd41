//! Counters by the names that operators' dashboards know (`group:name`), and one for every limit; refusals by reason, calls by
//! how they ended, and how long answers took.

use crate::base::histogram::Histogram;
use crate::contract::call::CallEnd;
use crate::contract::dropped::Dropped;
use crate::contract::reason::Reason;

macro_rules! counters {
    ($($variant:ident $name:literal,)*) => {
        /// One counter of a shard.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($variant,)* }

        /// The names of all counters, in the order of [`Counter`].
        pub const COUNTER_NAMES: &[&str] = &[$($name,)*];
    };
}

counters! {
    RcvRequests "core:rcv_requests",
    RcvReplies "core:rcv_replies",
    DropRequests "core:drop_requests",
    DropReplies "core:drop_replies",
    ErrRequests "core:err_requests",
    BadMsgHdr "core:bad_msg_hdr",
    LinesLeftOut "roost:header_lines_left_out",
    BadUrisRcvd "core:bad_URIs_rcvd",
    Replies1xx "sl:1xx_replies",
    Replies2xx "sl:2xx_replies",
    Replies3xx "sl:3xx_replies",
    Replies4xx "sl:4xx_replies",
    Replies5xx "sl:5xx_replies",
    Replies6xx "sl:6xx_replies",
    SentReplies "sl:sent_replies",
    SentErrReplies "sl:sent_err_replies",
    ReceivedAcks "sl:received_ACKs",
    FwdRequests "core:fwd_requests",
    ReceivedReplies "tm:received_replies",
    RelayedReplies "tm:relayed_replies",
    LocalReplies "tm:local_replies",
    UasTransactions "tm:UAS_transactions",
    UacTransactions "tm:UAC_transactions",
    Transactions2xx "tm:2xx_transactions",
    Transactions3xx "tm:3xx_transactions",
    Transactions4xx "tm:4xx_transactions",
    Transactions5xx "tm:5xx_transactions",
    Transactions6xx "tm:6xx_transactions",
    AcceptedRegs "registrar:accepted_regs",
    RejectedRegs "registrar:rejected_regs",
    LocationExpires "usrloc:location-expires",
    KeepAlives "roost:keep_alives",
    NotSip "roost:not_sip",
    Challenges "roost:challenges",
    AuthFailures "roost:auth_failures",
    Banned "roost:banned_requests",
    Bans "roost:bans",
    PikeDropped "roost:pike_dropped",
    ScannersDropped "roost:scanners_dropped",
    StrangersFull "roost:strangers_full",
    CredentialLoads "roost:credential_loads",
    Commits "roost:commits",
    CommitFailures "roost:commit_failures",
    CommitConflicts "roost:commit_conflicts",
    RecordReads "roost:record_reads",
    Absorbed "roost:absorbed_retransmissions",
    HandedOver "roost:handed_over",
    ParkedFull "roost:parked_full",
    LoadingFull "roost:loading_full",
    CommitsFull "roost:commits_full",
    NoncesFull "roost:nonces_full",
    WaitingFull "roost:waiting_full",
    TooManyContacts "roost:too_many_contacts",
    InboxFull "roost:inbox_full",
    Shed "roost:shed",
    Slow "core:slow_messages",
    TransactionsFull "roost:transactions_full",
    ResolvingFull "roost:resolving_full",
    CredentialsLate "roost:credentials_late",
    UnreadLate "roost:unread_late",
    ResolvingLate "roost:resolving_late",
    AdminFull "roost:admin_full",
    DoubtsFull "roost:doubts_full",
    ForgottenEvicted "roost:forgotten_evicted",
    HeldFull "roost:held_full",
    BranchesCut "roost:branches_cut",
    PlacesCut "roost:places_cut",
    Pings "roost:pings",
    DialogsProcessed "dialog:processed_dialogs",
    DialogsFailed "dialog:failed_dialogs",
    DialogsExpired "dialog:expired_dialogs",
    CallsFull "roost:calls_full",
    NatPings "nathelper:pings",
    NatPingsLost "nathelper:pings_lost",
    Unsent "roost:unsent",
}

/// From when a message came until it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// A REGISTER, until its 200.
    RegisterAccepted,
    /// Until its challenge.
    RegisterChallenged,
    /// Until another answer.
    RegisterRefused,
    /// An INVITE that begins a call, until its 100.
    InviteTrying,
    /// Until the first 18x that went to the caller.
    InviteRinging,
    /// Until its 2xx.
    InviteAnswered,
}

impl Timed {
    /// All.
    pub const ALL: [Timed; 6] = [
        Timed::RegisterAccepted,
        Timed::RegisterChallenged,
        Timed::RegisterRefused,
        Timed::InviteTrying,
        Timed::InviteRinging,
        Timed::InviteAnswered,
    ];
}

/// How calls end, in words: what was answered by who ended it, what was not by what the caller was told.
const CALL_ENDS: [&str; 12] = [
    "caller",
    "callee",
    "operator",
    "caller_gone",
    "callee_gone",
    "timeout",
    "cancelled",
    "busy",
    "no_answer",
    "refused",
    "not_found",
    "failed",
];

/// One shard's counters.
#[derive(Debug, Clone)]
pub struct Stats {
    counts: [u64; COUNTER_NAMES.len()],
    refusals: [u64; Reason::ALL.len()],
    drops: [u64; Dropped::ALL.len()],
    call_ends: [u64; CALL_ENDS.len()],
    times: [Histogram; Timed::ALL.len()],
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            counts: [0; COUNTER_NAMES.len()],
            refusals: [0; Reason::ALL.len()],
            drops: [0; Dropped::ALL.len()],
            call_ends: [0; CALL_ENDS.len()],
            times: [Histogram::default(); Timed::ALL.len()],
        }
    }
}

impl Stats {
    /// Adds one.
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts a stateless answer of roost's own by its status code.
    pub(crate) fn count_reply(&mut self, code: u16) {
        self.count(Counter::SentReplies);
        self.count(match code / 100 {
            1 => Counter::Replies1xx,
            2 => Counter::Replies2xx,
            3 => Counter::Replies3xx,
            4 => Counter::Replies4xx,
            5 => Counter::Replies5xx,
            _ => Counter::Replies6xx,
        });
        if code >= 300 {
            self.count(Counter::SentErrReplies);
        }
    }

    /// Adds `n`.
    pub fn add(&mut self, counter: Counter, n: u64) {
        if let Some(value) = self.counts.get_mut(counter as usize) {
            *value += n;
        }
    }

    /// A counter's value.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts.get(counter as usize).copied().unwrap_or(0)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        COUNTER_NAMES.iter().copied().zip(self.counts)
    }

    /// Counts a refusal.
    pub(crate) fn count_refusal(&mut self, reason: Reason) {
        if let Some(value) = self.refusals.get_mut(reason as usize) {
            *value += 1;
        }
    }

    /// Reasons, and how often each was given.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().copied().zip(self.refusals)
    }

    /// Counts messages that are dropped.
    pub(crate) fn count_dropped(&mut self, why: Dropped, messages: u64) {
        let counter = match why {
            Dropped::Shed => Counter::Shed,
            Dropped::InboxFull => Counter::InboxFull,
            Dropped::NotSip => Counter::NotSip,
            Dropped::StrayResponse => Counter::DropReplies,
            _ => Counter::DropRequests,
        };
        self.add(counter, messages);
        if let Some(value) = self.drops.get_mut(why as usize) {
            *value += messages;
        }
    }

    /// Why messages were dropped, and how many.
    pub(crate) fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Dropped::ALL.into_iter().map(Dropped::word).zip(self.drops)
    }

    /// Counts a call that has ended.
    pub(crate) fn count_call_end(&mut self, end: CallEnd) {
        let word = match end {
            CallEnd::Failed(486 | 600) => "busy",
            CallEnd::Failed(408 | 480) => "no_answer",
            CallEnd::Failed(403 | 603 | 607 | 608) => "refused",
            CallEnd::Failed(404 | 410 | 484 | 604) => "not_found",
            end => end.as_str(),
        };
        if let Some(at) = CALL_ENDS.iter().position(|end| *end == word)
            && let Some(value) = self.call_ends.get_mut(at)
        {
            *value += 1;
        }
    }

    /// How calls end, and how many have.
    pub(crate) fn call_ends(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CALL_ENDS.into_iter().zip(self.call_ends)
    }

    /// Notes how long something took, in milliseconds.
    pub(crate) fn time(&mut self, what: Timed, ms: u64) {
        if let Some(times) = self.times.get_mut(what as usize) {
            times.observe(ms);
        }
    }

    /// How long things took, in milliseconds.
    pub fn times(&self) -> impl Iterator<Item = (Timed, Histogram)> {
        Timed::ALL.into_iter().zip(self.times)
    }
}
