//! The commands about events: `events_list`, `event_subscribe`, `subscribers_list`.

use serde_json::{Value, json};

use crate::Mi;
use crate::events::{TYPES, type_named};
use crate::rpc::{Params, RpcError};

/// How long a subscription lasts that does not say, in seconds.
const EXPIRE_S: u32 = 3_600;

/// `events_list`.
pub(crate) fn event_list() -> Value {
    let shown = TYPES.iter().enumerate().map(|(id, (name, _))| json!({ "name": name, "id": id }));
    json!({ "Events": shown.collect::<Vec<_>>() })
}

/// `event_subscribe EVENT SOCKET [SECONDS]`; 0 seconds end a subscription.
pub(crate) fn subscribe(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let name = params.text("event")?;
    let (event, _) = type_named(&name).ok_or_else(|| RpcError::new(404, "Event not found"))?;
    let expire = match params.get("expire") {
        None | Some(Value::Null) => EXPIRE_S,
        Some(_) => {
            let seconds = params.number("expire")?.unwrap_or(i64::from(EXPIRE_S));
            u32::try_from(seconds).map_err(|_| RpcError::new(400, "Bad expire value"))?
        }
    };
    let done = mi.events.subscribe_datagrams(event, &params.text("socket")?, expire);
    done.map_err(|why| RpcError::new(400, "Bad socket").because(why))?;
    Ok(json!("OK"))
}

/// `subscribers_list [EVENT [SOCKET]]`.
pub(crate) fn subscribers(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let (event, socket) = (params.optional_text("event")?, params.optional_text("socket")?);
    if let Some(name) = &event
        && type_named(name).is_none()
    {
        return Err(RpcError::new(404, "Event not found"));
    }
    let shown: Vec<_> = mi.events.with_datagrams(|datagrams| {
        let of_type = |(id, (name, _)): (usize, &(&str, _))| {
            let of_event = datagrams.iter().filter(|one| one.event == *name);
            let of_socket =
                of_event.filter(|one| socket.as_ref().is_none_or(|wanted| *wanted == one.socket()));
            let subscribers: Vec<_> = of_socket
                .map(|one| json!({ "socket": one.socket(), "expire": one.expire_s, "ttl": one.left_s() }))
                .collect();
            json!({ "name": name, "id": id, "Subscribers": subscribers })
        };
        let is_wanted =
            |(_, (name, _)): &(usize, &(&str, _))| event.as_ref().is_none_or(|wanted| wanted == name);
        let has_any = |shown: &Value| event.is_some() || shown["Subscribers"] != json!([]);
        TYPES.iter().enumerate().filter(is_wanted).map(of_type).filter(has_any).collect()
    });
    Ok(json!({ "Events": shown }))
}
