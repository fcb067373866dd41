//! The Rust files of the workspace, as text and as tokens.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One file.
pub(crate) struct RustFile {
    /// Relative to the workspace's root.
    pub(crate) path: PathBuf,
    pub(crate) source: String,
}

impl RustFile {
    /// Its tokens: no comments, and literals are whole.
    pub(crate) fn tokens(&self) -> TokenStream {
        self.source.parse().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// Its tokens without what is compiled for tests only.
    pub(crate) fn production_tokens(&self) -> TokenStream {
        without_tests(self.tokens())
    }

    pub(crate) fn parsed(&self) -> syn::File {
        syn::parse_file(&self.source).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// Below a `tests` folder, or the `tests.rs` of a module.
    pub(crate) fn is_test(&self) -> bool {
        self.path.iter().any(|part| part == "tests" || part == "tests.rs")
    }
}

/// All of them, in the order of their paths.
pub(crate) fn rust_files() -> Vec<RustFile> {
    let is_rust = |(path, source): (PathBuf, String)| {
        path.extension().is_some_and(|extension| extension == "rs").then_some(RustFile { path, source })
    };
    let mut files: Vec<RustFile> = texts().into_iter().filter_map(is_rust).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "no Rust files below crates/ and xtask/: is the root right?");
    files
}

/// The files that people read: sources, goldens, verdicts, documents.
pub(crate) fn texts() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    for top in [
        "crates",
        "xtask",
        "docs",
        "examples",
        "README.md",
        "README.zh-CN.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
    ] {
        walk(&root().join(top), &mut paths);
    }
    let is_text = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("rs" | "flow" | "verdicts" | "md" | "toml"))
    };
    let text = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.strip_prefix(root()).expect("the file is below the root").to_owned(), text)
    };
    paths.into_iter().filter(is_text).map(text).collect()
}

/// A file of the workspace.
pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name} must be there: {error}"))
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace's root")
}

/// Every token of a stream and of the groups in it.
pub(crate) fn each_token(stream: TokenStream, see: &mut impl FnMut(&[TokenTree])) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for at in 0..tokens.len() {
        see(&tokens[at..]);
        if let TokenTree::Group(group) = &tokens[at] {
            each_token(group.stream(), see);
        }
    }
}

fn walk(path: &Path, found: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        return found.push(path.to_owned());
    }
    if path.file_name().is_some_and(|name| name == "target") {
        return;
    }
    for entry in fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
        walk(&entry.expect("a directory entry can be read").path(), found);
    }
}

/// Leaves out each item behind `#[cfg(test)]`.
fn without_tests(stream: TokenStream) -> TokenStream {
    let mut tokens = stream.into_iter().peekable();
    let mut kept = Vec::new();
    while let Some(token) = tokens.next() {
        let is_hash = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#');
        if is_hash && tokens.peek().is_some_and(is_cfg_test) {
            // Up to the item's body, or its semicolon.
            for token in tokens.by_ref() {
                let is_body =
                    matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                if is_body || matches!(&token, TokenTree::Punct(punct) if punct.as_char() == ';') {
                    break;
                }
            }
            continue;
        }
        kept.push(match token {
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream());
                TokenTree::Group(Group::new(group.delimiter(), inner))
            }
            token => token,
        });
    }
    kept.into_iter().collect()
}

fn is_cfg_test(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

#[test]
fn what_is_compiled_for_tests_only_is_left_out() {
    let source = "fn a() {} #[cfg(test)] mod tests { fn b() {} } #[cfg(test)] use x::y; impl A { #[cfg(test)] fn c() {} fn d() {} }";
    let kept = without_tests(source.parse().unwrap()).to_string();
    for (name, is_kept) in [("a", true), ("b", false), ("x", false), ("c", false), ("d", true)] {
        assert_eq!(
            kept.contains(&format!(" {name} ")) || kept.contains(&format!("fn {name}")),
            is_kept,
            "{name}: {kept}"
        );
    }
}
