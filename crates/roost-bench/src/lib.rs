//! A load generator for SIP registrars and proxies over UDP, and the bare echo that it compares them with.
//!
//! One thread: [`mod@bench`] says what is measured in which order, `load` is the loop, `scenario` finds the operation that a
//! datagram belongs to, `register`, `call` and `ping` know the messages, `wire` has the sockets, `process` reads /proc.
//! Nothing allocates per message. It knows nothing of roost's own crates but the grammar, so that any server can be
//! measured.
#![forbid(unsafe_code)]

pub mod bench;
mod call;
pub mod cli;
mod context;
mod digest;
pub mod echo;
pub mod kind;
pub mod load;
mod ping;
mod process;
mod register;
pub mod report;
mod scenario;
pub mod stop;
mod tally;
mod template;
mod timers;
mod users;
mod wire;
