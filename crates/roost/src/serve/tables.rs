//! What the API reads of the database.

use std::sync::Arc;

use roost_admin::{ExtensionQuery, Record, RecordKind, RecordQuery, Tables};
use roost_core::SubscriberName;
use roost_store::{Store, StoredRecord, Subscriber};

/// Reads subscribers, and records where any are kept.
pub(super) fn tables(store: &Arc<Store>, use_domain: bool, has_records: bool) -> Tables {
    let (listed, looked) = (Arc::clone(store), Arc::clone(store));
    let (asked, recorded) = (Arc::clone(store), Arc::clone(store));
    Tables {
        extensions: Arc::new(move |query| extensions(&listed, use_domain, &query)),
        is_extension: Arc::new(move |aor: String| {
            let Subscriber { username, domain } = subscriber(use_domain, &aor);
            let domains = looked.domains_of(&username).map_err(|error| error.to_string())?;
            Ok(if use_domain { domains.contains(&domain) } else { !domains.is_empty() })
        }),
        secrets: Arc::new(move |(user, domain): SubscriberName| {
            asked.secrets_of(&user, domain.as_deref()).map_err(|error| error.to_string())
        }),
        records: has_records.then(|| -> roost_admin::Read<RecordQuery, Vec<Record>> {
            Arc::new(move |query| records(&recorded, query))
        }),
    }
}

fn extensions(store: &Store, use_domain: bool, query: &ExtensionQuery) -> Result<Vec<String>, String> {
    let after = query.after.as_deref().map(|aor| subscriber(use_domain, aor));
    let found = store.some_users(after.as_ref(), query.search.as_deref(), query.limit);
    let name = |Subscriber { username, domain }: Subscriber| match use_domain {
        true => format!("{username}@{domain}"),
        false => username,
    };
    found.map(|found| found.into_iter().map(name).collect()).map_err(|error| error.to_string())
}

/// The row of an AOR.
fn subscriber(use_domain: bool, aor: &str) -> Subscriber {
    let (username, domain) = match aor.rsplit_once('@') {
        Some(parts) if use_domain => parts,
        _ => (aor, ""),
    };
    Subscriber { username: username.to_string(), domain: domain.to_string() }
}

fn records(store: &Store, query: RecordQuery) -> Result<Vec<Record>, String> {
    let asked = roost_store::RecordQuery {
        after: query.place(),
        aor: query.aor,
        call_id: query.call_id,
        is_answered: query.kind.map(|kind| kind == RecordKind::Answered),
        from_s: query.from,
        to_s: query.to,
        limit: query.limit.unwrap_or(0),
    };
    let found = store.records(&asked).map_err(|error| error.to_string())?;
    Ok(found.into_iter().map(record).collect())
}

fn record(stored: StoredRecord) -> Record {
    let (time_s, is_answered, id) = stored.place();
    Record {
        kind: if is_answered { RecordKind::Answered } else { RecordKind::Missed },
        time_s,
        created_s: stored.created_s,
        call_id: stored.call_id,
        from_tag: stored.from_tag,
        to_tag: stored.to_tag,
        sip_code: stored.sip_code,
        sip_reason: stored.sip_reason,
        duration_s: stored.duration_s,
        ms_duration: stored.ms_duration,
        setup_s: stored.setup_s,
        caller: stored.caller,
        callee: stored.callee,
        caller_aor: stored.caller_aor,
        callee_aor: stored.callee_aor,
        ended_by: stored.ended_by,
        place: format!("{time_s}-{}-{id}", u8::from(is_answered)),
    }
}
