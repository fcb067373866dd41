//! Which file takes something from which other file of its crate, and the circles that this makes.
//!
//! An arrow leads to the file that defines what is taken, through every re-export. A module and its children are one
//! room: arrows between a file and one in its folder below it do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

use crate::files::{RustFile, each_token};

/// The path of an item, from the crate's root.
type ItemPath = Vec<String>;

/// The modules of one crate.
struct Modules<'a> {
    /// By the path of the module.
    files: BTreeMap<ItemPath, &'a RustFile>,
    /// What a module re-exports: by its path and the name there, the path it stands for.
    exports: BTreeMap<(ItemPath, String), ItemPath>,
}

/// The groups of files of one crate, its sources in `folder`, that lead to one another.
pub(crate) fn circles(files: &[RustFile], folder: &Path) -> Vec<Vec<PathBuf>> {
    let arrows = arrows(files, folder);
    let mut circles: Vec<Vec<PathBuf>> = Vec::new();
    for file in arrows.keys() {
        if circles.iter().any(|circle| circle.contains(file)) {
            continue;
        }
        let from = reachable(&arrows, file);
        let circle: Vec<PathBuf> =
            from.iter().filter(|other| reachable(&arrows, other).contains(file)).cloned().collect();
        if circle.len() > 1 {
            circles.push(circle);
        }
    }
    circles
}

/// For each file those that it takes something from.
pub(crate) fn arrows(files: &[RustFile], folder: &Path) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let modules = Modules::of(files, folder);
    let mut arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for (module, file) in &modules.files {
        let own = arrows.entry(file.path.clone()).or_default();
        for taken in taken_paths(file.production_tokens(), module) {
            if let Some(other) = modules.home_of(&taken).filter(|other| !is_one_room(&file.path, other)) {
                own.insert(other.to_owned());
            }
        }
    }
    arrows
}

impl<'a> Modules<'a> {
    fn of(files: &'a [RustFile], folder: &Path) -> Modules<'a> {
        let own = files.iter().filter(|file| !file.is_test());
        let by_module = |file: &'a RustFile| {
            let inner = file.path.strip_prefix(folder).ok()?;
            Some((module_of(inner), file))
        };
        let files: BTreeMap<_, _> = own.filter_map(by_module).collect();
        let mut exports = BTreeMap::new();
        for (module, file) in &files {
            for (name, path) in exports_of(file.production_tokens(), module) {
                exports.insert((module.clone(), name), path);
            }
        }
        Modules { files, exports }
    }

    /// The file that defines an item.
    fn home_of(&self, path: &[String]) -> Option<&Path> {
        let mut path = path.to_vec();
        // A re-export leads on; a circle of them would not compile.
        for _ in 0..16 {
            let depth = (0..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]))?;
            let (module, rest) = path.split_at(depth);
            let Some(name) = rest.first() else { return Some(&self.files[module].path) };
            match self.exports.get(&(module.to_vec(), name.clone())) {
                Some(target) => path = target.iter().chain(&rest[1..]).cloned().collect(),
                None => return Some(&self.files[module].path),
            }
        }
        None
    }
}

fn module_of(inner: &Path) -> ItemPath {
    let mut parts: ItemPath =
        inner.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// Whether one of two files stands in the folder of the other, below it.
fn is_one_room(one: &Path, other: &Path) -> bool {
    let room = |file: &Path| match file.file_name().and_then(|name| name.to_str()) {
        Some("mod.rs") => file.parent().map(Path::to_owned),
        Some("lib.rs" | "main.rs") => None,
        _ => Some(file.with_extension("")),
    };
    one == other
        || room(one).is_some_and(|room| other.starts_with(room))
        || room(other).is_some_and(|room| one.starts_with(room))
}

fn reachable(arrows: &BTreeMap<PathBuf, BTreeSet<PathBuf>>, from: &Path) -> BTreeSet<PathBuf> {
    let mut found: BTreeSet<PathBuf> = BTreeSet::new();
    let mut open: Vec<&Path> = vec![from];
    while let Some(file) = open.pop() {
        for other in arrows.get(file).into_iter().flatten() {
            if found.insert(other.clone()) {
                open.push(other);
            }
        }
    }
    found
}

/// All paths that begin with `crate`, `super` or `self`, from the crate's root.
fn taken_paths(stream: TokenStream, module: &[String]) -> Vec<ItemPath> {
    let mut paths = Vec::new();
    each_token(stream, &mut |tokens| {
        let Some(start) = base_of(tokens, module) else { return };
        follow(&tokens[1..], start, &mut paths);
    });
    paths
}

/// What a path's first word stands for.
fn base_of(tokens: &[TokenTree], module: &[String]) -> Option<ItemPath> {
    let [TokenTree::Ident(word), TokenTree::Punct(colon), ..] = tokens else { return None };
    if colon.as_char() != ':' {
        return None;
    }
    match word.to_string().as_str() {
        "crate" => Some(Vec::new()),
        "self" => Some(module.to_vec()),
        "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
        _ => None,
    }
}

/// Reads `::a::b` and `::{a, b::c}` behind a path's beginning.
fn follow(tokens: &[TokenTree], start: ItemPath, paths: &mut Vec<ItemPath>) {
    let mut path = start;
    let mut rest = tokens;
    while let [TokenTree::Punct(a), TokenTree::Punct(b), next, tail @ ..] = rest {
        if (a.as_char(), b.as_char()) != (':', ':') {
            break;
        }
        match next {
            TokenTree::Ident(name) if name == "super" => drop(path.pop()),
            TokenTree::Ident(name) => path.push(name.to_string()),
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in
                    inner.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','))
                {
                    if let [TokenTree::Ident(name), tail @ ..] = part {
                        let mut path = path.clone();
                        if name != "self" {
                            path.push(name.to_string());
                        }
                        follow(tail, path, paths);
                    }
                }
                return;
            }
            _ => break,
        }
        rest = tail;
    }
    paths.push(path);
}

