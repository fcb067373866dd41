//! The black box: the program itself, its sockets, its databases and real phones.

#[expect(unreachable_pub, reason = "a test program has no other users")]
mod support;

mod api;
mod attacks;
mod bad_input;
mod balancer;
mod baresip;
mod browsers;
mod calls;
mod calls_sipp;
mod calls_tcp;
mod calls_tls;
mod config;
mod dialog;
mod digest;
mod events;
mod examples;
mod families;
mod guessers;
mod habits;
mod import;
mod interfaces;
mod kill9;
mod media_servers;
mod mi;
mod monitoring;
mod names;
mod nathelper;
mod path;
mod prometheus;
mod proxy;
mod records;
mod register;
mod routes;
mod serve;
mod services;
mod sipp;
mod stores;
mod tcp;
mod tls;
mod transports;
mod user;
mod websocket;
mod why;
