//! What a form does: who may, what is written down, and what is said then.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::{Value, json};

use crate::Accounts;
use crate::audit::Outcome;
use crate::fields::Fields;
use crate::forms::Form;
use crate::guard::Visitor;
use crate::pages::{self, Asked};
use crate::people::{Login, Logins, PeopleError, Role, Who};
use crate::shared::Shared;

/// The longest form, in bytes; a configuration may be longer.
const MAX_FORM: usize = 8 << 10;
/// Where that is sent.
const CONFIG: &str = "/config";

/// A form that was sent. Who hangs up meanwhile leaves nothing half done.
pub(crate) async fn act(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let acted = tokio::spawn(async move { acted(&shared, &visitor, uri.path(), &headers, &body).await });
    acted.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn acted(
    shared: &Arc<Shared>,
    visitor: &Visitor,
    path: &str,
    headers: &HeaderMap,
    body: &str,
) -> Response {
    if body.len() > MAX_FORM && path != CONFIG {
        return (StatusCode::PAYLOAD_TOO_LARGE, "that is too long\n").into_response();
    }
    let fields = Fields::of(body);
    match path {
        "/login" => return login(shared, visitor, &fields).await,
        "/settings" => return choose(&fields),
        _ => {}
    }
    let Some(session) = &visitor.session else {
        return Redirect::to("/login").into_response();
    };
    let is_own = subtle::ConstantTimeEq::ct_eq(session.csrf.as_bytes(), fields.get("csrf").as_bytes());
    if !bool::from(is_own) {
        return (StatusCode::FORBIDDEN, "this form is not from a page of yours: load it again\n")
            .into_response();
    }
    if path == "/logout" {
        visitor.token.iter().for_each(|token| shared.sessions.end(token));
        return (cookie(shared, "", 0), Redirect::to("/")).into_response();
    }
    let form = Form::at(path);
    let wanted = match form {
        Some(form) => form.role(),
        None if path == CONFIG => Role::Administrator,
        None => return (StatusCode::NOT_FOUND, "there is no such form\n").into_response(),
    };
    if !visitor.may(wanted) {
        return (StatusCode::FORBIDDEN, format!("that takes the role {}\n", wanted.as_str())).into_response();
    }
    let Some(form) = form else {
        return pages::config::act(shared, visitor, headers, &fields).await;
    };
    let back = back(&fields);
    let work = done(shared, form, &fields);
    match shared.audit.carried_out(visitor.who(), form.change(&fields), work).await {
        Ok(Outcome { done: said, but }) => {
            let language = Asked::of(back, headers, visitor.clone()).language();
            let but = but.map(|but| shared.templates.filled(language, "said.but", &[but]));
            visitor.led_to(shared, (back, said), but.as_deref())
        }
        Err(why) => {
            visitor.token.iter().for_each(|token| shared.sessions.fail(token, back, &why));
            Redirect::to(back).into_response()
        }
    }
}

/// Does it; the name of what is said.
async fn done(shared: &Arc<Shared>, form: Form, fields: &Fields) -> Result<Outcome<&'static str>, String> {
    let aor = fields.get("aor");
    let (own, password) = (aor.to_string(), fields.get("password").to_string());
    let mi = async |method: &str, params: Value| shared.backend.mi(method, params).await;
    Ok(Outcome::wholly(match form {
        Form::EndCall => {
            mi("dlg_end_dlg", json!({ "dialog_id": fields.get("id") })).await?;
            "call-ended"
        }
        Form::Unban => {
            mi("ban_rm", json!({ "user": aor })).await?;
            "unbanned"
        }
        Form::RemoveBinding => {
            let params = json!({ "table_name": "location", "aor": aor, "contact": fields.get("contact") });
            mi("ul_rm_contact", params).await?;
            "removed"
        }
        Form::Hop => {
            let (set, address, state) = (fields.get("set"), fields.get("address"), fields.get("state"));
            let number: i64 = set.parse().map_err(|_| "no such set".to_string())?;
            mi("ds_set_state", json!({ "state": state, "group": number, "address": address })).await?;
            if state == "i" { "hop-out" } else { "hop-in" }
        }
        Form::Password => {
            account(shared, move |accounts| accounts.set_password(&own, &password)).await?;
            return Ok(Outcome { done: "password-changed", but: known(shared, aor).await });
        }
        Form::AddExtension => {
            let (aor, own) = (aor.trim(), aor.trim().to_string());
            account(shared, move |accounts| accounts.add(&own, &password)).await?;
            shared.index.forget().await;
            return Ok(Outcome { done: "extension-added", but: known(shared, aor).await });
        }
        Form::RemoveExtension => {
            let gone = account(shared, move |accounts| accounts.remove(&own)).await?;
            let but = [known(shared, aor).await, bindings(shared, gone).await];
            shared.index.forget().await;
            let but: Vec<String> = but.into_iter().flatten().collect();
            return Ok(Outcome { done: "extension-removed", but: (!but.is_empty()).then(|| but.join("; ")) });
        }
        Form::Person => {
            let role = Role::named(fields.get("role")).ok_or("no such role")?;
            let name = fields.get("name").to_string();
            people(shared, move |logins| logins.put(&name, role, &password)).await?;
            "person-put"
        }
        Form::RemovePerson => {
            let name = fields.get("name").to_string();
            people(shared, move |logins| logins.remove(&name)).await?;
            "person-removed"
        }
    }))
}

