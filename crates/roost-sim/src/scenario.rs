//! What one seed stands for: the configuration, the phones and their lives, and everything that will go wrong.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use roost_core::{Authorize, Config, Listener, Secrets};

use crate::call_phone::CallPlan;
use crate::client::ha1;
use crate::dice::Dice;
use crate::network::NetworkFaults;
use crate::store::StoreFaults;

/// The server's address.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5060);
/// Nobody calls after this, in virtual milliseconds.
/// Added to the number of a call that a transfer makes of it.
const TRANSFERRED: u64 = 1_000_000;
const LAST_CALL_MS: u64 = 420_000;
/// From here on nothing goes wrong any more, in virtual milliseconds.
pub const HEAL_MS: u64 = 460_000;
/// When every living phone must be registered; the phones fall silent then.
pub const END_MS: u64 = 600_000;
/// When everything under way must have come to its end.
pub const DRAINED_MS: u64 = 615_000;
/// When every binding has expired and been swept: nothing is left.
/// How long a call lasts that nobody ends.
pub const CALL_MS: u64 = 200_000;
pub const EMPTY_MS: u64 = 860_000;

/// One seed's world.
#[derive(Debug)]
pub struct Scenario {
    pub config: Config,
    pub subscribers: Vec<Subscriber>,
    pub phones: Vec<PhonePlan>,
    pub actions: Vec<(u64, usize, Action)>,
    pub network: NetworkFaults,
    pub store: StoreFaults,
    pub loading: Loading,
    pub crashes: Vec<Crash>,
    /// Steps of the wall clock: when, and by how many seconds.
    pub clock_steps: Vec<(u64, i64)>,
    /// When the database goes away, and for how long: it comes back with what it had committed.
    pub outages: Vec<(u64, u64)>,
    /// Who calls whom, and when.
    pub calls: Vec<(u64, usize, CallPlan)>,
}

/// A subscriber, as the database has it.
#[derive(Debug)]
pub struct Subscriber {
    pub user: String,
    /// Empty without `use_domain`.
    pub domain: String,
    pub secrets: Secrets,
}

/// A phone as it was bought and put up.
#[derive(Debug, Clone)]
pub struct PhonePlan {
    pub user: String,
    pub domain: String,
    pub password: String,
    /// The server's name for it.
    pub aor: Vec<u8>,
    /// Where its packets come from.
    pub source: SocketAddr,
    /// The address that it knows itself by, behind NAT.
    pub private: Option<SocketAddr>,
    pub has_rport: bool,
    pub habit: Habit,
    pub expires_s: u32,
    /// It says its expires in Contact.
    pub in_contact: bool,
    /// Its Contact's priority, in thousandths.
    pub q: Option<u16>,
    /// It unregisters with `Contact: *`.
    pub uses_star: bool,
    /// It does not know the password.
    pub is_impostor: bool,
    pub starts_ms: u64,
}

/// When a phone refreshes its binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// After half of its time, as Yealink.
    HalfTime,
    /// Five seconds before its end, as Zoiper and eyeBeam.
    FiveBefore,
}

/// What happens to a phone.
#[derive(Debug, Clone, Copy)]
pub enum Action {
    /// It loses power and comes back at another port of the same address.
    Reboot { keeps_call_id: bool },
    /// It takes its laptop elsewhere: another address, and a router in between or none.
    Roam { keeps_call_id: bool },
    /// Its router forgets it, and sends what it says from another port. It does not notice.
    Rebind,
    /// It unregisters, and registers again after so many milliseconds.
    Unregister { back_after_ms: u64 },
    /// It says nothing for so many milliseconds.
    Silence { back_after_ms: u64 },
    /// It never says anything again.
    Die,
    /// It asks for the bindings of its user.
    Query,
}

/// A crash of the server.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    pub at_ms: u64,
    pub down_ms: u64,
    /// The next process has other keys: no nonce of the old one counts, and other shards own the users.
    pub has_new_keys: bool,
}

/// How rows are read at a start.
#[derive(Debug, Clone, Copy)]
pub struct Loading {
    /// Rows at once.
    pub page: usize,
    pub pause_ms: (u64, u64),
}

impl Loading {
    fn draw(dice: &mut Dice) -> Loading {
        Loading {
            page: dice.pick(&[1, 3, 10, 1_000]),
            pause_ms: dice.pick(&[(1, 5), (10, 200), (100, 1_500)]),
        }
    }
}

/// A part of a scenario that a failure may do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Phone(usize),
    Action(usize),
    Call(usize),
    Crash(usize),
    ClockStep(usize),
    Outage(usize),
    NetworkFaults,
    StoreFaults,
}

