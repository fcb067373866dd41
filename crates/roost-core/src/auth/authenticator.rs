//! Who says so: digest authentication in the order of checks that OpenSIPS has (S21).

use std::hash::{BuildHasher, Hasher as _};
use std::num::NonZeroU64;

use roost_sip::{Credentials, HeaderName};

use crate::auth::credentials::{Cached, Known};
use crate::auth::digest::{Hex, QopAuth, ha1, md5_ha1, parse_hex, response, same_hex};
use crate::auth::nonce::{NonceUse, Use, check_nonce};
use crate::base::flow::Now;
use crate::base::hash::KeyedState;
use crate::base::limits;
use crate::base::stats::Counter;
use crate::contract::config::Algorithm;
use crate::contract::outbox::Outbox;
use crate::engine::Engine;
use crate::message::request::{Request, To};
use crate::message::response::Answer;

/// What authentication says of a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    Granted,
    Refused(Answer),
    /// Ask the database about this user first.
    Load(UserKey),
}

/// A subscriber as the database is asked for: `user`, or `user@domain` with `use_domain`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserKey {
    bytes: [u8; LONGEST_KEY],
    len: u8,
    user_len: u8,
    has_domain: bool,
}

const LONGEST_KEY: usize = limits::MAX_USER + 1 + limits::MAX_DOMAIN;

impl UserKey {
    /// The key of a digest username; its own domain, or else the realm, counts with `use_domain` (S33). `None` where
    /// the table's columns could not hold it: then nobody has this name.
    pub(crate) fn new(username: &[u8], realm: &[u8], use_domain: bool) -> Option<UserKey> {
        let (user, domain) = split_username(username);
        let domain = if use_domain { domain.unwrap_or(realm) } else { &[] };
        if user.is_empty() || user.len() > limits::MAX_USER || domain.len() > limits::MAX_DOMAIN {
            return None;
        }
        let mut key = UserKey {
            bytes: [0; LONGEST_KEY],
            len: user.len() as u8,
            user_len: user.len() as u8,
            has_domain: use_domain,
        };
        key.bytes.get_mut(..user.len())?.copy_from_slice(user);
        if use_domain {
            key.len += 1 + domain.len() as u8;
            let (at, place) = key.bytes.get_mut(user.len()..usize::from(key.len))?.split_first_mut()?;
            *at = b'@';
            place.copy_from_slice(domain);
            place.make_ascii_lowercase();
        }
        Some(key)
    }

    pub(crate) fn text(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    pub(crate) fn user(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.user_len)).unwrap_or(&[])
    }

    pub(crate) fn domain(&self) -> Option<&[u8]> {
        self.has_domain.then(|| self.text().get(usize::from(self.user_len) + 1..).unwrap_or(&[]))
    }
}

impl std::fmt::Debug for UserKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserKey({})", self.text().escape_ascii())
    }
}

fn split_username(username: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'@', username) {
        Some(at) => (username.get(..at).unwrap_or(&[]), username.get(at + 1..)),
        None => (username, None),
    }
}

/// Whom a request says to be: To of a REGISTER, From of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimed<'a> {
    pub(crate) identity: Option<To<'a>>,
    /// Whether the digest user must be the same (`auth.check_to`, `proxy.check_from`).
    pub(crate) is_checked: bool,
    /// Where the credentials stand, and for which realm.
    pub(crate) header: HeaderName,
    pub(crate) realm: &'a [u8],
}

/// Credentials with everything that a check needs.
#[derive(Debug, Clone, Copy)]
struct Claim<'a> {
    algorithm: Algorithm,
    username: &'a [u8],
    realm: &'a [u8],
    nonce: &'a [u8],
    uri: &'a [u8],
    response: &'a [u8],
    qop: Option<QopAuth<'a>>,
    count: Option<u32>,
}

/// What a cached answer of the database means for a claim.
enum Checked {
    Right,
    Wrong,
    Unknown,
    Load,
}

