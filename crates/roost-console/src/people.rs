//! Who may log in: names, roles and Argon2 hashes in a file, and how often a password may be tried.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;
/// The shortest password.
const SHORTEST: usize = 10;
/// Failures of a name, or from an address, within the time after which they are forgotten; more are refused unread.
const MOST_FAILURES: u32 = 5;
/// The same of a name from anywhere: so many, that nobody is kept out by a few guesses at his name.
const MOST_OF_NAME: u32 = 50;
const FORGOTTEN: Duration = Duration::from_secs(60);
/// The name of who came by the one-time link.
const OF_LINK: &str = "console";
/// Names and addresses whose failures are counted.
const MOST_COUNTED: usize = 10_000;
/// Passwords that are checked at once: each takes a core for some 20 ms.
const AT_ONCE: usize = 2;

/// Checked for names that there are not, so that an answer takes as long: no password has this hash.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look, but for messages as they come and bodies of messages.
    Viewer,
    /// See these, too; end calls, lift bans, remove bindings, take hops in and out.
    Operator,
    /// Add, change and remove extensions, change the configuration and people, too.
    Administrator,
}

impl Role {
    /// By its name.
    pub fn named(name: &str) -> Option<Role> {
        match name {
            "viewer" => Some(Role::Viewer),
            "operator" => Some(Role::Operator),
            "administrator" => Some(Role::Administrator),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }
}

/// What is wrong with a person or the file.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    #[error("cannot read {}: {why}", path.display())]
    Read { path: PathBuf, why: String },
    #[error("cannot write {}: {why}", path.display())]
    Write { path: PathBuf, why: String },
    #[error("a name has letters, digits, '.', '-' and '_', 64 at most")]
    Name,
    #[error("`console` is who came by the one-time link: take another name")]
    Reserved,
    #[error("a password has at least {SHORTEST} characters")]
    Short,
    #[error("there is nobody of the name {0}")]
    Unknown(String),
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
    #[error("the last administrator stays")]
    Last,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Person {
    name: String,
    role: Role,
    hash: String,
}

/// The people of a file.
#[derive(Debug, Clone)]
pub struct People {
    path: PathBuf,
    all: Vec<Person>,
    /// Which state of the file this is.
    version: Option<Version>,
}

/// Tells a state of a file from others, as far as that is possible without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

impl Version {
    fn of(path: &Path) -> Option<Version> {
        fs::metadata(path).ok().as_ref().map(Version::from)
    }

    fn from(known: &fs::Metadata) -> Version {
        Version { inode: known.ino(), len: known.len(), modified: known.modified().ok() }
    }
}

impl People {
    /// Those of a file; nobody where there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> Result<People, PeopleError> {
        let read = |why: String| PeopleError::Read { path: path.to_path_buf(), why };
        let version = Version::of(path);
        let all = match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| read(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(read(error.to_string())),
        };
        Ok(People { path: path.to_path_buf(), all, version })
    }

    /// Names and roles.
    pub fn list(&self) -> Vec<(String, Role)> {
        self.all.iter().map(|one| (one.name.clone(), one.role)).collect()
    }

    /// Adds somebody, or gives somebody who is there another role and password.
    ///
    /// # Errors
    /// [`PeopleError`]; nothing has changed then.
    pub fn put(&mut self, name: &str, role: Role, password: &str) -> Result<(), PeopleError> {
        self.put_hashed(name, role, hashed(password)?)
    }

    fn put_hashed(&mut self, name: &str, role: Role, hash: String) -> Result<(), PeopleError> {
        let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_sound) {
            return Err(PeopleError::Name);
        }
        if name.eq_ignore_ascii_case(OF_LINK) {
            return Err(PeopleError::Reserved);
        }
        let person = Person { name: name.to_string(), role, hash };
        let mut all = self.all.clone();
        match all.iter_mut().find(|one| one.name == name) {
            Some(one) => *one = person,
            None => all.push(person),
        }
        self.write(all)
    }

    /// Removes somebody.
    ///
    /// # Errors
    /// [`PeopleError`]; nothing has changed then.
    pub fn remove(&mut self, name: &str) -> Result<(), PeopleError> {
        let mut all = self.all.clone();
        all.retain(|one| one.name != name);
        if all.len() == self.all.len() {
            return Err(PeopleError::Unknown(name.to_string()));
        }
        self.write(all)
    }

    fn write(&mut self, all: Vec<Person>) -> Result<(), PeopleError> {
        let has_one = |all: &[Person]| all.iter().any(|one| one.role == Role::Administrator);
        if has_one(&self.all) && !all.is_empty() && !has_one(&all) {
            return Err(PeopleError::Last);
        }
        let failed =
            |error: std::io::Error| PeopleError::Write { path: self.path.clone(), why: error.to_string() };
        let text = serde_json::to_string_pretty(&all).map_err(|error| failed(error.into()))?;
        let mut name = self.path.as_os_str().to_os_string();
        name.push(".new");
        let beside = PathBuf::from(name);
        let options =
            || fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside);
        let mut file = options().map_err(failed)?;
        file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        // Of this file, whoever renames another to its name.
        let version = file.metadata().map_err(failed)?;
        fs::rename(&beside, &self.path).map_err(failed)?;
        self.version = Some(Version::from(&version));
        self.all = all;
        Ok(())
    }
}