/// The names that a module's `pub use` gives, and what each stands for.
fn exports_of(stream: TokenStream, module: &[String]) -> Vec<(String, ItemPath)> {
    let mut exports = Vec::new();
    each_token(stream, &mut |tokens| {
        let [TokenTree::Ident(public), rest @ ..] = tokens else { return };
        if public != "pub" {
            return;
        }
        let rest = match rest {
            [TokenTree::Group(_), rest @ ..] => rest,
            rest => rest,
        };
        let [TokenTree::Ident(word), TokenTree::Ident(_), ..] = rest else { return };
        if word != "use" {
            return;
        }
        let mut paths = Vec::new();
        match base_of(&rest[1..], module) {
            Some(start) => follow(&rest[2..], start, &mut paths),
            None => {
                let mut start = module.to_vec();
                if let TokenTree::Ident(name) = &rest[1] {
                    start.push(name.to_string());
                }
                follow(&rest[2..], start, &mut paths);
            }
        }
        exports.extend(paths.into_iter().filter_map(|path| Some((path.last()?.clone(), path))));
    });
    exports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files: Vec<RustFile> = files
            .iter()
            .map(|(path, source)| RustFile { path: Path::new("src").join(path), source: source.to_string() })
            .collect();
        let found = circles(&files, Path::new("src"));
        found
            .into_iter()
            .map(|circle| circle.iter().map(|path| path.display().to_string()).collect())
            .collect()
    }

    #[test]
    fn circles_are_found_through_re_exports_groups_and_paths_in_code() {
        let lib = ("lib.rs", "pub use a::A; mod a; mod b; mod c;");
        let circle = vec![vec!["src/a.rs".to_string(), "src/b.rs".to_string()]];
        for (a, b) in [
            ("use crate::b::B; pub struct A;", "use crate::A; pub struct B;"),
            ("use crate::{c::C, b::{B, D}};", "fn f() { crate::a::g(); }"),
            ("use super::b;", "macro_rules! m { () => { $crate::a::A }; }"),
        ] {
            assert_eq!(circles_of(&[lib, ("a.rs", a), ("b.rs", b), ("c.rs", "")]), circle, "{a} | {b}");
        }
        for (a, b) in [
            ("use crate::b::B;", "#[cfg(test)] mod tests { use crate::a::A; }"),
            ("use crate::b::B;", "// use crate::a::A;"),
            ("use crate::b::B;", "const A: &str = \"crate::a::A\";"),
        ] {
            assert!(circles_of(&[lib, ("a.rs", a), ("b.rs", b)]).is_empty(), "{a} | {b}");
        }
    }

    #[test]
    fn a_module_and_its_children_are_one_room() {
        let files =
            [("a/mod.rs", "mod b; use b::B; pub struct A;"), ("a/b.rs", "use super::A; pub struct B;")];
        assert!(circles_of(&files).is_empty());
        let files = [
            ("a/mod.rs", "mod b; mod c;"),
            ("a/b.rs", "use crate::a::c::C; pub struct B;"),
            ("a/c.rs", "use super::b::B; pub struct C;"),
        ];
        assert_eq!(circles_of(&files), [["src/a/b.rs", "src/a/c.rs"]], "its children are not");
    }
}
