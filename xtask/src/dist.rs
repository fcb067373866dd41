//! `cargo xtask dist`: the release binary as users get it and its symbols beside it, a Debian package of it; a static one in a
//! tarball, in an RPM and in a container image.

mod image;
mod rpm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    let package = package_files(&folder, &whole)?;
    let (deb, tarball) = (debian_package(&folder)?, static_tarball(&folder, &package)?);
    let rpm = rpm::package(&folder, &static_target())?;
    let image = image::archive(&folder, &folder.join(static_name()).join("roost"), &static_name())?;
    let sums = folder.join("SHA256SUMS");
    let files: Vec<&PathBuf> = [&whole, &symbols, &deb, &tarball, &rpm].into_iter().chain(&image).collect();
    let names = files.iter().filter_map(|file| file.file_name());
    let output = Command::new("sha256sum").args(names).current_dir(&folder).output().context("sha256sum")?;
    ensure!(output.status.success(), "sha256sum failed: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(&sums, output.stdout)?;
    for path in files.into_iter().chain([&sums]) {
        let bytes = fs::metadata(path).with_context(|| format!("{}", path.display()))?.len();
        eprintln!("    {} ({:.1} MB)", path.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

/// What packages ship beside the binary, as that says it itself.
fn package_files(folder: &Path, roost: &Path) -> Result<PathBuf> {
    let package = folder.join("package");
    let (man, completion) = (package.join("man"), package.join("completion"));
    for made in [&man, &completion] {
        fs::create_dir_all(made)?;
    }
    let said = |args: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new(roost).args(args).output().context("roost does not run")?;
        ensure!(
            output.status.success(),
            "roost {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.stdout)
    };
    fs::write(package.join("roost.toml"), said(&["config", "template"])?)?;
    said(&["config", "man", &man.display().to_string()])?;
    for (shell, file) in [("bash", "roost.bash"), ("zsh", "_roost"), ("fish", "roost.fish")] {
        fs::write(completion.join(file), said(&["completion", shell])?)?;
    }
    Ok(package)
}

fn debian_package(folder: &Path) -> Result<PathBuf> {
    let found = cargo(["deb", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("    cargo-deb missing: installing it");
        let code = exit_code(&mut cargo(["install", "cargo-deb", "--version", "^3.8", "--locked"]))?;
        ensure!(code == 0, "cargo-deb could not be installed (exit code {code})");
    }
    let mut deb = cargo(["deb", "-p", "roost", "--profile", "dist", "--no-build", "--no-strip", "--output"]);
    let file = folder.join("roost.deb");
    ensure!(exit_code(deb.arg(&file))? == 0, "the package was not made");
    Ok(file)
}

/// What the static binary is built for.
fn static_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// What files with the static binary are called.
fn static_name() -> String {
    format!("roost-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
}

/// A binary that needs nothing of its machine, with what packages ship.
fn static_tarball(folder: &Path, package: &Path) -> Result<PathBuf> {
    let target = static_target();
    let mut build = cargo(["build", "--profile", "dist", "-p", "roost", "--target", &target]);
    // Without libraries the kernel is asked for random numbers itself: an empty root has no /dev/urandom.
    build.env("RUSTFLAGS", "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"");
    ensure!(exit_code(&mut build)? == 0, "roost does not build without libraries");
    let name = static_name();
    let inside = folder.join(&name);
    fs::create_dir_all(&inside)?;
    let built = target_dir()?.join(&target).join("dist/roost");
    // The RPM takes it, too.
    binutils("strip", &["-o"], &[&package.join("roost"), &built])?;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(package.join(".")).arg(&inside);
    ensure!(exit_code(&mut copy)? == 0, "cp failed");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in
        ["README.md", "README.zh-CN.md", "LICENSE-MIT", "LICENSE-APACHE", "contrib/debian/roost.service"]
    {
        let to = inside.join(Path::new(file).file_name().context("a name")?);
        fs::copy(root.join(file), to).with_context(|| file.to_string())?;
    }
    let tarball = folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-C"])
        .arg(folder)
        .arg("-czf")
        .arg(&tarball)
        .arg(&name);
    ensure!(exit_code(&mut tar)? == 0, "tar failed");
    Ok(tarball)
}

fn binutils(program: &str, options: &[&str], paths: &[&Path]) -> Result<()> {
    let code = exit_code(Command::new(program).args(options).args(paths))
        .with_context(|| format!("{program} is missing: install Debian package binutils"))?;
    ensure!(code == 0, "{program} failed (exit code {code})");
    Ok(())
}
