//! Three nodes with a floating address in a network of their own, and what happens to their phones when something is lost: a node, its
//! time, its way to the store, the store's primary.

mod cost;
mod net;
mod phones;
mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;

use net::{FLOATING, TAKES_OVER};
use phones::{Ended, Phones, Rates};
use world::{PHONES, RIVALS, STORE, World};

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Loss {
    /// The node with the floating address, by kill -9.
    Node,
    /// The same stands still for thirty seconds, and goes on.
    Time,
    /// The way between it and the store, for fifteen seconds.
    Way,
    /// The store's primary, by kill -9.
    Primary,
    /// Nothing: what calls cost at one node and across two.
    Nothing,
}

/// How much goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) phones: u32,
    pub(crate) calls: u32,
    pub(crate) hold_s: u64,
}

const FIRST: u32 = 100_000;
/// Extensions that somebody else tries to have meanwhile.
const TRIED: u32 = 20;

/// Plays it.
///
/// # Errors
/// Something could not be started, or was lost that must not be.
pub(crate) fn run(roost: &Path, size: Size, losses: &[Loss], if_possible: bool) -> Result<()> {
    if let Some(is_well) = net::as_root()? {
        ensure!(is_well, "it did not end well");
        return Ok(());
    }
    if let Some(why) = net::Net::why_not().filter(|_| if_possible) {
        eprintln!("    NOT PLAYED: this machine gives no network namespaces, which it takes: {why}");
        return Ok(());
    }
    losses.iter().try_for_each(|loss| {
        if *loss == Loss::Nothing {
            return cost::run(roost, size);
        }
        eprintln!("    {loss:?} lost; {} phones, {} calls a second", size.phones, size.calls);
        play(roost, size, *loss)
    })
}

fn play(roost: &Path, size: Size, loss: Loss) -> Result<()> {
    let mut world = World::make(roost, size.phones, FIRST)?;
    world.net.enter("p")?;
    let at =
        |address: &str| -> SocketAddr { SocketAddr::new(address.parse().unwrap_or([0; 4].into()), 5_060) };
    let mut phones = Phones::new(at(PHONES), at(FLOATING), FIRST, size.phones)?;
    let mut rivals = Phones::new(at(RIVALS), at("10.77.0.12"), FIRST, TRIED.min(size.phones))?;
    phones.hold = Duration::from_secs(size.hold_s);
    let begun = Instant::now();
    let registered = phones.register_all()?;
    ensure!(registered == u64::from(size.phones), "{registered} of {} phones registered", size.phones);
    eprintln!("    registered in {:.1} s", begun.elapsed().as_secs_f64());
    phones.tally.registers.clear();
    let rates = Rates { calls: size.calls, registers: size.phones / 200 };
    phones.run(Duration::from_secs(size.hold_s + 5), rates)?;
    let before = phones.going();
    let lost_at = Instant::now();
    let holder = lose(&mut world, loss, &mut phones, rates)?;
    // Who is not its phone has no extension meanwhile.
    let taken = rivals.register_all()?;
    phones.run(Duration::from_secs(size.hold_s + 5), rates)?;
    phones.drain()?;
    tell(&phones.tally.calls, (lost_at, before), loss);
    let registers: Vec<_> =
        phones.tally.registers.iter().map(|(code, count)| format!("{code}: {count}")).collect();
    eprintln!("    refreshes by their answers (0: none came): {}", registers.join(", "));
    let begun = Instant::now();
    let missed = phones.call_all(size.calls.max(50) * 3)?;
    eprintln!(
        "    each extension was called once afterwards: {missed} did not ring ({:.0} s)",
        begun.elapsed().as_secs_f64()
    );
    let (lost, doubled) = compare(&world, holder, &phones)?;
    eprintln!(
        "    accepted bindings that were lost: {lost}; doubled: {doubled}; accepted elsewhere: {taken}"
    );
    let survived = all_survived(&phones.tally.calls, lost_at);
    ensure!(
        (missed, lost, doubled, taken, survived) == (0, 0, 0, 0, true),
        "something was lost:\n--- a\n{}\n--- b\n{}",
        world.log("a"),
        world.log("b")
    );
    Ok(())
}

