//! Counters by the names that operators' dashboards know (`group:name`), and one for every limit.

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

/// One shard's counters.
#[derive(Debug, Clone)]
pub struct Stats([u64; COUNTER_NAMES.len()]);

impl Default for Stats {
    fn default() -> Self {
        Stats([0; COUNTER_NAMES.len()])
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
        if let Some(value) = self.0.get_mut(counter as usize) {
            *value += n;
        }
    }

    /// A counter's value.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        COUNTER_NAMES.iter().copied().zip(self.0)
    }
}
