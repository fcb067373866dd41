//! The language of wire goldens: a text that reads as a call flow becomes steps to carry out.
//!
//! A line that begins with a directive begins a step; the lines of a message follow its `>>` or `<<`.
//!
//! | line | meaning |
//! |---|---|
//! | `# …` | a comment |
//! | `config KEY = VALUE` | a setting, before the first message; 1 and 0 for booleans |
//! | `local IP:PORT` | our address, 10.2.84.19:5060 unless said |
//! | `route KEY=VALUE …` | a `[[route]]`: `prefix`, `domain`, `strip`, `prepend`, `on=FAILURE,FAILURE`, `after`, `diversion`, `hops=URI,URI` |
//! | `dns NAME IP:PORT …` | where a name leads; nowhere without addresses |
//! | `user NAME [@DOMAIN] PASSWORD` | a subscriber |
//! | `>> IP:PORT` | a datagram from there; without lines it is a keep-alive |
//! | `>> tcp:IP:PORT` | a message over a connection from there, the open one or a new one |
//! | `>> IP:PORT again` | the last message from there, byte by byte |
//! | `closed IP:PORT` | the connection from there is gone |
//! | `refuse IP:PORT` | no connection to there can be made |
//! | `<< IP:PORT`, `<< tcp:IP:PORT` | the answer that goes there; `*` stands for any bytes of a line but none |
//! | `<< nothing` | no answer |
//! | `+32s`, `+500ms` | time passes |
//! | `db fail` | the next commit fails and writes nothing |
//! | `db lose` | the next commit is written, but its answer is lost and it counts as failed |
//! | `db hold`, `db release` | commits wait; they go on |
//! | `db slow` | the next commit takes 2 seconds |
//! | `restart` | the process dies and starts again with the same configuration |

use std::net::SocketAddr;

use roost_core::{DiversionStyle, Failure, HopUri, Numbers, Rule, Transport};

/// One step and the line it stands on.
#[derive(Debug)]
pub struct Step {
    pub line: usize,
    pub what: What,
}

/// What a step does.
#[derive(Debug)]
pub enum What {
    Config {
        key: String,
        value: String,
    },
    Local(SocketAddr),
    Route(Box<Rule>),
    Name {
        name: String,
        places: Vec<SocketAddr>,
    },
    User {
        name: String,
        domain: String,
        password: String,
    },
    Send {
        from: Peer,
        lines: Vec<String>,
    },
    SendAgain {
        from: Peer,
    },
    Expect {
        to: Peer,
        lines: Vec<String>,
    },
    Closed(SocketAddr),
    Refuse(SocketAddr),
    ExpectNothing,
    /// Milliseconds pass.
    Pass(u64),
    Database(Database),
    Restart,
}

/// Whom a message comes from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub transport: Transport,
    pub address: SocketAddr,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.transport.as_str(), self.address)
    }
}

/// What the database does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Fail,
    Lose,
    Hold,
    Release,
    Slow,
}

/// Reads a script.
///
/// # Errors
/// The line and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    // Whether a line that is not a directive belongs to the step before.
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let what = directive(line).map_err(|error| format!("line {number}: {error}"))?;
        match what {
            Some(Line::Comment) => is_open = false,
            Some(Line::Step(what)) => {
                is_open = matches!(what, What::Send { .. } | What::Expect { .. });
                steps.push(Step { line: number, what });
            }
            None if is_open => {
                if let Some(What::Send { lines, .. } | What::Expect { lines, .. }) =
                    steps.last_mut().map(|step| &mut step.what)
                {
                    lines.push(line.to_string());
                }
            }
            None if line.trim().is_empty() => {}
            None => return Err(format!("line {number}: neither a directive nor part of a message: {line}")),
        }
    }
    for step in &mut steps {
        if let What::Send { lines, .. } | What::Expect { lines, .. } = &mut step.what {
            while lines.last().is_some_and(|line| line.is_empty()) {
                lines.pop();
            }
        }
    }
    Ok(steps)
}

enum Line {
    Comment,
    Step(What),
}

/// `None` for a line that begins no step.
fn directive(line: &str) -> Result<Option<Line>, String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    let what = match word {
        _ if line.starts_with('#') => return Ok(Some(Line::Comment)),
        "config" => {
            let (key, value) = rest.split_once('=').ok_or("config KEY = VALUE")?;
            What::Config { key: key.trim().to_string(), value: value.trim().to_string() }
        }
        "local" => What::Local(address(rest)?),
        "route" => What::Route(Box::new(route(rest)?)),
        "dns" => {
            let mut words = rest.split_whitespace();
            let name = words.next().ok_or("dns NAME IP:PORT …")?.to_string();
            What::Name { name, places: words.map(address).collect::<Result<_, _>>()? }
        }
        "user" => user(rest)?,
        ">>" => match rest.strip_suffix(" again") {
            Some(from) => What::SendAgain { from: peer(from)? },
            None => What::Send { from: peer(rest)?, lines: Vec::new() },
        },
        "<<" if rest == "nothing" => What::ExpectNothing,
        "<<" => What::Expect { to: peer(rest)?, lines: Vec::new() },
        "closed" => What::Closed(address(rest)?),
        "refuse" => What::Refuse(address(rest)?),
        "db" => What::Database(match rest {
            "fail" => Database::Fail,
            "lose" => Database::Lose,
            "hold" => Database::Hold,
            "release" => Database::Release,
            "slow" => Database::Slow,
            _ => return Err("db fail | lose | hold | release | slow".to_string()),
        }),
        "restart" => What::Restart,
        _ if word.starts_with('+') && rest.is_empty() => What::Pass(milliseconds(&word[1..])?),
        _ => return Ok(None),
    };
    Ok(Some(Line::Step(what)))
}

