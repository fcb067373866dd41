//! The text of a configuration with its secrets masked, and masks turned into the secrets again.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::settings::key::{Kind, Value};
use crate::settings::keys::KEYS;
use crate::settings::keys_of_tables::{HEP_KEYS, WEBHOOK_KEYS};

/// What stands in a secret's place.
pub(crate) const MASK: &str = "***";

/// `scheme://user:password@host` with a mask for the password.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    // A password may hold an @ or a / that should have been escaped: rather too much is masked than too little.
    let Some((account, host)) = rest.rsplit_once('@') else { return url.to_string() };
    match account.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{MASK}@{host}"),
        None => url.to_string(),
    }
}

/// A secret in a text: which it is, where it stands, and what it says.
#[derive(Debug)]
struct Secret {
    section: String,
    key: String,
    kind: Kind,
    at: Range<usize>,
    text: String,
}

impl Secret {
    fn is_of(&self, other: &Secret) -> bool {
        (&self.section, &self.key) == (&other.section, &other.key)
    }
}

/// What masks are made with: each names its secret by a hash that this process alone can make. A mask that is moved, or whose
/// neighbours come and go, stays this secret's.
#[derive(Debug, Default)]
pub(crate) struct Masks(RandomState);

impl Masks {
    /// A text without its secrets; one that cannot be read is given back as a whole line of masks.
    pub(crate) fn masked(&self, text: &str) -> String {
        self.masked_if_sound(text).unwrap_or_else(|| format!("# {MASK}\n"))
    }

    /// The same; `None` where it cannot be read.
    pub(crate) fn masked_if_sound(&self, text: &str) -> Option<String> {
        let secrets = secrets(text)?;
        Some(replaced(text, secrets.iter().map(|secret| (secret.at.clone(), self.mask(secret)))))
    }

    /// A text in which masks are the secrets of the one `before` again.
    ///
    /// # Errors
    /// A mask stands where there was no secret.
    pub(crate) fn unmasked(&self, text: &str, before: &str) -> Result<String, String> {
        // What cannot be read is said by who reads it.
        let Some(own) = secrets(text) else { return Ok(text.to_string()) };
        let known = secrets(before).unwrap_or_default();
        let mut changes = Vec::new();
        for secret in own.iter().filter(|secret| secret.text.contains(MASK)) {
            let there = known.iter().find(|one| one.is_of(secret) && self.mask(one) == secret.text);
            let Some(there) = there else {
                let Secret { section, key, .. } = secret;
                let line = text.get(..secret.at.start).map_or(1, |front| front.matches('\n').count() + 1);
                return Err(format!(
                    "line {line}: `{section}.{key}` is masked, and there is no such secret: write it"
                ));
            };
            changes.push((secret.at.clone(), there.text.clone()));
        }
        Ok(replaced(text, changes.into_iter()))
    }

    /// Tells a text from others, and tells nothing of the secrets in it.
    pub(crate) fn mark(&self, text: &str) -> String {
        format!("{:016x}", self.0.hash_one(text))
    }

    fn mask(&self, secret: &Secret) -> String {
        if secret.text.is_empty() {
            return String::new();
        }
        let own = format!("{MASK}{:08x}", self.0.hash_one(&secret.text) as u32);
        match secret.kind {
            Kind::Url => without_password(&secret.text).replace(MASK, &own),
            _ => own,
        }
    }
}

fn replaced(text: &str, changes: impl Iterator<Item = (Range<usize>, String)>) -> String {
    let mut changes: Vec<_> = changes.collect();
    changes.sort_by_key(|(at, _)| std::cmp::Reverse(at.start));
    let mut text = text.to_string();
    for (at, new) in changes {
        text.replace_range(at, &Value::Text(new).to_string());
    }
    text
}

fn secrets(text: &str) -> Option<Vec<Secret>> {
    let table = DeTable::parse(text).ok()?;
    let mut found = Vec::new();
    for (section, value) in table.get_ref() {
        match value.get_ref() {
            DeValue::Table(keys) => of_table(section.get_ref(), keys, &mut found),
            DeValue::Array(tables) => {
                for table in tables {
                    if let DeValue::Table(keys) = table.get_ref() {
                        of_table(section.get_ref(), keys, &mut found);
                    }
                }
            }
            _ => take("", section.get_ref(), value, &mut found),
        }
    }
    // In the order of the text, whatever the order of tables.
    found.sort_by_key(|secret| secret.at.start);
    Some(found)
}

