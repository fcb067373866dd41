//! Webhooks (`[[webhook]]`): events by HTTP POST, many at once, signed as <https://www.standardwebhooks.com> says, tried again
//! until they are taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use roost_core::Topics;
use roost_filter::Filter;
use sha2::Sha256;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::events::shape::{TYPES, type_named};
use crate::events::{Batch, Told};

/// Events that wait for one webhook; more are lost to it.
const WAITING: usize = 10_000;
/// Events of one POST.
const MOST_AT_ONCE: usize = 500;
/// How long the first event of a POST waits for others.
const GATHERING: Duration = Duration::from_millis(200);
/// How long one POST may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long it is waited after a failure: the first time, and at most.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// After so long without success a batch is given up.
const GIVE_UP: Duration = Duration::from_secs(3_600);

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `http://` or `https://`.
    pub url: String,
    /// Names of events; none: all.
    pub events: Vec<String>,
    /// What must be so of an event.
    pub when: Option<Filter>,
    /// The key of the signature; empty signs nothing.
    pub secret: String,
}

/// What is wrong with a webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("the webhook {url} wants the event {name}, which there is not; there are: {known}")]
    Event { url: String, name: String, known: String },
    #[error("the thread of the webhook {url} cannot be started")]
    Thread { url: String, source: std::io::Error },
}

impl Webhook {
    /// Whether there is such an event.
    pub fn knows(name: &str) -> bool {
        type_named(name).is_some()
    }

    /// The names of all events, joined by commas.
    pub fn known() -> String {
        TYPES.map(|(name, _)| name).join(", ")
    }
}

/// All webhooks.
#[derive(Debug, Default)]
pub(crate) struct Webhooks {
    queues: Vec<Queue>,
    /// What those did that are no more.
    gone: Vec<Arc<Counts>>,
}

#[derive(Debug)]
struct Queue {
    webhook: Webhook,
    /// None: all.
    names: Vec<&'static str>,
    when: Option<Filter>,
    topics: Topics,
    sender: SyncSender<Waiting>,
    counts: Arc<Counts>,
}

/// An event that waits: an object with number, time, type and parameters.
#[derive(Debug)]
struct Waiting {
    id: u64,
    object: Box<str>,
}

impl Waiting {
    fn of(told: &Told<'_>) -> Waiting {
        let (Told { id, at_ms, name, .. }, params) = (told, told.params());
        let object = format!(r#"{{"id":{id},"time_ms":{at_ms},"type":"{name}","params":{params}}}"#);
        Waiting { id: *id, object: object.into() }
    }
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

/// Events that were taken, POSTs that were not, and events that found no room or were given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WebhookStatistics {
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) lost: u64,
}

impl Webhooks {
    /// Starts a thread for each.
    pub(crate) fn start(webhooks: Vec<Webhook>) -> Result<Webhooks, WebhookError> {
        let queues = webhooks.into_iter().map(Queue::start).collect::<Result<_, _>>()?;
        Ok(Webhooks { queues, gone: Vec::new() })
    }

    /// Others from here on: those that stay go on, and what waits for those that go is posted yet.
    pub(crate) fn change(&mut self, webhooks: Vec<Webhook>) -> Result<(), WebhookError> {
        let mut before = std::mem::take(&mut self.queues);
        let mut outcome = Ok(());
        for webhook in webhooks {
            match before.iter().position(|queue| queue.webhook == webhook) {
                Some(at) => self.queues.push(before.remove(at)),
                None => match Queue::start(webhook) {
                    Ok(queue) => self.queues.push(queue),
                    Err(error) => outcome = Err(error),
                },
            }
        }
        self.gone.extend(before.into_iter().map(|queue| queue.counts));
        outcome
    }

    pub(crate) fn topics(&self) -> Topics {
        self.queues.iter().fold(Topics::NONE, |all, one| all.and(one.topics))
    }

