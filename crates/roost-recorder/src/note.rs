//! One thing that happened.

use std::net::SocketAddr;

use roost_core::{CallEnd, Gone, Reason};

/// Longest texts that are kept, in bytes.
const MAX_TEXT: usize = 64;
const MAX_CALL_ID: usize = 80;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A request was answered with a challenge, and nothing has followed from there.
    Challenged {
        reason: Reason,
        is_register: bool,
    },
    /// A request was refused.
    Refused {
        code: u16,
        reason: Reason,
        is_register: bool,
    },
    /// A new binding.
    Registered,
    /// The same was renewed; how much it would have lasted at least, in milliseconds (less than 0: it had expired), and how often it
    /// came from another port than the time before.
    Refreshed {
        least_left_ms: i64,
        moves: u32,
    },
    /// A binding is gone.
    Gone(Gone),
    FlowLost,
    /// So many pings were not answered.
    PingsLost(u32),
    /// The database did not take it.
    NotStored,
    Banned {
        seconds: u64,
    },
    /// An INVITE was refused that it sent (the text is whom it called), or that was for it (the text is who called).
    CallRefused {
        code: u16,
        reason: Reason,
        is_caller: bool,
    },
    /// A call to it has ended; the text is who called.
    WasCalled(CallOutcome),
    /// A call of its own has ended; the text is whom it called.
    CalledOthers(CallOutcome),
}

impl What {
    /// Whether it is about a call.
    pub fn is_call(self) -> bool {
        matches!(self, What::WasCalled(_) | What::CalledOthers(_) | What::CallRefused { .. })
    }

    /// Whether it is about a call, or another request than a REGISTER: that tells nothing about the registration.
    pub(crate) fn is_beside_registration(self) -> bool {
        let is_other_request = matches!(
            self,
            What::Refused { is_register: false, .. } | What::Challenged { is_register: false, .. }
        );
        self.is_call() || is_other_request
    }

    /// Whether it may be of a name that does not exist: whatever a stranger can bring about.
    pub(crate) fn may_be_a_strangers(self) -> bool {
        match self {
            // Only an extension has a password.
            What::Refused { reason, .. } => reason != Reason::WrongPassword,
            What::Challenged { .. } | What::CallRefused { .. } | What::Banned { .. } => true,
            _ => false,
        }
    }

    /// Whether phones may have it in turn that use one extension.
    pub(crate) fn has_turns(self) -> bool {
        matches!(self, What::Registered | What::Gone(Gone::Replaced))
    }

    /// Whether it may be added to an earlier note of its kind though `later` has come in between.
    pub(crate) fn passes_over(self, later: What) -> bool {
        match self {
            What::Refreshed { .. } => later.is_beside_registration(),
            // Two that have its place in turn.
            What::Registered | What::Gone(Gone::Replaced) => later.has_turns(),
            // Two that are refused in turn.
            What::Refused { .. } => matches!(later, What::Refused { .. } | What::Challenged { .. }),
            _ => false,
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallOutcome {
    pub end: CallEnd,
    /// How long it was until it was answered, or failed.
    pub rang_s: u32,
    /// Whether a phone rang meanwhile.
    pub has_rung: bool,
    /// How long they talked; 0 where it was not answered.
    pub talked_s: u32,
}

/// Something that happened, once or several times in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub what: What,
    /// When it happened first and last, in milliseconds of unix time.
    pub first_ms: u64,
    pub last_ms: u64,
    pub count: u32,
    /// How long the registration lasts, in seconds; 0 where nothing is said of it.
    pub granted_s: u32,
    pub source: Option<SocketAddr>,
    /// The phone's User-Agent, or the other side of a call.
    pub text: Box<str>,
    pub call_id: Box<str>,
}

impl Note {
    pub(crate) fn new(what: What) -> Note {
        let (first_ms, last_ms, count, granted_s, source) = (0, 0, 1, 0, None);
        Note { what, first_ms, last_ms, count, granted_s, source, text: "".into(), call_id: "".into() }
    }

    pub(crate) fn from(self, source: SocketAddr) -> Note {
        Note { source: Some(source), ..self }
    }

    pub(crate) fn with_text(self, text: &[u8]) -> Note {
        Note { text: shown(text, MAX_TEXT), ..self }
    }

    pub(crate) fn with_call_id(self, call_id: &[u8]) -> Note {
        Note { call_id: shown(call_id, MAX_CALL_ID), ..self }
    }

    /// Whether it is a challenge that the next one shows to be answered.
    pub(crate) fn is_answered_by(&self, next: &Note) -> bool {
        match (self.what, next.what) {
            (
                What::Challenged { is_register: true, .. },
                What::Registered | What::Refreshed { .. } | What::Refused { is_register: true, .. },
            )
            | (What::Challenged { is_register: false, .. }, What::Refused { is_register: false, .. }) => {
                self.is_from_same_ip(next)
            }
            (
                What::Challenged { is_register: false, .. },
                What::CalledOthers(_) | What::CallRefused { is_caller: true, .. },
            ) => true,
            _ => false,
        }
    }

    /// Whether both are of one call that roost refused, and whose end is told too: the reason says more than the code.
    pub(crate) fn is_call_of(&self, next: &Note) -> bool {
        let is_refused = |note: &Note| matches!(note.what, What::CallRefused { .. });
        let is_same = next.what.is_call() && !next.call_id.is_empty() && self.call_id == next.call_id;
        is_same && (is_refused(next) || is_refused(self))
    }

    pub(crate) fn is_from_same_ip(&self, next: &Note) -> bool {
        self.source.map(|own| own.ip()) == next.source.map(|own| own.ip())
    }

    /// Takes another in, if it is of the same; whether it did. Of those that have a place in turn each port is another phone, unless
    /// `any_port`.
    pub(crate) fn merge(&mut self, next: &Note, any_port: bool) -> bool {
        let is_same_source = match self.what {
            What::Registered | What::Gone(Gone::Replaced) if !any_port => self.source == next.source,
            _ => self.is_from_same_ip(next),
        };
        let is_same = match (&mut self.what, &next.what) {
            (What::Refreshed { .. }, What::Refreshed { .. }) => is_same_source,
            (What::WasCalled(_) | What::CalledOthers(_) | What::CallRefused { .. }, _) => false,
            (own, next) => own == next && is_same_source,
        };
        let is_same = is_same && self.text == next.text;
        if is_same {
            if let (
                What::Refreshed { least_left_ms, moves },
                What::Refreshed { least_left_ms: other_ms, moves: others },
            ) = (&mut self.what, next.what)
            {
                *least_left_ms = (*least_left_ms).min(other_ms);
                *moves = moves.saturating_add(others + u32::from(self.source != next.source));
            }
            self.last_ms = next.last_ms;
            self.count = self.count.saturating_add(next.count);
            self.granted_s = next.granted_s;
            self.source = match any_port {
                true => next.source.map(|source| SocketAddr::new(source.ip(), 0)),
                false => next.source,
            };
        }
        is_same
    }

    /// Bytes that it takes.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Note>() + self.text.len() + self.call_id.len()
    }
}

/// What a stranger wrote, cut, and without control characters.
fn shown(text: &[u8], most: usize) -> Box<str> {
    let text = String::from_utf8_lossy(text.get(..most).unwrap_or(text));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
}
