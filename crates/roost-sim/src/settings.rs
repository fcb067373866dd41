//! Settings by their names in `roost.toml`, without sections: for scripts and tests, which have no files.

use roost_core::{Algorithm, AssertedIdentity, Authorize, Config, PathMode, Policy, Trusted, Widths};

/// Sets one; 1 and 0 are booleans.
///
/// # Errors
/// What is wrong with the name or the value.
pub fn configure(config: &mut Config, key: &str, value: &str) -> Result<(), String> {
    let Policy { auth, auth_db, proxy, tm, dispatcher, dialog, .. } = &mut config.policy;
    match key {
        "realm" => auth.realm = value.to_string(),
        "algorithms" => auth.algorithms = value.split(' ').map(algorithm).collect::<Result<_, _>>()?,
        "nonce_expire" => auth.nonce_expire_s = number(value)?,
        "qop" => auth.qop_auth = value == "auth",
        "disable_nonce_check" => auth.disable_nonce_check = flag(value)?,
        "check_to" => auth.check_to = flag(value)?,
        "hide_unknown_users" => auth.hide_unknown_users = flag(value)?,
        "calculate_ha1" => auth_db.calculate_ha1 = flag(value)?,
        "fr_timeout" => tm.fr_timeout_s = number(value)?,
        "fr_inv_timeout" => tm.fr_inv_timeout_s = number(value)?,
        "restart_fr_on_each_reply" => tm.restart_fr_on_each_reply = flag(value)?,
        "ds_ping_interval" => dispatcher.ping_interval_s = number(value)?,
        "ds_probing_threshold" => dispatcher.probing_threshold = number(value)?,
        "serial_fork" => proxy.serial_fork = flag(value)?,
        "asserted_identity" => {
            proxy.asserted_identity = match value {
                "off" => AssertedIdentity::Off,
                "set" => AssertedIdentity::Set,
                _ => AssertedIdentity::Strip,
            }
        }
        "trusted" => proxy.trusted = Trusted::of_addresses(list::<_, Vec<_>>(value)?),
        "check_from" => proxy.check_from = flag(value)?,
        "authorize" => {
            proxy.authorize = match value {
                "off" => Authorize::Off,
                "challenge" => Authorize::Challenge,
                _ => Authorize::Registered,
            }
        }
        "proxy.max_calls" => proxy.max_calls = number(value)?,
        "options_ping_interval" => dialog.options_ping_interval_s = number(value)?,
        "write_through" => config.identity.write_through = flag(value)?,
        "case_sensitive" => config.identity.case_sensitive = flag(value)?,
        "use_domain" => config.identity.use_domain = flag(value)?,
        // Of `location`'s texts, as a database server's columns have them.
        "widths" => {
            let width = number(value)? as usize;
            config.identity.widths = Widths { contact: width, path: width, callid: width, user_agent: width };
        }
        "domains" => config.policy.domains = list(value)?,
        "server_header" => config.policy.server_header = value.to_string(),
        _ => return configure_registrar(&mut config.policy, key, value),
    }
    Ok(())
}

fn list<T: std::str::FromStr<Err: std::fmt::Display>, C: FromIterator<T>>(value: &str) -> Result<C, String> {
    value.split(' ').map(|one| one.parse().map_err(|error: T::Err| error.to_string())).collect()
}

fn configure_registrar(policy: &mut Policy, key: &str, value: &str) -> Result<(), String> {
    let Policy { registrar, usrloc, .. } = policy;
    match key {
        "cseq_delay" => usrloc.cseq_delay_s = number(value)?,
        "timer_interval" => usrloc.timer_interval_s = number(value)?,
        "min_expires" => registrar.min_expires_s = number(value)?,
        "max_expires" => registrar.max_expires_s = number(value)?,
        "default_expires" => registrar.default_expires_s = number(value)?,
        "max_contacts" => registrar.max_contacts = number(value)?,
        "force_registration" => registrar.force_registration = flag(value)?,
        "exclusive" => registrar.exclusive_ip = value == "ip",
        "retry_after" => registrar.retry_after_s = number(value)?,
        "add_date" => registrar.add_date = flag(value)?,
        "path" => {
            registrar.path = match value {
                "ignore" => PathMode::Ignore,
                "off" => PathMode::Off,
                "strict" => PathMode::Strict,
                _ => PathMode::Lazy,
            }
        }
        "only_request_contacts" => registrar.only_request_contacts = flag(value)?,
        _ => return Err(format!("no such setting: {key}")),
    }
    Ok(())
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    match name {
        "MD5" => Ok(Algorithm::Md5),
        "SHA-256" => Ok(Algorithm::Sha256),
        "SHA-512-256" => Ok(Algorithm::Sha512Trunc256),
        _ => Err(format!("no such algorithm: {name}")),
    }
}

fn number(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("not a number: {value}"))
}

/// 1 or 0.
///
/// # Errors
/// It is neither.
pub fn flag(value: &str) -> Result<bool, String> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(format!("neither 1 nor 0: {value}")),
    }
}
