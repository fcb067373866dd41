//! What roost sends and receives, for collectors that speak HEPv3: Homer, sngrep, `opensips-cli trace`.
//!
//! Workers capture messages while a [`Tap`] is open, and give them away in batches. One thread masks secrets, decides which
//! collector wants what, and encodes; each collector has a queue of bounded size, and one that is slow loses its own.
#![forbid(unsafe_code)]

mod collector;
mod filter;
mod mask;
mod packet;
mod tap;
mod tracer;

pub use collector::{Collector, CollectorError, Transport};
pub use filter::{Filter, FilterError};
pub use mask::mask;
pub use packet::{Packet, encode};
pub use tap::{Capture, Captured, Tap};
pub use tracer::{Shown, Tracer};
