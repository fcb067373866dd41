//! Machines of a network that is nowhere else: network namespaces, a bridge between them.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};

/// The address that one node after the other has.
pub(super) const FLOATING: &str = "10.77.0.100";
/// How long a machine that takes an address over needs to notice that it must (keepalived with its defaults).
pub(super) const TAKES_OVER: Duration = Duration::from_secs(1);

/// The machines; they are gone when it is dropped.
#[derive(Debug)]
pub(super) struct Net {
    prefix: String,
    names: Vec<&'static str>,
}

impl Net {
    /// A machine for each name, and its address.
    pub(super) fn make(machines: &[(&'static str, &str)]) -> Result<Net> {
        let prefix = format!("roost-{}", std::process::id());
        let mut net = Net { prefix, names: vec!["hub"] };
        let hub = net.name("hub");
        ip(&["netns", "add", &hub]).context("network namespaces need root")?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for (name, address) in machines {
            let own = net.name(name);
            net.names.push(name);
            let port = format!("to-{name}");
            ip(&["netns", "add", &own])?;
            ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &own])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &own, "link", "set", "lo", "up"])?;
            ip(&["-n", &own, "link", "set", "eth0", "up"])?;
            ip(&["-n", &own, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        }
        Ok(net)
    }

    /// Why this machine lets nobody make such networks (some containers do not); `None`: it does.
    pub(super) fn why_not() -> Option<String> {
        let made = Net::make(&[("test", "10.77.0.1")]);
        made.err().map(|error| format!("{error:#}"))
    }

    fn name(&self, machine: &str) -> String {
        format!("{}-{machine}", self.prefix)
    }

    /// A program on a machine.
    pub(super) fn command(&self, machine: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(machine)]).arg(program).stdin(Stdio::null());
        command
    }

    /// The calling thread goes to a machine: what it opens is there.
    pub(super) fn enter(&self, machine: &str) -> Result<()> {
        let file = File::open(format!("/var/run/netns/{}", self.name(machine)))?;
        Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
    }

    /// One more address of a machine.
    pub(super) fn add_address(&self, machine: &str, address: &str) -> Result<()> {
        ip(&["-n", &self.name(machine), "addr", "add", &format!("{address}/24"), "dev", "eth0"])
    }

    /// The machine is off the network.
    pub(super) fn cut(&self, machine: &str) -> Result<()> {
        ip(&["-n", &self.name(machine), "link", "set", "eth0", "down"])
    }

    /// Nothing goes from one machine to an address any more.
    pub(super) fn part(&self, machine: &str, from: &str) -> Result<()> {
        ip(&["-n", &self.name(machine), "route", "add", "blackhole", &format!("{from}/32")])
    }

    pub(super) fn heal(&self, machine: &str, from: &str) -> Result<()> {
        ip(&["-n", &self.name(machine), "route", "del", "blackhole", &format!("{from}/32")])
    }

    /// The floating address is at this machine, and `phones` know: as if it had told them.
    pub(super) fn take_over(&self, machine: &str, phones: &str) -> Result<()> {
        sleep(TAKES_OVER);
        self.add_address(machine, FLOATING)?;
        ip(&["-n", &self.name(phones), "neigh", "flush", "dev", "eth0"])
    }

    pub(super) fn drop_floating(&self, machine: &str) -> Result<()> {
        ip(&["-n", &self.name(machine), "addr", "del", &format!("{FLOATING}/24"), "dev", "eth0"])
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", &self.name(name)]);
        }
    }
}

/// Who is not root plays it in namespaces in which he is: the same command again; `None`: there is no need.
pub(super) fn as_root() -> Result<Option<bool>> {
    if crate::tools::is_root()? {
        return Ok(None);
    }
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c"]);
    again.args(["mount -t tmpfs none /run && exec \"$@\"", "sh"]).arg(std::env::current_exe()?);
    let status = again.args(std::env::args_os().skip(1)).status();
    let status = status.context("network namespaces: be root, or have `unshare` (util-linux)")?;
    Ok(Some(status.success()))
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.context("`ip` is missing: apt-get install iproute2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {said}", args.join(" "));
    Ok(())
}