fn hashed(password: &str) -> Result<String, PeopleError> {
    if password.chars().count() < SHORTEST {
        return Err(PeopleError::Short);
    }
    let failed = |why: String| PeopleError::Hash(why);
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| failed(error.to_string()))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| failed(error.to_string()))?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| failed(error.to_string()))
}

/// Logins: people, and who has tried too often.
#[derive(Debug)]
pub(crate) struct Logins {
    people: Mutex<People>,
    /// One writes at a time.
    writing: Mutex<()>,
    failures: Mutex<HashMap<String, (u32, Instant)>>,
    at_once: Arc<Semaphore>,
}

/// Whom a session is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The password's hash at the login; empty: of the one-time link, which no file knows.
    hash: String,
}

impl Who {
    /// Who came by the one-time link.
    pub(crate) fn of_link() -> Who {
        Who { name: OF_LINK.to_string(), role: Role::Administrator, hash: String::new() }
    }
}

/// What became of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Granted(Who),
    Refused,
    /// Too many failures, or too many at once.
    Wait,
}

impl Logins {
    pub(crate) fn new(people: People) -> Logins {
        Logins {
            people: Mutex::new(people),
            writing: Mutex::default(),
            failures: Mutex::default(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Those that there are now.
    pub(crate) fn people(&self) -> MutexGuard<'_, People> {
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        // The command line may have changed them.
        if people.version != Version::of(&people.path)
            && let Ok(read) = People::open(&people.path)
        {
            *people = read;
        }
        people
    }

    /// As [`People::put`].
    ///
    /// # Errors
    /// [`PeopleError`].
    pub(crate) fn put(&self, name: &str, role: Role, password: &str) -> Result<(), PeopleError> {
        let hash = hashed(password)?;
        self.change(|people| people.put_hashed(name, role, hash))
    }

    /// As [`People::remove`].
    ///
    /// # Errors
    /// [`PeopleError`].
    pub(crate) fn remove(&self, name: &str) -> Result<(), PeopleError> {
        self.change(|people| people.remove(name))
    }

    /// Who only looks does not wait for the file.
    fn change(&self, work: impl FnOnce(&mut People) -> Result<(), PeopleError>) -> Result<(), PeopleError> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut people = self.people().clone();
        work(&mut people)?;
        *self.people.lock().unwrap_or_else(PoisonError::into_inner) = people;
        Ok(())
    }

    /// Whether somebody who has logged in is still there, with the same role and password.
    pub(crate) fn knows(&self, who: &Who) -> bool {
        let is_same = |one: &Person| one.name == who.name && one.role == who.role && one.hash == who.hash;
        who.hash.is_empty() || self.people().all.iter().any(is_same)
    }

    /// Checks a password.
    pub(crate) async fn login(&self, name: &str, password: String, from: IpAddr) -> Login {
        if name.len() > LONGEST_NAME {
            return Login::Refused;
        }
        let keys = [(format!("name {name}"), MOST_OF_NAME), (of_address(from), MOST_FAILURES)];
        if keys.iter().any(|(key, most)| self.has_failed_often(key, *most)) {
            return Login::Wait;
        }
        let Ok(permit) = Arc::clone(&self.at_once).try_acquire_owned() else { return Login::Wait };
        let found = self.people().all.iter().find(|one| one.name == name).cloned();
        let who = found.map(|Person { name, role, hash }| Who { name, role, hash });
        let hash = who.as_ref().map_or(NOBODYS, |who| &who.hash).to_string();
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let hash = PasswordHash::new(&hash);
            hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        });
        match (checked.await.unwrap_or(false), who) {
            (true, Some(who)) => {
                let mut failures = self.failures();
                keys.iter().for_each(|(key, _)| {
                    failures.remove(key);
                });
                Login::Granted(who)
            }
            _ => {
                keys.into_iter().for_each(|(key, _)| self.fail(key));
                Login::Refused
            }
        }
    }

    /// Counts a one-time link that is none; whether its address has shown too many.
    pub(crate) fn guess_at_link(&self, from: IpAddr) -> bool {
        let key = of_address(from);
        let is_often = self.has_failed_often(&key, MOST_FAILURES);
        if !is_often {
            self.fail(key);
        }
        is_often
    }

    fn has_failed_often(&self, key: &str, most: u32) -> bool {
        let failures = self.failures();
        failures.get(key).is_some_and(|(count, since)| *count >= most && since.elapsed() < FORGOTTEN)
    }

    fn fail(&self, key: String) {
        let mut failures = self.failures();
        failures.retain(|_, (_, since)| since.elapsed() < FORGOTTEN);
        if failures.len() >= MOST_COUNTED {
            return;
        }
        let entry = failures.entry(key).or_insert((0, Instant::now()));
        if entry.1.elapsed() >= FORGOTTEN {
            *entry = (0, Instant::now());
        }
        *entry = (entry.0 + 1, Instant::now());
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<String, (u32, Instant)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address as failures are counted: of IPv6 one network of a customer.
fn of_address(from: IpAddr) -> String {
    match from {
        IpAddr::V4(v4) => format!("from {v4}"),
        IpAddr::V6(v6) => format!("from {:x?}", v6.segments().first_chunk::<4>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_there_is_not_takes_as_long_as_one_that_there_is() {
        let own = hashed("a long password").unwrap();
        let (own, nobodys) = (PasswordHash::new(&own).unwrap(), PasswordHash::new(NOBODYS).unwrap());
        assert_eq!((own.algorithm, own.version), (nobodys.algorithm, nobodys.version));
        assert_eq!(own.params, nobodys.params);
        let lengths =
            |hash: &PasswordHash<'_>| (hash.salt.map(|salt| salt.len()), hash.hash.map(|hash| hash.len()));
        assert_eq!(lengths(&own), lengths(&nobodys));
    }

    #[tokio::test]
    async fn passwords_are_checked_and_guessing_is_slowed_down() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.json");
        let mut people = People::open(&path).unwrap();
        people.put("ada", Role::Administrator, "a long password").unwrap();
        people.put("bob", Role::Viewer, "another password").unwrap();
        assert!(matches!(people.put("c d", Role::Viewer, "another password"), Err(PeopleError::Name)));
        assert!(matches!(people.put("cd", Role::Viewer, "short"), Err(PeopleError::Short)));
        assert!(matches!(people.remove("ada"), Err(PeopleError::Last)));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("$argon2id$") && !text.contains("a long password"));
        let logins = Logins::new(People::open(&path).unwrap());
        let (here, there): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [10, 0, 0, 1].into());
        let granted = logins.login("ada", "a long password".to_string(), here).await;
        let Login::Granted(ada) = granted else { panic!("{granted:?}") };
        assert!(ada.role == Role::Administrator && logins.knows(&ada) && logins.knows(&Who::of_link()));
        for _ in 0..MOST_FAILURES {
            assert_eq!(logins.login("nobody", "guess".to_string(), there).await, Login::Refused);
        }
        // Nobody more from there; who is guessed at is not kept out elsewhere, unless it goes on and on.
        assert_eq!(logins.login("ada", "a long password".to_string(), there).await, Login::Wait);
        assert_eq!(logins.login("nobody", "guess".to_string(), here).await, Login::Refused);
        for _ in 0..MOST_OF_NAME {
            logins.fail("name nobody".to_string());
        }
        assert_eq!(logins.login("nobody", "guess".to_string(), here).await, Login::Wait);
        let granted = logins.login("bob", "another password".to_string(), here).await;
        let Login::Granted(bob) = granted else { panic!("{granted:?}") };
        // The command line changes the file: who has another password, or is gone, is known no more.
        let mut people = People::open(&path).unwrap();
        people.put("ada", Role::Administrator, "a longer password").unwrap();
        assert!(!logins.knows(&ada) && logins.knows(&bob));
        people.remove("bob").unwrap();
        assert!(!logins.knows(&bob));
    }
}
