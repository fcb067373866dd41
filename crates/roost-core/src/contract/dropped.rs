//! Why a message is dropped: neither answered nor sent on.

macro_rules! dropped {
    ($($(#[$doc:meta])* $variant:ident $word:literal,)*) => {
        /// A reason to drop a message. Each has its entry in the table of reasons, by its word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Dropped { $($(#[$doc])* $variant,)* }

        impl Dropped {
            /// All of them, in their order.
            pub const ALL: [Dropped; [$($word,)*].len()] = [$(Dropped::$variant,)*];

            /// The word that logs and metrics call it by.
            pub fn word(self) -> &'static str {
                match self { $(Dropped::$variant => $word,)* }
            }
        }
    };
}

dropped! {
    /// Its source has sent too much (`pike`).
    Flooded "flooded",
    /// Its User-Agent begins as a scanner's does.
    Scanner "scanner",
    /// An operator has banned its source.
    BannedAddress "banned-address",
    /// Roost is overloaded, and what begins something waits too long.
    Shed "shed",
    /// Too much waits for the shard that it belongs to.
    InboxFull "inbox-full",
    /// It is no SIP message.
    NotSip "not-sip",
    /// A request whose Via leads nowhere.
    NoVia "no-via",
    /// A response of no transaction.
    StrayResponse "stray-response",
    /// An ACK or a CANCEL of no transaction and no call.
    StrayRequest "stray-request",
}
