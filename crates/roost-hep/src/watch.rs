//! A collector within the process: who reads messages here needs no connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};

use crate::collector::{Packets, State};
use crate::packet::{Packet, decode};

/// Messages that fit a filter, until it is dropped.
pub struct Watch {
    pub(crate) packets: Receiver<Arc<Packets>>,
    pub(crate) state: Arc<State>,
    /// Removes it from the tracer.
    pub(crate) end: Box<dyn Fn() + Send>,
}

impl Watch {
    /// Gives away what has come since the last time, in its order; whether more may come: it has not been removed.
    pub fn each(&self, mut take: impl FnMut(&Packet<'_>)) -> bool {
        loop {
            let packets = match self.packets.try_recv() {
                Ok(packets) => packets,
                Err(why) => return why == TryRecvError::Empty,
            };
            self.state.waiting.fetch_sub(packets.bytes.len(), Ordering::Relaxed);
            let mut start = 0;
            for end in &packets.ends {
                if let Some(packet) = packets.bytes.get(start..*end).and_then(decode) {
                    take(&packet);
                }
                start = *end;
            }
            self.state.sent.fetch_add(packets.ends.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        (self.end)();
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("state", &self.state).finish_non_exhaustive()
    }
}
