//! Numbers that stand for extensions (`[[alias]]`, OpenSIPS's table `dbaliases`).

use std::hash::BuildHasherDefault;

use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

use crate::base::aor::compose_aor;
use crate::base::limits;

/// One row: a number, and the extension that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    pub number: Box<str>,
    /// Counts with `use_domain` only, as the next.
    pub number_domain: Box<str>,
    pub extension: Box<str>,
    pub domain: Box<str>,
}

/// Whom a number stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    pub(crate) user: Box<str>,
    /// With `use_domain`.
    pub(crate) domain: Option<Box<str>>,
}

/// All numbers, by the AOR that each would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases(HashMap<Box<[u8]>, Meant, BuildHasherDefault<SipHasher13>>);

impl Aliases {
    /// The first of each number counts. What is said of those that cannot be taken comes along.
    pub fn new(rows: &[Alias], use_domain: bool, case_sensitive: bool) -> (Aliases, Vec<String>) {
        let mut aliases = Aliases::default();
        let mut left_out = Vec::new();
        let aor = |user: &str, domain: &str| {
            compose_aor((user.as_bytes(), Some(domain.as_bytes())), use_domain, case_sensitive)
        };
        for Alias { number, number_domain, extension, domain } in rows {
            let why = match (aor(number, number_domain), aor(extension, domain)) {
                _ if !is_user(number) || !is_user(extension) => "holds a character that no number has",
                (None, _) | (_, None) => "has no domain, and `use_domain` is set",
                (Some(own), Some(other)) if own == other => "stands for itself",
                (Some(own), Some(_)) => {
                    let domain = use_domain.then(|| domain.clone());
                    let meant = Meant { user: extension.clone(), domain };
                    match aliases.0.try_insert(own.into(), meant) {
                        Ok(_) => continue,
                        Err(_) => "stands there twice",
                    }
                }
            };
            left_out.push(format!("{number} {why}"));
        }
        // One that stands for another number could go in a circle.
        let chained = |meant: &Meant| {
            let domain = meant.domain.as_deref().unwrap_or("");
            aor(&meant.user, domain).is_some_and(|aor| aliases.0.contains_key(&*aor))
        };
        let lost: Vec<Box<[u8]>> =
            aliases.0.iter().filter(|(_, meant)| chained(meant)).map(|(own, _)| own.clone()).collect();
        for own in lost {
            left_out.push(format!("{} stands for another alias", String::from_utf8_lossy(&own)));
            aliases.0.remove(&*own);
        }
        (aliases, left_out)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, aor: &[u8]) -> Option<&Meant> {
        self.0.get(aor)
    }
}

/// Whether a text may stand in a URI as its user as it is.
fn is_user(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+*#-_.!~".contains(&byte);
    !text.is_empty() && text.len() <= limits::MAX_USER && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: &str, extension: &str) -> Alias {
        let part = |text: &str, at: usize| text.split('@').nth(at).unwrap_or("").into();
        Alias {
            number: part(number, 0),
            number_domain: part(number, 1),
            extension: part(extension, 0),
            domain: part(extension, 1),
        }
    }

    #[test]
    fn numbers_and_what_they_stand_for() {
        let rows = [
            row("4001", "9001"),
            row("4001", "9002"),
            row("4002", "4002"),
            row("4 3", "9003"),
            row("4004", "4001"),
        ];
        let (aliases, left_out) = Aliases::new(&rows, false, true);
        let meant = aliases.get(b"4001").unwrap();
        assert_eq!((&*meant.user, meant.domain.as_deref(), aliases.len()), ("9001", None, 1));
        assert_eq!(
            left_out,
            [
                "4001 stands there twice",
                "4002 stands for itself",
                "4 3 holds a character that no number has",
                "4004 stands for another alias"
            ]
        );
        let (aliases, left_out) =
            Aliases::new(&[row("Sales@A.com", "9001@b.com"), row("1", "2")], true, false);
        assert_eq!(aliases.get(b"sales@a.com").unwrap().domain.as_deref(), Some("b.com"));
        assert_eq!(left_out, ["1 has no domain, and `use_domain` is set"]);
    }
}
