//! The bare UDP echo: what receiving a datagram and sending one costs when nothing is done in between.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn, bind, recvmmsg, sendmmsg,
    setsockopt, socket, sockopt,
};

use crate::wire::BATCH;

/// Length of an answer, in bytes: that of a usual SIP answer.
const ANSWER: usize = 400;
/// What of the question comes back, so that the sender can tell its answers apart.
const REPEATED: usize = 32;
/// Room for one datagram.
const DATAGRAM: usize = 2048;
/// Wished receive buffer, in bytes.
const SOCKET_BUFFER: usize = 4 << 20;

/// Answers every datagram on 127.0.0.1:`port` with 400 bytes, in `workers` processes, until it is ended.
///
/// # Errors
/// When the port cannot be bound.
pub fn serve(port: u16, workers: u16) -> Result<()> {
    // Processes instead of threads: the kernel looks descriptors up more cheaply where no thread shares them.
    let program = std::env::current_exe().context("where am I")?;
    let _others: Vec<Echo> =
        (1..workers).map(|_| Echo::spawn(&program, port, 1)).collect::<Result<Vec<_>>>()?;
    answer(&open(port)?)
}

/// Ends this process when the one that started it does.
///
/// # Errors
/// When the system refuses, or the parent is gone already.
pub fn end_with_parent(parent: u32) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    if std::os::unix::process::parent_id() != parent {
        bail!("the process that started this one has ended");
    }
    Ok(())
}

fn open(port: u16) -> Result<OwnedFd> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReusePort, &true)?;
    setsockopt(&fd, sockopt::RcvBuf, &SOCKET_BUFFER)?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    bind(fd.as_raw_fd(), &SockaddrIn::from(address)).with_context(|| format!("cannot bind {address}"))?;
    Ok(fd)
}

fn answer(fd: &OwnedFd) -> Result<()> {
    let fd = fd.as_raw_fd();
    let mut questions = Box::new([[0; DATAGRAM]; BATCH]);
    let mut answers = Box::new([[b'.'; ANSWER]; BATCH]);
    let mut from: [Option<SockaddrIn>; BATCH] = [None; BATCH];
    let (mut incoming, mut outgoing) =
        (MultiHeaders::preallocate(BATCH, None), MultiHeaders::preallocate(BATCH, None));
    loop {
        let mut count = 0;
        {
            let mut slices = questions.each_mut().map(|question| [IoSliceMut::new(question)]);
            let Ok(results) = recvmmsg(fd, &mut incoming, &mut slices, MsgFlags::MSG_WAITFORONE, None) else {
                continue;
            };
            for result in results {
                from[count] = result.address;
                count += 1;
            }
        }
        for (answer, question) in answers.iter_mut().zip(questions.iter()).take(count) {
            answer[..REPEATED].copy_from_slice(&question[..REPEATED]);
        }
        let mut sent = 0;
        while sent < count {
            let slices = answers.each_ref().map(|answer| [IoSlice::new(answer)]);
            match sendmmsg(fd, &mut outgoing, &slices[sent..count], &from[sent..count], [], MsgFlags::empty())
            {
                Ok(results) => sent += results.count(),
                Err(_) => sent += 1,
            }
        }
    }
}

/// An echo in a process of its own; it ends with this value.
#[derive(Debug)]
pub(crate) struct Echo {
    child: Child,
    port: u16,
}

impl Echo {
    /// Starts `roost-bench echo` on a free port.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(program: &Path, workers: u16) -> Result<Echo> {
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Echo::spawn(program, free, workers)
    }

    fn spawn(program: &Path, port: u16, workers: u16) -> Result<Echo> {
        let [port_text, workers] = [port, workers].map(|number| number.to_string());
        let parent = std::process::id().to_string();
        let child = Command::new(program)
            .args(["echo", "--port", &port_text, "--workers", &workers, "--parent", &parent])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Echo { child, port })
    }

    pub(crate) fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Its workers end with it (PR_SET_PDEATHSIG).
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
