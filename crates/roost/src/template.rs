//! What packages ship, made from the key table and from the command line's own definition: a configuration in which every key stands
//! with its meaning, and manual pages.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::settings::keys::KEYS;

/// Where a package puts the database.
const DATABASE: &str = "sqlite:/var/lib/roost/roost.db";

/// `/etc/roost/roost.toml`: every key at its default, commented out, but the database.
pub(crate) fn configuration() -> String {
    let mut out = String::from(
        "# roost's configuration. Every key stands here with its default: take the # off and change it, then\n\
         #   roost config check && systemctl reload roost\n\
         # All keys with their ranges: /usr/share/doc/roost/reference.md\n",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let _ = write!(out, "\n[{section}]");
            out.push('\n');
        }
        for line in wrapped(key.meaning) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = match key.shown().as_str() {
            "database" => writeln!(out, "database = \"{DATABASE}\""),
            _ => writeln!(out, "#{} = {}", key.name, key.default),
        };
    }
    out.push_str(
        "\n# Where calls go that are for no extension; any number of such tables.\n#[[route]]\n#prefix = \"0\"\n#hops = [\"sip:10.0.0.5:5060\"]\n",
    );
    out
}

/// Lines of a text of at most so many characters.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 100;
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH || line.is_empty() => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

/// Writes a manual page for each command into a folder.
///
/// # Errors
/// It cannot be written.
pub(crate) fn manual(folder: &Path) -> Result<()> {
    let command = Cli::command().name("roost");
    clap_mangen::generate_to(command, folder).with_context(|| format!("cannot write to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_configuration_of_packages_is_right_with_every_key_taken_in() {
        let text = configuration();
        let settings = Settings::parse(&text, "x").unwrap();
        assert_eq!(settings.database, DATABASE);
        // Each default as it stands there is one.
        let keys =
            text.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
        let all: Vec<_> = keys.take_while(|line| *line != "[[route]]").collect();
        assert_eq!(all.len() + 1, KEYS.len());
        let mut taken = String::new();
        for line in text.lines().take_while(|line| *line != "#[[route]]") {
            let is_key = line.starts_with('#') && !line.starts_with("# ");
            taken += if is_key { &line[1..] } else { line };
            taken.push('\n');
        }
        Settings::parse(&taken, "x").unwrap();
    }
}
