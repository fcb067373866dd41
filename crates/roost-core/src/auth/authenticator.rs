//! Digest authentication (RFC 2617, RFC 7616), its checks in the order that OpenSIPS has them.
//!
//! Three steps, because others have a say between them: [`Authenticator::read`] takes the credentials and finds out whose
//! they claim to be, [`Authenticator::check`] compares them with the secret, [`Authenticator::note_use`] notes the nonce's
//! use. Bans are looked at between the first and the second, see `access.rs`.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher as _};
use std::num::NonZeroU64;

use roost_sip::{Credentials, DigestError, HeaderName, joined_credentials};

use crate::auth::credentials::{Cached, CredentialCache, Known};
use crate::auth::digest::{QopAuth, ha1, md5_ha1, response};
use crate::auth::nonce::{NonceUse, NonceUses, Use, check_nonce};
use crate::base::aor::{LONGEST_KEY, UserHost, UserKey, split_username};
use crate::base::flow::Ticket;
use crate::base::hash::KeyedState;
use crate::base::hex::{Hex, parse_hex, same_hex};
use crate::base::limits;
use crate::base::stats::Counter;
use crate::base::tickets::Tickets;
use crate::contract::command::Command;
use crate::contract::context::Ctx;
use crate::contract::identity::Identity;
use crate::contract::policy::Algorithm;
use crate::contract::reason::Reason;
use crate::contract::subscriber::{Reading, Secrets, SubscriberRow};
use crate::message::request::Request;

/// What one shard knows of its users' secrets and nonces.
#[derive(Debug)]
pub(crate) struct Authenticator {
    secrets: CredentialCache,
    nonces: NonceUses,
    /// Questions to the database that are under way, and whose answer each awaits.
    loads: Tickets<Load>,
    loading: hashbrown::HashMap<Box<[u8]>, Ticket, KeyedState>,
    /// The users that were forgotten last and when, in monotonic milliseconds.
    forgotten: VecDeque<(Box<[u8]>, u64)>,
    /// The second in which names were looked up last of which nothing was known, and how many.
    unknown_names: (u64, u32),
}

#[derive(Debug)]
struct Load {
    key: UserKey,
    since_ms: u64,
    /// The user was changed meanwhile: the answer counts for nothing.
    is_stale: bool,
}

/// Whom a request says to be: To of a REGISTER, From of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimed<'a> {
    pub(crate) who: Option<UserHost<'a>>,
    /// Whether the digest user must be the same (`auth.check_to`, `proxy.check_from`).
    pub(crate) is_checked: bool,
    /// Where the credentials stand, and for which realm.
    pub(crate) header: HeaderName,
    pub(crate) realm: &'a [u8],
}

/// Credentials with everything that a check needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digest<'a> {
    /// Whose secret they are compared with.
    pub(crate) key: UserKey,
    algorithm: Algorithm,
    username: &'a [u8],
    realm: &'a [u8],
    nonce: &'a [u8],
    uri: &'a [u8],
    response: &'a [u8],
    qop: Option<QopAuth<'a>>,
    count: Option<u32>,
    nonce_expires_unix_s: u64,
}

/// How old what is cached may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheAge {
    /// As the configuration says; else the database is asked.
    Fresh,
    /// Any: the database was asked and did not answer, or may not be asked now.
    Any,
}

/// What the secret says of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    Right,
    Wrong,
    Unknown,
    /// Ask the database first.
    Load,
}

/// What became of a question to the database.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// It was asked once more under this ticket: the user was changed meanwhile.
    Again(Ticket),
    /// What is cached counts whatever its age where the database did not answer. `changed`: the user has another secret
    /// than before.
    Done { age: CacheAge, changed: Option<UserKey> },
}

