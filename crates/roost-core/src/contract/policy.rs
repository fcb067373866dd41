//! What an operator may change while the process lives. Names are those of `roost.toml`, whose table of keys is
//! `settings/keys.rs` of the binary; units stand last.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::contract::aliases::Aliases;
use crate::contract::domain::Domain;
use crate::contract::listener::Listener;
use crate::contract::rule::Rule;
use crate::contract::shared::Floating;
use crate::contract::trusted::Trusted;

/// The settings that every shard obeys; replaced as a whole by [`crate::Engine::handle_policy`].
#[derive(Debug, Clone)]
pub struct Policy {
    /// The Server header's value; empty sends none.
    pub server_header: String,
    /// A message that waits longer before it is handled counts as slow, in milliseconds.
    pub exec_msg_threshold_ms: u64,
    pub auth: AuthParams,
    pub pike: PikeParams,
    pub auth_db: AuthDbParams,
    pub usrloc: UsrlocParams,
    pub registrar: RegistrarParams,
    pub tm: TmParams,
    pub rr: RrParams,
    pub proxy: ProxyParams,
    pub dispatcher: DispatcherParams,
    pub nathelper: NathelperParams,
    pub dialog: DialogParams,
    /// Numbers that stand for extensions.
    pub aliases: Arc<Aliases>,
    /// Where numbers go that are not extensions (`[[route]]`), the first that fits.
    pub routes: Arc<[Rule]>,
    /// The addresses listened on, wildcards included.
    pub listeners: Vec<Listener>,
    /// The one of them that other nodes reach this one at (`cluster.listen`).
    pub node: Option<SocketAddr>,
    /// Nobody registers or begins a call any more: who tries is told to come back after so many seconds, or up to twice as many;
    /// 0: they do.
    pub drain_s: u32,
    /// Those of other nodes that are down.
    pub nodes_down: Arc<[SocketAddr]>,
    /// Addresses that one node after the other has.
    pub floating: Arc<[Floating]>,
    /// Names that are ours in Route and Request-URI, beside `advertised_address`.
    pub domains: Vec<Domain>,
    /// The host that Via and Record-Route name in place of ours; empty names ours.
    pub advertised_address: String,
}

/// `[auth]`
#[derive(Debug, Clone)]
pub struct AuthParams {
    /// The realm of challenges; empty takes the host of To (REGISTER) or of From.
    pub realm: String,
    /// How long a nonce may be used, in seconds.
    pub nonce_expire_s: u32,
    /// The digest algorithms, in the order offered.
    pub algorithms: Vec<Algorithm>,
    /// Whether challenges offer `qop="auth"`.
    pub qop_auth: bool,
    /// Whether a nonce may be used again until it expires.
    pub disable_nonce_check: bool,
    /// Whether the digest user must be the To user.
    pub check_to: bool,
    /// Whether an unknown user is answered like a wrong password.
    pub hide_unknown_users: bool,
    /// Failures of one extension from one address that ban the pair; 0: never.
    pub ban_failures: u32,
    /// Failures from one address that ban it; 0: never.
    pub ban_source_failures: u32,
    /// Failures of one extension from anywhere that ban it for those who are not registered; 0: never.
    pub ban_user_failures: u32,
    /// How long the first ban lasts, in seconds; each next one is twice as long.
    pub ban_time_s: u32,
    /// How long a ban lasts at most, in seconds.
    pub ban_max_time_s: u32,
}

/// `[pike]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PikeParams {
    /// In how many seconds requests are counted.
    pub sampling_time_unit_s: u32,
    /// How many requests one address may send in that time to one shard; 0: any number.
    pub reqs_density_per_unit: u32,
    /// Requests whose User-Agent begins with one of these, in any case, are dropped.
    pub drop_user_agents: Vec<String>,
}

/// A digest algorithm (RFC 7616, RFC 8760).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
    Sha512Trunc256,
}

impl Algorithm {
    /// The name in challenges and credentials.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512Trunc256 => "SHA-512-256",
        }
    }
}

/// `[auth_db]`
#[derive(Debug, Clone)]
pub struct AuthDbParams {
    /// The password column holds plaintext; else HA1 hashes.
    pub calculate_ha1: bool,
    /// How long a loaded secret is believed, in seconds.
    pub cache_ttl_s: u32,
}

