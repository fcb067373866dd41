//! What connections may cost, whatever their peers do. Each limit has a counter.

use std::time::Duration;

/// What operators set.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamSettings {
    /// How long a connection without bindings may be silent, in milliseconds.
    pub lifetime_ms: u64,
    /// How long a message may take to arrive, in milliseconds.
    pub message_ms: u64,
    pub max_connections: usize,
    /// Of one IP address.
    pub max_per_source: usize,
    /// How long a peer may be silent before it is asked whether it is there, in milliseconds; 0: never.
    pub ping_interval_ms: u64,
}

/// How long a peer may take to answer that it is there: connections are looked at each second, so that it is gone within
/// ten.
pub(super) const PONG_MS: u64 = 8_000;
/// Handshakes (TLS, WebSocket) that are not finished: of all, of one address, and those that one address begins in a second.
pub(super) const MAX_HANDSHAKES: usize = 4_096;
pub(super) const MAX_HANDSHAKES_PER_SOURCE: usize = 256;
pub(super) const MAX_HANDSHAKES_PER_SECOND: u32 = 1_000;
/// What a thread is told to do that it takes at once: messages among it for one peer are written together.
pub(super) const COMMANDS_AT_ONCE: usize = 64;
/// Keep-alives that are answered at once.
pub(super) const MAX_PONGS: usize = 8;
/// Bytes that wait for one peer to read; a connection with more is closed.
pub(super) const MAX_WRITE_QUEUE: usize = 256 << 10;
/// Bytes of answers (pongs, handshakes) that wait for one peer to read; a peer with more is not read.
pub(super) const MAX_ANSWERS: usize = 64 << 10;
/// Bytes of unfinished messages and of what waits to be written, over all connections.
pub(super) const MAX_HELD: usize = 128 << 20;
/// Bytes of messages on their way from the workers to the connections' threads; more come back as not sent.
pub(super) const MAX_COMMANDED: usize = 64 << 20;
/// Peers that one thread connects to at once, those of one address over all threads, and messages that wait for each peer.
pub(super) const MAX_CONNECTING: usize = 1_024;
pub(super) const MAX_CONNECTING_PER_ADDRESS: usize = 32;
pub(super) const MAX_WAITING_PER_PEER: usize = 64;
/// How long a peer may take to be connected to.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a peer that does not read is borne, in milliseconds.
pub(super) const STUCK_MS: u64 = 10_000;
/// How long a stream that ends stays for its last answer, in milliseconds.
pub(super) const LAST_MS: u64 = 2_000;
/// How often all connections are looked at.
pub(super) const SWEEP: Duration = Duration::from_secs(1);
/// Bytes of one read, and reads of one connection before the others' turn.
pub(super) const READ: usize = 64 << 10;
pub(super) const READS_PER_TURN: usize = 8;
/// Connections of one thread, about: an operator who allows no more than that needs no second thread.
pub(super) const PER_THREAD: usize = 1_024;
/// Threads for connections at most.
pub(super) const MAX_THREADS: usize = 16;
