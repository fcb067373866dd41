//! Whom a command is about: `9001`, `9001@domain`, or `9001 --domain domain`.

use anyhow::{Result, bail};

use crate::settings::Settings;

/// A name as it was given: the user, and the domain where one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) user: String,
    pub(crate) domain: Option<String>,
}

impl Name {
    /// # Errors
    /// The domain is given twice, and differs.
    pub(crate) fn new(name: &str, domain: Option<&str>) -> Result<Name> {
        let (user, own) = match name.split_once('@') {
            Some((user, own)) => (user, Some(own)),
            None => (name, None),
        };
        if let (Some(own), Some(other)) = (own, domain)
            && !own.eq_ignore_ascii_case(other)
        {
            bail!("'{name}' is of {own}, and --domain says {other}");
        }
        Ok(Name { user: user.to_string(), domain: own.or(domain).map(str::to_string) })
    }

    /// The AOR that the running server knows.
    ///
    /// # Errors
    /// With `use_domain` there is none without a domain.
    pub(crate) fn aor(&self, settings: &Settings) -> Result<String> {
        let domain = self.domain.as_deref().filter(|domain| !domain.is_empty());
        match (settings.core.identity.use_domain, domain) {
            (true, Some(domain)) => Ok(format!("{}@{domain}", self.user)),
            (true, None) => {
                let user = &self.user;
                bail!("use_domain is set: give the extension's domain with --domain, or as {user}@DOMAIN")
            }
            (false, _) => Ok(self.user.clone()),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.domain.as_deref().filter(|domain| !domain.is_empty()) {
            Some(domain) => write!(f, "{}@{domain}", self.user),
            None => f.write_str(&self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_stands_behind_an_at_or_beside() {
        let name =
            |name: &str, domain: Option<&str>| Name::new(name, domain).map(|name| name.to_string()).ok();
        assert_eq!(name("9001", None).as_deref(), Some("9001"));
        assert_eq!(name("9001@a.com", None).as_deref(), Some("9001@a.com"));
        assert_eq!(name("9001", Some("a.com")).as_deref(), Some("9001@a.com"));
        assert_eq!(name("9001@a.com", Some("A.com")).as_deref(), Some("9001@a.com"));
        assert_eq!(name("9001@a.com", Some("b.com")), None);
    }
}
