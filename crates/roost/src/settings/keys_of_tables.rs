//! Every key of the tables that a file may have several of, as `keys.rs` has the others.

use crate::settings::alias::Alias;
use crate::settings::hep::Hep;
use crate::settings::key::{Key, Kind, key};
use crate::settings::route::Route;
use crate::settings::tls_domain::Domain;
use crate::settings::webhook::Webhook;

/// The keys of a `[[route]]`, in the order of the reference.
#[rustfmt::skip]
pub(crate) const ROUTE_KEYS: &[Key<Route>] = &[
    key!("route", "prefix", Kind::Text, r#""""#,
        "for users of the Request-URI that begin so, such as \"0\"",
        |r, v| r.prefix = v.text()),
    key!("route", "user", Kind::Text, r#""""#,
        "for users in which this regular expression is found, such as \"^8[0-9]{3}$\"",
        |r, v| r.user = v.text()),
    key!("route", "domain", Kind::Text, r#""""#,
        "for this host of the Request-URI; alone, all of it goes there and keeps its Request-URI",
        |r, v| r.domain = v.text()),
    key!("route", "when", Kind::Text, r#""""#,
        "a condition on the request, such as 'from.user.startsWith(\"8\") && inNetwork(source, \"10.0.0.0/8\")'",
        "if (...) in the script",
        |r, v| r.when = v.text()),
    key!("route", "hops", Kind::List, "[]",
        "next hops, tried in this order: each sip:HOST, sip:HOST:PORT, HOST an address or a name (SRV, A, AAAA)",
        "dispatcher destination",
        |r, v| r.hops = v.list()),
    key!("route", "strip", Kind::Number(0, 64), "0",
        "how many characters are taken off the front of the user",
        "core strip()",
        |r, v| r.strip = v.number()),
    key!("route", "prepend", Kind::Text, r#""""#,
        "what is put before the user then",
        "core prefix()",
        |r, v| r.prepend = v.text()),
    key!("route", "offline", Kind::Switch, "false",
        "extensions that exist and are not registered go this way too (voicemail), as with on = [\"offline\"]; else they are 404",
        |r, v| r.offline = v.switch()),
    key!("route", "on", Kind::List, "[]",
        "which calls of extensions go this way: \"offline\" (not registered, or without a way to its phone), \"busy\" (486, 600, or `dialog.max_calls`), \"no-answer\" (408, 480, or `after`), \"refused\" (403, 603); once each, and not where Diversion or History-Info says that they have been",
        "failure_route",
        |r, v| r.on = v.list()),
    key!("route", "after", Kind::Number(0, 3_600), "0",
        "with on = [\"no-answer\"]: how long an extension rings before, in seconds; 0: `tm.fr_inv_timeout`",
        "tm fr_inv_timeout (t_set_fr)",
        |r, v| r.after = v.number()),
    key!("route", "diversion", Kind::Choice(&["off", "diversion", "history-info"]), r#""off""#,
        "how the hop is told whose call it was that goes there by `on`: by Diversion (RFC 5806) or History-Info (RFC 7044)",
        "diversion add_diversion()",
        |r, v| r.diversion = v.text()),
    key!("route", "set_headers", Kind::List, "[]",
        "header fields that requests get, such as \"X-Tenant: acme\", in place of those of that name: X- and P- ones, Alert-Info, Call-Info, Organization, Priority, Privacy, User-Agent",
        "core append_hf(), remove_hf()",
        |r, v| r.set_headers = v.list()),
    key!("route", "remove_headers", Kind::List, "[]",
        "names of header fields that requests lose, of the same ones",
        "core remove_hf()",
        |r, v| r.remove_headers = v.list()),
    key!("route", "reply", Kind::Text, r#""""#,
        "an answer in place of `hops`, such as \"503 Closed for maintenance\", before extensions are looked up; for requests that begin a call or a message, or those of `methods`",
        "sl send_reply()",
        |r, v| r.reply = v.text()),
    key!("route", "methods", Kind::List, "[]",
        "for requests of these methods (SUBSCRIBE, PUBLISH) whether or not they are for an extension, before it is looked up",
        |r, v| r.methods = v.list()),
    key!("route", "events", Kind::List, "[]",
        "the same for these event packages, such as \"message-summary\" and \"dialog\"; the methods are SUBSCRIBE and PUBLISH then, unless they are said",
        |r, v| r.events = v.list()),
    key!("route", "set", Kind::Number(0, 1_000_000), "0",
        "the number of its hops' set in ds_list; 0: its place in the file, from 1",
        "dispatcher setid",
        |r, v| r.set = v.number()),
];