impl Engine {
    /// Checks the credentials of a REGISTER or a call. `retry` says that the database was just asked and did not answer: what is
    /// cached then counts whatever its age.
    pub(crate) fn authorize(
        &mut self,
        request: &Request<'_>,
        claimed: Claimed<'_>,
        retry: bool,
        now: Now,
        out: &mut Outbox,
    ) -> Verdict {
        let Some(credentials) = find_credentials(request, claimed.header, claimed.realm) else {
            return Verdict::Refused(Answer::challenge(false, "no credentials for this realm"));
        };
        let claim = match self.claim(&credentials) {
            Ok(claim) => claim,
            Err(answer) => return Verdict::Refused(answer),
        };
        let Some(expires_unix_s) = check_nonce(&self.config.mac_key, claim.nonce, now.unix_s) else {
            return Verdict::Refused(Answer::challenge(true, "nonce expired or not ours"));
        };
        let key = UserKey::new(claim.username, claim.realm, self.config.use_domain);
        let fits = claim.realm.len() <= limits::MAX_REALM && claim.username.len() <= LONGEST_KEY;
        let Some(key) = key.filter(|_| fits) else {
            self.stats.count(Counter::AuthFailures);
            return Verdict::Refused(self.unknown_user(request, &claim));
        };
        if let Some(banned) = self.banned(request, &key, claimed, now) {
            self.stats.count(Counter::Banned);
            return Verdict::Refused(Answer::new(403, "Forbidden").why(banned.why()));
        }
        match self.check_secret(request, &claim, &key, retry, now) {
            Checked::Load => Verdict::Load(key),
            Checked::Unknown => {
                self.note_guess(request, &key, false, now, out);
                Verdict::Refused(self.unknown_user(request, &claim))
            }
            Checked::Wrong => {
                self.note_guess(request, &key, true, now, out);
                Verdict::Refused(Answer::new(403, "Forbidden").why("wrong password"))
            }
            Checked::Right => self.check_use(request, &claim, &key, expires_unix_s, claimed, now),
        }
    }

    fn claim<'a>(&self, credentials: &Credentials<'a>) -> Result<Claim<'a>, Answer> {
        let malformed =
            Answer::new(400, "Bad Request").why("credentials without username, nonce, uri or response");
        let Credentials { username, realm, nonce, uri, response, cnonce, nc, qop, algorithm } = *credentials;
        let (Some(username), Some(nonce), Some(uri), Some(response)) = (username, nonce, uri, response)
        else {
            return Err(malformed);
        };
        let qop = match qop {
            None | Some(b"") => None,
            Some(qop) if qop.eq_ignore_ascii_case(b"auth") => match (nc, cnonce) {
                (Some(nc), Some(cnonce)) => Some(QopAuth { nc, cnonce, qop }),
                _ => return Err(malformed.why("qop without nc or cnonce")),
            },
            Some(_) => return Err(Answer::challenge(false, "a qop that was not offered")),
        };
        let name = algorithm.unwrap_or(b"MD5");
        let offered = self.config.auth.algorithms.iter();
        let mut same = offered.filter(|offered| name.eq_ignore_ascii_case(offered.as_str().as_bytes()));
        let Some(algorithm) = same.next().copied() else {
            return Err(Answer::challenge(false, "an algorithm that was not offered"));
        };
        let count = match qop {
            Some(qop) => match parse_hex(qop.nc).filter(|_| qop.nc.len() == 8) {
                Some(count) => Some(count as u32),
                None => return Err(malformed.why("malformed nc")),
            },
            None => None,
        };
        Ok(Claim { algorithm, username, realm: realm.unwrap_or(&[]), nonce, uri, response, qop, count })
    }

    /// Compares with what the database said last. A wrong answer is believed for a second only, so that a changed
    /// password works at once, while a guesser makes one query a second and user at most.
    fn check_secret(
        &mut self,
        request: &Request<'_>,
        claim: &Claim<'_>,
        key: &UserKey,
        retry: bool,
        now: Now,
    ) -> Checked {
        let calculate_ha1 = self.config.auth_db.calculate_ha1;
        let ttl_ms = u64::from(self.config.auth_db.cache_ttl_s) * 1000;
        let old = |loaded_ms: u64, ms: u64| !retry && now.mono_ms >= loaded_ms + ms;
        match self.secrets.get(key.text()) {
            Cached::Nothing => Checked::Load,
            Cached::Unknown { loaded_ms } if old(loaded_ms, limits::RECHECK_MS) => Checked::Load,
            Cached::Unknown { .. } => Checked::Unknown,
            Cached::Known(_, loaded_ms) if old(loaded_ms, ttl_ms.max(1)) => Checked::Load,
            Cached::Known(known, loaded_ms) => {
                if matches(request, claim, known, calculate_ha1, self.hasher) {
                    Checked::Right
                } else if old(loaded_ms, limits::RECHECK_MS) {
                    Checked::Load
                } else {
                    Checked::Wrong
                }
            }
        }
    }

    /// 404, or with `hide_unknown_users` what a wrong password gets, after the same arithmetic.
    fn unknown_user(&self, request: &Request<'_>, claim: &Claim<'_>) -> Answer {
        let why = "unknown user";
        if !self.config.auth.hide_unknown_users {
            return Answer::new(404, "Not Found").why(why);
        }
        let ha1 = ha1(claim.algorithm, claim.username, claim.realm, b"nobody's");
        let _ = same_hex(&expected(request, claim, ha1.as_bytes()), claim.response);
        Answer::new(403, "Forbidden").why(why)
    }

    fn check_use(
        &mut self,
        request: &Request<'_>,
        claim: &Claim<'_>,
        key: &UserKey,
        expires_unix_s: u64,
        claimed: Claimed<'_>,
        now: Now,
    ) -> Verdict {
        let single_use = !self.config.auth.disable_nonce_check;
        if single_use || claim.count.is_some() {
            let cseq = request.cseq().map_or(0, |cseq| cseq.number);
            let noted = self.nonces.note(
                NonceUse {
                    user: key.text(),
                    nonce: claim.nonce,
                    expires_unix_s,
                    count: claim.count.filter(|_| !single_use),
                    same: (request.call_id().unwrap_or(&[]), cseq, claim.response, self.asked_hash(request)),
                },
                now.unix_s,
            );
            match noted {
                Use::Fresh | Use::Retransmission => {}
                Use::Replay => {
                    return Verdict::Refused(Answer::challenge(true, "nonce or nonce count used before"));
                }
                Use::Full => {
                    self.stats.count(Counter::NoncesFull);
                    return Verdict::Refused(Answer::busy("too many nonces in use"));
                }
            }
        }
        if claimed.is_checked && !claimed.identity.is_some_and(|identity| self.may_be(claim, identity)) {
            return Verdict::Refused(
                Answer::new(403, "Forbidden").why("the digest user is not the one that To or From names"),
            );
        }
        Verdict::Granted
    }

    /// What a request asks for beside its credentials, which do not cover it: a copy with another Contact is a replay.
    fn asked_hash(&self, request: &Request<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for name in [HeaderName::Contact, HeaderName::Expires, HeaderName::To] {
            for value in request.head.values(request.bytes, name) {
                hasher.write(value);
            }
        }
        hasher.write(request.uri);
        hasher.write(request.head.body(request.bytes));
        hasher.finish()
    }

    /// B16: the digest user is the To user, and its domain, where it has one, To's.
    fn may_be(&self, claim: &Claim<'_>, to: To<'_>) -> bool {
        let (user, domain) = split_username(claim.username);
        let mut plain = Vec::new();
        let to_user = match memchr::memchr(b'%', to.user) {
            Some(_) => {
                roost_sip::unescape_into(to.user, &mut plain);
                &plain
            }
            None => to.user,
        };
        let same_user = match self.config.registrar.case_sensitive {
            true => user == to_user,
            false => user.eq_ignore_ascii_case(to_user),
        };
        let same_domain = domain.is_none_or(|domain| domain.eq_ignore_ascii_case(to.host));
        same_user && (same_domain || !self.config.use_domain)
    }
}