impl Scenario {
    /// Everything that [`Scenario::leave_out`] can leave out.
    pub fn parts(&self) -> Vec<Part> {
        let phones = (0..self.phones.len()).map(Part::Phone);
        let actions = (0..self.actions.len()).map(Part::Action);
        let calls = (0..self.calls.len()).map(Part::Call);
        let crashes = (0..self.crashes.len()).map(Part::Crash);
        let steps = (0..self.clock_steps.len()).map(Part::ClockStep);
        let outages = (0..self.outages.len()).map(Part::Outage);
        let faults = [Part::NetworkFaults, Part::StoreFaults];
        phones.chain(actions).chain(calls).chain(crashes).chain(steps).chain(outages).chain(faults).collect()
    }

    /// Whether rows may be left whose deletion was asked for once.
    pub fn may_miss_purges(&self) -> bool {
        let StoreFaults { fail, lose_answer, .. } = self.store;
        let is_quiet = self.outages.is_empty() && self.clock_steps.is_empty() && self.crashes.is_empty();
        !is_quiet || fail + lose_answer > 0
    }

    /// Makes these parts not happen. Phones stay where they are, and are never switched on.
    pub fn leave_out(&mut self, parts: &[Part]) {
        let is_silent = |phone: usize| parts.contains(&Part::Phone(phone));
        if parts.contains(&Part::NetworkFaults) {
            self.network = NetworkFaults::NONE;
        }
        if parts.contains(&Part::StoreFaults) {
            self.store = StoreFaults::NONE;
        }
        let phones = self.phones.iter_mut().enumerate().filter(|(place, _)| is_silent(*place));
        phones.for_each(|(_, phone)| phone.starts_ms = u64::MAX);
        keep(&mut self.actions, |place, (_, phone, _)| {
            !parts.contains(&Part::Action(place)) && !is_silent(*phone)
        });
        keep(&mut self.calls, |place, (_, phone, _)| {
            !parts.contains(&Part::Call(place)) && !is_silent(*phone)
        });
        keep(&mut self.crashes, |place, _| !parts.contains(&Part::Crash(place)));
        keep(&mut self.clock_steps, |place, _| !parts.contains(&Part::ClockStep(place)));
        keep(&mut self.outages, |place, _| !parts.contains(&Part::Outage(place)));
    }

    /// Draws a world.
    pub fn draw(dice: &mut Dice) -> Scenario {
        let config = draw_config(dice);
        let (phones, users) = draw_phones(&config, dice);
        let gap_ms = dice.pick(&[40_000, 90_000, 400_000]);
        let mut actions = Vec::new();
        for phone in 0..phones.len() {
            let mut at_ms = dice.between((20_000, gap_ms));
            while at_ms < HEAL_MS {
                actions.push((at_ms, phone, draw_action(dice)));
                at_ms += dice.between((gap_ms / 8, gap_ms * 2));
            }
        }
        let crashes = (0..dice.below(4)).map(|_| Crash {
            at_ms: dice.between((1_000, HEAL_MS - 20_000)),
            down_ms: dice.between((50, 8_000)),
            has_new_keys: dice.chance(500),
        });
        let crashes = crashes.collect();
        let clock_steps = (0..dice.below(4)).map(|_| draw_step(dice)).collect();
        let draws = dice.below(3);
        let mut outage = || (dice.between((1_000, HEAL_MS - 40_000)), dice.pick(&[300, 4_000, 40_000]));
        let outages = (0..draws).map(|_| outage()).collect();
        let calls = draw_calls(&phones, dice);
        Scenario {
            subscribers: users.iter().map(|user| user.subscriber(&config)).collect(),
            phones,
            actions,
            network: NetworkFaults::draw(dice),
            store: StoreFaults::draw(dice),
            loading: Loading::draw(dice),
            crashes,
            clock_steps,
            outages,
            calls,
            config,
        }
    }
}

/// Keeps of a list what `is_kept` says of its place and itself.
fn keep<T>(list: &mut Vec<T>, is_kept: impl Fn(usize, &T) -> bool) {
    let mut place = 0;
    list.retain(|item| {
        place += 1;
        is_kept(place - 1, item)
    });
}

