//! The house rules, each with its remedy. They read the tree as text and `cargo metadata`; nothing here builds roost.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The floor of each crate. A crate may depend on lower floors only; nobody depends on xtask.
const FLOORS: [(&str, u8); 11] = [
    ("roost-sip", 0),
    ("roost-rig", 0),
    ("xtask", 0),
    ("roost-core", 1),
    ("roost-net", 2),
    ("roost-store", 2),
    ("roost-admin", 2),
    ("roost-sim", 2),
    ("roost-bench", 2),
    ("roost", 3),
    ("roost-fuzz", 4),
];

/// The one file that may hold unsafe code: the batched system calls.
const UNSAFE_FILE: &str = "crates/roost-net/src/batch.rs";

/// Crates that must not panic on what a stranger sends.
const PANIC_FREE: [&str; 2] = ["crates/roost-sip/src", "crates/roost-core/src"];

const MAX_LINES: usize = 800;

#[test]
fn arrows_between_crates_point_down() {
    let metadata = cargo_metadata();
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let members: Vec<&str> = packages.iter().map(|package| text(&package["name"])).collect();

    let mut faults = Vec::new();
    for package in packages {
        let from = text(&package["name"]);
        if floor(from).is_none() {
            faults.push(format!("{from} has no floor: add it to FLOORS in xtask/tests/house.rs"));
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = text(&dependency["name"]);
            let dev = dependency["kind"] == "dev";
            if members.contains(&to) && !arrow_is_allowed(from, to, dev) {
                faults.push(format!("{from} -> {to}{}", if dev { " (dev)" } else { "" }));
            }
        }
    }
    none(
        &faults,
        "arrows point to lower floors only, to roost-sim only from roost's dev-dependencies and to roost-rig only from tests and xtask \
         (see ARCHITECTURE.md): move the shared part down, or let the binary join the two crates",
    );
}

#[test]
fn architecture_names_paths_that_exist() {
    let document = read("ARCHITECTURE.md");
    let paths: Vec<&str> = inline_code(&document).filter_map(repository_path).collect();
    assert!(!paths.is_empty(), "ARCHITECTURE.md names the files it speaks of as `crates/…`");
    let mut faults = Vec::new();
    for path in paths {
        if !root().join(path).exists() {
            faults.push(path.to_owned());
        }
    }
    none(
        &faults,
        "every `crates/…` and `xtask/…` path in ARCHITECTURE.md exists: correct the path there, or write it out \
         in full where it has a wildcard",
    );
}

#[test]
fn unsafe_code_lives_in_one_file() {
    let mut faults = Vec::new();
    for file in rust_files().into_iter().filter(|file| file.path != Path::new(UNSAFE_FILE)) {
        for (number, line) in code_only(&file.source).lines().enumerate() {
            if has_word(line, "unsafe") {
                faults.push(format!("{}:{}", file.path.display(), number + 1));
            }
        }
    }
    none(
        &faults,
        &format!("unsafe code is in {UNSAFE_FILE} only: use a safe interface, or move the system call there"),
    );
}

#[test]
fn both_readmes_say_the_same() {
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    assert_eq!(
        second_level_headings(&english),
        second_level_headings(&chinese),
        "README.md (left) and README.zh-CN.md (right) have the same number of ## headings: \
         bring the change into the other one too"
    );
    assert_eq!(
        shell_blocks(&english),
        shell_blocks(&chinese),
        "README.md (left) and README.zh-CN.md (right) have the same commands in their ```sh blocks: \
         bring the change into the other one too (comment lines may differ)"
    );
}

#[test]
fn grammar_and_core_do_not_panic() {
    let mut faults = Vec::new();
    for file in rust_files() {
        if is_test_file(&file.path) || !PANIC_FREE.iter().any(|dir| file.path.starts_with(dir)) {
            continue;
        }
        let code = code_only(&file.source);
        let production = code.find("#[cfg(test)]").map_or(code.as_str(), |end| &code[..end]);
        for (number, line) in production.lines().enumerate() {
            if line.contains(".unwrap()") || line.contains(".expect(") {
                faults.push(format!("{}:{}", file.path.display(), number + 1));
            }
        }
    }
    none(
        &faults,
        "no .unwrap() and no .expect( in roost-sip and roost-core outside tests: return a typed error, \
         use let-else, or get() instead of an index; tests go below #[cfg(test)] at the file's end",
    );
}

#[test]
fn files_stay_readable() {
    let mut faults = Vec::new();
    for file in rust_files().into_iter().filter(|file| !is_test_file(&file.path)) {
        let lines = file.source.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{}: {lines} lines", file.path.display()));
        }
    }
    none(
        &faults,
        &format!("a file has at most {MAX_LINES} lines: give its second concept a file of its own"),
    );
}

