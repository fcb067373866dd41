//! The Debian package in a fresh Debian that boots: installed, used, upgraded, removed. It takes root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::bench::target_dir;
use crate::command::{cargo, exit_code};

const SCRIPT: &str = include_str!("package.sh");
const UNIT: &str = "[Unit]\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/root/try.sh\nTimeoutStartSec=120\n\
                    ExecStopPost=/bin/systemctl poweroff\n[Install]\nWantedBy=multi-user.target\n";
const INCLUDED: &str = "--include=systemd,systemd-sysv,dbus,adduser,procps";

pub(super) fn run() -> Result<()> {
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
