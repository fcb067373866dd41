//! The sockets of roost: UDP batches, connections, inboxes, the worker threads that run the engines, and names.
//!
//! All unsafe code of the project is in `batch.rs`.

mod backpressure;
mod batch;
mod clock;
mod inbox;
mod listen;
mod load;
mod overload;
mod poller;
mod resolve;
mod stream;
mod stun;
mod tls;
mod worker;
mod worker_pool;

pub use backpressure::Permit;
pub use clock::Clock;
pub use inbox::{Batch, Inbox, InboxItem, MAX_INBOX_BYTES, MAX_INBOX_MESSAGES};
pub use listen::{ListenError, adopt, overlap, parse_listen, probe, sockets, stream_socket};
pub use resolve::{Resolver, SlowNames, TellSlow};
pub use stream::{Carriers, ConnectionRecord, MovedConnection, MovedStreams, StreamSettings, Streams};
pub use tls::{Certificate, CertificateFiles, Tls, TlsDomain, TlsError, TlsSettings};
pub use worker::Worker;
pub use worker_pool::{NEWS_PER_S, News, Tell, WorkerPool};