/// The first credentials for this realm; what is not Digest or does not parse belongs to nobody.
fn find_credentials<'a>(request: &Request<'a>, name: HeaderName, realm: &[u8]) -> Option<Credentials<'a>> {
    let mut parsed =
        request.head.values(request.bytes, name).filter_map(|value| Credentials::parse(value).ok());
    parsed.find(|credentials| credentials.realm.is_some_and(|given| given.eq_ignore_ascii_case(realm)))
}

fn expected(request: &Request<'_>, claim: &Claim<'_>, ha1: &[u8]) -> Hex {
    response(claim.algorithm, ha1, claim.nonce, claim.qop, request.method_name, claim.uri)
}

/// An empty column is nobody's password: whoever knows that it is empty could compute the response.
fn matches(
    request: &Request<'_>,
    claim: &Claim<'_>,
    known: &mut Known,
    calculate_ha1: bool,
    hasher: KeyedState,
) -> bool {
    let is_right = |ha1: &[u8]| same_hex(&expected(request, claim, ha1), claim.response);
    if !calculate_ha1 {
        let ha1 = stored_ha1(known, claim);
        let digits = if claim.algorithm == Algorithm::Md5 { 32 } else { 64 };
        return is_right(ha1) && ha1.len() == digits;
    }
    if claim.algorithm != Algorithm::Md5 {
        let ha1 = ha1(claim.algorithm, claim.username, claim.realm, known.password());
        return is_right(ha1.as_bytes()) && !known.password().is_empty();
    }
    // Two names of one user with the same keyed hash would only get a 403 in 2^64 cases.
    let purpose = NonZeroU64::new(hasher.hash_one((claim.username, claim.realm))).unwrap_or(NonZeroU64::MAX);
    if let Some(ha1) = known.memo(purpose) {
        return is_right(Hex::new(&ha1).as_bytes());
    }
    let ha1 = md5_ha1(claim.username, claim.realm, known.password());
    let matches = is_right(Hex::new(&ha1).as_bytes()) && !known.password().is_empty();
    if matches {
        known.note(purpose, ha1);
    }
    matches
}

