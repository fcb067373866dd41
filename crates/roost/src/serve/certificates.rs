//! The certificates of the running server: looked at every few seconds, and when an operator asks.

use std::sync::Arc;
use std::time::Duration;

use roost_admin::{Hub, InForce, ShellEvent};
use roost_net::{Certificate, Tls};
use serde_json::{Value, json};

/// How often the files are compared with what is in use.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What the management interface may do with them.
pub(super) fn control(tls: &Arc<Tls>, in_force: InForce, hub: Hub) -> roost_admin::Certificates {
    let secure = move || -> Vec<String> {
        let config = in_force.get();
        let secure = config.policy.listeners.iter().filter(|listener| listener.transport.is_secure());
        secure.map(ToString::to_string).collect()
    };
    let (listed, reloaded) = (Arc::clone(tls), Arc::clone(tls));
    roost_admin::Certificates {
        list: Arc::new(move || {
            let secure = secure();
            listed.certificates().iter().map(|one| shown(one, &secure)).collect()
        }),
        reload: Arc::new(move || reload(&reloaded, &hub)),
    }
}

fn shown(certificate: &Certificate, listeners: &[String]) -> Value {
    json!({
        "name": certificate.server_domain.as_deref().unwrap_or("default"),
        "names": certificate.names,
        "issuer": certificate.issuer,
        "days_left": certificate.days_left(),
        "not_after": certificate.not_after,
        "certificate": certificate.file,
        "listeners": listeners,
    })
}

fn reload(tls: &Tls, hub: &Hub) -> Result<bool, String> {
    let done = tls.reload().map_err(|error| error.to_string());
    match &done {
        Ok(true) => {
            for one in tls.certificates() {
                let (names, days) = (one.names.join(", "), one.days_left());
                tracing::info!(certificate = %one.file.display(), %names, days, "certificate read anew");
                hub.publish_shell(&ShellEvent::Certificate {
                    file: one.file.display().to_string(),
                    days_left: days,
                    error: None,
                });
            }
        }
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(%error, "certificates stay as they were");
            for one in tls.certificates() {
                hub.publish_shell(&ShellEvent::Certificate {
                    file: one.file.display().to_string(),
                    days_left: one.days_left(),
                    error: Some(error.clone()),
                });
            }
        }
    }
    done
}

/// Takes changed files into use, for ever. A state of the files that cannot be used is told once.
pub(super) async fn watch(tls: Arc<Tls>, hub: Hub) {
    let mut refused = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = Arc::clone(&tls);
        let looked = tokio::task::spawn_blocking(move || looked.changed_digest()).await;
        match looked {
            Ok(Some(digest)) if refused != Some(digest) => {
                refused = reload(&tls, &hub).is_err().then_some(digest);
            }
            Ok(None) => refused = None,
            _ => {}
        }
    }
}