/// `[usrloc]`
#[derive(Debug, Clone)]
pub struct UsrlocParams {
    /// How long one sweep over all bindings takes, in seconds.
    pub timer_interval_s: u32,
    /// How long an equal CSeq counts as a retransmission, in seconds.
    pub cseq_delay_s: u32,
}

/// `[registrar]`
#[derive(Debug, Clone)]
pub struct RegistrarParams {
    /// The shortest binding granted, in seconds; 0 sets no limit.
    pub min_expires_s: u32,
    /// The longest binding granted, in seconds; 0 sets no limit.
    pub max_expires_s: u32,
    /// What is granted when the phone asks for nothing, in seconds.
    pub default_expires_s: u32,
    /// Bindings per AOR; 0 sets no limit but [`crate::base::limits::MAX_BINDINGS_PER_AOR`].
    pub max_contacts: u32,
    /// Whether the least recently refreshed binding makes room for a new one; else 503.
    pub force_registration: bool,
    /// Whether an AOR belongs to the address that registered it (`exclusive = "ip"`, the Occupied rule).
    pub exclusive_ip: bool,
    /// Whether the database decides that, in the commit (`exclusive_check = "database"`).
    pub exclusive_in_database: bool,
    /// Seconds in Retry-After of the registrar's 5xx answers; 0 sends none, but for a commit that failed (2 s).
    pub retry_after_s: u32,
    /// Whether a 200 carries Date.
    pub add_date: bool,
    /// What becomes of a REGISTER's Path.
    pub path: PathMode,
    /// Whether a 200 lists the contacts that the REGISTER names only, not all of the AOR's.
    pub only_request_contacts: bool,
}

/// What becomes of a REGISTER's Path (`registrar.path`, RFC 3327): flags of OpenSIPS's `save()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMode {
    /// It is not looked at (no flag).
    Ignore,
    /// It is kept and used, and never echoed (`path-off`).
    Off,
    /// It is kept and used, and echoed to phones that know Path (`path-lazy`).
    Lazy,
    /// The same, and phones that do not know Path are refused (`path-strict`).
    Strict,
}

/// `[tm]`
#[derive(Debug, Clone)]
pub struct TmParams {
    /// Without any answer for this long: 408, in seconds.
    pub fr_timeout_s: u32,
    /// Ringing for this long: CANCEL and 408, in seconds.
    pub fr_inv_timeout_s: u32,
    pub restart_fr_on_each_reply: bool,
}

/// `[rr]`
#[derive(Debug, Clone)]
pub struct RrParams {
    /// Whether Record-Route carries `;ftag=`.
    pub append_fromtag: bool,
}

/// `[proxy]`
#[derive(Debug, Clone)]
pub struct ProxyParams {
    pub authorize: Authorize,
    pub check_from: bool,
    /// Networks whose addresses are never challenged.
    pub trusted: Trusted,
    pub serial_fork: bool,
    /// Calls in progress at once; 0: any number.
    pub max_calls: u32,
    pub asserted_identity: AssertedIdentity,
}

/// What becomes of P-Asserted-Identity, P-Preferred-Identity and Remote-Party-ID of phones (`proxy.asserted_identity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssertedIdentity {
    /// They go on as they are.
    Off,
    /// They reach nobody.
    Strip,
    /// The same, and hops are told who has proved to be the caller.
    Set,
}

/// `[dispatcher]`: how next hops are watched.
#[derive(Debug, Clone)]
pub struct DispatcherParams {
    /// How often each next hop is pinged, in seconds; 0: never, and then none counts as down.
    pub ping_interval_s: u32,
    /// Pings and calls in a row without an answer that make a next hop count as down.
    pub probing_threshold: u32,
    /// The From URI of pings.
    pub ping_from: String,
}

/// `[dialog]`: calls in progress.
#[derive(Debug, Clone)]
pub struct DialogParams {
    /// How long a call lasts that nobody ends, in seconds.
    pub default_timeout_s: u32,
    /// How often both sides of a call are asked whether they still know of it, in seconds; 0: never.
    pub options_ping_interval_s: u32,
    /// Calls that an extension may have at once; 0: any number.
    pub max_calls: u32,
}