fn of_table(section: &str, keys: &DeTable<'_>, found: &mut Vec<Secret>) {
    keys.iter().for_each(|(name, value)| take(section, name.get_ref(), value, found));
}

fn take(section: &str, key: &str, value: &Spanned<DeValue<'_>>, found: &mut Vec<Secret>) {
    let kinds = KEYS.iter().filter(|one| one.section == section && one.name == key).map(|one| one.kind);
    let webhooks =
        WEBHOOK_KEYS.iter().filter(|one| one.section == section && one.name == key).map(|one| one.kind);
    let heps = HEP_KEYS.iter().filter(|one| one.section == section && one.name == key).map(|one| one.kind);
    let Some(kind @ (Kind::Secret | Kind::Secrets | Kind::Url)) = kinds.chain(webhooks).chain(heps).next()
    else {
        return;
    };
    let mut one = |value: &Spanned<DeValue<'_>>| {
        if let DeValue::String(text) = value.get_ref() {
            let (section, key) = (section.to_string(), key.to_string());
            found.push(Secret { section, key, kind, at: value.span(), text: text.to_string() });
        }
    };
    match value.get_ref() {
        DeValue::Array(all) => all.iter().for_each(one),
        _ => one(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "database = \"mysql://u:p@h/d\" # here\n[auth]\nsecret = 'geheim'\n[mi]\ntoken = \"\"\n[[webhook]]\nurl = \"http://x\"\nsecret = \"whsec\"\n";

    #[test]
    fn secrets_are_masked_and_come_back() {
        let masks = Masks::default();
        let shown = masks.masked(TEXT);
        for secret in ["geheim", "whsec", ":p@"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(
            shown.contains("mysql://u:***") && shown.contains("@h/d") && shown.contains("# here"),
            "{shown}"
        );
        assert_eq!(masks.unmasked(&shown, TEXT).unwrap(), TEXT.replace("'geheim'", "\"geheim\""));
        // Another one is taken as it stands, a mask for none is refused.
        let (front, rest) = shown.split_once("[auth]\nsecret = \"").unwrap();
        let rest = rest.split_once('"').unwrap().1;
        let other = masks.unmasked(&format!("{front}[auth]\nsecret = \"new\"{rest}"), TEXT).unwrap();
        assert!(other.contains("\"new\"") && other.contains("whsec"), "{other}");
        assert!(
            masks.unmasked("[mi]\ntoken = \"***\"\n", TEXT).unwrap_err().contains("`mi.token` is masked")
        );
        assert!(masks.unmasked("[mi]\ntoken = \"***1\"\n", "broken =").is_err());
        // Nothing is a secret because the file is broken.
        assert!(masks.masked("broken = ").contains(MASK) && !masks.masked("secret = 'x").contains('x'));
    }

    #[test]
    fn a_mask_keeps_its_secret_when_others_come_and_go() {
        let masks = Masks::default();
        let hook = |secret: &str| format!("[[webhook]]\nurl = \"http://{secret}\"\nsecret = \"{secret}\"\n");
        let (one, other) = (hook("one"), hook("other"));
        let shown = masks.masked(&one);
        // Another has put one before it meanwhile, or in its place.
        assert_eq!(masks.unmasked(&shown, &format!("{other}{one}")).unwrap(), one);
        assert!(masks.unmasked(&shown, &other).unwrap_err().contains("`webhook.secret` is masked"));
        let two = masks.masked("[cluster]\nsecrets = [\"old secret\", \"new secret\"]\n");
        let last = two.split('"').nth(3).unwrap();
        assert_eq!(
            masks
                .unmasked(
                    &format!("[cluster]\nsecrets = [\"{last}\"]\n"),
                    "[cluster]\nsecrets = [\"old secret\", \"new secret\"]\n"
                )
                .unwrap(),
            "[cluster]\nsecrets = [\"new secret\"]\n"
        );
        // It stands for no secret of another key.
        let moved = format!("[auth]\nsecret = \"{last}\"\n");
        assert!(masks.unmasked(&moved, "[cluster]\nsecrets = [\"new secret\"]\n").is_err());
    }
}