impl Authenticator {
    pub(crate) fn new(identity: &Identity) -> Authenticator {
        Authenticator {
            secrets: CredentialCache::new(identity.share_of(limits::MAX_SECRETS), identity.hash_seed),
            nonces: NonceUses::new(identity.hash_seed),
            loads: Tickets::default(),
            loading: hashbrown::HashMap::with_hasher(KeyedState::new(identity.hash_seed)),
            forgotten: VecDeque::new(),
            unknown_names: (0, 0),
        }
    }

    /// What is known of some users, and of the nonce that these credentials use.
    pub(crate) fn excerpt(
        &self,
        identity: &Identity,
        keys: &[UserKey],
        digest: Option<&Digest<'_>>,
    ) -> Authenticator {
        let seed = identity.hash_seed;
        let nonces = digest.map(|digest| self.nonces.excerpt(seed, digest.key.text(), digest.nonce));
        Authenticator {
            secrets: self.secrets.excerpt(keys.iter().map(UserKey::text)),
            nonces: nonces.unwrap_or_else(|| NonceUses::new(seed)),
            unknown_names: self.unknown_names,
            ..Authenticator::new(identity)
        }
    }

    /// Takes what the database says of a user, or would say.
    pub(crate) fn suppose(&mut self, key: &UserKey, secrets: Option<Secrets>, now_ms: u64) {
        self.secrets.put(key.text(), secrets, now_ms);
    }

    /// A user who is known has these secrets from here on.
    pub(crate) fn suppose_if_known(&mut self, key: &UserKey, secrets: Secrets, now_ms: u64) {
        if let Cached::Known(..) = self.secrets.get(key.text()) {
            self.secrets.put(key.text(), Some(secrets), now_ms);
        }
    }

