//! roost: a SIP registrar for the extensions of a call centre, in one binary.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    roost::main()
}