#[test]
fn scrubbing_keeps_code_and_drops_comments_and_literals() {
    for (source, kept) in [
        ("let a = 1; // unsafe", "let a = 1;"),
        ("a /* unsafe /* nested */ unsafe */ b", "a b"),
        (r#"f("unsafe \" unsafe", g)"#, "f( , g)"),
        (r###"f(r#"unsafe " unsafe"#, br"unsafe", b"unsafe")"###, "f( , , b )"),
        (r"f('\'', '\u{22}', '»', b'u') + g::<'a>()", "f( , , , b ) + g::<'a>()"),
        ("fn r#match<'a>(x: &'a str) {}", "fn r#match<'a>(x: &'a str) {}"),
        ("unsafe { f() }", "unsafe { f() }"),
    ] {
        let scrubbed = code_only(source);
        assert_eq!(scrubbed.split_whitespace().collect::<Vec<_>>().join(" "), kept, "from {source}");
    }
    assert_eq!(code_only("a\n\"b\n\"c").lines().count(), 3, "line numbers stay");
    assert!(has_word("{unsafe{", "unsafe") && !has_word("#![forbid(unsafe_code)]", "unsafe"));
}

// Crates.

fn arrow_is_allowed(from: &str, to: &str, dev: bool) -> bool {
    match to {
        "xtask" => false,
        "roost-sim" => from == "roost" && dev,
        "roost-rig" => from == "xtask" || dev,
        _ => from != "xtask" && floor(to) < floor(from),
    }
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(member, _)| *member == name).map(|(_, floor)| *floor)
}

fn cargo_metadata() -> Value {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = |extra: &[&str]| {
        let mut command = Command::new(&cargo);
        command.args(["metadata", "--format-version", "1", "--no-deps"]).args(extra).current_dir(root());
        command.output().expect("cargo can be run")
    };
    let mut output = run(&["--offline"]);
    if !output.status.success() {
        output = run(&[]);
    }
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

// Files.

struct RustFile {
    /// Relative to the workspace's root.
    path: PathBuf,
    source: String,
}

fn rust_files() -> Vec<RustFile> {
    let mut files = Vec::new();
    for top in ["crates", "xtask"] {
        collect(&root().join(top), &mut files);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "no Rust files below crates/ and xtask/: is the root right?");
    files
}

fn collect(dir: &Path, files: &mut Vec<RustFile>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("a directory entry can be read").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let path = path.strip_prefix(root()).expect("the file is below the root").to_owned();
            files.push(RustFile { path, source });
        }
    }
}

/// Below a `tests` folder, or the `tests.rs` of a module.
fn is_test_file(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "tests.rs")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name} must be there: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace's root")
}

fn none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "\nrule: {rule}\nbroken by:\n  {}\n", faults.join("\n  "));
}

// Markdown.

/// The lines of a document with, for each, the language of the fenced block it is in; fences are left out.
fn lines_with_fence(document: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut fence = None;
    document.lines().filter_map(move |line| match (line.trim_start().strip_prefix("```"), fence) {
        (Some(language), None) => {
            fence = Some(language.trim());
            None
        }
        (Some(_), Some(_)) => {
            fence = None;
            None
        }
        (None, _) => Some((line, fence)),
    })
}

fn inline_code(document: &str) -> impl Iterator<Item = &str> {
    lines_with_fence(document)
        .filter(|(_, fence)| fence.is_none())
        .flat_map(|(line, _)| line.split('`').skip(1).step_by(2))
}

/// `crates/a/src/b.rs:12` and `crates/a/src/b.rs::item` name the file before the colon.
fn repository_path(code: &str) -> Option<&str> {
    let path = code.split(':').next().unwrap_or(code);
    let ours = path.starts_with("crates/") || path.starts_with("xtask/");
    (ours && !path.contains(char::is_whitespace)).then_some(path)
}

fn second_level_headings(document: &str) -> usize {
    lines_with_fence(document).filter(|(line, fence)| fence.is_none() && line.starts_with("## ")).count()
}

/// The lines of all ```sh blocks, in order, without comment lines and blank ones.
fn shell_blocks(document: &str) -> Vec<&str> {
    lines_with_fence(document)
        .filter(|(_, fence)| *fence == Some("sh"))
        .map(|(line, _)| line.trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

// Rust source.

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// The source with comments and literals blanked; every line stays a line.
fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    while let Some(byte) = bytes.get(code.len()) {
        let at = code.len();
        match opaque_end(source, at) {
            Some(end) => code.extend(bytes[at..end].iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' })),
            None => code.push(*byte),
        }
    }
    String::from_utf8(code).expect("comments and literals end where characters end")
}

/// Where the comment or literal that starts at this byte ends; none if none starts here.
fn opaque_end(source: &str, at: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return Some(at + block_comment_length(rest));
    }
    match rest.first()? {
        b'"' => Some(at + quoted_length(rest, b'"')),
        b'\'' if rest.get(1) == Some(&b'\\') => Some(at + quoted_length(rest, b'\'')),
        b'\'' => {
            let end = at + 1 + source[at + 1..].chars().next()?.len_utf8();
            (bytes.get(end) == Some(&b'\'')).then_some(end + 1)
        }
        b'r' | b'b' | b'c' if !continues_word(bytes, at) => raw_string_length(rest).map(|length| at + length),
        _ => None,
    }
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a literal from its first quote to its last, escapes heeded.
fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"…"`, `r#"…"#`, `br"…"` or `cr"…"`; none if it is another word.
fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let prefix = if rest[0] == b'r' { 1 } else { 2 };
    if rest.get(prefix - 1) != Some(&b'r') {
        return None;
    }
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    let length = body.windows(close.len()).position(|window| window == close).unwrap_or(body.len());
    Some((open + 1 + length + close.len()).min(rest.len()))
}

fn continues_word(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| bytes[before].is_ascii_alphanumeric() || bytes[before] == b'_')
}
