//! Wire goldens: every `tests/golden/*.flow` runs as it is written.

use std::path::Path;

#[test]
fn every_flow_runs_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files =
        std::fs::read_dir(&folder).expect("the folder of goldens").map(|file| file.expect("a file").path());
    let mut flows: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "flow")).collect();
    flows.sort();
    assert!(!flows.is_empty(), "no flows in {}", folder.display());
    let broken: Vec<String> =
        flows.iter().filter_map(|path| roost_sim::golden::run_file(path).err()).collect();
    assert!(broken.is_empty(), "{} of {} flows:\n\n{}", broken.len(), flows.len(), broken.join("\n\n"));
}
