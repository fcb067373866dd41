//! What a worker waits for: many descriptors at once (epoll), and an event that other threads set (eventfd).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Descriptors that one wait tells of at most; the others are told of by the next.
const ROOM: usize = 64;

/// Waits for many descriptors at once (level-triggered).
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
    events: [EpollEvent; ROOM],
    ready: usize,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, events: [EpollEvent::empty(); ROOM], ready: 0 })
    }

    /// Waits for a descriptor to become readable, too; `token` names it.
    pub(crate) fn add(&self, descriptor: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Waits for a descriptor no more.
    pub(crate) fn remove(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.epoll.delete(descriptor)?)
    }

    /// Waits until a descriptor can be read, or the time is over.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::MAX);
        match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => self.ready = count,
            Err(Errno::EINTR) => self.ready = 0,
            Err(error) => {
                self.ready = 0;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The tokens of what could be read after the last wait.
    pub(crate) fn ready(&self) -> impl Iterator<Item = u64> {
        self.events.iter().take(self.ready).map(EpollEvent::data)
    }
}

/// Waits until a descriptor can be read, or the time is over.
#[cfg(test)]
pub(crate) fn wait_readable(descriptor: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut poller = Poller::new()?;
    poller.add(descriptor, 7)?;
    poller.wait(timeout)?;
    Ok(poller.ready().eq([7]))
}

/// A descriptor that one thread waits for and others make readable.
#[derive(Debug)]
pub(crate) struct Event(EventFd);

impl Event {
    pub(crate) fn new() -> io::Result<Event> {
        Ok(Event(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?))
    }

    /// Makes it readable.
    pub(crate) fn set(&self) {
        // It can only fail when it is set already.
        let _ = self.0.write(1);
    }

    /// Makes it unreadable.
    pub(crate) fn clear(&self) {
        // It can only fail when it is not set.
        let _ = self.0.read();
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_wake() {
        let event = Event::new().unwrap();
        event.set();
        event.set();
        assert!(wait_readable(event.descriptor(), Duration::from_secs(5)).unwrap());
        event.clear();
        event.clear();
        assert!(!wait_readable(event.descriptor(), Duration::from_millis(1)).unwrap());
    }
}
