//! The next hops, in the shapes of OpenSIPS's dispatcher: one partition, `default`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use roost_core::{Admin, AdminReply, Hop, HopAddress, HopState, NextHops, ShardId};
use serde_json::{Value, json};

use crate::Mi;
use crate::ask::{ask, shards};
use crate::rpc::{Params, RpcError};

/// The shard that watches the hops.
const WATCHER: ShardId = ShardId(0);
const PARTITION: &str = "default";

/// There is one partition; a command may name it.
pub(crate) fn check_partition(params: &Params<'_>) -> Result<(), RpcError> {
    match params.optional_text("partition")? {
        Some(name) if !name.is_empty() && name != PARTITION => Err(RpcError::new(500, "Partition not found")),
        _ => Ok(()),
    }
}

/// `ds_list`: all sets and their destinations; with `full` the addresses of each too.
pub(crate) async fn list(mi: &Mi, is_full: bool) -> Result<Value, RpcError> {
    let (next_hops, mut hits) = watched(mi).await?;
    for shard in shards(mi).filter(|shard| *shard != WATCHER) {
        // A shard that has not heard of a reload yet counts for the old ones.
        if let AdminReply::Hops(other, others) = ask(mi, shard, Admin::Hops).await?
            && other.is_of(&next_hops)
        {
            hits.iter_mut().zip(others).for_each(|(sum, count)| *sum += count);
        }
    }
    let hops = next_hops.hops();
    let mut sets: Vec<u32> = hops.iter().map(|hop| hop.set).collect();
    sets.sort_unstable();
    sets.dedup();
    let of_set = |set: u32| -> Value {
        let own = hops.iter().zip(&hits).filter(|(hop, _)| hop.set == set);
        let shown = own.map(|(hop, hits)| destination(hop, *hits, is_full)).collect();
        json!({ "id": set, "Destinations": Value::Array(shown) })
    };
    let mut partition = json!({ "name": PARTITION });
    if !sets.is_empty() {
        partition["SETS"] = sets.into_iter().map(of_set).collect();
    }
    Ok(json!({ "PARTITIONS": [partition] }))
}

/// The URIs of next hops by their addresses.
pub(crate) type ByAddress = HashMap<SocketAddr, Box<str>>;

/// All next hops by their addresses.
pub(crate) async fn by_address(mi: &Mi) -> Result<ByAddress, RpcError> {
    let (next_hops, _) = watched(mi).await?;
    let mut found = ByAddress::new();
    for hop in next_hops.hops() {
        found.extend(hop.addresses.iter().map(|known| (known.address.remote, hop.uri.text.clone())));
    }
    Ok(found)
}

/// The next hops as the shard that watches them knows them, and how often each was chosen there.
pub(crate) async fn watched(mi: &Mi) -> Result<(Arc<NextHops>, Vec<u64>), RpcError> {
    match ask(mi, WATCHER, Admin::Hops).await? {
        AdminReply::Hops(next_hops, hits) => Ok((next_hops, hits)),
        _ => Err(RpcError::new(500, "Failed to list")),
    }
}

fn destination(hop: &Hop, hits: u64, is_full: bool) -> Value {
    let mut shown = json!({ "URI": &*hop.uri.text, "state": hop.state.as_str(), "first_hit_counter": hits });
    if is_full {
        let address = |known: &HopAddress| json!({ "address": known.address.remote.to_string(), "failures": known.failures });
        shown["Addresses"] = hop.addresses.iter().map(address).collect();
    }
    shown
}

/// `ds_set_state`: a, i or p; the group is a set's number, with or without the partition.
pub(crate) async fn set_state(mi: &Mi, params: &Params<'_>) -> Result<Value, RpcError> {
    let state = match params.text("state")?.to_ascii_lowercase().as_str() {
        "a" | "1" => HopState::Active,
        "i" | "0" => HopState::Inactive,
        "p" | "2" => HopState::Probing,
        _ => return Err(RpcError::new(500, "bad state value")),
    };
    let group = params.text("group")?;
    let number = match group.split_once(':') {
        Some((partition, number)) if partition.trim() == PARTITION => number.trim(),
        Some(_) => return Err(RpcError::new(404, "no such partition")),
        None => group.trim(),
    };
    let set = number.parse().map_err(|_| RpcError::new(400, "bad group value"))?;
    let request = Admin::SetHop { set, uri: params.text("address")?, state };
    match ask(mi, WATCHER, request).await? {
        AdminReply::Done => Ok(json!("OK")),
        _ => Err(RpcError::new(404, "destination not found")),
    }
}
