//! Reads a script of OpenSIPS (2.4 to 4.0) and writes roost's configuration, and what became of each of its lines.
//!
//! The script is read into a syntax tree (`parse.rs`). Parameters are looked up (`params.rs`). What the routes do is found out by
//! following a REGISTER and an INVITE on every way through them (`walk.rs`), so that it does not matter how the script is divided into
//! routes; what these ways have in common with what roost does becomes keys (`idioms.rs`).
#![forbid(unsafe_code)]

mod ast;
mod conditions;
mod config;
mod functions;
mod idioms;
mod lines;
mod params;
mod parse;
mod report;
mod settings;
#[cfg(test)]
mod shuffled;
mod targets;
mod walk;

use std::path::{Path, PathBuf};

use crate::ast::Item;
use crate::config::Config;
use crate::report::Notes;

pub use report::{Fate, Line};

/// Why a script cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{file}:{line}: {what}\n    {line} | {shown}")]
    Syntax { file: String, line: usize, what: String, shown: String },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{file}:{line}: it includes {included}, which includes it in turn")]
    Circle { file: String, line: usize, included: String },
}

/// What a script becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// `roost.toml`.
    pub toml: String,
    /// What became of each line of the script, and of the files that it includes.
    pub lines: Vec<Line>,
    /// Where roost behaves in another way on purpose.
    pub differences: Vec<String>,
}

/// Reads the sets of dispatcher's table in a database (`database` of roost.toml): each set with one of its destinations, in the order in
/// which they are tried.
pub type ReadSets<'a> = dyn Fn(&str) -> Vec<(u32, String)> + 'a;

/// Reads a script and what it includes; `sets` is asked where it sends calls to dispatcher's.
///
/// # Errors
/// [`ImportError`]: a file cannot be read, or a line of it not understood; it names the line.
pub fn import(path: &Path, sets: &ReadSets<'_>) -> Result<Imported, ImportError> {
    let mut script = Script::default();
    script.read(path, &mut Vec::new())?;
    Ok(script.imported(sets))
}

#[derive(Debug, Default)]
struct Script {
    /// Names and texts of the files, the first one first.
    files: Vec<(String, String)>,
    items: Vec<Item>,
}

impl Script {
    fn read(&mut self, path: &Path, open: &mut Vec<PathBuf>) -> Result<(), ImportError> {
        let text =
            std::fs::read(path).map_err(|source| ImportError::Read { path: path.to_path_buf(), source })?;
        // Comments may be in any encoding.
        let text = String::from_utf8_lossy(&text).into_owned();
        let (number, name) = (self.files.len(), path.display().to_string());
        self.files.push((name.clone(), text.clone()));
        open.push(path.to_path_buf());
        for item in parse::parse(&text, number, &name)? {
            if let Item::Include { file, is_optional, span } = &item {
                let folder = path.parent().unwrap_or(Path::new(""));
                let mut included = folder.join(file);
                // A script that was copied from another machine names its folder there.
                let beside = Path::new(file).file_name().map(|name| folder.join(name));
                if let Some(beside) = beside.filter(|beside| !included.exists() && beside.exists()) {
                    included = beside;
                }
                if *is_optional && !included.exists() {
                    self.items.push(item.clone());
                    continue;
                }
                if open.contains(&included) {
                    let (line, included) = (span.at.line, file.clone());
                    return Err(ImportError::Circle { file: name, line, included });
                }
                self.items.push(item.clone());
                self.read(&included, open)?;
            } else {
                self.items.push(item);
            }
        }
        open.pop();
        Ok(())
    }

    fn imported(&self, sets: &ReadSets<'_>) -> Imported {
        let (mut config, mut notes, mut differences) = (Config::default(), Notes::default(), Vec::new());
        lines::note_all(&self.items, &mut notes);
        settings::take(&self.items, &mut config, &mut notes, &mut differences);
        idioms::take(&self.items, sets, &mut config, &mut notes, &mut differences);
        let name = self.files.first().map_or("", |(name, _)| name.as_str());
        let name = name.rsplit('/').next().unwrap_or(name);
        Imported { toml: config.toml(name), lines: self.lines(&notes), differences }
    }

    fn lines(&self, notes: &Notes) -> Vec<Line> {
        let mut all = Vec::new();
        for (file, (name, text)) in self.files.iter().enumerate() {
            for (index, line) in text.lines().enumerate() {
                let place = ast::Place { file, line: index + 1 };
                let fate = notes.fate(place).cloned().unwrap_or(Fate::Nothing);
                all.push(Line { file: name.clone(), number: index + 1, text: line.to_string(), fate });
            }
        }
        all
    }
}
