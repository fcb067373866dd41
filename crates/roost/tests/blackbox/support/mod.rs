//! The world around the binary under test: a folder, a server, the command line, phones, MI.

mod baresip;
mod browser;
mod dns;
mod driver;
mod edge;
mod kamailio;
mod linphone;
mod media;
mod mi;
mod opensips;
mod relay;
mod server;
mod stream;
mod tcp_relay;

use std::io::Write;

pub use baresip::{Answers, Baresip, call_both_ways};
pub use browser::{Browser, Page, axe};
pub use dns::NameServer;
pub use driver::Driver;
pub use edge::{Edge, hidden_contact};
pub use kamailio::Kamailio;
pub use linphone::Linphone;
pub use media::MediaServer;
pub use mi::{HttpReply, http, post};
pub use opensips::{opensips_cli, opensips_library};
pub use relay::Relay;
pub use roost_rig::call::{
    A_WHILE, Dialog, Message, ack_of_failure, cancel_of, with_body, without_first_via, without_our_lines,
    without_source,
};
pub use roost_rig::line::{
    AnyLine, TLS_SECTION, TRANSPORTS, phone, reaches, secured, shown_certificate, talk,
};
pub use roost_rig::md5;
pub use roost_rig::phone::{ALLOW, Challenge, Phone, Response, USER_AGENT, digest, header, token};
pub use roost_rig::random::Random;
pub use roost_rig::{Database, Kind, Log, PATIENCE, Redis, SERVERS, free_port, kill_all, need, wait_for};
pub use server::{Ran, Server, roost, run, wait_for_end};
pub use stream::TcpPhone;
pub use tcp_relay::TcpRelay;

/// A figure for the person who runs the tests: goes around the capturing of test output.
pub fn report(figure: &str) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "{figure}");
}
