//! `[[route]]`: which requests go to which next hops, or are answered at once, and what is changed in them.

use std::sync::Arc;

use regex::bytes::Regex;
use roost_filter::{Filter, Values};
use roost_sip::{Method, MethodSet, Uri};

use crate::contract::hop_uri::HopUri;

/// One `[[route]]`: what it is for, and where that goes.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The number of its hops' set, as `ds_list` shows it.
    pub set: u32,
    pub numbers: Numbers,
    /// The host of the Request-URI, in lower case; `None` takes any.
    pub domain: Option<Box<str>>,
    /// What else must be so of a request, by the names of [`crate::REQUEST`].
    pub when: Option<Arc<Filter>>,
    /// How many characters are taken off the front of the user.
    pub strip: usize,
    /// What is put before the user then.
    pub prepend: Box<str>,
    /// Which calls of extensions it takes; with [`Failure::Offline`], or without any, numbers that are no extensions, too.
    pub on: Failures,
    /// How long an extension rings before that counts as [`Failure::NoAnswer`], in seconds; 0: `tm.fr_inv_timeout`.
    pub after_s: u32,
    /// How a hop is told whose call it was.
    pub diversion: DiversionStyle,
    /// What else is changed in requests.
    pub headers: HeaderEdits,
    /// What of a service it is for, before the extensions are looked up; `None`: for numbers of calls that are no extensions.
    pub service: Option<Service>,
    /// What is answered in place of sending a request on: before the extensions are looked up.
    pub reply: Option<Reply>,
    /// The next hops, in the order in which they are tried.
    pub hops: Vec<HopUri>,
}

/// Requests of a service of a hop's, such as message waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub methods: MethodSet,
    /// Event packages (RFC 6665 7.2), in lower case; empty: all.
    pub events: Vec<Box<str>>,
}

/// A final answer of an operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 400 to 699.
    pub code: u16,
    pub phrase: Arc<str>,
}

/// Which users of a Request-URI a rule is for.
#[derive(Debug, Clone)]
pub enum Numbers {
    /// All: the rule is for a domain, whose Request-URIs keep their host.
    Any,
    /// Those that begin so.
    Prefix(Box<str>),
    /// Those in which this is found.
    Pattern(Regex),
}

/// Why a call does not reach the extension that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It is not registered, or there is no way to its phone.
    Offline,
    /// 486, 600, or as many calls as it may have.
    Busy,
    /// 408, 480, or it has rung long enough.
    NoAnswer,
    /// 403, 603.
    Refused,
}

/// Some of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures(u8);

/// How a diverted call says whose it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiversionStyle {
    #[default]
    Off,
    /// By Diversion (RFC 5806).
    Diversion,
    /// By History-Info (RFC 7044).
    HistoryInfo,
}

/// Header fields that a rule's requests lose and get.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Names of those that they lose.
    pub remove: Vec<Box<str>>,
    /// Whole lines that they get.
    pub add: Box<str>,
}

impl Failure {
    /// By their names in `on`.
    pub const NAMED: [(&str, Failure); 4] = [
        ("offline", Failure::Offline),
        ("busy", Failure::Busy),
        ("no-answer", Failure::NoAnswer),
        ("refused", Failure::Refused),
    ];

    /// What a phone's final answer says of the call.
    pub(crate) fn of_code(code: u16) -> Option<Failure> {
        match code {
            486 | 600 => Some(Failure::Busy),
            408 | 480 => Some(Failure::NoAnswer),
            403 | 603 => Some(Failure::Refused),
            // The flow to the phone is gone (RFC 5626 11.5).
            430 => Some(Failure::Offline),
            _ => None,
        }
    }

    /// What ours says, of phones that nobody has heard.
    pub(crate) fn of_own_code(code: u16) -> Option<Failure> {
        match code {
            408 => Some(Failure::NoAnswer),
            476 | 477 | 480 => Some(Failure::Offline),
            _ => None,
        }
    }

    /// As a decision tells it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Failure::Offline => "is offline",
            Failure::Busy => "is busy",
            Failure::NoAnswer => "does not answer",
            Failure::Refused => "refuses the call",
        }
    }

    /// The reason in a Diversion header (RFC 5806 section 4).
    pub(crate) fn diversion_reason(self) -> &'static str {
        match self {
            Failure::Offline => "unavailable",
            Failure::Busy => "user-busy",
            Failure::NoAnswer => "no-answer",
            Failure::Refused => "deflection",
        }
    }

    /// The status code in a History-Info header (RFC 7044 section 10.2).
    pub(crate) fn cause(self) -> u16 {
        match self {
            Failure::Offline => 480,
            Failure::Busy => 486,
            Failure::NoAnswer => 408,
            Failure::Refused => 603,
        }
    }
}

impl Failures {
    pub const NONE: Failures = Failures(0);

    /// With one more.
    pub fn and(self, failure: Failure) -> Failures {
        Failures(self.0 | 1 << failure as u8)
    }

    pub fn has(self, failure: Failure) -> bool {
        self.0 & 1 << failure as u8 != 0
    }

    pub(crate) fn or(self, other: Failures) -> Failures {
        Failures(self.0 | other.0)
    }

    /// Whether there is any by which a call is diverted that has rung, or could have.
    pub(crate) fn has_diversions(self) -> bool {
        self.0 & !(1 << Failure::Offline as u8) != 0
    }

    /// Whether numbers that are no extensions go the same way.
    pub(crate) fn takes_strangers(self) -> bool {
        self == Failures::NONE || self.has(Failure::Offline)
    }
}

