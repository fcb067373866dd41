//! Conditions of a script: which of them roost decides by itself, and how the others are said in `when` of a `[[route]]`.

use std::net::IpAddr;

use crate::ast::{Call, Expr, Op, Place};
use crate::functions::is_built_in;

/// A simple condition on a way, whether it holds there, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fact {
    pub(crate) condition: Expr,
    pub(crate) holds: bool,
    pub(crate) at: Place,
}

impl Fact {
    /// Whether it says the opposite of another one.
    fn is_against(&self, other: &Fact) -> bool {
        self.condition == other.condition && self.holds != other.holds
    }

    fn is_like(&self, other: &Fact) -> bool {
        self.condition == other.condition && self.holds == other.holds
    }
}

/// Whether roost decides it by itself, so that nothing of the script is lost with it.
pub(crate) fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Not(of) | Expr::Negative(of) => is_plain(of),
        Expr::Two(Op::And | Op::Or, left, right) => is_plain(left) && is_plain(right),
        Expr::Two(_, left, right) => [left, right].into_iter().any(|side| is_settled(side)),
        Expr::Call(call) => is_built_in(&call.name),
        _ => false,
    }
}

/// One side of a comparison about which there is nothing to choose.
fn is_settled(side: &Expr) -> bool {
    match side {
        Expr::Word(word) => ["myself", "NULL", "null"].contains(&word.as_str()),
        Expr::Var(name) => ["$null", "$T_reply_code", "$rs", "$(<reply>rs)", "$DLG_status", "$au", "$rm"]
            .contains(&name.as_str()),
        Expr::Call(call) => is_built_in(&call.name),
        _ => false,
    }
}

/// What is the same on other ways, whichever way a condition goes, is not up to that condition: it is left out. Each entry is what one
/// way depends on.
pub(crate) fn simplified(mut all: Vec<Vec<Fact>>) -> Vec<Vec<Fact>> {
    loop {
        let has = |set: &[Fact], fact: &Fact| set.iter().any(|own| own.is_like(fact));
        let includes = |more: &[Fact], less: &[Fact]| less.iter().all(|fact| has(more, fact));
        let mut kept: Vec<Vec<Fact>> = Vec::new();
        for set in all {
            if !kept.iter().any(|other| includes(&set, other)) {
                kept.retain(|other| !includes(other, &set));
                kept.push(set);
            }
        }
        // Two that differ in one condition alone, which holds here and not there, are one without it.
        let joined = kept.iter().enumerate().find_map(|(at, one)| {
            kept.iter().enumerate().skip(at + 1).find_map(|(other_at, other)| {
                let mut differs = one.iter().filter(|fact| !has(other, fact));
                let fact = differs.next().filter(|_| differs.next().is_none())?;
                let against = other.iter().filter(|theirs| !has(one, theirs)).collect::<Vec<_>>();
                let is_pair = matches!(against.as_slice(), [theirs] if theirs.is_against(fact));
                let rest = one.iter().filter(|own| !own.is_like(fact)).cloned().collect::<Vec<_>>();
                is_pair.then_some((at, other_at, rest))
            })
        });
        let Some((at, other_at, rest)) = joined else { return kept };
        kept.remove(other_at);
        kept.remove(at);
        kept.push(rest);
        all = kept;
    }
}

/// It as `when` says it; `None`: that cannot be said.
pub(crate) fn said(fact: &Fact) -> Option<String> {
    let text = clause(&fact.condition)?;
    Some(match (fact.holds, fact.condition.is_and_or()) {
        (true, false) => text,
        (true, true) => format!("({text})"),
        (false, _) => format!("!({text})"),
    })
}

fn clause(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Not(of) => Some(format!("!({})", clause(of)?)),
        Expr::Two(op @ (Op::And | Op::Or), left, right) => {
            let sign = if *op == Op::And { "&&" } else { "||" };
            let side = |expr: &Expr| {
                Some(if expr.is_and_or() { format!("({})", clause(expr)?) } else { clause(expr)? })
            };
            Some(format!("{} {sign} {}", side(left)?, side(right)?))
        }
        Expr::Two(op, left, right) => {
            let (subject, value) = (subject(left)?, right.text()?);
            let positive = match op {
                Op::Equal | Op::Unequal => equal(&subject, &value)?,
                Op::Matches | Op::Differs => matching(&subject, &value)?,
                _ => return None,
            };
            Some(match op {
                Op::Unequal | Op::Differs => format!("!({positive})"),
                _ => positive,
            })
        }
        _ => None,
    }
}

fn equal(subject: &str, value: &str) -> Option<String> {
    match subject {
        "uri" => None,
        "source" if value.contains('/') => {
            value.parse::<ipnet::IpNet>().ok()?;
            Some(format!("inNetwork(source, {})", quoted(value)))
        }
        "source" => {
            value.parse::<IpAddr>().ok()?;
            Some(format!("source == {}", quoted(value)))
        }
        "source_port" => Some(format!("source_port == {}", value.parse::<u16>().ok()?)),
        _ => Some(format!("{subject} == {}", quoted(value))),
    }
}