/// Changes the extensions in the database.
async fn account<Done: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&dyn Accounts) -> Result<Done, String> + Send + 'static,
) -> Result<Done, String> {
    let accounts = Arc::clone(&shared.parts.accounts);
    tokio::task::spawn_blocking(move || work(&*accounts)).await.map_err(|error| error.to_string())?
}

/// Makes the server forget what it knows of an extension; why it may still know it.
async fn known(shared: &Shared, aor: &str) -> Option<String> {
    let (user, domain) = aor.split_once('@').unwrap_or((aor, ""));
    let forgotten = shared.backend.mi("auth_db_forget", json!({ "user": user, "domain": domain })).await;
    forgotten.err().map(|why| format!("the server may take a while to notice: {why}"))
}

/// Removes the bindings of an AOR that is nobody's; why they stay.
async fn bindings(shared: &Shared, gone: Option<String>) -> Option<String> {
    let whose = json!({ "table_name": "location", "aor": gone? });
    let removed = shared.backend.mi_if_there("ul_rm", whose).await;
    removed.err().map(|why| format!("its bindings stay: {why}"))
}

/// Hashes and files keep no page waiting.
async fn people(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Logins) -> Result<(), PeopleError> + Send + 'static,
) -> Result<(), String> {
    let own = Arc::clone(shared);
    let done = tokio::task::spawn_blocking(move || work(&own.logins)).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

async fn login(shared: &Shared, visitor: &Visitor, fields: &Fields) -> Response {
    // One that is logged in already, or a cookie that somebody planted, is no longer.
    visitor.token.iter().for_each(|token| shared.sessions.end(token));
    let name = fields.get("name");
    let granted = match fields.get("once") {
        "" => shared.logins.login(name, fields.get("password").to_string(), visitor.from).await,
        once if shared.sessions.take_once(once) => Login::Granted(Who::of_link()),
        _ if shared.logins.guess_at_link(visitor.from) => Login::Wait,
        _ => Login::Refused,
    };
    let failed = |said: &str| Redirect::to(&format!("/login?failed={said}")).into_response();
    match granted {
        Login::Granted(who) => match shared.sessions.begin(who) {
            Some(token) => (cookie(shared, &token, 12 * 3_600), Redirect::to("/")).into_response(),
            None => failed("wait"),
        },
        Login::Refused => {
            let name: String = name.chars().take(64).collect();
            tracing::warn!(name, from = %visitor.from, "a login to the console was refused");
            failed("refused")
        }
        Login::Wait => failed("wait"),
    }
}

/// The page that a form came from: one of ours, whatever the form says.
fn back(fields: &Fields) -> &str {
    let is_own = |back: &&str| {
        back.starts_with('/') && !back.starts_with("//") && !back.contains(['\\', '\r', '\n', '\t'])
    };
    Some(fields.get("back")).filter(is_own).unwrap_or("/")
}

/// The language and the colours that a browser has chosen: cookies of its own, which change nothing here.
fn choose(fields: &Fields) -> Response {
    let known = [("lang", ["en", "zh", ""]), ("theme", ["light", "dark", ""])];
    let mut response = Redirect::to(back(fields)).into_response();
    for (name, values) in known {
        if let Some(value) = values.iter().find(|value| !value.is_empty() && **value == fields.get(name)) {
            let text = format!("{name}={value}; Path=/; Max-Age=31536000; SameSite=Strict");
            if let Ok(value) = text.parse() {
                response.headers_mut().append(header::SET_COOKIE, value);
            }
        }
    }
    response
}

fn cookie(shared: &Shared, token: &str, seconds: u32) -> [(header::HeaderName, String); 1] {
    let secure = if shared.settings.certificates.is_some() { "; Secure" } else { "" };
    let name = &shared.cookie;
    let text = format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    [(header::SET_COOKIE, text)]
}
