//! The simulated world of roost: engines, phones, a bad network, a failing database and crashes, in virtual time.
//!
//! Everything that happens comes from one number, the seed: [`world::run`] plays it and says what broke, [`shortest`]
//! leaves out what that does not need. [`model`] says what the registrar must answer. [`golden`] runs call flows written as
//! text against one engine, byte by byte. Nothing here reads a clock or does I/O but reading those files and, when asked for a trace,
//! writing to standard error.
#![forbid(unsafe_code)]

pub mod call_checks;
pub mod call_message;
pub mod call_phone;
pub mod checks;
pub mod client;
pub mod costs;
pub mod dice;
pub mod event_queue;
pub mod golden;
pub mod harness;
pub mod model;
pub mod network;
pub mod nodes;
pub mod phone;
pub mod scenario;
pub mod script;
pub mod settings;
pub mod shortest;
pub mod store;
mod trace;
pub mod world;
