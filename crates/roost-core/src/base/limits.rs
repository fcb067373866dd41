//! Every limit of the core, in one place. What a limit refuses is counted (see [`crate::Counter`]); `roost-sim` has a test
//! that reaches each.

/// Requests of one shard that wait for credentials or behind a commit; more are answered 503.
pub const MAX_PARKED: usize = 8_192;
/// Bytes of those requests.
pub const MAX_PARKED_BYTES: usize = 16 << 20;
/// How long a request waits for credentials before it is answered 500, in milliseconds.
pub const PARKED_MS: u64 = 8_000;
/// How long a request waits at start until its AOR's rows are read, before it is answered 503, in milliseconds.
pub const UNREAD_MS: u64 = 8_000;
/// Operators' requests of one shard that wait until all rows are read.
pub const MAX_WAITING_ADMIN: usize = 64;
/// Requests that wait behind one AOR's commit.
pub const MAX_WAITING_PER_AOR: usize = 8;
/// Commits of one shard in flight; more are answered 503.
pub const MAX_COMMITS: usize = 65_536;
/// AORs that are told to the database again, each second, after a commit of theirs has failed.
pub const MAX_REPAIRS: usize = 64;
/// Ids of one AOR that failed commits were about; rows beyond them are deleted when they expire.
pub const MAX_DOUBTS_PER_AOR: usize = 64;
/// Users of one shard whose credentials are being loaded.
pub const MAX_LOADING: usize = 4_096;
/// Bindings of one AOR when `registrar.max_contacts` is 0 (OpenSIPS: unlimited).
pub const MAX_BINDINGS_PER_AOR: usize = 100;
/// Bindings of one AOR in memory, those of `ul_add` and expired ones included; more are answered 503.
pub const MAX_HELD_PER_AOR: usize = 1_000;
/// Contacts in one REGISTER.
pub const MAX_CONTACTS_PER_REGISTER: usize = 20;
/// Cached secrets of all shards together.
pub const MAX_SECRETS: usize = 1 << 20;
/// Cached unknown users of one shard; a table of its own, so that guesses never push real users out.
pub const MAX_UNKNOWN_USERS: usize = 1 << 14;
/// Users of one shard that were changed last, remembered so that an older reading of the table brings nothing back.
pub const MAX_FORGOTTEN: usize = 64;
/// How often the database is asked again about one user whose answer was wrong, in milliseconds.
pub const RECHECK_MS: u64 = 1_000;
/// Addresses of one shard, extensions, and pairs of both, whose failures are counted; the oldest that are not banned go first.
pub const MAX_SUSPECTS: usize = 1 << 14;
/// Buckets of one shard that count what addresses send, when `pike.reqs_density_per_unit` is set.
pub const MAX_BUCKETS: usize = 1 << 16;
/// Names that are in no complete reading of `subscriber` and are looked up in a second, of one shard; more are answered 503.
/// Once a row had to make room (more than [`MAX_SECRETS`]) nobody can tell, and [`MAX_LOADING`] alone is the limit.
pub const MAX_UNKNOWN_NAMES_PER_S: u32 = 100;
/// Nonces of one shard whose use is remembered.
pub const MAX_NONCES: usize = 1 << 20;
/// Transactions of all shards together; a request beyond them is answered 503.
pub const MAX_TRANSACTIONS: usize = 1 << 18;
/// Bytes of the messages that all transactions hold; a request beyond them is answered 503.
pub const MAX_TRANSACTION_BYTES: usize = 512 << 20;
/// Calls of one shard that are known to have been let in; an older one's retransmission is authorized anew.
pub const MAX_ADMITTED_CALLS: usize = 1 << 16;
/// Names of one shard that are being resolved; what needs another one is answered as if it led nowhere.
pub const MAX_RESOLVING: usize = 4_096;
/// How long a name may take to resolve, in milliseconds; then it leads nowhere.
pub const RESOLVING_MS: u64 = 5_000;
/// Addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 16;
/// A request that may go on, in bytes: what it grows by must fit into a datagram, too. A larger one is answered 513.
pub const MAX_REQUEST: usize = 64_000;
/// Branches that one request is forked to.
pub const MAX_BRANCHES: usize = 100;
/// Seconds in Retry-After when a limit refuses a request.
pub const BUSY_RETRY_AFTER_S: u32 = 2;
/// `location.username` and `subscriber.username`, in bytes.
pub const MAX_USER: usize = 64;
/// `location.domain` and `subscriber.domain`, in bytes.
pub const MAX_DOMAIN: usize = 64;
/// A digest realm, in bytes.
pub const MAX_REALM: usize = 255;
/// A Contact URI, in bytes. On a database server the column's width is the limit, see [`crate::Widths`].
pub const MAX_CONTACT: usize = 2_048;
/// A Path, in bytes; on a database server as its column.
pub const MAX_PATH: usize = 2_048;
/// The Call-ID of a REGISTER, in bytes; on a database server as its column.
pub const MAX_CALL_ID: usize = 2_048;
/// A User-Agent, in bytes, on a database server as its column; a longer one is kept as `n/a`, as OpenSIPS does.
pub const MAX_USER_AGENT: usize = 2_048;
/// `location.sip_instance`, in bytes; a longer one is not kept.
pub const MAX_INSTANCE: usize = 255;
/// A Contact's feature parameters beside the instance, and the name of `methods`, in bytes; one that goes beyond is not kept.
pub const MAX_FEATURES: usize = 512;
/// The Reason header of a CANCEL that is copied into those to callees, in bytes; of a longer one nothing is.
pub const MAX_REASON: usize = 1_024;
/// Contacts of one shard that are found by their URI although its user is no extension.
pub const MAX_CONTACT_PLACES: usize = 1 << 18;
/// Flows of one phone (RFC 5626) that count as one contact.
pub const MAX_FLOWS_PER_PHONE: usize = 4;
/// Bindings of one AOR at most, where some of them have lost their connections: the oldest of those go first.
pub const MAX_STRANDED_PER_AOR: usize = 8;
/// Places of one such Contact: while there are more it is not called by its URI.
pub const MAX_PLACES_PER_CONTACT: usize = 4;
/// Records that one slice of a dump holds at most.
pub const MAX_DUMP_SLICE: usize = 256;
/// Calls in progress of all shards together; more go on without an entry.
pub const MAX_CALLS: usize = 1 << 18;
/// Route values of one side of a call that are kept, in bytes.
pub const MAX_ROUTES: usize = 1_024;