/// `[nathelper]`: how the ways to phones behind NAT are kept open.
#[derive(Debug, Clone)]
pub struct NathelperParams {
    /// How often each binding is pinged, in seconds; 0: never.
    pub natping_interval_s: u32,
    /// Whether only bindings behind NAT are pinged.
    pub ping_nated_only: bool,
    /// The method of pings; empty sends CRLF, which nobody answers.
    pub sipping_method: String,
    /// The From URI of pings.
    pub sipping_from: String,
    /// A ping that is not answered for so long is lost, in seconds.
    pub ping_threshold_s: u32,
    /// Pings in a row that may be lost.
    pub max_pings_lost: u32,
    /// Whether a binding is removed that has lost so many.
    pub remove_on_timeout: bool,
    /// Whether requests are answered to the port that they came from whatever their Via says (RFC 3581).
    pub force_rport: bool,
}

impl Default for NathelperParams {
    fn default() -> Self {
        NathelperParams {
            natping_interval_s: 0,
            ping_nated_only: true,
            sipping_method: "OPTIONS".to_string(),
            sipping_from: "sip:roost@localhost".to_string(),
            ping_threshold_s: 3,
            max_pings_lost: 3,
            remove_on_timeout: false,
            force_rport: false,
        }
    }
}

/// Who may call (`proxy.authorize`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorize {
    /// A live binding's own address passes, others are challenged.
    Registered,
    /// Everybody is challenged.
    Challenge,
    /// Nobody is challenged.
    Off,
}

/// What scanners call themselves.
const SCANNERS: [&str; 7] =
    ["friendly-scanner", "sipvicious", "sipcli", "sip-scan", "sundayddr", "iwar", "pplsip"];

impl Default for AuthParams {
    fn default() -> Self {
        AuthParams {
            realm: String::new(),
            nonce_expire_s: 30,
            algorithms: vec![Algorithm::Md5],
            qop_auth: false,
            disable_nonce_check: true,
            check_to: true,
            hide_unknown_users: false,
            ban_failures: 5,
            ban_source_failures: 50,
            ban_user_failures: 100,
            ban_time_s: 60,
            ban_max_time_s: 3_600,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            server_header: concat!("roost/", env!("CARGO_PKG_VERSION")).to_string(),
            exec_msg_threshold_ms: 100,
            auth: AuthParams::default(),
            pike: PikeParams {
                sampling_time_unit_s: 2,
                reqs_density_per_unit: 0,
                drop_user_agents: SCANNERS.map(str::to_string).to_vec(),
            },
            auth_db: AuthDbParams { calculate_ha1: true, cache_ttl_s: 60 },
            usrloc: UsrlocParams { timer_interval_s: 60, cseq_delay_s: 20 },
            registrar: RegistrarParams {
                min_expires_s: 30,
                max_expires_s: 300,
                default_expires_s: 120,
                max_contacts: 1,
                force_registration: true,
                exclusive_ip: true,
                exclusive_in_database: false,
                retry_after_s: 0,
                add_date: true,
                path: PathMode::Lazy,
                only_request_contacts: false,
            },
            tm: TmParams { fr_timeout_s: 5, fr_inv_timeout_s: 30, restart_fr_on_each_reply: false },
            rr: RrParams { append_fromtag: false },
            proxy: ProxyParams {
                authorize: Authorize::Registered,
                check_from: true,
                trusted: Trusted::default(),
                serial_fork: false,
                max_calls: 0,
                asserted_identity: AssertedIdentity::Strip,
            },
            dispatcher: DispatcherParams {
                ping_interval_s: 10,
                probing_threshold: 3,
                ping_from: "sip:roost@localhost".to_string(),
            },
            nathelper: NathelperParams::default(),
            dialog: DialogParams { default_timeout_s: 43_200, options_ping_interval_s: 0, max_calls: 0 },
            aliases: Arc::default(),
            routes: Arc::new([]),
            listeners: Vec::new(),
            node: None,
            drain_s: 0,
            nodes_down: Arc::default(),
            floating: Arc::default(),
            domains: Vec::new(),
            advertised_address: String::new(),
        }
    }
}
