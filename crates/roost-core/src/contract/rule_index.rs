//! Which of many rules could be for a user and a host, without looking at each: by the prefixes that a number has, and by one
//! automaton for all regular expressions.

use std::hash::BuildHasherDefault;

use hashbrown::HashMap;
use regex::bytes::RegexSet;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use crate::contract::rule::{Numbers, Rule};

/// So few rules are looked at one after the other.
const FEW: usize = 16;

/// Places of rules, in their order.
pub(crate) type Candidates = SmallVec<[u16; FEW]>;

/// Rules by what they are for; empty where they are few.
#[derive(Debug, Default)]
pub(crate) struct RuleIndex {
    count: usize,
    /// By domain (empty: any) and prefix (empty: any number), with a byte between both that neither has.
    by_prefix: HashMap<Box<[u8]>, Vec<u16>, BuildHasherDefault<SipHasher13>>,
    /// The lengths of all prefixes.
    lengths: Vec<usize>,
    has_domains: bool,
    patterns: RegexSet,
    /// Whose each pattern is.
    of_pattern: Vec<u16>,
}

impl RuleIndex {
    pub(crate) fn of(rules: &[Rule]) -> RuleIndex {
        let mut index = RuleIndex { count: rules.len(), ..RuleIndex::default() };
        if rules.len() <= FEW {
            return index;
        }
        let mut patterns = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let domain = rule.domain.as_deref().unwrap_or("");
            let prefix = match &rule.numbers {
                Numbers::Any => "",
                Numbers::Prefix(prefix) => prefix,
                Numbers::Pattern(pattern) => {
                    patterns.push(pattern.as_str());
                    index.of_pattern.push(place as u16);
                    continue;
                }
            };
            index.has_domains |= !domain.is_empty();
            if !index.lengths.contains(&prefix.len()) {
                index.lengths.push(prefix.len());
            }
            let key = key(domain.as_bytes(), prefix.as_bytes());
            index.by_prefix.entry(key.into_vec().into()).or_default().push(place as u16);
        }
        // Each of them has been compiled by itself; all together may be too much for one automaton.
        match RegexSet::new(&patterns) {
            Ok(set) => index.patterns = set,
            Err(_) => return RuleIndex { count: rules.len(), ..RuleIndex::default() },
        }
        index
    }

    /// The rules that could be for this user and host.
    pub(crate) fn candidates(&self, user: &[u8], host: &[u8]) -> Candidates {
        if self.by_prefix.is_empty() && self.of_pattern.is_empty() {
            return (0..self.count as u16).collect();
        }
        let mut found = Candidates::new();
        let host: SmallVec<[u8; 64]> = host.iter().map(u8::to_ascii_lowercase).collect();
        let domains: &[&[u8]] = if self.has_domains { &[b"", &host] } else { &[b""] };
        for prefix in self.lengths.iter().filter_map(|length| user.get(..*length)) {
            let of = |domain: &&[u8]| self.by_prefix.get(key(domain, prefix).as_slice());
            domains.iter().filter_map(of).for_each(|places| found.extend_from_slice(places));
        }
        if !self.of_pattern.is_empty() {
            let matches = self.patterns.matches(user);
            found.extend(matches.iter().filter_map(|at| self.of_pattern.get(at)).copied());
        }
        found.sort_unstable();
        found
    }
}

fn key(domain: &[u8], prefix: &[u8]) -> SmallVec<[u8; 64]> {
    let mut key = SmallVec::new();
    key.extend_from_slice(domain);
    key.push(b'\n');
    key.extend_from_slice(prefix);
    key
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;

    fn rule(at: usize) -> Rule {
        let numbers = match at % 4 {
            0 => Numbers::Prefix(format!("0{at}").into()),
            1 => Numbers::Prefix(format!("{}", at % 10).into()),
            2 => Numbers::Pattern(Regex::new(&format!("^8{}[0-9]$", at % 7)).unwrap()),
            _ => Numbers::Any,
        };
        let domain = (at.is_multiple_of(3)).then(|| format!("d{}.example.com", at % 5).into());
        Rule { domain, ..Rule::new(numbers, Vec::new()) }
    }

    #[test]
    fn candidates_miss_no_rule_that_fits() {
        for count in [0, FEW, 300] {
            let rules: Vec<Rule> = (0..count).map(rule).collect();
            let index = RuleIndex::of(&rules);
            for user in ["", "0", "04", "012", "0120", "5", "812", "8359", "99"] {
                for host in ["", "D0.example.com", "d3.example.com", "other"] {
                    let (user, host) = (user.as_bytes(), host.as_bytes());
                    let candidates = index.candidates(user, host);
                    assert!(candidates.is_sorted());
                    for (at, rule) in rules.iter().enumerate() {
                        let is_candidate = candidates.contains(&(at as u16));
                        assert!(is_candidate || !rule.is_for(user, host), "{count}: rule {at}");
                    }
                    assert!(count < 300 || candidates.len() < 150, "{}", candidates.len());
                }
            }
        }
    }
}
