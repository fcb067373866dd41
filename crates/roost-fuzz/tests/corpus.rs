//! Every input that a fuzzer found worth keeping still passes, and so do the torture messages.

use std::fs;
use std::path::Path;

use roost_fuzz::{TARGETS, run};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn corpora_are_replayed() {
    for (target, _) in TARGETS {
        let folder = root().join("fuzz/corpus").join(target);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let file = file.expect("a file").path();
            eprintln!("{}", file.display());
            run(target, &fs::read(&file).expect("its bytes"));
            count += 1;
        }
        assert!(count > 0, "{target} has a corpus");
    }
}

#[test]
fn torture_messages_go_through_the_targets_that_take_messages() {
    let mut count = 0;
    for folder in ["rfc4475", "rfc5118"] {
        for file in
            fs::read_dir(root().join("crates/roost-sim/tests/torture").join(folder)).expect("a folder")
        {
            let bytes = fs::read(file.expect("a file").path()).expect("its bytes");
            run("head", &bytes);
            for size in [1, 7, 200] {
                run("framing", &[&[size][..], &bytes].concat());
            }
            run("engine", &[&[0, 0, 0][..], &bytes].concat());
            count += 1;
        }
    }
    assert!(count > 50, "{count} messages");
}
