//! Reads the `[[route]]`s of a file: where numbers go that are not extensions.

use std::borrow::Cow;

use anyhow::Result;
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::keys_of_tables::ROUTE_KEYS;
use crate::settings::route::{Route, TABLE};
use crate::settings::source::Source;
use crate::settings::tables;

/// Reads the tables.
///
/// # Errors
/// With the line, what is wrong and what would be right.
pub(crate) fn read(
    source: &Source<'_>,
    name: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Route>> {
    let tables = tables::read(source, (TABLE, ROUTE_KEYS), name, value)?;
    let route = |table: tables::Table<Route>| {
        table.item.check().map_err(|(key, message)| table.error(source, key, message))?;
        Ok(Route { given: table.given, ..table.item })
    };
    tables.into_iter().map(route).collect()
}

#[cfg(test)]
mod tests {
    use roost_core::Failure;

    use crate::settings::Settings;

    #[test]
    fn tables_become_rules_in_their_order() {
        let text = "[[route]]\nprefix = \"0\"\nstrip = 1\nprepend = \"00\"\nhops = [\"sip:10.0.0.5\", \"sip:fs.example.com\"]\n\
                    [[route]]\nuser = \"^8[0-9]{3}$\"\nset = 7\nhops = [\"sip:10.0.0.6:5070\"]\noffline = true\n\
                    [tm]\nfr_timeout = 2\n";
        let settings = Settings::parse(text, "x").unwrap();
        let sets: Vec<_> = settings
            .core
            .policy
            .routes
            .iter()
            .map(|rule| (rule.set, rule.hops.len(), rule.on.has(Failure::Offline)))
            .collect();
        assert_eq!(sets, [(1, 2, false), (7, 1, true)]);
        assert_eq!(settings.core.policy.tm.fr_timeout_s, 2);
    }

    #[test]
    fn what_a_table_says_of_calls_that_fail() {
        let text = "[[route]]\nuser = \"^9\"\non = [\"busy\", \"no-answer\"]\nafter = 20\ndiversion = \"history-info\"\n\
                    hops = [\"sip:vm\"]\nset_headers = [\"X-Why:  busy \"]\nremove_headers = [\"X-In\"]\n\
                    [[route]]\nuser = \"^9\"\nhops = [\"sip:vm\"]\n\
                    [[route]]\nreply = \"503 Closed until 14:00\"\n";
        let settings = Settings::parse(text, "x").unwrap();
        let [diverts, plain, replies] = &settings.core.policy.routes[..] else { panic!() };
        assert!(diverts.on.has(Failure::Busy) && diverts.on.has(Failure::NoAnswer));
        assert!(!diverts.on.has(Failure::Offline) && plain.on == roost_core::Failures::NONE);
        assert_eq!((diverts.after_s, diverts.diversion), (20, roost_core::DiversionStyle::HistoryInfo));
        assert_eq!(&*diverts.headers.add, "X-Why: busy\r\n");
        assert_eq!(diverts.headers.remove.join(","), "X-In,X-Why");
        let reply = replies.reply.as_ref().unwrap();
        assert_eq!((reply.code, &*reply.phrase), (503, "Closed until 14:00"));
    }

    #[test]
    fn mistakes_are_shown_with_their_line_and_remedy() {
        for (text, expected) in [
            ("[route]\nprefix = \"0\"", "x:1: routes are tables: write [[route]], with two brackets"),
            ("[[routes]]\nprefix = \"0\"", "x:1: unknown key `routes`; did you mean `route`?"),
            ("[[route]]\nprefix = \"0\"", "x:1: `route.hops` must name 1 to 32 next hops"),
            ("[[route]]\nhops = [\"sip:10.0.0.5\"]", "x:1: a [[route]] needs `prefix`, `user` or `domain`"),
            ("[[route]]\n\nprefx = \"0\"", "x:3: unknown key `prefx` in [[route]]; did you mean `prefix`?"),
            ("[[route]]\nto = \"sip:a\"", "x:2: unknown key `to` in [[route]]; it takes "),
            ("[[route]]\nprefix = 0", "x:2: `route.prefix` must be a string, not integer"),
            (
                "[[route]]\nuser = \"^8[\"\nhops = [\"sip:a\"]",
                "x:2: `route.user` is not a regular expression: unclosed",
            ),
            (
                "[[route]]\nprefix = \"0\"\nhops = [\"10.0.0.5\"]",
                "x:3: `route.hops`: \"10.0.0.5\" is not a SIP URI",
            ),
            (
                "[[route]]\nprefix = \"0\"\nhops = [\"sip:a@b\"]",
                "x:3: `route.hops`: \"sip:a@b\" names a user",
            ),
            (
                "[[route]]\nprefix = \"0\"\nprepend = \"a@b\"\nhops = [\"sip:b\"]",
                "x:3: `route.prepend` may hold",
            ),
            (
                "[[route]]\nuser = \"8\"\nhops = [\"sip:b\"]\non = [\"ofline\"]",
                "x:4: `route.on` holds \"ofline\": it may hold offline, busy, no-answer, refused",
            ),
            (
                "[[route]]\nuser = \"8\"\nhops = [\"sip:b\"]\nafter = 20",
                "x:4: `route.after` counts with on = [\"no-answer\"] only",
            ),
            (
                "[[route]]\nuser = \"8\"\nhops = [\"sip:b\"]\nset_headers = [\"Via: x\"]",
                "x:4: `route.set_headers` may set X-…, P-…, Alert-Info, ",
            ),
            (
                "[[route]]\nuser = \"8\"\nhops = [\"sip:b\"]\nremove_headers = [\"P-Asserted-Identity\"]",
                "x:4: `route.remove_headers` may remove X-…",
            ),
            (
                "[[route]]\nuser = \"8\"\nhops = [\"sip:b\"]\nwhen = 'methd == \"INVITE\"'",
                "x:4: `route.when`: line 1, column 1: there is no `methd`; there are method, ",
            ),
            ("[[route]]\nreply = \"200 OK\"", "x:2: `route.reply` must be a status code from 400 to 699"),
            ("[[route]]\nreply = \"503 no\"\nhops = [\"sip:b\"]", "x:2: `reply` and `hops` in one"),
            (
                "[[route]]\nreply = \"503 no\"\nmethods = [\"BYE\"]",
                "x:3: `route.methods` holds \"BYE\": it may hold INVITE, ",
            ),
            ("[[route]]\ndomain = \"a:5060\"\nhops = [\"sip:b\"]", "x:2: `route.domain` must be a host"),
            (
                "[[route]]\nprefix = \"0\"\nuser = \"0\"\nhops = [\"sip:b\"]",
                "x:3: `prefix` and `user` in one",
            ),
        ] {
            let error = Settings::parse(text, "x").unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
