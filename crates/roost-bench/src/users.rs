//! The subscribers that the load plays: numbered ones, or those of a CSV file.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// One subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) password: &'a [u8],
    pub(crate) domain: &'a [u8],
}

/// All subscribers, in one piece of text.
#[derive(Debug, Default)]
pub(crate) struct Users {
    text: Vec<u8>,
    places: Vec<[Range<u32>; 3]>,
}

impl Users {
    /// `count` users from the number `first` on; each one's password is its name.
    pub(crate) fn numbered(first: u64, count: u32, domain: &str) -> Users {
        let mut users = Users::default();
        let domain = users.keep(domain.as_bytes());
        for number in first..first + u64::from(count) {
            let name = users.keep(number.to_string().as_bytes());
            users.places.push([name.clone(), name, domain.clone()]);
        }
        users
    }

    /// The first `limit` users of a file as `roost user import` takes it: a header line, then username, password and
    /// (optional) domain; an empty domain is `domain`.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a column, or has no user.
    pub(crate) fn from_csv(path: &Path, limit: Option<u32>, domain: &str) -> Result<Users> {
        let name = path.display();
        let mut file = csv::Reader::from_path(path).with_context(|| format!("cannot read {name}"))?;
        let header = file.headers().with_context(|| format!("cannot read {name}"))?.clone();
        let column = |title: &str| header.iter().position(|found| found.trim().eq_ignore_ascii_case(title));
        let (Some(username), Some(password)) = (column("username"), column("password")) else {
            bail!("{name}: the first line names the columns username,password,domain");
        };
        let domain_column = column("domain");
        let mut users = Users::default();
        let default = users.keep(domain.as_bytes());
        for record in file.records().take(limit.map_or(usize::MAX, |limit| limit as usize)) {
            let record = record.with_context(|| format!("cannot read {name}"))?;
            let user = users.keep(record.get(username).unwrap_or_default().as_bytes());
            let password = users.keep(record.get(password).unwrap_or_default().as_bytes());
            let domain = match domain_column.and_then(|column| record.get(column)).unwrap_or_default() {
                "" => default.clone(),
                own => users.keep(own.as_bytes()),
            };
            users.places.push([user, password, domain]);
        }
        ensure!(!users.places.is_empty(), "{name} has no user");
        Ok(users)
    }

    /// How many there are; at least one.
    pub(crate) fn len(&self) -> u32 {
        self.places.len() as u32
    }

    pub(crate) fn get(&self, index: u32) -> User<'_> {
        let [name, password, domain] = &self.places[index as usize];
        let slice = |range: &Range<u32>| &self.text[range.start as usize..range.end as usize];
        User { name: slice(name), password: slice(password), domain: slice(domain) }
    }

    fn keep(&mut self, part: &[u8]) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(part);
        start..self.text.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn user<'a>(name: &'a str, password: &'a str, domain: &'a str) -> User<'a> {
        User { name: name.as_bytes(), password: password.as_bytes(), domain: domain.as_bytes() }
    }

    #[test]
    fn numbered_users() {
        let users = Users::numbered(99_999, 2, "d");
        assert_eq!(users.len(), 2);
        assert_eq!(users.get(0), user("99999", "99999", "d"));
        assert_eq!(users.get(1), user("100000", "100000", "d"));
    }

    #[test]
    fn users_of_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"username,password,domain\n9001,\"a,b\",a.example\n9002,x,\n9003,y,z\n").unwrap();
        let users = Users::from_csv(file.path(), Some(2), "d").unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(users.get(0), user("9001", "a,b", "a.example"));
        assert_eq!(users.get(1), user("9002", "x", "d"));

        let mut odd = tempfile::NamedTempFile::new().unwrap();
        odd.write_all(b"9001,secret\n").unwrap();
        let error = Users::from_csv(odd.path(), None, "d").unwrap_err().to_string();
        assert!(error.contains("columns username,password,domain"), "{error}");
    }
}