/// HA1 from its column: `ha1b` for a username with a domain (S32).
fn stored_ha1<'k>(known: &'k Known, claim: &Claim<'_>) -> &'k [u8] {
    match (claim.algorithm, split_username(claim.username).1) {
        (Algorithm::Md5, Some(_)) => known.password_2(),
        (Algorithm::Md5, None) => known.password(),
        // The table has these hashes for bare users only.
        (_, Some(_)) => &[],
        (Algorithm::Sha256, None) => known.sha256(),
        (Algorithm::Sha512Trunc256, None) => known.sha512t256(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roost_sip::Head;

    use super::*;
    use crate::auth::nonce::write_nonce;
    use crate::base::flow::{Flow, Rng, ShardId};
    use crate::{Config, Outbox, Secrets};

    const NOW: Now = Now { mono_ms: 1 << 40, unix_s: 1_000 };

    /// The status that a REGISTER with these credentials gets; the database has said what `secrets` holds.
    fn status(
        config: Config,
        secrets: &Secrets,
        algorithm: Algorithm,
        username: &str,
        password: &str,
    ) -> String {
        let mut nonce = Vec::new();
        write_nonce(&config.mac_key, 1_020, [0; 4], &mut nonce);
        let ha1 = ha1(algorithm, username.as_bytes(), b"a.com", password.as_bytes());
        let response = response(algorithm, ha1.as_bytes(), &nonce, None, b"REGISTER", b"sip:a.com");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let message = format!(
            "REGISTER sip:a.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n\
             From: <sip:9001@a.com>;tag=1\r\nTo: <sip:9001@a.com>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n\
             Contact: <sip:9001@10.0.0.1>\r\nAuthorization: Digest username=\"{username}\", realm=\"a.com\", \
             nonce=\"{}\", uri=\"sip:a.com\", response=\"{}\", algorithm={}\r\nContent-Length: 0\r\n\r\n",
            text(&nonce),
            text(response.as_bytes()),
            algorithm.as_str()
        );
        let mut engine = Engine::new(Arc::new(config), ShardId(0), Rng::new(1));
        engine.secrets.put(b"9001", Some(secrets.clone()), NOW.mono_ms);
        let (mut head, mut out) = (Head::new(), Outbox::default());
        head.parse(message.as_bytes()).unwrap();
        let flow = Flow::udp("10.0.0.9:5060".parse().unwrap(), "10.0.0.1:5060".parse().unwrap());
        engine.handle_message(&flow, message.as_bytes(), &head, NOW, &mut out);
        text(&out.bytes[8..11])
    }

    fn config(calculate_ha1: bool, algorithms: &[Algorithm]) -> Config {
        let mut config = Config::default();
        config.usrloc.write_through = false;
        config.auth_db.calculate_ha1 = calculate_ha1;
        config.auth.algorithms = algorithms.to_vec();
        config
    }

    const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512Trunc256];

    #[test]
    fn every_algorithm_from_plaintext_and_from_its_column() {
        let plain = Secrets { password: (*b"secret").into(), ..Secrets::default() };
        let hash = |algorithm| Box::from(ha1(algorithm, b"9001", b"a.com", b"secret").as_bytes());
        let [password, sha256, sha512t256] = ALL.map(hash);
        let hashed = Secrets { password, password_2: Box::default(), sha256, sha512t256 };
        for algorithm in ALL {
            for (calculate_ha1, secrets) in [(true, &plain), (false, &hashed)] {
                let config = config(calculate_ha1, &ALL);
                assert_eq!(
                    status(config.clone(), secrets, algorithm, "9001", "secret"),
                    "200",
                    "{algorithm:?}"
                );
                assert_eq!(status(config, secrets, algorithm, "9001", "wrong"), "403", "{algorithm:?}");
            }
            assert_eq!(
                status(config(true, &[Algorithm::Md5]), &plain, algorithm, "9001", "secret"),
                match algorithm {
                    Algorithm::Md5 => "200",
                    _ => "401",
                }
            );
        }
    }

    #[test]
    fn an_empty_column_lets_nobody_in() {
        for algorithm in ALL {
            for (username, password) in [("9001", ""), ("9001@a.com", "")] {
                let status = |calculate_ha1| {
                    status(config(calculate_ha1, &ALL), &Secrets::default(), algorithm, username, password)
                };
                assert_eq!((status(true), status(false)), ("403".into(), "403".into()), "{algorithm:?}");
            }
        }
    }
}
