//! The other nodes that share bindings: what an operator asks here is asked of all, and what happens there is told here.
//!
//! Nodes speak through their store, as far as they hear one another: a node that does not answer in time is left out, and said so.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use roost_core::{Admin, Ban, EventKind, Topics};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::Mi;
use crate::ask::{ask, shards};
use crate::events::{Next, Reads, Stream, type_named};
use crate::rpc::{Call, RpcError};

/// How long other nodes may take to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How often it is looked at who wants which events.
const LOOKS_EVERY: Duration = Duration::from_millis(250);
/// How often nodes say which events of the others they want, and how long that counts.
const SAYS_EVERY: Duration = Duration::from_secs(2);
const COUNTS_FOR: Duration = Duration::from_secs(6);
/// What was heard and waits.
const HEARD: usize = 4_096;

/// Runs a call at this node alone.
pub(crate) type RunHere = fn(Mi, Call) -> Pin<Box<dyn Future<Output = Result<Value, RpcError>> + Send>>;

/// The other nodes. Clones are one.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    own: String,
    say: Box<dyn Fn(String) -> bool + Send + Sync>,
    /// The names of the others that are up.
    alive: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::UnboundedSender<Value>>>,
    /// What each of the others wants of our events, and until when.
    wanted: Mutex<HashMap<String, (Topics, Instant)>>,
    hears: mpsc::Sender<String>,
    heard: Mutex<Option<mpsc::Receiver<String>>>,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("own", &self.0.own).finish_non_exhaustive()
    }
}

/// What other nodes said.
pub(crate) struct Told {
    /// By node: what it answered.
    pub(crate) answers: Vec<(String, Result<Value, RpcError>)>,
    /// Nodes that are up and did not answer in time.
    pub(crate) silent: Vec<String>,
}

impl Peers {
    /// `own` is this node's name; `say` takes a text to all nodes; `alive` names the others that are up.
    pub fn new(
        own: String,
        say: impl Fn(String) -> bool + Send + Sync + 'static,
        alive: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Peers {
        let (hears, heard) = mpsc::channel(HEARD);
        Peers(Arc::new(Inner {
            own,
            say: Box::new(say),
            alive: Box::new(alive),
            // Answers to a process before are none of ours.
            next: AtomicU64::new(std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64)),
            waiting: Mutex::default(),
            wanted: Mutex::default(),
            hears,
            heard: Mutex::new(Some(heard)),
        }))
    }

    /// Takes what some node has said.
    pub fn hear(&self, text: String) {
        let _ = self.0.hears.try_send(text);
    }

    pub(crate) fn own(&self) -> &str {
        &self.0.own
    }

    fn say(&self, mut said: Value) -> bool {
        said["from"] = json!(self.0.own);
        (self.0.say)(said.to_string())
    }

    /// Asks all other nodes the same.
    pub(crate) async fn ask(&self, method: &str, params: &Value) -> Told {
        let mut silent = (self.0.alive)();
        let mut answers = Vec::new();
        if silent.is_empty() {
            return Told { answers, silent };
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let waiting = || self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().insert(number, sender);
        self.say(json!({ "ask": number, "method": method, "params": params }));
        let end = tokio::time::Instant::now() + PATIENCE;
        while !silent.is_empty()
            && let Ok(Some(mut told)) = tokio::time::timeout_at(end, receiver.recv()).await
        {
            let Some(at) = silent.iter().position(|node| told["from"] == **node) else { continue };
            let answer = match told["error"].as_object() {
                None => Ok(told["result"].take()),
                Some(error) => {
                    let code = error.get("code").and_then(Value::as_i64).unwrap_or(500);
                    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_string);
                    let message = text("message").unwrap_or_default();
                    Err(RpcError { code, message, data: text("data") })
                }
            };
            answers.push((silent.remove(at), answer));
        }
        waiting().remove(&number);
        answers.sort_by(|one, other| one.0.cmp(&other.0));
        Told { answers, silent }
    }

    /// Answers what other nodes ask, and tells them what they want to hear; as long as the process lives.
    pub(crate) async fn serve(self, mi: Mi, run_here: RunHere) {
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(heard) = heard else { return };
        let tells = self.clone().tell(mi.clone());
        let wants = self.clone().want(mi.clone());
        tokio::join!(self.answer(mi, heard, run_here), tells, wants);
    }

