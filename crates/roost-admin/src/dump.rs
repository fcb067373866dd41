//! `ul_dump`: all AORs, some at a time, so that half a million of them never stand in memory at once.

use roost_core::AorRecord;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, channel};

use crate::Mi;
use crate::ask::{aors, shards};
use crate::shapes::{HASH_SIZE, TABLE, aor, brief_aor};

/// All AORs.
#[derive(Debug)]
pub(crate) struct Aors {
    /// `None` behind the last; a channel that ends without it has not given all.
    pub(crate) records: Receiver<Option<Vec<AorRecord>>>,
    /// Without their contacts.
    pub(crate) is_brief: bool,
}

/// Asks every shard, slice by slice: neither the shards nor the memory feel it.
pub(crate) fn dump(mi: &Mi, is_brief: bool) -> Aors {
    let (parts, records) = channel(4);
    let mi = mi.clone();
    tokio::spawn(async move {
        for shard in shards(&mi) {
            let mut from = Some(0);
            while let Some(place) = from {
                let Ok((slice, next)) = aors(&mi, shard, place).await else { return };
                let slice = slice.into_iter().map(|(_, record)| record).collect();
                if parts.send(Some(slice)).await.is_err() {
                    return;
                }
                from = next;
            }
        }
        let _ = parts.send(None).await;
    });
    Aors { records, is_brief }
}

/// The reply, part by part. One that breaks off is JSON that does not end, which no parser takes for a whole dump.
pub(crate) fn json_parts(id: &Value, mut aors: Aors) -> Receiver<String> {
    let (parts, rendered) = channel(4);
    let mut text = format!(
        r#"{{"jsonrpc":"2.0","result":{{"Domains":[{{"name":"{TABLE}","hash_size":{HASH_SIZE},"AORs":["#
    );
    let end = format!(r#"]}}]}},"id":{id}}}"#);
    tokio::spawn(async move {
        let mut is_first = true;
        while let Some(records) = aors.records.recv().await {
            let Some(records) = records else {
                text.push_str(&end);
                let _ = parts.send(text).await;
                return;
            };
            for record in &records {
                let shown = if aors.is_brief { brief_aor(record) } else { aor(record) };
                text.push_str(if is_first { "" } else { "," });
                text.push_str(&shown.to_string());
                is_first = false;
            }
            if parts.send(std::mem::take(&mut text)).await.is_err() {
                return;
            }
        }
    });
    rendered
}
