//! What roost sends and receives, for collectors that speak HEPv3: Homer, sngrep, `opensips-cli trace`.
//!
//! While a [`Tap`] is open workers write packets that are ready to leave, credentials overwritten, and give them away in batches.
//! One thread decides which collector wants what; each collector has a queue of bounded size, and one that is slow loses its
//! own. One that wants everything shares the workers' packets.
#![forbid(unsafe_code)]

mod collector;
mod filter;
mod found;
mod mask;
mod packet;
mod tap;
mod tracer;
mod watch;

pub use collector::{Collector, CollectorError, Transport};
pub use filter::{Filter, FilterError};
pub use found::Found;
pub use mask::mask;
pub use packet::{Packet, decode, encode, packet_len};
pub use tap::{Capture, Tap};
pub use tracer::{Shown, Tracer};
pub use watch::Watch;