impl Service {
    pub(crate) fn takes(&self, method: Method, event: &[u8]) -> bool {
        let is_taken = || self.events.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(event));
        self.methods & method.bit() != 0 && (self.events.is_empty() || is_taken())
    }
}

impl Numbers {
    pub(crate) fn fit(&self, user: &[u8]) -> bool {
        match self {
            Numbers::Any => true,
            Numbers::Prefix(prefix) => user.starts_with(prefix.as_bytes()),
            Numbers::Pattern(pattern) => pattern.is_match(user),
        }
    }
}

impl Rule {
    /// Nothing but what it is for, and where that goes.
    pub fn new(numbers: Numbers, hops: Vec<HopUri>) -> Rule {
        Rule {
            set: 0,
            numbers,
            domain: None,
            when: None,
            strip: 0,
            prepend: "".into(),
            on: Failures::NONE,
            after_s: 0,
            diversion: DiversionStyle::Off,
            headers: HeaderEdits::default(),
            service: None,
            reply: None,
            hops,
        }
    }

    /// Whether it is looked at before the extensions are.
    pub(crate) fn is_first(&self) -> bool {
        self.service.is_some() || self.reply.is_some()
    }

    /// Whether it is for this user (without escapes) and host.
    pub(crate) fn is_for(&self, user: &[u8], host: &[u8]) -> bool {
        let domain = self.domain.as_deref();
        domain.is_none_or(|domain| domain.as_bytes().eq_ignore_ascii_case(host)) && self.numbers.fit(user)
    }

    /// Whether its condition holds; without one it does.
    pub(crate) fn holds(&self, values: &dyn Values) -> bool {
        self.when.as_ref().is_none_or(|when| when.holds(values))
    }

    /// The Request-URI that goes to a hop: `None` when nothing is left of the user.
    pub(crate) fn rewrite(&self, uri: &Uri<'_>, hop: &HopUri) -> Option<Vec<u8>> {
        let user = uri.user_part().without_separators();
        let user = stripped(&user, self.strip);
        if user.is_empty() && self.prepend.is_empty() {
            return None;
        }
        let keeps_host = matches!(self.numbers, Numbers::Any);
        if keeps_host && self.strip == 0 && self.prepend.is_empty() {
            return Some(uri.text.to_vec());
        }
        let mut text = Vec::with_capacity(uri.text.len() + hop.text.len() + self.prepend.len());
        text.extend_from_slice(b"sip:");
        text.extend_from_slice(self.prepend.as_bytes());
        text.extend_from_slice(user);
        text.push(b'@');
        match keeps_host {
            // Behind the `@` nothing changes.
            true => {
                let at = uri.text.iter().position(|byte| *byte == b'@').map_or(uri.text.len(), |at| at + 1);
                text.extend_from_slice(uri.text.get(at..).unwrap_or(&[]));
            }
            false => text.extend_from_slice(hop.behind_user().as_bytes()),
        }
        Some(text)
    }

    /// What it is for, for who asks.
    pub(crate) fn words(&self) -> String {
        let what = match &self.numbers {
            Numbers::Any => "any number".to_string(),
            Numbers::Prefix(prefix) => format!("prefix = \"{prefix}\""),
            Numbers::Pattern(pattern) => format!("user = '{pattern}'"),
        };
        let domain = self.domain.as_ref().map_or(String::new(), |domain| format!(", domain = \"{domain}\""));
        let when = self.when.as_ref().map_or(String::new(), |when| format!(", when = '{}'", when.text()));
        let edits = match (self.strip, self.prepend.is_empty()) {
            (0, true) => String::new(),
            (strip, _) => {
                format!(
                    "; {strip} characters are taken off the number, \"{}\" is put before it",
                    self.prepend
                )
            }
        };
        let hops: Vec<_> = self.hops.iter().map(|hop| &*hop.text).collect();
        format!(
            "the [[route]] of set {} takes it ({what}{domain}{when}): {}{edits}",
            self.set,
            hops.join(", ")
        )
    }
}

/// A user without its first characters; an escape is one character.
fn stripped(user: &[u8], count: usize) -> &[u8] {
    let mut rest = user;
    for _ in 0..count {
        let len = if rest.first() == Some(&b'%') { 3 } else { 1 };
        rest = rest.get(len..).unwrap_or(&[]);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_of_a_call() {
        let of = |codes: &[u16], named: fn(u16) -> Option<Failure>| -> Vec<Option<Failure>> {
            codes.iter().map(|code| named(*code)).collect()
        };
        use Failure::{Busy, NoAnswer, Offline, Refused};
        let phones = of(&[486, 600, 408, 480, 403, 603, 430, 404, 503], Failure::of_code);
        let expected = [Busy, Busy, NoAnswer, NoAnswer, Refused, Refused, Offline].map(Some);
        assert_eq!(phones, [&expected[..], &[None, None]].concat());
        let own = of(&[408, 476, 477, 480, 487], Failure::of_own_code);
        assert_eq!(own, [Some(NoAnswer), Some(Offline), Some(Offline), Some(Offline), None]);
    }

    #[test]
    fn a_set_of_failures() {
        let busy = Failures::NONE.and(Failure::Busy);
        assert!(busy.has(Failure::Busy) && !busy.has(Failure::Offline) && busy.has_diversions());
        assert!(!busy.takes_strangers() && Failures::NONE.takes_strangers());
        let offline = Failures::NONE.and(Failure::Offline);
        assert!(offline.takes_strangers() && !offline.has_diversions());
        assert!(offline.or(busy).has(Failure::Busy));
    }
}