    /// Takes the credentials for the claimed realm apart.
    ///
    /// # Errors
    /// What is wrong with them, before any secret is looked at.
    pub(crate) fn read<'a>(
        &self,
        ctx: &Ctx<'_>,
        request: &Request<'a>,
        claimed: &Claimed<'_>,
    ) -> Result<Digest<'a>, Reason> {
        let credentials = find_credentials(request, claimed.header, claimed.realm)?;
        let digest = digest_of(&credentials, &ctx.policy.auth.algorithms)?;
        let keys = ctx.identity.nonce_keys(&ctx.policy.auth).iter();
        let expires = keys.filter_map(|key| check_nonce(key, digest.nonce, ctx.now.unix_s)).next();
        let expires_unix_s = expires.ok_or(Reason::NonceExpired)?;
        let key = UserKey::new(digest.username, digest.realm, ctx.identity.use_domain);
        let fits = digest.realm.len() <= limits::MAX_REALM && digest.username.len() <= LONGEST_KEY;
        match key.filter(|_| fits) {
            Some(key) => Ok(digest.with(key, expires_unix_s)),
            None => Err(unknown_user(ctx, request, &digest)),
        }
    }

    /// Compares with what the database said last. A wrong answer is believed for a second only, so that a changed
    /// password works at once, while a guesser makes one query a second and user at most.
    pub(crate) fn check(
        &mut self,
        ctx: &Ctx<'_>,
        request: &Request<'_>,
        digest: &Digest<'_>,
        age: CacheAge,
    ) -> Checked {
        let calculate_ha1 = ctx.policy.auth_db.calculate_ha1;
        let ttl_ms = u64::from(ctx.policy.auth_db.cache_ttl_s) * 1000;
        let old = |loaded_ms: u64, ms: u64| age == CacheAge::Fresh && ctx.now.mono_ms >= loaded_ms + ms;
        match self.secrets.get(digest.key.text()) {
            Cached::Nothing => Checked::Load,
            Cached::Unknown { loaded_ms } if old(loaded_ms, limits::RECHECK_MS) => Checked::Load,
            Cached::Unknown { .. } => Checked::Unknown,
            Cached::Known(_, loaded_ms) if old(loaded_ms, ttl_ms.max(1)) => Checked::Load,
            Cached::Known(known, loaded_ms) => {
                if matches(request, digest, known, calculate_ha1, ctx.hasher) {
                    Checked::Right
                } else if old(loaded_ms, limits::RECHECK_MS) {
                    Checked::Load
                } else {
                    Checked::Wrong
                }
            }
        }
    }

    /// Why a user that the database does not have is refused.
    pub(crate) fn unknown_user(&self, ctx: &Ctx<'_>, request: &Request<'_>, digest: &Digest<'_>) -> Reason {
        unknown_user(ctx, request, digest)
    }

    /// Notes that right credentials were used, and whether their owner may say to be who the request claims.
    ///
    /// # Errors
    /// Their nonce was used up, or they are another user's.
    pub(crate) fn note_use(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        digest: &Digest<'_>,
        claimed: &Claimed<'_>,
    ) -> Result<(), Reason> {
        let single_use = !ctx.policy.auth.disable_nonce_check;
        if single_use || digest.count.is_some() {
            let cseq = request.cseq().map_or(0, |cseq| cseq.number);
            let asked = asked_hash(ctx.hasher, request);
            let noted = self.nonces.note(
                NonceUse {
                    user: digest.key.text(),
                    nonce: digest.nonce,
                    expires_unix_s: digest.nonce_expires_unix_s,
                    count: digest.count.filter(|_| !single_use),
                    same: (request.call_id().unwrap_or(&[]), cseq, digest.response, asked),
                },
                ctx.now.unix_s,
            );
            match noted {
                Use::Fresh | Use::Retransmission => {}
                Use::Replay => return Err(Reason::NonceUsed),
                Use::Full => {
                    ctx.count(Counter::NoncesFull);
                    return Err(Reason::TooManyNonces);
                }
            }
        }
        match claimed.is_checked && !claimed.who.is_some_and(|who| may_be(ctx.identity, digest, who)) {
            true => Err(Reason::OtherUser),
            false => Ok(()),
        }
    }

    /// The question about this user that is under way.
    pub(crate) fn load_under_way(&self, key: &UserKey) -> Option<Ticket> {
        self.loading.get(key.text()).copied()
    }

    /// Whether the database may be asked about one more user.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn check_may_load(&mut self, ctx: &mut Ctx<'_>, key: &UserKey) -> Result<(), Reason> {
        if self.secrets.is_stranger(key.text()) && !self.takes_unknown_name(ctx.now.mono_ms) {
            ctx.count(Counter::StrangersFull);
            return Err(Reason::TooManyUnknownNames);
        }
        if self.loading.len() >= limits::MAX_LOADING {
            ctx.count(Counter::LoadingFull);
            return Err(Reason::TooManyLookups);
        }
        Ok(())
    }

    /// Asks the database about a user; the answer comes to [`Authenticator::loaded`].
    pub(crate) fn load(&mut self, ctx: &mut Ctx<'_>, key: UserKey) -> Ticket {
        ctx.count(Counter::CredentialLoads);
        self.ask(ctx, Load { key, since_ms: ctx.now.mono_ms, is_stale: false })
    }

    fn ask(&mut self, ctx: &mut Ctx<'_>, load: Load) -> Ticket {
        let (user, domain) = (load.key.user().into(), load.key.domain().map(Into::into));
        let text = load.key.text().into();
        let ticket = self.loads.insert(load);
        self.loading.insert(text, ticket);
        ctx.out.commands.push(Command::LoadCredentials { ticket, user, domain });
        ticket
    }

    /// Takes what the database said; `None` for a ticket that is not known any more.
    pub(crate) fn loaded(
        &mut self,
        ctx: &mut Ctx<'_>,
        ticket: Ticket,
        found: Result<Option<Secrets>, String>,
    ) -> Option<Loaded> {
        let load = self.loads.remove(ticket)?;
        if load.is_stale {
            return Some(Loaded::Again(self.ask(ctx, Load { is_stale: false, ..load })));
        }
        self.loading.remove(load.key.text());
        Some(match found {
            Ok(secrets) => {
                let is_changed = self.secrets.put(load.key.text(), secrets, ctx.now.mono_ms);
                Loaded::Done { age: CacheAge::Fresh, changed: is_changed.then_some(load.key) }
            }
            Err(error) => {
                tracing::debug!(error, "credentials not loaded");
                Loaded::Done { age: CacheAge::Any, changed: None }
            }
        })
    }

    /// The questions that have been under way too long.
    pub(crate) fn late_loads(&self, now_ms: u64) -> Vec<Ticket> {
        if self.loads.len() == 0 {
            return Vec::new();
        }
        self.loads.tickets(|load| load.since_ms + limits::PARKED_MS <= now_ms)
    }

    /// Whether a user is a subscriber, as far as that is known.
    pub(crate) fn is_extension(&mut self, ctx: &Ctx<'_>, key: &UserKey) -> Option<bool> {
        let ttl_ms = u64::from(ctx.policy.auth_db.cache_ttl_s) * 1000;
        let is_fresh = |loaded_ms: u64| loaded_ms + ttl_ms >= ctx.now.mono_ms;
        match self.secrets.get(key.text()) {
            Cached::Known(_, loaded_ms) if is_fresh(loaded_ms) => Some(true),
            Cached::Unknown { loaded_ms } if is_fresh(loaded_ms) => Some(false),
            _ => None,
        }
    }

    /// Takes what a whole reading of the subscriber table found, see [`Reading`]; the users that have other secrets than
    /// before. `since_ms` is when it began, in monotonic milliseconds.
    pub(crate) fn take_reading(&mut self, use_domain: bool, reading: Reading, since_ms: u64) -> Vec<UserKey> {
        let mut changed = Vec::new();
        match reading {
            Reading::Rows(rows) => {
                for SubscriberRow { user, domain, secrets } in rows {
                    // A name with an `@` of its own is looked up when somebody uses it.
                    if user.contains(&b'@') {
                        continue;
                    }
                    let Some(key) = UserKey::new(&user, &domain, use_domain) else { continue };
                    // A row that was changed while the table was read may be the old one.
                    let was_forgotten =
                        self.forgotten.iter().any(|(user, ms)| *ms >= since_ms && **user == *key.text());
                    if !was_forgotten && self.secrets.put_read(key.text(), &secrets, since_ms) {
                        changed.push(key);
                    }
                }
            }
            Reading::SomeGone => self.secrets.some_gone(),
            Reading::Done => self.secrets.all_read(since_ms),
        }
        changed
    }

    /// Forgets what the database said of a user, and what it is about to say.
    pub(crate) fn forget(&mut self, ctx: &mut Ctx<'_>, key: &UserKey) {
        if self.forgotten.len() == limits::MAX_FORGOTTEN {
            ctx.count(Counter::ForgottenEvicted);
            self.forgotten.pop_front();
        }
        self.forgotten.push_back((key.text().into(), ctx.now.mono_ms));
        self.secrets.forget(key.text());
        let under_way = self.load_under_way(key);
        if let Some(load) = under_way.and_then(|ticket| self.loads.get_mut(ticket)) {
            load.is_stale = true;
        }
    }

    /// Forgets what the database said of anybody, and what it is about to say.
    pub(crate) fn forget_all(&mut self, now_ms: u64) {
        self.secrets.clear(now_ms);
        for ticket in self.loading.values() {
            if let Some(load) = self.loads.get_mut(*ticket) {
                load.is_stale = true;
            }
        }
    }

    /// Whether anything is awaited from the database.
    pub(crate) fn is_idle(&self) -> bool {
        self.loads.len() == 0
    }

    /// What operators may know of it: names and values.
    pub(crate) fn gauges(&self) -> [(&'static str, u64); 2] {
        [
            ("roost:secrets_evicted", self.secrets.evicted()),
            ("roost:unknown_evicted", self.secrets.unknown_evicted),
        ]
    }

    /// Whether one more name that nobody knows may be looked up in this second.
    fn takes_unknown_name(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        if self.unknown_names.0 != second {
            self.unknown_names = (second, 0);
        }
        self.unknown_names.1 += 1;
        self.unknown_names.1 <= limits::MAX_UNKNOWN_NAMES_PER_S
    }
}

