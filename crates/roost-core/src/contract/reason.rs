//! Why a request is refused: the one table. Code that refuses names an entry; its status, its phrase and what operators are
//! told stand here. The proxy's own 407 is a challenge in `message/response.rs`; what it says of a transaction that it has
//! begun (408, 477, 480, 500) stands where the transaction ends.

use roost_sip::Defect;

/// What an entry says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// The status code of the answer.
    pub(crate) code: u16,
    /// Its reason phrase (RFC 3261 7.2).
    pub(crate) phrase: &'static str,
    /// What was wrong, for operators; `Kind::Registrar` sends it too.
    pub(crate) why: &'static str,
    pub(crate) kind: Kind,
}

/// What an answer says beside its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// `P-Registrar-Error` repeats the reason, as OpenSIPS's registrar does.
    Registrar,
    /// The same, and Contact lists the AOR's bindings.
    RegistrarWithContacts,
    /// A limit was hit; Retry-After says when to come back.
    Busy,
    /// A challenge (RFC 3261 22.1).
    Challenge,
    /// A challenge that says `stale=true`: the credentials are right, their nonce is not (RFC 7616 3.3).
    Stale,
    /// Allow names the methods that are taken (RFC 3261 21.4.6).
    Methods,
    /// Unsupported names what Require or Proxy-Require asks for and is not there.
    Extension,
    /// Warning says that `sips` is not possible here (RFC 5630 4.2).
    Sips,
    /// Unsupported names `path`, and the Path goes along (RFC 3327 5.3).
    PathExtension,
}

macro_rules! reasons {
    ($($variant:ident $code:literal $phrase:literal $kind:ident $why:literal,)*) => {
        /// An entry of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $why] $variant,)*
        }

        impl Reason {
            /// All entries.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// Its word, for logs and metrics: `wrong-password`.
            pub fn word(self) -> String {
                let name = match self {
                    $(Reason::$variant => stringify!($variant),)*
                };
                let mut word = String::with_capacity(name.len() + 4);
                for (at, c) in name.char_indices() {
                    if at > 0 && c.is_ascii_uppercase() {
                        word.push('-');
                    }
                    word.push(c.to_ascii_lowercase());
                }
                word
            }

            pub(crate) const fn entry(self) -> Entry {
                match self {
                    $(Reason::$variant => {
                        Entry { code: $code, phrase: $phrase, why: $why, kind: Kind::$kind }
                    })*
                }
            }
        }
    };
}

impl Reason {
    /// The status code of the answer.
    pub const fn code(self) -> u16 {
        self.entry().code
    }

    /// The reason phrase of the answer.
    pub const fn phrase(self) -> &'static str {
        self.entry().phrase
    }

    /// What was wrong, in words.
    pub const fn why(self) -> &'static str {
        self.entry().why
    }
}

impl From<Defect> for Reason {
    fn from(defect: Defect) -> Reason {
        match defect {
            Defect::Version => Reason::Version,
            Defect::RequestLine => Reason::RequestLine,
            Defect::HeaderLine => Reason::HeaderLine,
            Defect::TooManyLines => Reason::TooManyLines,
            Defect::NoBlankLine => Reason::NoBlankLine,
        }
    }
}

