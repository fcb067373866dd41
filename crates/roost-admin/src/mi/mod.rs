//! The commands over a FIFO and over datagrams: as JSON-RPC (OpenSIPS 3), and as lines of text (OpenSIPS 2.4).

mod datagram;
mod fifo;
mod request;
mod text;

pub use datagram::{DatagramAddress, MiDatagram};
pub use fifo::{Fifo, MiFifo};

use crate::Mi;
use crate::commands::{Answer, run};
use crate::dump::json_parts;
use crate::mi::request::{Form, Request};
use crate::rpc::RpcError;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How many bytes are requests, or are passed over.
pub(crate) fn taken(bytes: &[u8]) -> usize {
    let mut taken = 0;
    loop {
        match request::read(bytes.get(taken..).unwrap_or(&[]), false) {
            request::Progress::Whole(_, len) | request::Progress::Skip(len) => taken += len.max(1),
            request::Progress::Part => return taken,
        }
    }
}

/// Runs a request; what is answered, part by part. Nothing for a notification.
async fn answer(mi: &Mi, request: &Request) -> Option<mpsc::Receiver<String>> {
    let (form, answer) = match &request.call {
        Ok(call) => {
            let answer = run(mi, call).await;
            if request.form == Form::Json && call.id.is_none() {
                return None;
            }
            (request.form, answer.map_err(|error| (call.id.clone(), error)))
        }
        Err(refusal) => (request.form, Err((Some(refusal.0.clone()), refusal.1.clone()))),
    };
    let id = request.call.as_ref().ok().and_then(|call| call.id.clone()).unwrap_or(Value::Null);
    let (parts, answered) = mpsc::channel(4);
    tokio::spawn(async move {
        match (form, answer) {
            (Form::Json, Ok(Answer::Value(value))) => send(&parts, reply(&id, Ok(value))).await,
            (Form::Json, Err((id, error))) => {
                send(&parts, reply(&id.unwrap_or(Value::Null), Err(error))).await;
            }
            (Form::Json, Ok(Answer::Aors(aors))) => {
                let mut rendered = json_parts(&id, aors);
                while let Some(part) = rendered.recv().await {
                    if parts.send(part).await.is_err() {
                        return;
                    }
                }
                send(&parts, "\n".to_string()).await;
            }
            (Form::Text, Ok(Answer::Value(value))) => send(&parts, text::reply(&value)).await,
            (Form::Text, Err((_, error))) => send(&parts, text::error(&error)).await,
            (Form::Text, Ok(Answer::Aors(aors))) => text::dump(aors, &parts).await,
        }
    });
    Some(answered)
}

async fn send(parts: &mpsc::Sender<String>, part: String) {
    let _ = parts.send(part).await;
}

/// One line of JSON-RPC.
fn reply(id: &Value, result: Result<Value, RpcError>) -> String {
    let body = match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
        Err(error) => json!({ "jsonrpc": "2.0", "error": error.to_json(), "id": id }),
    };
    format!("{body}\n")
}