impl<'a> Digest<'a> {
    fn with(self, key: UserKey, nonce_expires_unix_s: u64) -> Digest<'a> {
        Digest { key, nonce_expires_unix_s, ..self }
    }
}

/// The first credentials for this realm; others are passed over.
///
/// # Errors
/// There are none; or digests that do not parse, of which nobody can say that they are not these: a new challenge would
/// bring them again.
fn find_credentials<'a>(
    request: &Request<'a>,
    name: HeaderName,
    realm: &[u8],
) -> Result<Credentials<'a>, Reason> {
    let is_ours = |credentials: &Credentials<'_>| {
        credentials.realm.is_some_and(|given| given.eq_ignore_ascii_case(realm))
    };
    let mut missing = Reason::NoCredentials;
    for value in request.head.values(request.bytes, name) {
        match Credentials::parse(value) {
            Ok(credentials) if is_ours(&credentials) => return Ok(credentials),
            Ok(_) => continue,
            Err(_) => {}
        }
        for one in joined_credentials(value) {
            match Credentials::parse(one) {
                Ok(credentials) if is_ours(&credentials) => return Ok(credentials),
                Ok(_) | Err(DigestError::Scheme) => {}
                Err(_) => missing = Reason::MalformedCredentials,
            }
        }
    }
    Err(missing)
}