    /// Queues each event for those who want it.
    pub(crate) fn send(&self, batch: &Batch) {
        for queue in &self.queues {
            let is_named = |told: &Told<'_>| queue.names.is_empty() || queue.names.contains(&told.name);
            let is_wanted =
                |told: &Told<'_>| is_named(told) && queue.when.as_ref().is_none_or(|when| told.is_so(when));
            for told in batch.iter().filter(is_wanted) {
                if queue.sender.try_send(Waiting::of(&told)).is_err() {
                    queue.counts.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    pub(crate) fn statistics(&self) -> WebhookStatistics {
        let sum = |of: fn(&Counts) -> &AtomicU64| {
            let all = self.queues.iter().map(|queue| &queue.counts).chain(&self.gone);
            all.map(|counts| of(counts).load(Ordering::Relaxed)).sum()
        };
        WebhookStatistics {
            delivered: sum(|counts| &counts.delivered),
            failed: sum(|counts| &counts.failed),
            lost: sum(|counts| &counts.lost),
        }
    }
}

impl Queue {
    fn start(webhook: Webhook) -> Result<Queue, WebhookError> {
        let named = |name: &String| {
            type_named(name).ok_or_else(|| WebhookError::Event {
                url: webhook.url.clone(),
                name: name.clone(),
                known: Webhook::known(),
            })
        };
        let types = webhook.events.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let all = if types.is_empty() { &TYPES[..] } else { &types };
        let topics = all.iter().fold(Topics::NONE, |sum, (_, topics)| sum.and(*topics));
        let (sender, queue) = sync_channel(WAITING);
        let counts = Arc::new(Counts::default());
        let url = webhook.url.clone();
        let when = webhook.when.clone();
        let names = types.iter().map(|(name, _)| *name).collect();
        let poster = Poster {
            agent: agent(&webhook.url),
            webhook: webhook.clone(),
            queue,
            counts: Arc::clone(&counts),
        };
        std::thread::Builder::new()
            .name("roost-webhook".to_string())
            .spawn(move || poster.run())
            .map_err(|source| WebhookError::Thread { url, source })?;
        Ok(Queue { webhook, names, when, topics, sender, counts })
    }
}

fn agent(url: &str) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("roost/", env!("CARGO_PKG_VERSION")));
    if !url.starts_with("https:") {
        return config.build().into();
    }
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build();
    config.tls_config(tls).build().into()
}

/// The thread of one webhook; it ends with the hub.
struct Poster {
    webhook: Webhook,
    agent: ureq::Agent,
    queue: Receiver<Waiting>,
    counts: Arc<Counts>,
}

impl Poster {
    fn run(self) {
        while let Some(batch) = self.gather() {
            let id = batch.first().map_or(0, |first| first.id);
            let body = body(&batch);
            match self.deliver(id, &body) {
                true => self.counts.delivered.fetch_add(batch.len() as u64, Ordering::Relaxed),
                false => self.counts.lost.fetch_add(batch.len() as u64, Ordering::Relaxed),
            };
        }
    }

    /// What waits, and a little of what comes; `None` at the end.
    fn gather(&self) -> Option<Vec<Waiting>> {
        let mut batch = vec![self.queue.recv().ok()?];
        let end = Instant::now() + GATHERING;
        while batch.len() < MOST_AT_ONCE {
            match self.queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(more) => batch.push(more),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Some(batch)
    }

    /// Tries until it is taken; whether it was.
    fn deliver(&self, id: u64, body: &str) -> bool {
        let (since, mut wait, mut is_told) = (Instant::now(), BACKOFF[0], false);
        loop {
            let why = match self.post(id, body) {
                Ok(status) if (200..300).contains(&status) => {
                    if is_told {
                        tracing::info!(url = self.webhook.url, "the webhook takes events again");
                    }
                    return true;
                }
                Ok(status) => format!("it answers {status}"),
                Err(error) => error.to_string(),
            };
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(url = self.webhook.url, why, "the webhook does not take events; they wait");
            }
            if since.elapsed() + wait > GIVE_UP {
                tracing::warn!(
                    url = self.webhook.url,
                    why,
                    "the webhook took nothing for an hour; events are lost"
                );
                return false;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(BACKOFF[1]);
        }
    }

    /// Sends once; the status code of the answer.
    fn post(&self, id: u64, body: &str) -> Result<u16, ureq::Error> {
        let id = format!("msg_{id}");
        let timestamp =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let mut request = self
            .agent
            .post(&self.webhook.url)
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", &timestamp);
        if let Some(signature) = signature(&self.webhook.secret, &id, &timestamp, body) {
            request = request.header("webhook-signature", &signature);
        }
        request.send(body).map(|response| response.status().as_u16())
    }
}

/// A JSON array of events.
fn body(batch: &[Waiting]) -> String {
    let objects: Vec<_> = batch.iter().map(|one| &*one.object).collect();
    format!("[{}]", objects.join(","))
}

/// `v1,` and the HMAC-SHA256 of id, time and body in base64. A secret that begins with `whsec_` is base64, too.
fn signature(secret: &str, id: &str, timestamp: &str, body: &str) -> Option<String> {
    if secret.is_empty() {
        return None;
    }
    let key = match secret.strip_prefix("whsec_").map(|text| STANDARD.decode(text)) {
        Some(Ok(key)) => key,
        _ => secret.as_bytes().to_vec(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    [id, ".", timestamp, ".", body].iter().for_each(|part| mac.update(part.as_bytes()));
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_standard() {
        // The example of the specification's own libraries.
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
        assert_eq!(signature("", "a", "1", "b"), None);
    }
}
