//! What calls cost: at one node, across two, and to an extension that the caller's node does not know.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::phones::Phones;
use super::world::{PHONES, RIVALS, World};
use super::{FIRST, Size};

/// How long nothing goes on, so that it is known what that costs.
const IDLE: Duration = Duration::from_secs(5);
/// Calls at once.
const IN_FLIGHT: usize = 64;

/// Measures it. Half of the phones are at each node.
pub(super) fn run(roost: &Path, size: Size) -> Result<()> {
    let world = World::make(roost, size.phones, FIRST)?;
    world.net.enter("p")?;
    let at =
        |address: &str| -> SocketAddr { SocketAddr::new(address.parse().unwrap_or([0; 4].into()), 5_060) };
    let half = size.phones / 2;
    let mut here = Phones::new(at(PHONES), at("10.77.0.11"), FIRST, half)?;
    let mut there = Phones::new(at(RIVALS), at("10.77.0.12"), FIRST + half, half)?;
    ensure!(here.register_all()? + there.register_all()? == u64::from(2 * half), "not all have registered");
    let before = world.cpu_us()?;
    std::thread::sleep(IDLE);
    let idle_us = (world.cpu_us()? - before) / IDLE.as_secs();
    let mut measure = |what: &str, callees: std::ops::Range<u32>| -> Result<()> {
        let (begun, before) = (Instant::now(), world.cpu_us()?);
        let failed = call_each(&mut here, &mut there, callees.clone())?;
        let spent = world.cpu_us()? - before;
        let idle = (begun.elapsed().as_secs_f64() * idle_us as f64) as u64;
        let each = spent.saturating_sub(idle) as f64 / f64::from(callees.len() as u32);
        eprintln!("    {what}: {each:.1} us of CPU each ({} calls, {failed} failed)", callees.len());
        ensure!(failed == 0, "{failed} calls failed");
        Ok(())
    };
    let (own, theirs) = (0..half, half..2 * half);
    measure("a call at one node, once to warm up", own.clone())?;
    measure("a call at one node", own)?;
    measure("a call across two nodes, the callee not known", theirs.clone())?;
    measure("a call across two nodes, the callee known", theirs)
}

/// Calls each of these extensions once, by their places; how many calls failed.
fn call_each(here: &mut Phones, there: &mut Phones, callees: std::ops::Range<u32>) -> Result<usize> {
    let before = here.tally.calls.len();
    here.hold = Duration::ZERO;
    for callee in callees {
        while here.going_at_all() >= IN_FLIGHT {
            here.step()?;
            there.step()?;
        }
        let caller = here.any();
        here.call(caller, callee);
    }
    while here.going_at_all() > 0 {
        here.step()?;
        there.step()?;
    }
    Ok(here.tally.calls[before..].iter().filter(|call| call.code != 200).count())
}