fn digest_of<'a>(credentials: &Credentials<'a>, offered: &[Algorithm]) -> Result<Digest<'a>, Reason> {
    let Credentials { username, realm, nonce, uri, response, cnonce, nc, qop, algorithm } = *credentials;
    let (Some(username), Some(nonce), Some(uri), Some(response)) = (username, nonce, uri, response) else {
        return Err(Reason::IncompleteCredentials);
    };
    let qop = match qop {
        None | Some(b"") => None,
        Some(qop) if qop.eq_ignore_ascii_case(b"auth") => match (nc, cnonce) {
            (Some(nc), Some(cnonce)) => Some(QopAuth { nc, cnonce, qop }),
            _ => return Err(Reason::QopWithoutCount),
        },
        Some(_) => return Err(Reason::QopNotOffered),
    };
    let name = algorithm.unwrap_or(b"MD5");
    let mut same = offered.iter().filter(|offered| name.eq_ignore_ascii_case(offered.as_str().as_bytes()));
    let algorithm = same.next().copied().ok_or(Reason::AlgorithmNotOffered)?;
    let count = match qop {
        // Some write fewer digits than the eight of RFC 7616 3.4.
        Some(qop) => match parse_hex(qop.nc).filter(|_| (1..=8).contains(&qop.nc.len())) {
            Some(count) => Some(count as u32),
            None => return Err(Reason::MalformedCount),
        },
        None => None,
    };
    let realm = realm.unwrap_or(&[]);
    Ok(Digest {
        key: UserKey::NOBODY,
        algorithm,
        username,
        realm,
        nonce,
        uri,
        response,
        qop,
        count,
        nonce_expires_unix_s: 0,
    })
}

/// 404, or with `hide_unknown_users` what a wrong password gets, after the same arithmetic.
fn unknown_user(ctx: &Ctx<'_>, request: &Request<'_>, digest: &Digest<'_>) -> Reason {
    if !ctx.policy.auth.hide_unknown_users {
        return Reason::UnknownUser;
    }
    let ha1 = ha1(digest.algorithm, digest.username, digest.realm, b"no password");
    let _ = same_hex(&expected(request, digest, ha1.as_bytes()), digest.response);
    Reason::UnknownUserHidden
}

/// What a request asks for beside its credentials, which do not cover it: a copy with another Contact is a replay.
fn asked_hash(hasher: KeyedState, request: &Request<'_>) -> u64 {
    let mut hasher = hasher.build_hasher();
    for name in [HeaderName::Contact, HeaderName::Expires, HeaderName::To] {
        for value in request.head.values(request.bytes, name) {
            hasher.write(value);
        }
    }
    hasher.write(request.uri);
    hasher.write(request.head.body(request.bytes));
    hasher.finish()
}

