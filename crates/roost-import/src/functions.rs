//! What becomes of the functions of a script, where nothing more is known of them than their names.

use crate::report::Fate;

const SDP: &str =
    "roost relays no media and changes no SDP: let the media server or the phones' routers do it";
const RULES: &str = "write a [[route]] for each prefix, its gateways as `hops`";
const CACHE: &str = "scripts' caches are not there";

/// Functions that write another Request-URI.
pub(crate) const REWRITES: &[&str] =
    &["strip", "prefix", "rewriteuri", "seturi", "rewritehostport", "sethostport", "rewritehost", "sethost"];

/// What is built in: names, and where it went.
const BUILT_IN: &[(&[&str], &str)] = &[
    (&["mf_process_maxfwd_header"], "Max-Forwards is counted, 483 where none is left"),
    (
        &["has_totag", "loose_route", "match_dialog", "fix_route_dialog", "validate_dialog"],
        "requests of a dialog follow their Routes",
    ),
    (&["record_route", "record_route_preset", "add_rr_param"], "Record-Route is added where a dialog begins"),
    (
        &[
            "t_relay",
            "forward",
            "t_newtran",
            "t_check_trans",
            "t_lookup_request",
            "t_on_branch",
            "t_on_reply",
            "t_on_failure",
            "t_was_cancelled",
            "t_branch_timeout",
            "t_any_replied",
            "t_wait_for_new_branches",
            "t_inject_branches",
        ],
        "transactions are built in",
    ),
    (
        &[
            "is_method",
            "search",
            "is_present_hf",
            "has_body",
            "is_audio_on_hold",
            "list_hdr_has_option",
            "t_check_status",
            "check_route_param",
            "t_local_replied",
            "is_avp_set",
        ],
        ASKED,
    ),
    (
        &[
            "send_reply",
            "sl_send_reply",
            "t_reply",
            "t_reply_with_body",
            "sl_reply_error",
            "send_reply_with_body",
        ],
        "roost answers by itself: docs/reasons.md",
    ),
    (&["xlog", "log", "script_trace"], "the log and `roost trace` say what happens"),
    (
        &["lookup", "registered", "is_registered", "is_contact_registered", "is_aor_registered"],
        "the callee's bindings are looked up",
    ),
    (&["consume_credentials"], "credentials for us go no further"),
    (
        &[
            "nat_uac_test",
            "fix_nated_contact",
            "fix_nated_register",
            "fix_contact",
            "client_nat_test",
            "add_rcv_param",
            "nat_keepalive",
        ],
        "phones behind NAT are recognised and answered where they are",
    ),
    (
        &[
            "setflag",
            "resetflag",
            "isflagset",
            "setbflag",
            "resetbflag",
            "isbflagset",
            "setsflag",
            "setdsturi",
            "resetdsturi",
        ],
        "flags of the script are not needed",
    ),
    (
        &["create_dialog", "set_dlg_flag", "store_dlg_value", "fetch_dlg_value"],
        "each call has its entry: `roost calls`",
    ),
    (&["exit", "route", "append_branch", "next_branches", "remove_branch"], "all contacts are tried, by q"),
    (&["append_to_reply", "append_hf_to_reply"], "nothing is added to answers"),
    (
        &["is_myself", "is_from_local", "is_uri_host_local", "is_domain_local"],
        "names of this server are in `domains`",
    ),
    (&["add_path", "add_path_received"], "that is for edge proxies; Path of theirs is kept"),
    (&["trace", "sip_trace", "report_capture"], "`roost trace`, [[hep]]"),
    (
        &[
            "ds_next_dst",
            "ds_next_domain",
            "ds_mark_dst",
            "ds_is_in_list",
            "ds_select_dst",
            "ds_select_domain",
        ],
        "the next of `hops` is tried where one does not answer",
    ),
    (
        &[
            "do_accounting",
            "acc_db_request",
            "acc_log_request",
            "drop_accounting",
            "acc_new_leg",
            "acc_aaa_request",
            "acc_evi_request",
        ],
        "[acc]: each call has its record",
    ),
    (
        &["db_does_uri_exist", "does_uri_exist"],
        "404 where there is no such extension, 480 where it is not there",
    ),
    (REWRITES, "it leads nowhere that is known"),
    (&["update_stat", "reset_stat"], "`roost stats`"),
    (&["pike_check_req"], "`pike.reqs_density_per_unit`"),
    (&["sd_lookup", "sd_load"], "speed dial is the media server's"),
    (&["set_advertised_address", "set_advertised_port", "force_send_socket"], "`listen … as …`"),
    (
        &[
            "isdsturiset",
            "is_user_in",
            "uri_param",
            "get_source_group",
            "avp_print",
            "avp_check",
            "avp_subst",
        ],
        ASKED,
    ),
];

