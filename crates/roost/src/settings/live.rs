//! Which keys a running server takes by `roost reload`; the others count from its start on.

/// Sections of which every key counts from the start on.
const SECTIONS: &[&str] =
    &["auth_db", "dns", "websocket", "acc", "recorder", "cluster", "mi", "console", "mi_fifo", "mi_datagram"];

/// And keys of other sections.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "database",
            "location",
            "location_tls_ca",
            "database_password_file",
            "database_tls",
            "database_tls_ca",
            "use_domain",
            "workers",
            "tcp_connection_lifetime",
            "tcp_max_connections",
            "tcp_max_connections_per_source",
            "tcp_max_msg_time",
            "log_stderror",
            "log_target",
            "log_format",
            "log_facility",
            "exec_dns_threshold",
            "exec_query_threshold",
        ],
    ),
    ("auth", &["secret"]),
    ("usrloc", &["db_mode"]),
    ("registrar", &["case_sensitive"]),
    ("dialog", &["journal"]),
    ("nathelper", &["proxy_protocol_from"]),
];

/// Whether a running server takes another value of a key.
pub(crate) fn is_live(section: &str, key: &str) -> bool {
    let is_column = section == "usrloc" && key.ends_with("_column");
    let is_named = KEYS.iter().any(|(of, keys)| *of == section && keys.contains(&key));
    !(is_column || is_named || SECTIONS.contains(&section))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::settings::key::{Kind, Value};

    /// Taken by a reload, and no part of the policy.
    const ELSEWHERE: &[&str] = &["tls", "log_level", "permissions", "alias_db", "listen"];

    fn other(kind: Kind, default: &Value) -> Value {
        match (kind, default) {
            (Kind::Switch, Value::Switch(is_on)) => Value::Switch(!is_on),
            (Kind::Number(least, most), Value::Number(number)) => {
                Value::Number(if *number == most { least } else { most })
            }
            (Kind::Choice(all), Value::Text(text)) => {
                Value::Text(all.iter().find(|one| *one != text).unwrap().to_string())
            }
            (Kind::Choices(all), _) => Value::List(vec![all[all.len() - 1].to_string()]),
            (Kind::List | Kind::Secrets, _) => Value::List(vec!["other".to_string()]),
            _ => Value::Text("other".to_string()),
        }
    }

    /// What is not in the policy, nor read into it after all keys are known.
    fn rest(settings: &Settings) -> String {
        let mut rest = settings.clone();
        rest.core.policy = roost_core::Config::default().policy;
        (rest.trusted, rest.domains) = (Vec::new(), Vec::new());
        format!("{rest:?}")
    }

    #[test]
    fn a_key_that_is_live_is_part_of_what_shards_are_given() {
        for key in crate::settings::keys::KEYS {
            let defaults = Settings::parse("", "x").unwrap();
            let mut changed = defaults.clone();
            (key.set)(&mut changed, other(key.kind, &key.default().unwrap()));
            let is_policy = rest(&changed) == rest(&defaults);
            let is_elsewhere = ELSEWHERE.iter().any(|name| [key.section, key.name].contains(name));
            assert!(!is_live(key.section, key.name) || is_policy || is_elsewhere, "{}", key.shown());
        }
    }
}
