//! The container image (`cargo xtask dist`), run by podman with runc: read-only, not as root, without any capability. It takes root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::bench::target_dir;
use crate::command::{cargo, exit_code};

const NAME: &str = "roost-soak-image";

/// A container that goes with the run.
struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        let _ = podman(&["rm", "--force", "--time", "1", NAME]);
    }
}

pub(super) fn run() -> Result<()> {
    let archive = target_dir()?.join(format!(
        "dist/roost-{}-{}.image.tar",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    ));
    ensure!(archive.is_file(), "there is no image: `cargo xtask dist` makes it");
    ensure!(exit_code(&mut cargo(["build", "--release", "-p", "roost-bench"]))? == 0, "the build failed");
    let size = fs::metadata(&archive)?.len() as f64 / 1e6;
    eprintln!("    the image has {size:.1} MB");
    succeed(&["load", "--quiet", "--input", &archive.display().to_string()])?;
    let folder = TempDir::with_prefix("roost-soak-")?;
    let (port, mi) = (roost_rig::free_port(), roost_rig::free_port());
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    std::os::unix::fs::chown(&data, Some(10_001), Some(10_001))?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let file = folder.path().join("roost.toml");
    let text = format!(
        "listen = [\"udp:127.0.0.1:{port}\"]\ndatabase = \"sqlite:/var/lib/roost/roost.db\"\n[mi]\nlisten = \"127.0.0.1:{mi}\"\n"
    );
    fs::write(&file, text)?;
    start(&data, &file)?;
    let _running = Running;
    ready()?;
    succeed(&["exec", NAME, "/roost", "user", "add", "9001", "9001"])?;
    register(port)?;
    check("a phone registers with it, read-only and without rights", true)?;
    let shown = succeed(&["exec", NAME, "/roost", "ul", "show"])?;
    check("it is shown", shown.contains("AOR:: 9001"))?;
    let status = fs::read_to_string(format!(
        "/proc/{}/status",
        succeed(&["inspect", "--format", "{{.State.Pid}}", NAME])?.trim()
    ))?;
    check("it runs as nobody of the machine", status.contains("Uid:\t10001\t"))?;
    check("it has no capability", status.contains("CapEff:\t0000000000000000"))?;
    let asked = succeed(&["image", "inspect", "localhost/roost:latest"])?;
    check(
        "its health is asked by `roost health`",
        asked.contains("Healthcheck") && asked.contains("\"health\""),
    )?;
    succeed(&["kill", "--signal", "KILL", NAME])?;
    succeed(&["rm", "--force", "--time", "1", NAME])?;
    start(&data, &file)?;
    ready()?;
    let shown = succeed(&["exec", NAME, "/roost", "ul", "show"])?;
    check("killed and made anew, the phone is there", shown.contains("AOR:: 9001"))
}

fn start(data: &Path, file: &Path) -> Result<()> {
    let (data, file) = (
        format!("{}:/var/lib/roost", data.display()),
        format!("{}:/etc/roost/roost.toml:ro", file.display()),
    );
    let options = [
        "run",
        "--detach",
        "--name",
        NAME,
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--network",
        "host",
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
        // Its timers are systemd's, which need not run here.
        "--no-healthcheck",
        "--volume",
        &data,
        "--volume",
        &file,
        "localhost/roost:latest",
    ];
    succeed(&options).map(drop)
}

fn ready() -> Result<()> {
    for _ in 0..50 {
        if podman(&["exec", NAME, "/roost", "health"])?.status.success() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let logs = podman(&["logs", NAME])?;
    anyhow::bail!("the container does not become ready:\n{}", String::from_utf8_lossy(&logs.stderr))
}

fn register(port: u16) -> Result<()> {
    let bench = target_dir()?.join("release/roost-bench");
    let server = format!("127.0.0.1:{port}");
    let args = [
        "register",
        "--no-echo",
        "--server",
        &server,
        "--domain",
        "127.0.0.1",
        "--first",
        "9001",
        "--users",
        "1",
        "--expires",
        "300",
    ];
    let output = Command::new(bench).args(args).output()?;
    ensure!(output.status.success(), "no phone registers: {}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn check(what: &str, holds: bool) -> Result<()> {
    ensure!(holds, "CHECK FAILED: {what}");
    eprintln!("    CHECK ok: {what}");
    Ok(())
}

fn podman(args: &[&str]) -> Result<Output> {
    let mut podman = Command::new("podman");
    podman.args(["--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]).args(args);
    podman.output().context("podman is missing: install Debian packages podman and runc")
}

fn succeed(args: &[&str]) -> Result<String> {
    let output = podman(args)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "podman {}: {said}", args.first().unwrap_or(&""));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