/// Values that matter to what the world checks; everything else stays at its default.
fn draw_config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    config.identity.shards = dice.between((1, 4)) as u16;
    config.identity.use_domain = dice.chance(250);
    if !config.identity.use_domain && dice.chance(300) {
        config.policy.auth.realm = "realm.test".to_string();
    }
    config.policy.auth.nonce_expire_s = dice.pick(&[5, 30, 60]);
    config.policy.auth.qop_auth = dice.chance(500);
    config.policy.auth.disable_nonce_check = dice.chance(750);
    config.policy.auth_db.calculate_ha1 = dice.chance(600);
    config.policy.auth_db.cache_ttl_s = dice.pick(&[1, 10, 60]);
    config.identity.write_through = !dice.chance(125);
    config.policy.usrloc.timer_interval_s = dice.pick(&[1, 10, 60]);
    let registrar = &mut config.policy.registrar;
    registrar.min_expires_s = dice.pick(&[10, 30]);
    // So short that every phone refreshes its binding after the faults have stopped.
    registrar.max_expires_s = dice.pick(&[40, 60, 110]);
    registrar.default_expires_s = 40;
    registrar.max_contacts = dice.pick(&[1, 1, 2, 3, 5]);
    registrar.force_registration = dice.chance(850);
    registrar.exclusive_ip = dice.chance(750);
    registrar.retry_after_s = dice.pick(&[0, 0, 2]);
    registrar.add_date = dice.chance(500);
    config.policy.listeners = vec![Listener::udp(SERVER)];
    config.policy.proxy.authorize = if dice.chance(300) { Authorize::Off } else { Authorize::Registered };
    config.policy.proxy.serial_fork = dice.chance(400);
    // One group after another: three of them must be through before all is quiet.
    let timeouts_s: [u32; 3] = if config.policy.proxy.serial_fork { [6, 10, 15] } else { [10, 20, 30] };
    config.policy.tm.fr_inv_timeout_s = dice.pick(&timeouts_s);
    config.policy.dialog.default_timeout_s = CALL_MS as u32 / 1_000;
    config.identity.mac_key = dice.key();
    config.identity.hash_seed = dice.next_u64();
    config
}

fn draw_calls(phones: &[PhonePlan], dice: &mut Dice) -> Vec<(u64, usize, CallPlan)> {
    let count = dice.pick(&[10, 60, 150]);
    let mut draw = |number| {
        let caller = dice.below(phones.len() as u64) as usize;
        let others: Vec<&PhonePlan> = phones.iter().filter(|phone| phone.aor != phones[caller].aor).collect();
        let (uri, callee) = match others.is_empty() || dice.chance(30) {
            true => (format!("sip:nobody@{}", phones[caller].domain), b"nobody".to_vec()),
            false => {
                let callee = dice.pick(&others);
                (format!("sip:{}@{}", callee.user, callee.domain), callee.aor.clone())
            }
        };
        let at_ms = dice.below(LAST_CALL_MS);
        let mut sometimes =
            |permille, longest_ms| dice.chance(permille).then(|| dice.between((10, longest_ms)));
        let plan = CallPlan {
            number,
            uri,
            callee,
            cancel_after_ms: sometimes(300, 15_000),
            talk_ms: sometimes(700, 15_000),
            transfer: None,
        };
        (at_ms, caller, plan)
    };
    let mut calls: Vec<(u64, usize, CallPlan)> = (0..count).map(&mut draw).collect();
    // Transfers: to whom another call goes.
    let others: Vec<CallPlan> = calls.iter().map(|(.., plan)| plan.clone()).collect();
    for (_, _, plan) in &mut calls {
        if dice.chance(250) {
            let to = dice.pick(&others.iter().collect::<Vec<_>>());
            plan.transfer = Some(Box::new(CallPlan { number: plan.number + TRANSFERRED, ..to.clone() }));
        }
    }
    calls
}

fn draw_step(dice: &mut Dice) -> (u64, i64) {
    (dice.between((1_000, HEAL_MS - 1_000)), dice.between((0, 10)) as i64 - 5)
}

fn draw_action(dice: &mut Dice) -> Action {
    match dice.below(100) {
        0..20 => Action::Reboot { keeps_call_id: dice.chance(500) },
        20..30 => Action::Roam { keeps_call_id: dice.chance(500) },
        30..40 => Action::Rebind,
        40..55 => Action::Unregister { back_after_ms: dice.between((1_000, 60_000)) },
        55..75 => Action::Silence { back_after_ms: dice.between((5_000, 150_000)) },
        75..80 => Action::Die,
        _ => Action::Query,
    }
}

/// An account.
#[derive(Debug, Clone)]
struct User {
    name: String,
    domain: String,
    password: String,
}

impl User {
    /// With `use_domain` two tenants have users of the same name.
    fn new(index: usize, use_domain: bool) -> User {
        let (number, domain) = match use_domain {
            true => (1_000 + index / 2, if index.is_multiple_of(2) { "a.test" } else { "b.test" }),
            false => (1_000 + index, "roost.test"),
        };
        User { name: number.to_string(), domain: domain.to_string(), password: format!("pw{index}") }
    }