/// The keys of a `[[tls.domain]]`, in the order of the reference.
#[rustfmt::skip]
pub(crate) const TLS_DOMAIN_KEYS: &[Key<Domain>] = &[
    key!("tls.domain", "server_domain", Kind::Text, r#""""#,
        "the name that clients ask for (SNI); \"*.example.com\" is any one label",
        "tls_mgm server_domain, match_sip_domain",
        |d, v| d.server_domain = v.text()),
    key!("tls.domain", "certificate", Kind::Text, r#""""#,
        "as in [tls]",
        "tls_mgm certificate",
        |d, v| d.certificate = v.text()),
    key!("tls.domain", "private_key", Kind::Text, r#""""#,
        "as in [tls]",
        "tls_mgm private_key",
        |d, v| d.private_key = v.text()),
];

/// The keys of a `[[hep]]`, in the order of the reference.
#[rustfmt::skip]
pub(crate) const HEP_KEYS: &[Key<Hep>] = &[
    key!("hep", "uri", Kind::Text, r#""""#,
        "the collector: hep:ADDRESS:PORT;transport=udp or tcp",
        "proto_hep hep_id; tracer trace_id",
        |h, v| h.uri = v.text()),
    key!("hep", "name", Kind::Text, r#""""#,
        "what `trace` calls it; empty: hep1, hep2 by its place",
        "proto_hep hep_id",
        |h, v| h.name = v.text()),
    key!("hep", "capture_id", Kind::Number(0, 4_294_967_295), "1",
        "what tells this roost from other senders",
        "proto_hep hep_capture_id",
        |h, v| h.capture_id = v.number()),
    key!("hep", "password", Kind::Secret, r#""""#,
        "the collector's password; empty: none",
        |h, v| h.password = v.text()),
    key!("hep", "filter", Kind::List, "[]",
        "only calls and registrations that fit all of these: caller=USER, callee=USER, ip=ADDRESS, when=CONDITION",
        "trace_start filter",
        |h, v| h.filter = v.list()),
];

/// The keys of a `[[webhook]]`, in the order of the reference.
#[rustfmt::skip]
pub(crate) const WEBHOOK_KEYS: &[Key<Webhook>] = &[
    key!("webhook", "url", Kind::Url, r#""""#,
        "where events are posted, http:// or https://: a JSON array of objects with id, time_ms, type and params",
        |w, v| w.url = v.text()),
    key!("webhook", "events", Kind::List, "[]",
        "which, by the names of `events_list`; empty: all",
        "event_route",
        |w, v| w.events = v.list()),
    key!("webhook", "when", Kind::Text, r#""""#,
        "a condition on the event, such as 'aor.startsWith(\"90\") && code == 403': `type`, and the parameters of events",
        |w, v| w.when = v.text()),
    key!("webhook", "secret", Kind::Secret, r#""""#,
        "the key of the signature in the header webhook-signature (HMAC-SHA256, Standard Webhooks); empty: no signature",
        |w, v| w.secret = v.text()),
    key!("webhook", "secret_file", Kind::Text, r#""""#,
        "a file whose first line is that key",
        |w, v| w.secret_file = v.text()),
];

/// The keys of an `[[alias]]`, in the order of the reference.
#[rustfmt::skip]
pub(crate) const ALIAS_KEYS: &[Key<Alias>] = &[
    key!("alias", "number", Kind::Text, r#""""#,
        "what is called: USER, or USER@DOMAIN with `use_domain`",
        "alias_db alias_username",
        |a, v| a.number = v.text()),
    key!("alias", "extension", Kind::Text, r#""""#,
        "the extension that it stands for: USER, or USER@DOMAIN with `use_domain`",
        "alias_db username",
        |a, v| a.extension = v.text()),
];
