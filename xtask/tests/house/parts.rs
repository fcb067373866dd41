//! Each part of the core builds, with its tests, in a crate of its own: with what all parts stand on, and without the
//! engine and the other parts.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::files::root;

/// What every part may use.
const FLOOR: [&str; 3] = ["base", "contract", "message"];

/// The parts, and what else each may use: the proxy composes, and names what.
const PARTS: [(&str, &[&str]); 8] = [
    ("admission", &[]),
    ("auth", &[]),
    ("dialog", &[]),
    ("dispatch", &[]),
    ("parking", &[]),
    (
        "proxy",
        &[
            "access",
            "admission",
            "auth",
            "continuation",
            "dialog",
            "dispatch",
            "parking",
            "refusal",
            "registrar",
            "transaction",
        ],
    ),
    ("registrar", &[]),
    ("transaction", &[]),
];

#[test]
fn each_part_builds_alone_with_its_tests() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut manifest = String::from("[workspace]\nresolver = \"3\"\nmembers = [");
    for (part, others) in PARTS {
        make_crate(scratch.path(), part, others);
        manifest.push_str(&format!("\"{part}\", "));
    }
    manifest.push_str("]\n");
    fs::write(scratch.path().join("Cargo.toml"), manifest).expect("the scratch folder can be written");
    fs::copy(root().join("Cargo.lock"), scratch.path().join("Cargo.lock")).expect("Cargo.lock");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = root().join("target").join("parts");
    let output = Command::new(cargo)
        .args(["test", "--offline", "--quiet", "--workspace"])
        .current_dir(scratch.path())
        .env(
            "CARGO_TARGET_DIR",
            std::env::var_os("CARGO_TARGET_DIR").map_or(target, |dir| Path::new(&dir).join("parts")),
        )
        .env("RUSTFLAGS", "-A warnings")
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "\nrule: a part uses {FLOOR:?} and itself alone: hand it facts, and let its outcome say what others must do\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A crate of the part and what it stands on; its sources are links.
fn make_crate(scratch: &Path, part: &str, others: &[&str]) {
    let own = scratch.join(part);
    fs::create_dir_all(own.join("src")).expect("the scratch folder can be written");
    let core = root().join("crates/roost-core");
    let mut lib = String::new();
    for wing in FLOOR.iter().chain(others).chain([&part]) {
        let folder = core.join("src").join(wing);
        let path = if folder.is_dir() { folder.join("mod.rs") } else { folder.with_extension("rs") };
        lib.push_str(&format!("#[path = {:?}]\nmod {wing};\n", path.display().to_string()));
    }
    fs::write(own.join("src/lib.rs"), lib).expect("the scratch folder can be written");
    let manifest = fs::read_to_string(core.join("Cargo.toml")).expect("roost-core's manifest");
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace's manifest");
    fs::write(own.join("Cargo.toml"), scratch_manifest(part, &manifest, &workspace))
        .expect("the scratch folder can be written");
}

/// The core's dependencies as the workspace has them.
fn scratch_manifest(part: &str, manifest: &str, workspace: &str) -> String {
    let mut text = format!(
        "[package]\nname = \"part-{part}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n"
    );
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    for name in dependencies
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.strip_suffix(".workspace = true"))
    {
        let line = workspace
            .lines()
            .find(|line| line.starts_with(&format!("{name} =")))
            .expect("a workspace dependency");
        let crates = root().join("crates").display().to_string();
        text.push_str(&line.replace("path = \"crates", &format!("path = \"{crates}")));
        text.push('\n');
    }
    text
}
