//! `cargo xtask gates`: instructions per operation of the engine, compared with what they were.
//!
//! Instructions, not time: the same build gives the same count on a busy machine and on an idle one. What one operation
//! costs is the difference of two runs of `roost-costs` under callgrind, so that start and set-up do not count.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::cargo;

/// Operations of the shorter run; the longer one makes three times as many.
const OPERATIONS: u64 = 2_000;
/// How much more than noted is taken, in percent: another version of a library may move a few.
const TOLERANCE: u64 = 3;

/// Compares every kind with `xtask/gates.txt`, or writes that file.
///
/// # Errors
/// When a kind costs more than it may, or valgrind cannot run.
pub(crate) fn run(write: bool) -> Result<()> {
    let status = cargo(["build", "--release", "-p", "roost-sim", "--bin", "roost-costs"]).status()?;
    if !status.success() {
        bail!("roost-costs does not build");
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("gates.txt");
    let noted = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for line in noted.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (kind, allowed) = line.split_once(' ').with_context(|| format!("gates.txt: `{line}`"))?;
        let allowed: u64 = allowed.trim().parse().with_context(|| format!("gates.txt: `{line}`"))?;
        let cost = (instructions(kind, 3 * OPERATIONS)? - instructions(kind, OPERATIONS)?) / (2 * OPERATIONS);
        let change = (cost as f64 / allowed as f64 - 1.0) * 100.0;
        eprintln!("    {kind:<10} {cost:>8} instructions, {change:+.1} % of the noted {allowed}");
        if cost * 100 > allowed * (100 + TOLERANCE) {
            failures.push(format!("{kind}: {cost}, {allowed} are noted"));
        }
        lines.push(format!("{kind} {cost}"));
    }
    if write {
        let head: Vec<_> = noted.lines().filter(|line| line.starts_with('#')).collect();
        std::fs::write(&file, format!("{}\n{}\n", head.join("\n"), lines.join("\n")))?;
        return Ok(());
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!(
        "more than {TOLERANCE} % above what is noted: {}; find what it is spent on with callgrind_annotate, or note it \
         with `cargo xtask gates --write` and say in the commit what it buys",
        failures.join("; ")
    )
}

/// All instructions of one run.
fn instructions(kind: &str, count: u64) -> Result<u64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(target.join("release/roost-costs"))
        .args([kind, &count.to_string()])
        .output()
        .context("valgrind cannot run (Debian package valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("roost-costs {kind} under valgrind: {said}");
    }
    let refs = said.lines().find_map(|line| line.split_once("refs:")).context("callgrind says no number")?;
    refs.1.trim().replace(',', "").parse().context("callgrind says no number")
}
