//! The world around the binary under test: a folder, a server, the command line, phones, MI.

// Every test program compiles this module for itself and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod baresip;
mod call;
mod dns;
mod edge;
mod kamailio;
pub mod md5;
mod media;
mod mi;
mod phone;
mod random;
mod relay;
mod server;
mod stream;
mod tcp_relay;

use std::io::Write;

pub use baresip::{Answers, Baresip};
pub use call::{
    A_WHILE, Dialog, Message, ack_of_failure, cancel_of, with_body, without_first_via, without_our_lines,
    without_source,
};
pub use dns::NameServer;
pub use edge::{Edge, hidden_contact};
pub use kamailio::Kamailio;
pub use media::MediaServer;
pub use mi::{HttpReply, http, post};
pub use phone::{ALLOW, Challenge, Phone, Response, USER_AGENT, digest, header, token};
pub use random::Random;
pub use relay::Relay;
pub use roost_rig::{ALL_KINDS, Database, Kind, Log, PATIENCE, SERVERS, free_port, kill_all, need, wait_for};
pub use server::{Ran, Server, roost, run, wait_for_end};
pub use stream::TcpPhone;
pub use tcp_relay::TcpRelay;

/// A figure for whoever runs the tests: goes around the capturing of test output.
pub fn report(figure: &str) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "{figure}");
}
