//! An RPM of the static binary: `[package.metadata.generate-rpm]` of crates/roost says what is in it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, ensure};

use crate::command::{cargo, exit_code};

/// Makes it in a folder; the static binary is built.
///
/// # Errors
/// The tool is missing and cannot be installed, or the package is not made.
pub(super) fn package(folder: &Path, target: &str) -> Result<PathBuf> {
    let found = cargo(["generate-rpm", "--help"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("    cargo-generate-rpm missing: installing it");
        let code =
            exit_code(&mut cargo(["install", "cargo-generate-rpm", "--version", "^0.21", "--locked"]))?;
        ensure!(code == 0, "cargo-generate-rpm could not be installed (exit code {code})");
    }
    let file = folder.join("roost.rpm");
    let mut made =
        cargo(["generate-rpm", "-p", "crates/roost", "--profile", "dist", "--target", target, "--output"]);
    ensure!(exit_code(made.arg(&file))? == 0, "the RPM was not made");
    Ok(file)
}
