//! The house rules, each with its remedy. They read the tree as text and tokens, and `cargo metadata`; but for the parts of
//! the core nothing here is built.

mod arrows;
mod files;
mod parts;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use proc_macro2::TokenTree;
use serde_json::Value;
use syn::spanned::Spanned as _;
use syn::visit::Visit;

use files::{each_token, read, root, rust_files, texts};

/// The floor of each crate. A crate may depend on lower floors only; nobody depends on xtask.
const FLOORS: [(&str, u8); 18] = [
    ("roost-redis", 3),
    ("roost-cluster", 2),
    ("roost-sip", 0),
    ("roost-rig", 0),
    ("xtask", 0),
    ("roost-core", 1),
    ("roost-filter", 0),
    ("roost-hep", 2),
    ("roost-import", 0),
    ("roost-recorder", 2),
    ("roost-net", 3),
    ("roost-store", 3),
    ("roost-admin", 3),
    ("roost-sim", 3),
    ("roost-bench", 3),
    ("roost-console", 4),
    ("roost", 5),
    ("roost-fuzz", 6),
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
            faults.push(format!("{from} has no floor: add it to FLOORS in xtask/tests/house/main.rs"));
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
        each_token(file.tokens(), &mut |tokens| {
            if let [TokenTree::Ident(word), ..] = tokens
                && word == "unsafe"
            {
                faults.push(format!("{}:{}", file.path.display(), word.span().start().line));
            }
        });
    }
    none(
        &faults,
        &format!("unsafe code is in {UNSAFE_FILE} only: use a safe interface, or move the system call there"),
    );
}

/// Pages that are made from the program's own tables, in English.
const MADE_PAGES: [&str; 1] = ["docs/reference.md"];

#[test]
fn both_languages_say_the_same() {
    let mut pages: Vec<String> = texts()
        .into_iter()
        .map(|(path, _)| path.display().to_string())
        .filter(|path| path.starts_with("docs/") && !path.ends_with(".zh-CN.md"))
        .filter(|path| !MADE_PAGES.contains(&path.as_str()))
        .collect();
    pages.push("README.md".to_string());
    for page in pages {
        let translated = page.replace(".md", ".zh-CN.md");
        let (english, chinese) = (read(&page), read(&translated));
        assert_eq!(
            second_level_headings(&english),
            second_level_headings(&chinese),
            "{page} (left) and {translated} (right) have the same number of ## headings: \
             bring the change into the other one too"
        );
        assert_eq!(
            shell_blocks(&english),
            shell_blocks(&chinese),
            "{page} (left) and {translated} (right) have the same commands in their ```sh blocks: \
             bring the change into the other one too (comment lines may differ)"
        );
        assert_eq!(
            table_rows(&english),
            table_rows(&chinese),
            "{page} (left) and {translated} (right) have tables of as many rows: bring the change into the other one too"
        );
    }
}

const MAX_README_LINES: usize = 150;

#[test]
fn the_readme_is_read_in_two_minutes() {
    for name in ["README.md", "README.zh-CN.md"] {
        let lines = read(name).lines().count();
        assert!(
            lines <= MAX_README_LINES,
            "{name} has {lines} lines, more than {MAX_README_LINES}: what it is, quick start, one configuration, what \
             works, links; the rest belongs into docs/"
        );
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut faults = Vec::new();
    for (path, text) in
        texts().into_iter().filter(|(path, _)| path.extension().is_some_and(|kind| kind == "md"))
    {
        let folder = path.parent().unwrap_or(Path::new(""));
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or(link);
            if !root().join(folder).join(file).exists() {
                faults.push(format!("{}: {link}", path.display()));
            }
        }
    }
    none(&faults, "links between pages name files that exist, relative to their page");
}