/// Something is lost, and what keepalived would do is done; which node has the floating address afterwards.
fn lose(world: &mut World, loss: Loss, phones: &mut Phones, rates: Rates) -> Result<&'static str> {
    match loss {
        Loss::Node => {
            world.signal("a", Signal::SIGKILL)?;
            world.net.cut("a")?;
            moved(world, phones, rates)?;
            Ok("b")
        }
        Loss::Time => {
            world.signal("a", Signal::SIGSTOP)?;
            world.net.drop_floating("a")?;
            moved(world, phones, rates)?;
            phones.run(Duration::from_secs(30), rates)?;
            world.signal("a", Signal::SIGCONT)?;
            Ok("b")
        }
        Loss::Way => {
            world.net.part("a", STORE)?;
            phones.run(Duration::from_secs(15), rates)?;
            world.net.heal("a", STORE)?;
            Ok("a")
        }
        Loss::Nothing => Ok("a"),
        Loss::Primary => {
            world.kill_primary()?;
            phones.run(Duration::from_secs(15), rates)?;
            Ok("a")
        }
    }
}

/// The floating address goes to node b; calls go on meanwhile.
fn moved(world: &World, phones: &mut Phones, rates: Rates) -> Result<()> {
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| world.net.take_over("b", "p"));
        phones.run(TAKES_OVER + Duration::from_millis(500), rates)?;
        moving.join().map_err(|_| anyhow::anyhow!("the address was not moved"))?
    })
}

/// Whether all calls that were answered before it are hung up as they should be.
fn all_survived(calls: &[Ended], lost_at: Instant) -> bool {
    calls.iter().filter(|call| is_of_before(call, lost_at)).all(|call| call.code == 200)
}

fn is_of_before(call: &Ended, lost_at: Instant) -> bool {
    call.answered.is_some_and(|at| at < lost_at) && call.ended > lost_at
}

fn tell(calls: &[Ended], (lost_at, (answered, early)): (Instant, (usize, usize)), loss: Loss) {
    let of_before: Vec<_> = calls.iter().filter(|call| is_of_before(call, lost_at)).collect();
    let survived = of_before.iter().filter(|call| call.code == 200).count();
    eprintln!("    in progress when it happened: {answered}; survived: {survived} of {}", of_before.len());
    let in_set_up = calls.iter().filter(|call| {
        call.begun < lost_at && call.answered.is_none_or(|at| at >= lost_at) && call.ended > lost_at
    });
    let failed = in_set_up.filter(|call| call.answered.is_none()).count();
    eprintln!("    being set up when it happened: {early}; failed: {failed}");
    let after: Vec<_> = calls.iter().filter(|call| call.begun >= lost_at).collect();
    let not_answered = after.iter().filter(|call| call.answered.is_none()).count();
    let not_ended = after.iter().filter(|call| call.answered.is_some() && call.code != 200).count();
    let last = after.iter().filter(|call| call.answered.is_none()).map(|call| call.begun).max();
    let until = last.map_or(0.0, |last| last.duration_since(lost_at).as_secs_f64());
    let late = after
        .iter()
        .filter_map(|call| Some(call.answered?.duration_since(call.begun)))
        .max()
        .unwrap_or_default();
    eprintln!(
        "    begun afterwards: {}; not answered: {not_answered}, the last of them {until:.1} s after it ({loss:?}); answered and \
         not hung up as they should: {not_ended}; the longest answer took {:.1} s",
        after.len(),
        late.as_secs_f64()
    );
}

/// What a node has, and what phones were told: bindings that are missing or older, and extensions with two.
fn compare(world: &World, node: &str, phones: &Phones) -> Result<(usize, usize)> {
    let known = world.bindings(node)?;
    let lost = phones
        .accepted()
        .filter(|(user, number)| known.get(user).is_none_or(|(_, cseq)| *cseq < u64::from(*number)));
    Ok((lost.count(), known.values().filter(|(count, _)| *count > 1).count()))
}
