//! The configuration file as the console shows and changes it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use roost_console::{ConfigText, NotSaved};
use serde_json::{Value, json};

use crate::serve::reload::changes;
use crate::settings::Settings;
use crate::settings::masked::Masks;

const NO_FILE: &str = "the server was started without a configuration file";

/// The file, if there is one.
#[derive(Debug)]
pub(super) struct ConfigFile {
    file: Option<PathBuf>,
    /// One compares and writes at a time.
    turn: Mutex<()>,
    masks: Masks,
}

impl ConfigFile {
    pub(super) fn new(file: Option<PathBuf>) -> ConfigFile {
        ConfigFile { file, turn: Mutex::default(), masks: Masks::default() }
    }

    fn file(&self) -> Result<&Path, String> {
        self.file.as_deref().ok_or_else(|| NO_FILE.to_string())
    }

    fn shown(&self, file: &Path, text: &str) -> ConfigText {
        let is_writable = std::fs::OpenOptions::new().append(true).open(file).is_ok();
        ConfigText { mark: self.masks.mark(text), text: self.masks.masked(text), is_writable }
    }

    /// The text with its secrets, of which masks stand for those before, and what it says, if it is right.
    fn checked(&self, file: &Path, text: &str, before: &str) -> Result<(String, Settings), String> {
        let text = self.masks.unmasked(text, before)?;
        let read = || -> Result<Settings> {
            let settings = Settings {
                file: Some(file.to_path_buf()),
                ..Settings::parse(&text, &file.display().to_string())?
            };
            settings.check_files()?;
            Ok(settings)
        };
        let settings = read().map_err(|error| format!("{error:#}"))?;
        Ok((text, settings))
    }
}

impl roost_console::ConfigFile for ConfigFile {
    fn read(&self) -> Option<ConfigText> {
        let file = self.file.as_deref()?;
        Some(self.shown(file, &read(file).ok()?))
    }

    fn read_beside(&self, text: &str) -> Option<(ConfigText, Option<String>)> {
        let file = self.file.as_deref()?;
        let before = read(file).ok()?;
        // Masks in it stand for what they stand for: a mask of a mask would be another.
        let whole = self.masks.unmasked(text, &before);
        let masked = self.masks.masked_if_sound(whole.as_deref().unwrap_or(text));
        Some((self.shown(file, &before), masked))
    }

    fn check(&self, text: &str) -> Result<Vec<Value>, String> {
        let file = self.file()?;
        self.checked(file, text, &read(file)?).map(|(_, after)| would_change(file, &after))
    }

    fn save(&self, text: &str, mark: &str) -> Result<(), NotSaved> {
        let file = self.file().map_err(NotSaved::Why)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let before = read(file).map_err(NotSaved::Why)?;
        if self.masks.mark(&before) != mark {
            return Err(NotSaved::Changed);
        }
        let (text, _) = self.checked(file, text, &before).map_err(NotSaved::Why)?;
        put(file, &text).map_err(NotSaved::Why)
    }
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

/// The keys that these give other values than the file, and whether they count at once.
fn would_change(file: &Path, after: &Settings) -> Vec<Value> {
    let shown = |change: roost_admin::ChangedKey| json!({ "key": change.name, "old": change.old, "new": change.new, "live": change.is_live });
    let found = Settings::load(Some(file)).and_then(|before| changes(&before, after));
    // A file that is broken now has no values to compare with.
    found.unwrap_or_default().into_iter().map(shown).collect()
}

/// Puts a text into the file's place; the one before stays beside it.
fn put(file: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", file.display());
    // A link stays one.
    let file = &std::fs::canonicalize(file).map_err(failed)?;
    let beside = |end: &str| -> PathBuf {
        let mut name = file.as_os_str().to_os_string();
        name.push(end);
        name.into()
    };
    let put = || -> std::io::Result<()> {
        std::fs::copy(file, beside(".bak"))?;
        let new = beside(".new");
        // Owner and rights as the file has them.
        std::fs::copy(file, &new)?;
        std::fs::write(&new, text)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, file)
    };
    put().inspect_err(|_| drop(std::fs::remove_file(beside(".new")))).map_err(failed)
}

#[cfg(test)]
mod tests {
    use roost_console::ConfigFile as _;

    use super::*;

    #[test]
    fn what_another_has_written_meanwhile_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roost.toml");
        let text = "domains = [\"pbx.test\"]\n";
        std::fs::write(&path, text).unwrap();
        let file = ConfigFile::new(Some(path.clone()));
        let opened = file.read().unwrap();
        assert!(opened.is_writable && opened.text == text);
        // Two save what they have opened at once: one of them is told.
        let saved: Vec<_> = std::thread::scope(|scope| {
            let texts = ["# one\n", "# other\n"].map(|comment| format!("{comment}{text}"));
            let own = |text: String| {
                let (file, mark) = (&file, &opened.mark);
                scope.spawn(move || file.save(&text, mark))
            };
            texts.map(own).into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(saved.iter().filter(|one| **one == Err(NotSaved::Changed)).count(), 1, "{saved:?}");
        assert_eq!(std::fs::read_to_string(folder.path().join("roost.toml.bak")).unwrap(), text);
        // A mask that stays is no difference.
        let secret = "[auth]\nsecret = \"one two three\"\n";
        std::fs::write(&path, secret).unwrap();
        let shown = file.read().unwrap().text;
        assert!(
            !shown.contains("one two three")
                && file.read_beside(&shown).unwrap().1.as_deref() == Some(&*shown),
            "{shown}"
        );
        // Another secret is another text, and so is each that cannot be read.
        let secret = |secret: &str| format!("[[webhook]]\nurl = \"http://a.test/\"\nsecret = \"{secret}\"\n");
        let marks =
            [secret("one two three"), secret("one two four"), "a = [".to_string(), "b = [".to_string()];
        let marks = marks.map(|text| {
            std::fs::write(&path, text).unwrap();
            file.read().unwrap().mark
        });
        assert!((1..marks.len()).all(|at| !marks[at..].contains(&marks[at - 1])), "{marks:?}");
        assert!(
            matches!(file.save("a = [", &marks[3]), Err(NotSaved::Why(why)) if why.contains("roost.toml:1"))
        );
        assert!(ConfigFile::new(None).read().is_none() && ConfigFile::new(None).check(text).is_err());
    }
}