reasons! {
    // The message itself.
    Version 505 "Version Not Supported" Plain "Version Not Supported",
    RequestLine 400 "Malformed request line" Plain "Malformed request line",
    HeaderLine 400 "Malformed header line" Plain "Malformed header line",
    TooManyLines 400 "Too many header lines" Plain "Too many header lines",
    NoBlankLine 400 "Header section does not end" Plain "Header section does not end",
    MalformedVia 400 "Malformed Via header" Plain "Malformed Via header",
    MessageTooLarge 513 "Message Too Large" Plain "Message Too Large",
    BadRequestUri 400 "Bad Request-URI" Plain "Bad Request-URI",
    MultipleFrom 400 "Multiple From headers" Plain "Multiple From headers",
    MultipleTo 400 "Multiple To headers" Plain "Multiple To headers",
    MultipleCallId 400 "Multiple Call-ID headers" Plain "Multiple Call-ID headers",
    MultipleCseq 400 "Multiple CSeq headers" Plain "Multiple CSeq headers",
    MultipleMaxForwards 400 "Multiple Max-Forwards headers" Plain "Multiple Max-Forwards headers",
    MultipleContentLength 400 "Multiple Content-Length headers" Plain "Multiple Content-Length headers",
    MultipleExpires 400 "Multiple Expires headers" Plain "Multiple Expires headers",
    MultipleContentType 400 "Multiple Content-Type headers" Plain "Multiple Content-Type headers",
    MalformedFrom 400 "Missing or malformed From header" Plain "Missing or malformed From header",
    MalformedTo 400 "Malformed To header" Plain "Malformed To header",
    MissingTo 400 "Missing To header" Plain "Missing To header",
    MissingCallId 400 "Missing Call-ID header" Plain "Missing Call-ID header",
    MissingCseq 400 "Missing CSeq header" Plain "Missing CSeq header",
    CseqMethod 400 "CSeq method does not match request method" Plain "CSeq method does not match request method",
    MalformedCseq 400 "Malformed CSeq header" Plain "Malformed CSeq header",
    MalformedContentLength 400 "Malformed Content-Length header" Plain "Malformed Content-Length header",
    ContentLengthTooLarge 400 "Content-Length larger than message" Plain "Content-Length larger than message",
    MissingContentLength 400 "Missing Content-Length header" Plain "Missing Content-Length header",

    // What it asks for.
    UriScheme 416 "Unsupported URI Scheme" Plain "Unsupported URI Scheme",
    TooManyHops 483 "Too Many Hops" Plain "Too Many Hops",
    BadExtension 420 "Bad Extension" Extension "Bad Extension",
    RegisterInDialog 404 "Not here" Plain "Not here",
    MethodNotAllowed 405 "Method Not Allowed" Methods "Method Not Allowed",

    // Who asks.
    ToWithoutAddress 403 "Forbidden" Plain "To names no SIP address",
    NoRealm 403 "Forbidden" Plain "neither From nor To names a realm",
    NoCredentials 401 "Unauthorized" Challenge "no credentials for this realm",
    NonceExpired 401 "Unauthorized" Stale "nonce expired or not ours",
    NonceUsed 401 "Unauthorized" Stale "nonce or nonce count used before",
    QopNotOffered 401 "Unauthorized" Challenge "a qop that was not offered",
    AlgorithmNotOffered 401 "Unauthorized" Challenge "an algorithm that was not offered",
    MalformedCredentials 400 "Bad Request" Plain "credentials that do not parse",
    IncompleteCredentials 400 "Bad Request" Plain "credentials without username, nonce, uri or response",
    QopWithoutCount 400 "Bad Request" Plain "qop without nc or cnonce",
    MalformedCount 400 "Bad Request" Plain "malformed nc",
    BannedPair 403 "Forbidden" Plain
        "banned: too many wrong passwords for this extension from this address (`roost ban list`)",
    BannedSource 403 "Forbidden" Plain
        "banned: too many wrong names and passwords from this address (`roost ban list`)",
    BannedUser 403 "Forbidden" Plain "banned: too many wrong passwords for this extension (`roost ban list`)",
    WrongPassword 403 "Forbidden" Plain "wrong password",
    UnknownUser 404 "Not Found" Plain "unknown user",
    UnknownUserHidden 403 "Forbidden" Plain "unknown user",
    OtherUser 403 "Forbidden" Plain "the digest user is not the one that To or From names",
    CredentialsNotLoaded 500 "Server Internal Error" Plain "the database did not answer",

    // Limits.
    TooManyNonces 503 "Service Unavailable" Busy "too many nonces in use",
    TooManyForUser 503 "Service Unavailable" Busy "too many requests wait for this user's credentials",
    TooManyUnknownNames 503 "Service Unavailable" Busy "too many names that nobody knows are looked up",
    TooManyLookups 503 "Service Unavailable" Busy "too many users wait for their credentials",
    TooManyWaiting 503 "Service Unavailable" Busy "too many requests wait",
    TooManyCommits 503 "Service Unavailable" Busy "too many commits in flight",
    TooManyBindingsHeld 503 "Service Unavailable" Busy "too many bindings of one AOR in memory",
    TooManyForAor 503 "Service Unavailable" Busy "too many requests wait for this AOR's commit",
    TooManyTransactions 503 "Service Unavailable" Busy "too many transactions",
    NodeCutOff 503 "Service Unavailable" Busy
        "this node is cut off from the store that the nodes share",
    Draining 503 "Service Unavailable" Busy
        "this server is being taken out of service",
    RouteReplies 503 "Service Unavailable" Plain "a route of the configuration answers it",
    RowsNotRead 503 "Service Unavailable" Busy
        "the table is being read, and this AOR's turn did not come in time",

    // Registrations.
    Occupied 403 "Occupied" Plain "registered from another address",
    OccupiedInDatabase 403 "Occupied" Plain "registered from another address, says the database",
    AorParse 400 "Bad Request" Registrar "Error while parsing AOR",
    AorTooLong 500 "Server Internal Error" Registrar "Address Of Record too long",
    PathParse 400 "Bad Request" Registrar "Path parse error",
    PathNotSupported 420 "Bad Extension" PathExtension "No support for found Path indicated",
    TooManyContactsInRequest 400 "Bad Request" Registrar "Too many contacts in one REGISTER",
    ContactParse 400 "Bad Request" Registrar "Contact parse error",
    CallIdNotFound 400 "Bad Request" Registrar "Call-ID header not found",
    CallIdTooLong 400 "Bad Request" Registrar "Callid too long",
    CseqNotFound 400 "Bad Request" Registrar "CSeq header not found",
    ExpiresParse 400 "Bad Request" Registrar "Expires parse error",
    StarWithOthers 400 "Bad Request" Registrar "* used in contact and more than 1 contact",
    StarWithExpires 400 "Bad Request" Registrar "* used in contact and expires is not zero",
    CseqOrder 400 "Bad Request" RegistrarWithContacts "Invalid CSeq number",
    QInvalid 400 "Bad Request" Registrar "Invalid q param in contact",
    ContactTooLong 400 "Bad Request" Registrar "Contact/received too long",
    TooManyContacts 503 "Service Unavailable" RegistrarWithContacts "Too many registered contacts",
    InsertFailed 500 "Server Internal Error" Registrar "usrloc_contact_insert failed",
    UpdateFailed 500 "Server Internal Error" Registrar "usrloc_contact_update failed",
    DeleteFailed 500 "Server Internal Error" Registrar "usrloc_contact_delete failed",

    // Calls.
    NoNumber 484 "Address Incomplete" Plain "Address Incomplete",
    NothingLeftOfNumber 484 "Address Incomplete" Plain "nothing is left of the number",
    Loop 482 "Loop Detected" Plain "Loop Detected",
    MalformedRoute 400 "Malformed Route header" Plain "Malformed Route header",
    RouteToStranger 403 "Forbidden" Plain "a Route to a stranger",
    NotOurDialog 403 "Forbidden" Plain "not a dialog of ours, and not to a registered contact",
    DialogWithoutRoute 404 "Not here" Plain "inside a dialog, but no Route",
    NotRegistered 404 "Not Found" Plain "the callee is not registered",
    MethodNotTaken 404 "Not Found" Plain "no contact of the callee takes this method",
    CalleeNotLookedUp 500 "Server Internal Error" Plain
        "the database did not say whether the callee is an extension",
    CalleeHasEnough 486 "Busy Here" Plain "the callee has as many calls as it may have (`dialog.max_calls`)",
    CallerHasEnough 403 "Forbidden" Plain "the caller has as many calls as it may have (`dialog.max_calls`)",
    TooManyCalls 503 "Service Unavailable" Busy
        "as many calls are in progress as there may be (`proxy.max_calls`)",
    NoNextHop 503 "Service Unavailable" Plain "no next hop is up",
    NoOwnConnection 480 "Temporarily Unavailable" Plain
        "the callee is reached over its own connection only, and that is lost",
    ConnectionLost 480 "Temporarily Unavailable" Plain "the callee's connection is lost",
    NodeDown 480 "Temporarily Unavailable" Plain "the node that has the callee's phone is down",
    Unresolvable 476 "Unresolvable destination (476/TM)" Plain "Unresolvable destination (476/TM)",
    SipsInsecure 480 "Temporarily Unavailable" Sips
        "a sips URI, and the request did not come over TLS",
    SipsUnreachable 480 "Temporarily Unavailable" Sips
        "a sips URI, and nothing leads to the callee over TLS",
    NoTransport 477 "Send failed (477/TM)" Plain "the contact wants a transport that is not there",
    NoAddressFamily 477 "Send failed (477/TM)" Plain "no socket of that address family",
    NoConnection 477 "Send failed (477/TM)" Plain "no connection could be made",
    Cancelled 487 "Request Terminated" Plain "cancelled, and no answer",
    NoAnswer 408 "Request Timeout" Plain "no answer",
}