/// What is not there: names, and what to do.
const NOT_THERE: &[(&[&str], &str)] = &[
    (
        &["include_file", "import_file"],
        "what it includes was not read: put it outside of the route, or in its place",
    ),
    (
        &["pv_www_authorize", "pv_proxy_authorize"],
        "passwords that the script fetches itself: put them into the table `subscriber`, `roost user import`",
    ),
    (
        &["aaa_www_authorize", "aaa_proxy_authorize", "radius_www_authorize", "radius_proxy_authorize"],
        "RADIUS is not asked: put the passwords into the table `subscriber`, `roost user import`",
    ),
    (
        &["strip_tail", "rewriteuser", "setuser", "rewriteuserpass", "setuserpass", "rewriteport", "setport"],
        RULES,
    ),
    (
        &[
            "rtpproxy_offer",
            "rtpproxy_answer",
            "rtpproxy_engage",
            "unforce_rtp_proxy",
            "rtpproxy_unforce",
            "rtpengine_offer",
            "rtpengine_answer",
            "rtpengine_delete",
            "rtpengine_manage",
            "rtpengine_use_set",
            "engage_media_proxy",
            "use_media_proxy",
            "end_media_session",
            "fix_nated_sdp",
            "codec_delete",
            "codec_exists",
            "rtp_relay_engage",
        ],
        SDP,
    ),
    (
        &[
            "do_routing",
            "route_to_carrier",
            "route_to_gw",
            "use_next_gw",
            "goes_to_gw",
            "is_from_gw",
            "dr_is_gw",
            "dr_disable",
            "match_number",
        ],
        RULES,
    ),
    (
        &["dp_translate", "dp_apply"],
        "write `strip`, `prepend` and `user` of [[route]]s for the rules of dialplan",
    ),
    (
        &["handle_publish", "handle_subscribe"],
        "let the media server answer: a [[route]] with `events` and its `hops`",
    ),
    (&["topology_hiding", "topology_hiding_match"], "addresses are not hidden"),
    (
        &["uac_auth", "uac_replace_from", "uac_replace_to", "uac_restore_from"],
        "let the media server write and prove another identity",
    ),
    (
        &[
            "append_hf",
            "insert_hf",
            "remove_hf",
            "subst",
            "subst_uri",
            "subst_user",
            "replace",
            "replace_all",
            "remove_hf_re",
        ],
        "`set_headers` and `remove_headers` of a [[route]] change what a hop gets; `proxy.asserted_identity` is for P-Asserted-Identity",
    ),
    (&["m_store", "m_dump"], "messages are not kept for those who are offline: let the media server do it"),
    (&["cache_store", "cache_fetch", "cache_remove", "cache_add", "cache_counter_fetch"], CACHE),
    (
        &[
            "sql_query",
            "avp_db_query",
            "avp_db_load",
            "avp_db_store",
            "avp_db_delete",
            "sql_select",
            "sql_query_one",
        ],
        "scripts' queries are not there; `filter` of the API and [[route]]s cover what registrars ask",
    ),
    (
        &[
            "exec",
            "perl_exec",
            "lua_exec",
            "python_exec",
            "rest_get",
            "rest_post",
            "rest_append_hf",
            "async",
            "launch",
        ],
        "programs are not run; [[webhook]] and /api/v1/events tell others what happens",
    ),
    (&["raise_event", "subscribe_event"], "events are roost's own: MI event_subscribe, [[webhook]]"),
    (&["rl_check", "rl_values"], "see `pike.reqs_density_per_unit`, `proxy.max_calls`"),
    (
        &["set_dlg_profile", "unset_dlg_profile", "is_in_profile", "get_profile_size"],
        "`dialog.max_calls` and `proxy.max_calls` limit calls",
    ),
    (
        &["load_balance", "lb_start", "lb_next", "lb_disable", "lb_is_destination"],
        "write a [[route]] with its `hops`; they are tried in order",
    ),
    (&["call_control", "get_redirects", "b2b_init_request", "mc_compact"], "not there"),
];

/// Conditions that are the script's own: roost does not decide them.
const ASKED: &str = "a condition of the script";
/// Those among them that are about the message as roost sees it anyway.
const DECIDED: &[&str] = &["is_method", "t_check_status", "t_local_replied", "has_body"];

/// Whether roost decides by itself what a function is asked.
pub(crate) fn is_built_in(name: &str) -> bool {
    const AUTH: &[&str] = &[
        "www_authorize",
        "proxy_authorize",
        "pv_www_authorize",
        "pv_proxy_authorize",
        "www_challenge",
        "proxy_challenge",
        "save",
        "lookup",
        "db_check_to",
        "db_check_from",
        "check_to",
        "check_from",
        "pike_check_req",
        "alias_db_lookup",
        "alias_db_find",
        "db_is_to_authorized",
        "db_is_from_authorized",
    ];
    let found = BUILT_IN.iter().find(|(names, _)| names.contains(&name));
    DECIDED.contains(&name) || AUTH.contains(&name) || found.is_some_and(|(_, why)| *why != ASKED)
}

/// What becomes of a call to a function.
pub(crate) fn function(name: &str) -> Fate {
    let of = |table: &[(&[&str], &'static str)]| {
        table.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| (*why).to_string())
    };
    match (of(BUILT_IN), of(NOT_THERE)) {
        (Some(why), _) => Fate::Unneeded(why),
        (_, Some(remedy)) => Fate::Missing(remedy),
        _ => Fate::Missing(format!("nothing here stands for {name}(): see what it is for")),
    }
}
