//! The table of verdicts: `rfc4475.verdicts` and `rfc5118.verdicts`, read line by line.
//!
//! A line at the margin opens a vector, `SECTION NAME: what it is`; the indented lines `KEY: TEXT` below belong to it.
//!
//! | key | meaning |
//! |---|---|
//! | `given` | how the stage is set: see [`crate::stage::Setup`] |
//! | `grammar` | `accepts`, or `refuses PART: ERROR`, one line for each part that does not parse |
//! | `value` | `PART = TEXT`, what the grammar reads there, see [`crate::reading`] |
//! | `verdict` | what the engine does with it, see [`Verdict`] |
//! | `says` | how a header field of the answer begins |
//! | `binds` | a contact of the AOR after a 200, one a line, no others |
//! | `takes off` | a header field that is not forwarded; all others must be, to the byte |
//! | `adds` | a header field that stands behind all others when it is forwarded |
//! | `in a call` | for a response: what becomes of it when it does answer a request of ours |
//! | `because` | why, where the RFC leaves a choice |

use std::net::SocketAddr;
use std::path::Path;

/// One vector and what must become of it.
#[derive(Debug, Default)]
pub(crate) struct Vector {
    pub(crate) section: String,
    pub(crate) name: String,
    pub(crate) given: Vec<String>,
    pub(crate) grammar: Vec<String>,
    pub(crate) values: Vec<(String, String)>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) says: Vec<String>,
    pub(crate) binds: Vec<String>,
    pub(crate) takes_off: Vec<String>,
    pub(crate) adds: Vec<String>,
    pub(crate) in_a_call: Option<InACall>,
}

/// What the engine does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `answered 200 OK`: one answer, to where RFC 3261 18.2.2 sends it. `answered 401 Unauthorized, then 200 OK`: the
    /// second one when the request comes again with the subscriber's credentials.
    Answered { status: String, then: Option<String> },
    /// `forwarded`: to the callee's contact, or `forwarded to URI at ADDRESS:PORT`; an INVITE is answered
    /// `100 Giving a try` before.
    Forwarded { to: Option<(String, SocketAddr)> },
    /// `dropped as COUNTER`: nothing leaves, and this counter goes up.
    Dropped { counter: String },
}

/// What becomes of a response to a request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InACall {
    /// It goes to the caller, to the byte but for our Via.
    Relayed,
    /// It ends here.
    Kept,
}

/// Reads one table.
///
/// # Panics
/// With the line that is not as the module's head says.
pub(crate) fn read(path: &Path) -> Vec<Vector> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut vectors: Vec<Vector> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = format!("{}:{}", path.display(), index + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, rest) = line.split_once(": ").unwrap_or_else(|| panic!("{at}: no `: ` in the line"));
        if !line.starts_with(' ') {
            let (section, name) = key.split_once(' ').unwrap_or_else(|| panic!("{at}: SECTION NAME: …"));
            vectors.push(Vector { section: section.into(), name: name.into(), ..Vector::default() });
            continue;
        }
        let vector = vectors.last_mut().unwrap_or_else(|| panic!("{at}: no vector above"));
        match key.trim() {
            "given" => vector.given.push(rest.into()),
            "grammar" => vector.grammar.push(rest.into()),
            "value" => {
                let (part, value) =
                    rest.split_once(" = ").unwrap_or_else(|| panic!("{at}: value: PART = TEXT"));
                vector.values.push((part.into(), value.into()));
            }
            "verdict" => vector.verdict = Some(verdict(rest).unwrap_or_else(|| panic!("{at}: no verdict"))),
            "says" => vector.says.push(rest.into()),
            "binds" => vector.binds.push(rest.into()),
            "takes off" => vector.takes_off.push(rest.into()),
            "adds" => vector.adds.push(rest.into()),
            "in a call" if rest == "relayed" => vector.in_a_call = Some(InACall::Relayed),
            "in a call" if rest == "kept" => vector.in_a_call = Some(InACall::Kept),
            "because" => {}
            other => panic!("{at}: no such key: {other}"),
        }
    }
    for vector in &vectors {
        assert!(vector.verdict.is_some(), "{} {} has no verdict", vector.section, vector.name);
        assert!(!vector.grammar.is_empty(), "{} {} has no grammar", vector.section, vector.name);
    }
    vectors
}

fn verdict(text: &str) -> Option<Verdict> {
    if text == "forwarded" {
        return Some(Verdict::Forwarded { to: None });
    }
    if let Some(to) = text.strip_prefix("forwarded to ") {
        let (uri, address) = to.split_once(" at ")?;
        return Some(Verdict::Forwarded { to: Some((uri.into(), address.parse().ok()?)) });
    }
    if let Some(counter) = text.strip_prefix("dropped as ") {
        return Some(Verdict::Dropped { counter: counter.into() });
    }
    let text = text.strip_prefix("answered ")?;
    let (status, then) = match text.split_once(", then ") {
        Some((status, then)) => (status, Some(then.to_string())),
        None => (text, None),
    };
    Some(Verdict::Answered { status: status.into(), then })
}