/// Whether the digest user is the claimed user, and its domain, where it has one, the claimed host: 9001's password must
/// not register 9003.
fn may_be(identity: &Identity, digest: &Digest<'_>, who: UserHost<'_>) -> bool {
    let (user, domain) = split_username(digest.username);
    let claimed = who.user.plain();
    let same_user = match identity.case_sensitive {
        true => *user == *claimed,
        false => user.eq_ignore_ascii_case(&claimed),
    };
    let same_domain = domain.is_none_or(|domain| domain.eq_ignore_ascii_case(who.host));
    same_user && (same_domain || !identity.use_domain)
}

fn expected(request: &Request<'_>, digest: &Digest<'_>, ha1: &[u8]) -> Hex {
    response(digest.algorithm, ha1, digest.nonce, digest.qop, request.method_name, digest.uri)
}

/// An empty column is not a password: anyone who knows that it is empty could compute the response.
fn matches(
    request: &Request<'_>,
    digest: &Digest<'_>,
    known: &mut Known,
    calculate_ha1: bool,
    hasher: KeyedState,
) -> bool {
    let is_right = |ha1: &[u8]| same_hex(&expected(request, digest, ha1), digest.response);
    if !calculate_ha1 {
        let ha1 = stored_ha1(known, digest);
        let digits = if digest.algorithm == Algorithm::Md5 { 32 } else { 64 };
        return is_right(ha1) && ha1.len() == digits;
    }
    if digest.algorithm != Algorithm::Md5 {
        let ha1 = ha1(digest.algorithm, digest.username, digest.realm, known.password());
        return is_right(ha1.as_bytes()) && !known.password().is_empty();
    }
    // Two names of one user with the same keyed hash would only get a 403 in 2^64 cases.
    let purpose =
        NonZeroU64::new(hasher.hash_one((digest.username, digest.realm))).unwrap_or(NonZeroU64::MAX);
    if let Some(ha1) = known.memo(purpose) {
        return is_right(Hex::new(&ha1).as_bytes());
    }
    let ha1 = md5_ha1(digest.username, digest.realm, known.password());
    let matches = is_right(Hex::new(&ha1).as_bytes()) && !known.password().is_empty();
    if matches {
        known.note(purpose, ha1);
    }
    matches
}

