//! Fuzzing on the stable toolchain: libFuzzer with the coverage that rustc can be told to put in.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::bench::target_dir;
use crate::command::{cargo, exit_code};

/// What `cargo fuzz` would tell a nightly compiler.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Runs each target for so many seconds, two at a time, from the corpus in the repository on; what is new is kept in the
/// build's folder. A crash ends it, and names the file that makes it.
pub(super) fn run(only: Option<&str>, seconds: u32) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask stands in the repository")?;
    let work = target_dir()?.join("fuzz");
    let program = build(root, &work)?;
    let mut targets: Vec<String> = Vec::new();
    for folder in fs::read_dir(root.join("fuzz/corpus"))? {
        targets.push(folder?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    if let Some(only) = only {
        ensure!(
            targets.iter().any(|target| target == only),
            "no target {only}: one of {}",
            targets.join(", ")
        );
        targets.retain(|target| target == only);
    }
    let one = |target: &String| fuzz(root, &work, &program, target, seconds);
    for pair in targets.chunks(2) {
        let results: Vec<Result<String>> = std::thread::scope(|scope| {
            let running: Vec<_> = pair.iter().map(|target| scope.spawn(|| one(target))).collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("its thread failed"))))
                .collect()
        });
        for (target, result) in pair.iter().zip(results) {
            eprintln!("    {target}: {}", result?);
        }
    }
    Ok(())
}

fn build(root: &Path, work: &Path) -> Result<PathBuf> {
    let version = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    // With a target of its own what runs at build time is not instrumented.
    let mut build = cargo(["build", "--release", "--target", host, "--manifest-path"]);
    build.arg(root.join("fuzz/Cargo.toml")).arg("--target-dir").arg(work);
    build.env("RUSTFLAGS", FLAGS.join(" "));
    ensure!(exit_code(&mut build)? == 0, "the fuzzer could not be built");
    Ok(work.join(host).join("release/fuzz"))
}

/// Executions, coverage and the size of the corpus of one run.
fn fuzz(root: &Path, work: &Path, program: &Path, target: &str, seconds: u32) -> Result<String> {
    let found = work.join("corpus").join(target);
    fs::create_dir_all(&found)?;
    let crashes = work.join("crashes");
    fs::create_dir_all(&crashes)?;
    let mut fuzzer = Command::new(program);
    fuzzer.env("ROOST_FUZZ_TARGET", target).arg(&found).arg(root.join("fuzz/corpus").join(target));
    fuzzer.args([
        format!("-max_total_time={seconds}"),
        format!("-artifact_prefix={}/{target}-", crashes.display()),
        "-print_final_stats=1".to_string(),
        "-timeout=10".to_string(),
        "-rss_limit_mb=2048".to_string(),
        "-max_len=8192".to_string(),
    ]);
    let mut child =
        fuzzer.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot run the fuzzer")?;
    let (mut coverage, mut executions, mut last) = (String::new(), String::new(), Vec::new());
    for line in BufReader::new(child.stderr.take().context("a pipe")?).lines() {
        let line = line?;
        if let Some((_, rest)) = line.split_once("cov: ") {
            coverage = rest.split(" exec/s").next().unwrap_or_default().to_string();
        }
        if let Some((_, count)) = line.split_once("number_of_executed_units:") {
            executions = count.trim().to_string();
        }
        last.push(line);
        if last.len() > 60 {
            last.remove(0);
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "{target} failed; its input is in {}\n{}", crashes.display(), last.join("\n"));
    Ok(format!("{executions} executions in {seconds} s, no crash; cov: {coverage}"))
}