#[test]
fn grammar_and_core_do_not_panic() {
    let mut faults = Vec::new();
    for file in rust_files() {
        if file.is_test() || !PANIC_FREE.iter().any(|dir| file.path.starts_with(dir)) {
            continue;
        }
        each_token(file.production_tokens(), &mut |tokens| {
            if let [TokenTree::Punct(dot), TokenTree::Ident(name), ..] = tokens
                && dot.as_char() == '.'
                && (name == "unwrap" || name == "expect")
            {
                faults.push(format!("{}:{}", file.path.display(), name.span().start().line));
            }
        });
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
    for file in rust_files().into_iter().filter(|file| !file.is_test()) {
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
#[expect(clippy::print_stdout, reason = "the count per crate is what a reader wants to see")]
fn files_of_a_crate_make_no_circle() {
    let files = rust_files();
    let mut faults = Vec::new();
    for name in FLOORS.map(|(name, _)| name) {
        let folder = if name == "xtask" { "xtask/src".to_string() } else { format!("crates/{name}/src") };
        let circles = arrows::circles(&files, Path::new(&folder));
        println!("{name}: {} circles", circles.len());
        let shown = |circle: &Vec<PathBuf>| {
            circle.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" -> ")
        };
        faults.extend(circles.iter().map(shown));
    }
    none(
        &faults,
        "no circle of files inside a crate: hand over a fact, return an outcome, or move what both need into a file of its \
         own (an arrow counts to the file that defines the item)",
    );
}

/// Where `impl Engine` may stand.
const ENGINE_FILES: [&str; 3] = [
    "crates/roost-core/src/engine.rs",
    "crates/roost-core/src/operator.rs",
    "crates/roost-core/src/waiting.rs",
];

#[test]
fn parts_own_their_state() {
    let mut faults = Vec::new();
    for file in rust_files() {
        let is_allowed = ENGINE_FILES.iter().any(|allowed| file.path == Path::new(allowed));
        if is_allowed || file.is_test() || !file.path.starts_with("crates/roost-core") {
            continue;
        }
        each_token(file.tokens(), &mut |tokens| {
            if let [TokenTree::Ident(word), TokenTree::Ident(name), ..] = tokens
                && word == "impl"
                && name == "Engine"
            {
                faults.push(format!("{}:{}", file.path.display(), word.span().start().line));
            }
        });
    }
    none(
        &faults,
        &format!(
            "`impl Engine` stands in {} alone: give the state to a part, which takes a context and facts and returns an \
             outcome",
            ENGINE_FILES.join(", ")
        ),
    );
}

const MAX_FUNCTION: usize = 60;

#[test]
fn functions_fit_on_a_screen() {
    let mut faults = Vec::new();
    for file in rust_files().into_iter().filter(|file| !file.is_test()) {
        let mut functions = Functions::default();
        functions.visit_file(&file.parsed());
        for (name, lines) in functions.found.into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION) {
            faults.push(format!("{}: {name} has {lines} lines", file.path.display()));
        }
    }
    none(&faults, &format!("a function has at most {MAX_FUNCTION} lines: name its steps"));
}

/// The functions of a file, and from their first to their last line how many lines each has.
#[derive(Default)]
struct Functions {
    found: Vec<(String, usize)>,
}

impl Functions {
    fn note(&mut self, name: &syn::Ident, block: &syn::Block) {
        let lines = block.span().end().line - block.span().start().line + 1;
        self.found.push((name.to_string(), lines));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|what| what == "test")
        };
        if !module.attrs.iter().any(is_test) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.note(&function.sig.ident, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.note(&function.sig.ident, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn no_code_stands_for_a_reason() {
    let mut faults = Vec::new();
    for (path, text) in texts() {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| has_code(line)) {
            faults.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
        }
    }
    none(
        &faults,
        "codes such as S and two digits point to a file that readers do not have: give the reason, or the section of an RFC",
    );
}

/// Whether a line holds a word of an S or a B and one or two digits.
fn has_code(line: &str) -> bool {
    let is_code = |word: &str| {
        let digits = word.strip_prefix(['S', 'B']).unwrap_or("");
        matches!(digits.len(), 1 | 2) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(is_code)
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

/// Lines of tables outside fenced blocks.
fn table_rows(document: &str) -> usize {
    lines_with_fence(document).filter(|(line, fence)| fence.is_none() && line.starts_with('|')).count()
}

/// The targets of `[text](target)`.
fn links(document: &str) -> impl Iterator<Item = &str> {
    lines_with_fence(document)
        .filter(|(_, fence)| fence.is_none())
        .flat_map(|(line, _)| line.split("](").skip(1).filter_map(|rest| rest.split(')').next()))
}
