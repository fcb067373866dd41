//! Torture: every message of RFC 4475 and RFC 5118 (one file each, `rfc4475/*.sip` and `rfc5118/*.sip`, to the byte)
//! against the grammar and against an engine, with the verdict that the tables give it.

mod checks;
mod reading;
mod stage;
mod table;
mod wire;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::reading::Reading;
use crate::table::Vector;

/// The RFCs and how many messages each has.
const RFCS: [(&str, usize); 2] = [("rfc4475", 49), ("rfc5118", 12)];

#[test]
fn the_tables_and_the_files_are_the_same() {
    for (rfc, count) in RFCS {
        let files = std::fs::read_dir(folder().join(rfc)).expect("the folder of messages");
        let files: BTreeSet<String> =
            files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect();
        let table = table::read(&folder().join(format!("{rfc}.verdicts")));
        let rows: BTreeSet<String> = table.iter().map(|vector| format!("{}.sip", vector.name)).collect();
        assert_eq!(rows.len(), table.len(), "{rfc}.verdicts names a vector twice");
        let unmatched: Vec<_> = files.symmetric_difference(&rows).collect();
        assert!(
            unmatched.is_empty(),
            "in the folder {rfc} or in {rfc}.verdicts, but not in both: {unmatched:?}"
        );
        assert_eq!(rows.len(), count, "{rfc} has {count} messages");
    }
}

#[test]
fn the_grammar_reads_each_as_the_table_says() {
    check(|vector, bytes| {
        let reading = Reading::of(bytes);
        let expected: Vec<&str> =
            vector.grammar.iter().filter_map(|line| line.strip_prefix("refuses ")).collect();
        checks::expect("the grammar refuses", &expected.join("; "), reading.refusals.join("; "))?;
        for (part, value) in &vector.values {
            let read = reading.values.get(part).ok_or_else(|| {
                let parts: Vec<&str> = reading.values.keys().map(String::as_str).collect();
                format!("the grammar reads no {part}, only {}", parts.join(", "))
            })?;
            checks::expect(part, value, read)?;
        }
        Ok(())
    });
}

#[test]
fn the_engine_does_with_each_what_the_table_says() {
    check(checks::verdict);
}

#[test]
fn what_is_forwarded_for_a_caller_is_not_for_a_stranger() {
    check(checks::stranger);
}

#[test]
fn responses_in_a_call_are_relayed_or_kept() {
    check(checks::in_a_call);
}

#[test]
fn no_part_of_any_panics() {
    check(|vector, bytes| {
        let setup = stage::Setup::of(&vector.given)?;
        let mut stage = stage::Stage::new(&setup, true)?;
        for end in 0..bytes.len() {
            Reading::of(&bytes[..end]);
            stage.receive(setup.from, &bytes[..end]);
        }
        Ok(())
    });
}

/// Does this with each vector and its bytes, then tells all that went wrong.
fn check(one: impl Fn(&Vector, &[u8]) -> Result<(), String>) {
    let mut broken = Vec::new();
    for (rfc, _) in RFCS {
        for vector in table::read(&folder().join(format!("{rfc}.verdicts"))) {
            let path = folder().join(rfc).join(format!("{}.sip", vector.name));
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if let Err(error) = one(&vector, &bytes) {
                broken.push(format!("{rfc} {} {}: {error}", vector.section, vector.name));
            }
        }
    }
    assert!(broken.is_empty(), "{} vectors:\n\n{}", broken.len(), broken.join("\n\n"));
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture")
}