fn matching(subject: &str, pattern: &str) -> Option<String> {
    if subject == "uri" {
        return Some(format!("uri.user.matches({})", quoted(&user_of_pattern(pattern)?)));
    }
    (subject != "source_port" && regex::Regex::new(pattern).is_ok())
        .then(|| format!("{subject}.matches({})", quoted(pattern)))
}

/// The name of what a variable stands for.
fn subject(expr: &Expr) -> Option<String> {
    let name = match expr {
        Expr::Var(name) => name.as_str(),
        Expr::Word(word) => word.as_str(),
        _ => return None,
    };
    let known = match name {
        "$rU" | "$(ru{uri.user})" | "$oU" => "uri.user",
        "$rd" | "$(ru{uri.host})" | "$od" => "uri.host",
        "$ru" | "$ou" | "uri" => "uri",
        "$fU" | "$(fu{uri.user})" => "from.user",
        "$fd" | "$(fu{uri.host})" => "from.host",
        "$tU" | "$(tu{uri.user})" => "to.user",
        "$td" | "$(tu{uri.host})" => "to.host",
        "$si" | "src_ip" => "source",
        "$sp" | "src_port" => "source_port",
        "$ua" => "user_agent",
        "$ci" => "call_id",
        _ => {
            let header = name.strip_prefix("$hdr(")?.strip_suffix(')')?;
            let is_name =
                !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            return is_name.then(|| format!("header({})", quoted(header)));
        }
    };
    Some(known.to_string())
}

/// Addresses that a condition names as sources, all of which it holds for: `$si == "a" || $si == "b"`.
pub(crate) fn sources(condition: &Expr) -> Option<Vec<String>> {
    match condition {
        Expr::Two(Op::Or, left, right) => {
            let mut all = sources(left)?;
            all.extend(sources(right)?);
            Some(all)
        }
        Expr::Two(Op::Equal, left, right) if subject(left).as_deref() == Some("source") => {
            let value = right.text()?;
            let is_address = value.parse::<IpAddr>().is_ok() || value.parse::<ipnet::IpNet>().is_ok();
            is_address.then(|| vec![value])
        }
        _ => None,
    }
}

/// `sip:0[0-9]+@` is about users that are so, to their ends where the pattern goes on to the host.
pub(crate) fn user_of_pattern(pattern: &str) -> Option<String> {
    let anchored = pattern.trim_start_matches('^');
    let inside = anchored.strip_prefix("sips:").or_else(|| anchored.strip_prefix("sip:"))?;
    let user = match inside.split_once('@') {
        Some((user, _)) if user.ends_with(".*") => format!("^{}", user.trim_end_matches(".*")),
        Some((user, _)) => format!("^{user}$"),
        None => format!("^{}", inside.trim_end_matches(".*")),
    };
    regex::Regex::new(&user).is_ok().then_some(user)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The call that a condition asks, alone or compared with a number.
pub(crate) fn asked(condition: &Expr) -> Option<&Call> {
    match condition {
        Expr::Call(call) => Some(call),
        Expr::Two(Op::Equal | Op::AtLeast, left, right) if **right == Expr::Number(1) => asked(left),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(left: &str, op: Op, right: &str) -> Expr {
        Expr::Two(op, Box::new(Expr::Var(left.to_string())), Box::new(Expr::Text(right.to_string())))
    }

    fn fact(condition: Expr, holds: bool) -> Fact {
        Fact { condition, holds, at: Place::default() }
    }

    #[test]
    fn what_when_can_say() {
        let or =
            Expr::Two(Op::Or, Box::new(is("$rU", Op::Equal, "911")), Box::new(is("$rU", Op::Equal, "112")));
        for (fact, expected) in [
            (fact(is("$si", Op::Equal, "10.0.0.1"), true), Some(r#"source == "10.0.0.1""#)),
            (fact(is("$si", Op::Equal, "10.0.0.0/8"), false), Some(r#"!(inNetwork(source, "10.0.0.0/8"))"#)),
            (fact(is("$hdr(X-A)", Op::Matches, "^a\\.b"), true), Some(r#"header("X-A").matches("^a\\.b")"#)),
            (fact(or, true), Some(r#"(uri.user == "911" || uri.user == "112")"#)),
            (
                fact(is("$ru", Op::Matches, "^sip:[0-9]{4}@.*"), true),
                Some(r#"uri.user.matches("^[0-9]{4}$")"#),
            ),
            (fact(is("$avp(x)", Op::Equal, "1"), true), None),
            (fact(is("$si", Op::Equal, "gateway"), true), None),
        ] {
            assert_eq!(said(&fact).as_deref(), expected);
        }
    }

    #[test]
    fn what_makes_no_difference_is_left_out() {
        let (a, b) = (is("$avp(a)", Op::Equal, "1"), is("$avp(b)", Op::Equal, "1"));
        let all = [(true, true), (true, false), (false, true), (false, false)];
        let ways = all.map(|(one, two)| vec![fact(a.clone(), one), fact(b.clone(), two)]).to_vec();
        assert_eq!(simplified(ways.clone()), [vec![]]);
        assert_eq!(simplified(ways[..2].to_vec()), [vec![fact(a, true)]]);
        assert_eq!(simplified(ways[..1].to_vec()), ways[..1]);
    }
}