    async fn answer(self, mi: Mi, mut heard: mpsc::Receiver<String>, run_here: RunHere) {
        while let Some(text) = heard.recv().await {
            let Ok(mut said) = serde_json::from_str::<Value>(&text) else { continue };
            let Some(from) = said["from"].as_str().filter(|from| *from != self.0.own).map(str::to_string)
            else {
                continue;
            };
            if said.get("ask").is_some() {
                tokio::spawn(self.clone().carry_out(run_here, mi.clone(), from, said));
            } else if let Some(number) = said["answer"].as_u64().filter(|_| said["to"] == self.0.own) {
                let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(asker) = waiting.get(&number) {
                    let _ = asker.send(said);
                }
            } else if let Some(bits) = said["want"].as_u64() {
                let topics = Topics::from_bits(bits as u16);
                let mut wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
                wanted.insert(from, (topics, Instant::now() + COUNTS_FOR));
            } else if let Some(events) = said["events"].as_array_mut() {
                self.take_events(&mi, &from, events).await;
            }
        }
    }

    async fn carry_out(self, run_here: RunHere, mi: Mi, from: String, mut said: Value) {
        let method = said["method"].as_str().unwrap_or("").to_string();
        let call = Call { id: None, method, params: said["params"].take() };
        let mut told = json!({ "answer": said["ask"], "to": from });
        match run_here(mi, call).await {
            Ok(value) => told["result"] = value,
            Err(error) => told["error"] = error.to_json(),
        }
        self.say(told);
    }

    /// Events of another node go to those who read all; its bans count here, too.
    async fn take_events(&self, mi: &Mi, from: &str, events: &mut [Value]) {
        let mut taken = Vec::with_capacity(events.len());
        for event in events {
            let Some((name, _)) = event["name"].as_str().and_then(type_named) else { continue };
            let mut data = event["data"].take();
            if name == "E_ROOST_BANNED" {
                ban(mi, &data).await;
            }
            data["node"] = json!(from);
            taken.push((name, event["about"].as_str().unwrap_or("").to_string(), data));
        }
        mi.events.publish_remote(&taken);
    }

    /// Tells the others what they want to hear of this node, and its bans in any case.
    async fn tell(self, mi: Mi) {
        let bans = Topics::of(EventKind::Ban);
        let mut wanted = bans;
        let mut stream: Option<Stream> = mi.events.stream(wanted, Reads::ForOthers, None);
        loop {
            let now = self.wanted_here().and(bans);
            if now != wanted {
                wanted = now;
                stream = mi.events.stream(wanted, Reads::ForOthers, None);
            }
            let Some(stream) = &mut stream else { return };
            let Ok(next) = tokio::time::timeout(LOOKS_EVERY, stream.next()).await else { continue };
            let Some(Next::Told(batch, from)) = next else { continue };
            let is_wanted = |name: &str| type_named(name).is_some_and(|(_, topics)| topics.meet(wanted));
            let told = batch.from(from).filter(|told| is_wanted(told.name));
            let told: Vec<_> = told
                .map(|told| {
                    let data = serde_json::from_str::<Value>(told.params()).unwrap_or_default();
                    json!({ "name": told.name, "about": String::from_utf8_lossy(told.about), "data": data })
                })
                .collect();
            if !told.is_empty() {
                self.say(json!({ "events": told }));
            }
        }
    }

    /// Says to the others what readers here want of them.
    async fn want(self, mi: Mi) {
        let mut said = (Topics::NONE, Instant::now());
        loop {
            tokio::time::sleep(LOOKS_EVERY).await;
            let now = mi.events.wanted_of_others();
            let is_due = now != Topics::NONE && said.1.elapsed() > SAYS_EVERY;
            if now != said.0 || is_due {
                said = (now, Instant::now());
                self.say(json!({ "want": now.bits() }));
            }
        }
    }

    fn wanted_here(&self) -> Topics {
        let mut wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        wanted.retain(|_, (_, until)| now < *until);
        wanted.values().fold(Topics::NONE, |all, (topics, _)| all.and(*topics))
    }
}

/// A ban of another node counts here, too.
async fn ban(mi: &Mi, told: &Value) {
    let source = told["source"].as_str().and_then(|source| source.parse().ok());
    let user = told["aor"].as_str().unwrap_or("").as_bytes();
    if source.is_none() && user.is_empty() {
        return;
    }
    let ban =
        Ban { source, user: user.into(), left_s: told["seconds"].as_u64().unwrap_or(0), is_manual: false };
    for shard in shards(mi) {
        let _ = ask(mi, shard, Admin::Ban(ban.clone())).await;
    }
}
