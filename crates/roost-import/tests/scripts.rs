//! Whole scripts: what they become, and that it does not matter how they are divided into routes.

use std::path::{Path, PathBuf};

use roost_import::{Fate, Imported, import};

const SCRIPTS: [&str; 5] = ["registrar-2.4", "plan-b", "gateways-2.4", "residential-3.4", "dispatcher-3.1"];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/scripts/{name}.cfg"))
}

/// What a script becomes, with every line's fate, to compare with what is written down.
fn described(imported: &Imported) -> String {
    let mut text = imported.toml.clone();
    for line in &imported.lines {
        if let Fate::Missing(remedy) = &line.fate {
            text += &format!("\n# NOT CARRIED {}: {}\n#     {remedy}\n", line.number, line.text.trim());
        }
    }
    for difference in &imported.differences {
        text += &format!("\n# DIFFERENT {difference}\n");
    }
    text
}

#[test]
fn scripts_become_what_is_written_beside_them() {
    for name in SCRIPTS {
        let imported = import(&script(name), &|_| Vec::new()).unwrap();
        let (file, got) = (script(name).with_extension("toml"), described(&imported));
        // ROOST_WRITE=1 writes them down.
        if std::env::var_os("ROOST_WRITE").is_some() {
            std::fs::write(&file, &got).unwrap();
        }
        assert_eq!(got, std::fs::read_to_string(&file).unwrap_or_default(), "{name}");
    }
}

#[test]
fn every_line_that_says_something_has_a_fate() {
    for name in SCRIPTS {
        let mut is_comment = false;
        for line in import(&script(name), &|_| Vec::new()).unwrap().lines {
            let text = line.text.trim();
            let was_comment = is_comment;
            is_comment = (is_comment || text.starts_with("/*")) && !text.ends_with("*/");
            let is_brace = text.chars().all(|char| "{};".contains(char))
                || ["else {", "} else {", "else", "default:"].contains(&text)
                || text.starts_with("case ");
            let is_comment_line = text.starts_with('#') || was_comment || text.starts_with("/*");
            if !is_brace && !is_comment_line {
                assert_ne!(line.fate, Fate::Nothing, "{name}:{}: {text}", line.number);
            }
        }
    }
}

#[test]
fn mistakes_name_their_line() {
    let folder = std::env::temp_dir().join(format!("roost-import-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (text, expected) in [
        ("log_level=3\nroute {\n\tif (is_method(\"INVITE\") {\n\t}\n}\n", "a.cfg:3: "),
        ("modparam(\"tm\", \"fr_timeout\")\n", "a.cfg:1: "),
        ("include_file \"none.cfg\"\n", "cannot read"),
        ("include_file \"a.cfg\"\n", "a.cfg:1: it includes a.cfg"),
        ("route {\n", "a.cfg:2: "),
        (&format!("route {{ if ({}1) exit; }}\n", "(".repeat(100_000)), "a.cfg:1: more than 100 brackets"),
        (&format!("route {{ if ({}1) exit; }}\n", "!".repeat(100_000)), "a.cfg:1: more than 100"),
    ] {
        let file = folder.join("a.cfg");
        std::fs::write(&file, text).unwrap();
        let error = import(&file, &|_| Vec::new()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
