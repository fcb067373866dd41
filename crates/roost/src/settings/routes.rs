//! Reads the `[[route]]`s of a file: where numbers go that are not extensions.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Result;
use toml::Spanned;
use toml::de::DeValue;

use crate::settings::key::nearest;
use crate::settings::keys::ROUTE_KEYS;
use crate::settings::route::Route;
use crate::settings::source::Source;

/// Tables that a file may have.
const MAX_ROUTES: usize = 1_000;

/// Reads the tables.
///
/// # Errors
/// With the line, what is wrong and what would be right.
pub(crate) fn read(
    source: &Source<'_>,
    name: &Spanned<Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Route>> {
    let not_tables =
        || source.error(name.span(), "routes are tables: write [[route]], with two brackets".into());
    let tables = value.get_ref().as_array().ok_or_else(not_tables)?;
    if tables.len() > MAX_ROUTES {
        return Err(source.error(name.span(), format!("more than {MAX_ROUTES} [[route]]s")));
    }
    let mut routes = Vec::new();
    for table in tables {
        let keys = table.get_ref().as_table().ok_or_else(not_tables)?;
        let mut route = Route::default();
        for key in ROUTE_KEYS {
            (key.set)(&mut route, key.default()?);
        }
        let mut spans = BTreeMap::new();
        for (name, value) in keys {
            let text: &str = name.get_ref();
            let Some(key) = ROUTE_KEYS.iter().find(|key| key.name == text) else {
                let hint = nearest(text, ROUTE_KEYS.iter().map(|key| key.name));
                return Err(source.error(name.span(), format!("unknown key `{text}` in [[route]]{hint}")));
            };
            let value_of = source.read(key, value)?;
            route.given.insert(key.name, value_of.clone());
            spans.insert(key.name, value.span());
            (key.set)(&mut route, value_of);
        }
        route.check().map_err(|(key, message)| {
            let span = spans.get(key).cloned().unwrap_or(table.span());
            source.error(span, message)
        })?;
        routes.push(route);
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
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
            .map(|rule| (rule.set, rule.hops.len(), rule.offline))
            .collect();
        assert_eq!(sets, [(1, 2, false), (7, 1, true)]);
        assert_eq!(settings.core.policy.tm.fr_timeout_s, 2);
    }

    #[test]
    fn mistakes_are_shown_with_their_line_and_remedy() {
        for (text, expected) in [
            ("[route]\nprefix = \"0\"", "x:1: routes are tables: write [[route]], with two brackets"),
            ("[[routes]]\nprefix = \"0\"", "x:1: unknown key `routes`; did you mean `route`?"),
            ("[[route]]\nprefix = \"0\"", "x:1: `route.hops` must name 1 to 32 next hops"),
            ("[[route]]\nhops = [\"sip:10.0.0.5\"]", "x:1: a [[route]] needs `prefix`, `user` or `domain`"),
            ("[[route]]\n\nprefx = \"0\"", "x:3: unknown key `prefx` in [[route]]; did you mean `prefix`?"),
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
