//! The static binary in an empty root; and the Debian package in a fresh Debian that boots: installed, used, upgraded, removed. It takes root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::bench::target_dir;
use crate::command::{cargo, exit_code};

/// The static binary where there is nothing else: no library, no /dev, no /etc.
fn alone() -> Result<()> {
    let target = target_dir()?;
    let built = target.join(format!("{}-unknown-linux-gnu/dist/roost", std::env::consts::ARCH));
    ensure!(built.is_file(), "there is no static binary: `cargo xtask dist` makes it");
    let root = TempDir::with_prefix("roost-soak-")?;
    fs::copy(&built, root.path().join("roost"))?;
    let port = roost_rig::free_port();
    let text = format!("listen = [\"udp:127.0.0.1:{port}\"]\n[mi]\nlisten = \"\"\n");
    fs::write(root.path().join("roost.toml"), text)?;
    let mut serve = Command::new("timeout");
    serve.args(["3", "chroot"]).arg(root.path()).args(["/roost", "--config", "/roost.toml", "serve"]);
    let said = serve.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&said.stderr);
    ensure!(said.contains("roost: ready"), "the static binary does not serve in an empty root:\n{said}");
    eprintln!("    CHECK ok: the static binary serves in an empty root");
    Ok(())
}

const SCRIPT: &str = include_str!("package.sh");
const UNIT: &str = "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/root/try.sh\nTimeoutStartSec=120\n\
                    ExecStopPost=/bin/systemctl poweroff\n[Install]\nWantedBy=multi-user.target\n";
const INCLUDED: &str = "--include=systemd,systemd-sysv,dbus,adduser,procps";

pub(super) fn run() -> Result<()> {
    alone()?;
    let deb = target_dir()?.join("dist/roost.deb");
    ensure!(deb.is_file(), "there is no package: `cargo xtask dist` makes it");
    ensure!(exit_code(&mut cargo(["build", "--release", "-p", "roost-bench"]))? == 0, "the build failed");
    let folder = TempDir::with_prefix("roost-soak-")?;
    let root = folder.path().join("debian");
    eprintln!("    a fresh Debian is fetched");
    let mut made = Command::new("debootstrap");
    made.args(["--variant=minbase", INCLUDED, "bookworm"]).arg(&root);
    let made = made
        .stdout(Stdio::null())
        .status()
        .context("debootstrap is missing: install Debian package debootstrap")?;
    ensure!(made.success(), "debootstrap failed");
    let inside = |path: &str| root.join(path);
    fs::copy(&deb, inside("root/roost.deb"))?;
    fs::copy(target_dir()?.join("release/roost-bench"), inside("root/roost-bench"))?;
    fs::write(inside("root/try.sh"), SCRIPT)?;
    fs::set_permissions(inside("root/try.sh"), fs::Permissions::from_mode(0o755))?;
    fs::write(inside("etc/systemd/system/try.service"), UNIT)?;
    let wants = inside("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink("/etc/systemd/system/try.service", wants.join("try.service"))?;
    let mut boot = Command::new("timeout");
    boot.args([
        "180",
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--private-network",
        "--boot",
        "-D",
    ]);
    let booted = boot.arg(&root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    booted.context("systemd-nspawn is missing: install Debian package systemd-container")?;
    let said = fs::read_to_string(inside("root/said")).context("the Debian did not boot")?;
    for line in said.lines().filter(|line| line.starts_with("CHECK") || line.starts_with("SECURITY")) {
        eprintln!("    {line}");
    }
    if said.contains("CHECK FAILED") || !said.trim_end().ends_with("END") {
        bail!("the package does not do what it should:\n{said}");
    }
    Ok(())
}