fn user(rest: &str) -> Result<What, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (name, domain, password) = match words[..] {
        [name, password] => (name, "", password),
        [name, domain, password] if domain.starts_with('@') => (name, &domain[1..], password),
        _ => return Err("user NAME [@DOMAIN] PASSWORD".to_string()),
    };
    Ok(What::User { name: name.into(), domain: domain.into(), password: password.into() })
}

fn route(rest: &str) -> Result<Rule, String> {
    let mut rule = Rule::new(Numbers::Any, Vec::new());
    for word in rest.split_whitespace() {
        let (key, value) = word.split_once('=').ok_or("route KEY=VALUE …")?;
        match key {
            "prefix" => rule.numbers = Numbers::Prefix(value.into()),
            "domain" => rule.domain = Some(value.into()),
            "strip" => rule.strip = value.parse().map_err(|_| format!("not a number: {value}"))?,
            "prepend" => rule.prepend = value.into(),
            "on" => {
                let named = |name| Failure::NAMED.iter().find(|(known, _)| *known == name);
                for name in value.split(',') {
                    let (_, failure) = named(name).ok_or_else(|| format!("not a failure: {name}"))?;
                    rule.on = rule.on.and(*failure);
                }
            }
            "after" => rule.after_s = value.parse().map_err(|_| format!("not a number: {value}"))?,
            "diversion" => {
                rule.diversion = match value {
                    "diversion" => DiversionStyle::Diversion,
                    "history-info" => DiversionStyle::HistoryInfo,
                    _ => return Err(format!("not a diversion: {value}")),
                }
            }
            "hops" => {
                let hop = |text: &str| HopUri::parse(text).map_err(|error| format!("{text} {error}"));
                rule.hops = value.split(',').map(hop).collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("no such key of a route: {key}")),
        }
    }
    Ok(rule)
}

/// `IP:PORT` for datagrams, `tcp:IP:PORT` for a connection.
fn peer(text: &str) -> Result<Peer, String> {
    let (transport, address_text) = match text.strip_prefix("tcp:") {
        Some(rest) => (Transport::Tcp, rest),
        None => (Transport::Udp, text),
    };
    Ok(Peer { transport, address: address(address_text)? })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| format!("not an address with a port: {text}"))
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1_000),
        (None, None) => return Err(format!("neither s nor ms: {text}")),
    };
    digits.parse::<u64>().map(|number| number * unit).map_err(|_| format!("not a time: {text}"))
}

/// Whether a line is as it was expected: `*` stands for one byte or more, everything else for itself.
pub fn fits(pattern: &[u8], line: &[u8]) -> bool {
    match (pattern, line) {
        ([], []) => true,
        ([b'*', rest @ ..], [_, ..]) => (1..=line.len()).any(|taken| fits(rest, &line[taken..])),
        ([expected, pattern @ ..], [byte, line @ ..]) => expected == byte && fits(pattern, line),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_becomes_steps() {
        let text = "# comment\nconfig qop = auth\n\nuser 9001 @a.com pw\n>> 10.0.0.9:5060\nREGISTER x\n\nbody\n\n\n\
                    # end\n<< nothing\n+500ms\n+2s\n>> 10.0.0.9:5060 again\ndb hold\n";
        let from = Peer { transport: Transport::Udp, address: "10.0.0.9:5060".parse().unwrap() };
        let lines = ["REGISTER x", "", "body"].map(str::to_string).to_vec();
        let expected = vec![
            (2, What::Config { key: "qop".into(), value: "auth".into() }),
            (4, What::User { name: "9001".into(), domain: "a.com".into(), password: "pw".into() }),
            (5, What::Send { from, lines }),
            (12, What::ExpectNothing),
            (13, What::Pass(500)),
            (14, What::Pass(2_000)),
            (15, What::SendAgain { from }),
            (16, What::Database(Database::Hold)),
        ];
        let steps: Vec<_> = parse(text).unwrap().into_iter().map(|step| (step.line, step.what)).collect();
        // A rule holds a pattern, which compares with nothing.
        assert_eq!(format!("{steps:?}"), format!("{expected:?}"));
    }

    #[test]
    fn what_is_no_script_is_told_with_its_line() {
        for (text, line) in
            [("config x", "line 1"), ("\nnonsense", "line 2"), ("+5m", "line 1"), ("user x", "line 1")]
        {
            assert!(parse(text).unwrap_err().starts_with(line), "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_something() {
        assert!(fits(b"To: <sip:a>;tag=*", b"To: <sip:a>;tag=1f"));
        assert!(!fits(b"To: <sip:a>;tag=*", b"To: <sip:a>;tag="));
        assert!(fits(b"nonce=\"*\", stale=true", b"nonce=\"00\", stale=true"));
        assert!(!fits(b"nonce=\"*\"", b"nonce=\"00\", stale=true"));
        assert!(fits(b"Contact: *", b"Contact: *") && fits(b"", b"") && !fits(b"a", b""));
    }
}