    fn aor(&self, use_domain: bool) -> Vec<u8> {
        match use_domain {
            true => format!("{}@{}", self.name, self.domain).into_bytes(),
            false => self.name.clone().into_bytes(),
        }
    }

    fn subscriber(&self, config: &Config) -> Subscriber {
        let realm =
            if config.policy.auth.realm.is_empty() { &self.domain } else { &config.policy.auth.realm };
        let password = match config.policy.auth_db.calculate_ha1 {
            true => self.password.clone(),
            false => ha1(&self.name, realm, &self.password),
        };
        Subscriber {
            user: self.name.clone(),
            domain: if config.identity.use_domain { self.domain.clone() } else { String::new() },
            secrets: Secrets { password: password.into_bytes().into(), ..Secrets::default() },
        }
    }
}

/// Phones, some of which share a user, an address, or a gateway, and the users they share.
fn draw_phones(config: &Config, dice: &mut Dice) -> (Vec<PhonePlan>, Vec<User>) {
    let count = dice.between((10, 60)) as usize;
    let mut users: Vec<User> = Vec::new();
    let mut phones: Vec<PhonePlan> = Vec::new();
    for index in 0..count {
        let other = match phones.is_empty() {
            true => None,
            false => Some(phones[dice.below(index as u64) as usize].clone()).filter(|_| dice.chance(300)),
        };
        let is_impostor = other.is_some() && dice.chance(100);
        let user = match &other {
            Some(other) => {
                let user = users.iter().find(|user| user.name == other.user && user.domain == other.domain);
                user.cloned().unwrap_or_else(|| User::new(0, config.identity.use_domain))
            }
            None => {
                users.push(User::new(users.len(), config.identity.use_domain));
                User::new(users.len() - 1, config.identity.use_domain)
            }
        };
        let near = other.filter(|_| dice.chance(500));
        let (source, private) = draw_place(index, near.as_ref(), dice);
        phones.push(PhonePlan {
            aor: user.aor(config.identity.use_domain),
            user: user.name,
            domain: user.domain,
            password: if is_impostor { "guessed".to_string() } else { user.password },
            source,
            private,
            has_rport: private.is_some() || dice.chance(800),
            habit: dice.pick(&[Habit::HalfTime, Habit::FiveBefore]),
            expires_s: dice.pick(&[5, 20, 60, 120, 3_600]),
            in_contact: dice.chance(500),
            q: dice.pick(&[None, None, None, Some(500), Some(1_000)]),
            uses_star: dice.chance(200),
            is_impostor,
            starts_ms: dice.below(20_000),
        });
    }
    (phones, users)
}

/// An address of its own, or the same as `near`: behind the same gateway, or on the same machine.
fn draw_place(index: usize, near: Option<&PhonePlan>, dice: &mut Dice) -> (SocketAddr, Option<SocketAddr>) {
    let port = 10_000 + index as u16;
    let low = index as u8;
    let address = |bytes: [u8; 4], port| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(bytes)), port);
    let private = Some(address([192, 168, 1, low], 5060));
    match near {
        Some(near) => (SocketAddr::new(near.source.ip(), port), near.private.and(private)),
        None if dice.chance(300) => {
            // Some gateways serve the phones of several users.
            let gateway = if dice.chance(300) { 1 } else { 100 + low };
            (address([203, 0, 113, gateway], port), private)
        }
        None => (address([10, 1, 0, low], port), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_differ_and_hold_what_they_should() {
        let worlds: Vec<Scenario> = (0..200).map(|seed| Scenario::draw(&mut Dice::new(seed))).collect();
        let some = |has: fn(&Scenario) -> bool| worlds.iter().any(has) && !worlds.iter().all(has);
        assert!(some(|world| world.config.identity.use_domain));
        assert!(some(|world| world.config.identity.write_through));
        assert!(some(|world| world.config.policy.registrar.exclusive_ip));
        assert!(some(|world| world.crashes.is_empty()));
        assert!(some(|world| world.config.identity.shards == 1));
        assert!(some(|world| world.store.lose_answer == 0));
        let sharing = |world: &Scenario| {
            world.phones.iter().enumerate().any(|(index, phone)| {
                let others = world.phones.iter().take(index);
                others
                    .filter(|other| other.aor == phone.aor)
                    .any(|other| other.source.ip() != phone.source.ip())
            })
        };
        assert!(worlds.iter().filter(|world| sharing(world)).count() > 100);
        let mut sources: Vec<SocketAddr> = worlds[0].phones.iter().map(|phone| phone.source).collect();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!(sources.len(), worlds[0].phones.len());
    }
}
