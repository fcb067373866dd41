//! One fuzzer for all targets: ROOST_FUZZ_TARGET names the one that runs.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<roost_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("ROOST_FUZZ_TARGET").expect("ROOST_FUZZ_TARGET");
    let known = roost_fuzz::TARGETS.iter().find(|(known, _)| *known == name);
    known.unwrap_or_else(|| panic!("no target {name}")).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*TARGET)(data));