/// HA1 from its column: `ha1b` for a username with a domain.
fn stored_ha1<'k>(known: &'k Known, digest: &Digest<'_>) -> &'k [u8] {
    match (digest.algorithm, split_username(digest.username).1) {
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
    use roost_sip::Head;

    use super::*;
    use crate::auth::nonce::write_nonce;
    use crate::base::flow::Flow;
    use crate::contract::context::TestShard;

    const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512Trunc256];
    const UNIX_S: u64 = 1_800_000_000;

    fn shard(calculate_ha1: bool, algorithms: &[Algorithm]) -> TestShard {
        let mut shard = TestShard::new();
        shard.policy.auth_db.calculate_ha1 = calculate_ha1;
        shard.policy.auth.algorithms = algorithms.to_vec();
        shard
    }

    /// What is checked of a REGISTER of 9001.
    #[derive(Clone, Copy)]
    struct Shown<'a> {
        algorithm: Algorithm,
        username: &'a str,
        password: &'a str,
        expires_unix_s: u64,
        call_id: &'a str,
    }

    const RIGHT: Shown<'static> = Shown {
        algorithm: Algorithm::Md5,
        username: "9001",
        password: "secret",
        expires_unix_s: UNIX_S + 20,
        call_id: "c",
    };

    fn message(shard: &TestShard, shown: &Shown<'_>) -> String {
        let mut nonce = Vec::new();
        write_nonce(&shard.identity.mac_key, shown.expires_unix_s, [0; 4], &mut nonce);
        let ha1 = ha1(shown.algorithm, shown.username.as_bytes(), b"a.com", shown.password.as_bytes());
        let response = response(shown.algorithm, ha1.as_bytes(), &nonce, None, b"REGISTER", b"sip:a.com");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        format!(
            "REGISTER sip:a.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:9001@a.com>;tag=1\r\n\
             To: <sip:9001@a.com>\r\nCall-ID: {}\r\nCSeq: 1 REGISTER\r\nAuthorization: Digest username=\"{}\", \
             realm=\"a.com\", nonce=\"{}\", uri=\"sip:a.com\", response=\"{}\", algorithm={}\r\n\r\n",
            shown.call_id,
            shown.username,
            text(&nonce),
            text(response.as_bytes()),
            shown.algorithm.as_str()
        )
    }

    /// All three steps.
    fn outcome(
        auth: &mut Authenticator,
        shard: &mut TestShard,
        shown: &Shown<'_>,
    ) -> Result<Checked, Reason> {
        let text = message(shard, shown);
        let mut head = Head::new();
        head.parse(text.as_bytes()).unwrap();
        let address = "10.0.0.1:5060".parse().unwrap();
        let request = Request::new(
            &crate::contract::policy::Policy::default(),
            Flow::udp(address, address),
            text.as_bytes(),
            &head,
        )
        .unwrap();
        let header = HeaderName::Authorization;
        let claimed = Claimed { who: request.registrant(), is_checked: true, header, realm: b"a.com" };
        let ctx = &mut shard.ctx();
        let digest = auth.read(ctx, &request, &claimed)?;
        match auth.check(ctx, &request, &digest, CacheAge::Fresh) {
            Checked::Right => auth.note_use(ctx, &request, &digest, &claimed).map(|()| Checked::Right),
            other => Ok(other),
        }
    }

    fn with_secrets(shard: &TestShard, secrets: &Secrets) -> Authenticator {
        let mut auth = Authenticator::new(&shard.identity);
        auth.secrets.put(b"9001", Some(secrets.clone()), shard.now.mono_ms);
        auth
    }

    fn plain() -> Secrets {
        Secrets { password: (*b"secret").into(), ..Secrets::default() }
    }

    #[test]
    fn every_algorithm_from_plaintext_and_from_its_column() {
        let hash = |algorithm| Box::from(ha1(algorithm, b"9001", b"a.com", b"secret").as_bytes());
        let [password, sha256, sha512t256] = ALL.map(hash);
        let hashed = Secrets { password, password_2: Box::default(), sha256, sha512t256 };
        for algorithm in ALL {
            for (calculate_ha1, secrets) in [(true, &plain()), (false, &hashed)] {
                let mut shard = shard(calculate_ha1, &ALL);
                let mut auth = with_secrets(&shard, secrets);
                let right = Shown { algorithm, ..RIGHT };
                assert_eq!(outcome(&mut auth, &mut shard, &right), Ok(Checked::Right), "{algorithm:?}");
                let wrong = Shown { password: "wrong", ..right };
                assert_eq!(outcome(&mut auth, &mut shard, &wrong), Ok(Checked::Wrong), "{algorithm:?}");
            }
            let mut shard = shard(true, &[Algorithm::Md5]);
            let mut auth = with_secrets(&shard, &plain());
            let expected = match algorithm {
                Algorithm::Md5 => Ok(Checked::Right),
                _ => Err(Reason::AlgorithmNotOffered),
            };
            assert_eq!(outcome(&mut auth, &mut shard, &Shown { algorithm, ..RIGHT }), expected);
        }
    }

    #[test]
    fn an_empty_column_lets_nobody_in() {
        for algorithm in ALL {
            for username in ["9001", "9001@a.com"] {
                for calculate_ha1 in [true, false] {
                    let mut shard = shard(calculate_ha1, &ALL);
                    let mut auth = with_secrets(&shard, &Secrets::default());
                    let empty = Shown { algorithm, username, password: "", ..RIGHT };
                    assert_eq!(outcome(&mut auth, &mut shard, &empty), Ok(Checked::Wrong), "{algorithm:?}");
                }
            }
        }
    }

    #[test]
    fn a_nonce_has_its_time_and_with_single_use_its_request() {
        let mut shard = shard(true, &ALL);
        let mut auth = with_secrets(&shard, &plain());
        let old = Shown { expires_unix_s: UNIX_S - 1, ..RIGHT };
        assert_eq!(outcome(&mut auth, &mut shard, &old), Err(Reason::NonceExpired));
        shard.policy.auth.disable_nonce_check = false;
        assert_eq!(outcome(&mut auth, &mut shard, &RIGHT), Ok(Checked::Right));
        assert_eq!(outcome(&mut auth, &mut shard, &RIGHT), Ok(Checked::Right), "a retransmission");
        let replay = Shown { call_id: "other", ..RIGHT };
        assert_eq!(outcome(&mut auth, &mut shard, &replay), Err(Reason::NonceUsed));
    }

    #[test]
    fn what_the_database_said_is_believed_for_a_while() {
        let mut shard = shard(true, &ALL);
        let mut auth = Authenticator::new(&shard.identity);
        assert_eq!(outcome(&mut auth, &mut shard, &RIGHT), Ok(Checked::Load));
        let key = UserKey::new(b"9001", b"", false).unwrap();
        let ticket = auth.load(&mut shard.ctx(), key);
        assert_eq!(auth.load_under_way(&key), Some(ticket));
        // Somebody changes the password meanwhile: the answer counts for nothing.
        auth.forget(&mut shard.ctx(), &key);
        let again = auth.loaded(&mut shard.ctx(), ticket, Ok(Some(plain())));
        let Some(Loaded::Again(again)) = again else { panic!("{again:?}") };
        assert!(auth.loaded(&mut shard.ctx(), ticket, Ok(None)).is_none(), "its ticket is over");
        let done = auth.loaded(&mut shard.ctx(), again, Ok(Some(plain())));
        assert!(matches!(done, Some(Loaded::Done { age: CacheAge::Fresh, changed: None })), "{done:?}");
        assert_eq!(outcome(&mut auth, &mut shard, &RIGHT), Ok(Checked::Right));
        let wrong = Shown { password: "wrong", ..RIGHT };
        assert_eq!(outcome(&mut auth, &mut shard, &wrong), Ok(Checked::Wrong));
        shard.now.mono_ms += limits::RECHECK_MS;
        assert_eq!(outcome(&mut auth, &mut shard, &wrong), Ok(Checked::Load), "it may have been changed");
        assert_eq!(outcome(&mut auth, &mut shard, &RIGHT), Ok(Checked::Right));
        shard.now.mono_ms += u64::from(shard.policy.auth_db.cache_ttl_s) * 1_000;
        assert_eq!(outcome(&mut auth, &mut shard, &RIGHT), Ok(Checked::Load));
        let late = auth.load(&mut shard.ctx(), key);
        assert_eq!(auth.late_loads(shard.now.mono_ms + limits::PARKED_MS), [late]);
        let done = auth.loaded(&mut shard.ctx(), late, Err("away".to_string()));
        assert!(matches!(done, Some(Loaded::Done { age: CacheAge::Any, .. })) && auth.is_idle());
    }

    #[test]
    fn the_password_of_one_is_not_anothers() {
        let mut shard = shard(true, &ALL);
        let mut auth = with_secrets(&shard, &plain());
        auth.secrets.put(b"9003", Some(plain()), shard.now.mono_ms);
        let other = Shown { username: "9003", ..RIGHT };
        assert_eq!(outcome(&mut auth, &mut shard, &other), Err(Reason::OtherUser));
        auth.secrets.put(b"9003", None, shard.now.mono_ms);
        assert_eq!(outcome(&mut auth, &mut shard, &other), Ok(Checked::Unknown));
    }
}
