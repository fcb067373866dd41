//! `cargo xtask dist`: the release binary as users get it, and its symbols beside it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::bench::target_dir;
use crate::command::{cargo, exit_code};

/// Builds `dist/roost` in the build's folder, and `dist/roost.debug`, which gdb and perf find by the link in it.
///
/// # Errors
/// When it does not build, or binutils are missing.
pub(crate) fn run() -> Result<()> {
    let code = exit_code(&mut cargo(["build", "--profile", "dist", "-p", "roost"]))?;
    ensure!(code == 0, "roost does not build");
    let folder = target_dir()?.join("dist");
    let (whole, symbols) = (folder.join("roost"), folder.join("roost.debug"));
    // Cargo keeps a link to what it built: the stripped one must be another file.
    let stripped = folder.join("roost.stripped");
    binutils("objcopy", &["--only-keep-debug"], &[&whole, &symbols])?;
    binutils("strip", &["-o"], &[&stripped, &whole])?;
    let link = format!("--add-gnu-debuglink={}", symbols.display());
    binutils("objcopy", &[link.as_str()], &[&stripped])?;
    fs::rename(&stripped, &whole).with_context(|| format!("{}", whole.display()))?;
    for path in [&whole, &symbols] {
        let bytes = fs::metadata(path).with_context(|| format!("{}", path.display()))?.len();
        eprintln!("    {} ({:.1} MB)", path.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

fn binutils(program: &str, options: &[&str], paths: &[&Path]) -> Result<()> {
    let code = exit_code(Command::new(program).args(options).args(paths))
        .with_context(|| format!("{program} is missing: install Debian package binutils"))?;
    ensure!(code == 0, "{program} failed (exit code {code})");
    Ok(())
}
