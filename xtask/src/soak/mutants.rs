//! Breaks the core on purpose and sees whether the tests and the simulation notice.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use crate::bench::target_dir;
use crate::command::{cargo, exit_code};

/// What decides; everything else serves it.
const FILES: [&str; 16] = [
    "admission/mod",
    "admission/bans",
    "auth/authenticator",
    "parking/mod",
    "proxy/callee",
    "proxy/dialog",
    "proxy/forwarder",
    "proxy/initial",
    "proxy/response_context",
    "registrar/commit",
    "registrar/location",
    "registrar/mod",
    "registrar/plan",
    "transaction/client",
    "transaction/machines",
    "transaction/server",
];

/// Runs cargo-mutants over the files that decide, or over one part of `parts` of their mutants; survivors are listed in the
/// build's folder, and make it fail.
pub(super) fn run(part: u32, parts: u32) -> Result<()> {
    ensure!(part < parts, "--part counts from 0: less than {parts}");
    let found = cargo(["mutants", "--version"]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("    cargo-mutants missing: installing it");
        let code = exit_code(&mut cargo(["install", "cargo-mutants", "--locked"]))?;
        ensure!(code == 0, "cargo-mutants could not be installed (exit code {code})");
    }
    let output = target_dir()?.join("mutants");
    std::fs::create_dir_all(&output).with_context(|| format!("{}", output.display()))?;
    let tests = ["--package", "roost-core", "--test-package", "roost-core,roost-sim"];
    let mut mutants = cargo(["mutants", "--no-shuffle"]);
    // What leaks on each call eats the machine before a test sees it.
    mutants.args(tests).args(["--exclude-re", "::leak", "--jobs", "2", "--sharding", "round-robin"]);
    // Each job builds a copy of its own: they must not share what they build.
    mutants.env_remove("CARGO_TARGET_DIR");
    for file in FILES {
        mutants.arg("--file").arg(Path::new("crates/roost-core/src").join(format!("{file}.rs")));
    }
    mutants.args(["--shard", &format!("{part}/{parts}"), "--timeout", "180", "--output"]).arg(&output);
    let code = exit_code(&mut mutants)?;
    // 2: some survived; 3: some did not end, which a test has noticed too.
    ensure!(code == 0 || code == 3, "mutants survive: see {}/mutants.out/missed.txt", output.display());
    Ok(())
}
