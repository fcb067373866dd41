//! OpenSIPS's own clients, from PyPI: `opensips-cli` and its library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use super::need;

/// Where the clients are: fetched once for all tests.
fn packages() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let wanted = source("requirements.txt");
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("opensips");
        let done = folder.join("requirements.txt");
        let is_done = || fs::read(&done).ok() == fs::read(&wanted).ok();
        // Tests run in processes of their own at the same time.
        fs::create_dir_all(&folder).expect("a folder");
        let lock = fs::File::create(folder.join("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        if !is_done() {
            let ran = Command::new(need("pip3", "python3-pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "--no-input", "--upgrade"])
                .arg("--target")
                .arg(&folder)
                .arg("--requirement")
                .arg(&wanted)
                .output()
                .expect("pip3 starts");
            assert!(ran.status.success(), "pip3: {}", String::from_utf8_lossy(&ran.stderr));
            fs::copy(&wanted, &done).expect("a note that it is done");
        }
        folder
    })
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/opensips").join(name)
}

/// A Python with the clients.
fn python() -> Command {
    let mut command = Command::new(need("python3", "python3"));
    command.env("PYTHONPATH", OsString::from(packages())).env("PYTHONUNBUFFERED", "1").env("TERM", "dumb");
    command
}

/// `opensips-cli` with options (`name=value`), running what follows.
pub fn opensips_cli(options: &[&str], args: &[&str]) -> Command {
    let mut command = python();
    command.arg(packages().join("bin/opensips-cli"));
    for option in options {
        command.args(["-o", option]);
    }
    command.arg("-x").args(args);
    command
}

/// `clients.py` over a transport.
pub fn opensips_library(args: &[&str]) -> Command {
    let mut command = python();
    command.arg(source("clients.py")).args(args);
    command
}
