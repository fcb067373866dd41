//! What a form does: who may, what is written down, and what is said then.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde_json::json;

use crate::Accounts;
use crate::audit::Change;
use crate::fields::Fields;
use crate::guard::Visitor;
use crate::pages;
use crate::people::{Login, Role, Who};
use crate::shared::Shared;

/// The longest form, in bytes; a configuration may be longer.
const MAX_FORM: usize = 8 << 10;

/// A form that was sent.
pub(crate) async fn act(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
    headers: axum::http::HeaderMap,
    body: String,
) -> Response {
    if body.len() > MAX_FORM && uri.path() != "/config" {
        return (StatusCode::PAYLOAD_TOO_LARGE, "that is too long\n").into_response();
    }
    let fields = Fields::of(&body);
    match uri.path() {
        "/login" => return login(&shared, &visitor, &fields).await,
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
    if uri.path() == "/logout" {
        visitor.token.iter().for_each(|token| shared.sessions.end(token));
        return (cookie(&shared, "", 0), Redirect::to("/")).into_response();
    }
    let wanted = match uri.path() {
        "/do/end-call" | "/do/unban" | "/do/remove" | "/do/hop" => Role::Operator,
        "/do/password"
        | "/do/extension"
        | "/do/extension-remove"
        | "/do/person"
        | "/do/person-remove"
        | "/config" => Role::Administrator,
        _ => return (StatusCode::NOT_FOUND, "there is no such form\n").into_response(),
    };
    if !visitor.may(wanted) {
        return (StatusCode::FORBIDDEN, format!("that takes the role {}\n", wanted.as_str())).into_response();
    }
    if uri.path() == "/config" {
        return pages::config::act(&shared, &visitor, &headers, &fields).await;
    }
    let back = back(&fields);
    let sign = if back.contains('?') { '&' } else { '?' };
    let (path, fields) = (uri.path(), &fields);
    let work = done(&shared, path, fields);
    match shared.audit.carried_out(visitor.who(), change(path, fields), work).await {
        Ok(said) => Redirect::to(&format!("{back}{sign}said={said}")).into_response(),
        Err(why) => {
            visitor.token.iter().for_each(|token| shared.sessions.fail(token, back, &why));
            Redirect::to(back).into_response()
        }
    }
}

/// What a form changes.
fn change<'a>(path: &str, fields: &'a Fields) -> Change<'a> {
    let (what, of) = match path {
        "/do/end-call" => ("end call", "id"),
        "/do/unban" => ("lift ban", "aor"),
        "/do/remove" => ("remove binding", "aor"),
        "/do/hop" => ("hop", "address"),
        "/do/password" => ("password", "aor"),
        "/do/extension" => ("add extension", "aor"),
        "/do/extension-remove" => ("remove extension", "aor"),
        "/do/person" => ("person", "name"),
        _ => ("remove person", "name"),
    };
    let (before, after) = match path {
        "/do/remove" => (fields.get("contact"), ""),
        "/do/hop" => (fields.get("before"), if fields.get("state") == "i" { "Inactive" } else { "Active" }),
        "/do/person" => ("", fields.get("role")),
        _ => ("", ""),
    };
    Change { what, of: fields.get(of), before, after }
}

/// Does it; the name of what is said.
async fn done(shared: &Shared, path: &str, fields: &Fields) -> Result<&'static str, String> {
    let aor = fields.get("aor");
    match path {
        "/do/end-call" => {
            shared.backend.mi("dlg_end_dlg", json!({ "dialog_id": fields.get("id") })).await?;
            Ok("call-ended")
        }
        "/do/unban" => {
            shared.backend.mi("ban_rm", json!({ "user": aor })).await?;
            Ok("unbanned")
        }
        "/do/remove" => {
            let params = json!({ "table_name": "location", "aor": aor, "contact": fields.get("contact") });
            shared.backend.mi("ul_rm_contact", params).await?;
            Ok("removed")
        }
        "/do/hop" => {
            let (set, address, state) = (fields.get("set"), fields.get("address"), fields.get("state"));
            let number: i64 = set.parse().map_err(|_| "no such set".to_string())?;
            let params = json!({ "state": state, "group": number, "address": address });
            shared.backend.mi("ds_set_state", params).await?;
            Ok(if state == "i" { "hop-out" } else { "hop-in" })
        }
        "/do/password" => {
            let (own, password) = (aor.to_string(), fields.get("password").to_string());
            account(shared, aor, move |accounts| accounts.set_password(&own, &password)).await?;
            Ok("password-changed")
        }
        "/do/extension" => {
            let (own, password) = (aor.to_string(), fields.get("password").to_string());
            account(shared, aor, move |accounts| accounts.add(&own, &password)).await?;
            Ok("extension-added")
        }
        "/do/extension-remove" => {
            remove_extension(shared, aor).await?;
            Ok("extension-removed")
        }
        "/do/person" => {
            put_person(shared, fields)?;
            Ok("person-put")
        }
        _ => {
            shared.logins.people().remove(fields.get("name")).map_err(|error| error.to_string())?;
            Ok("person-removed")
        }
    }
}

/// Changes the extensions in the database; what the server knows of this one is forgotten.
async fn account(
    shared: &Shared,
    aor: &str,
    work: impl FnOnce(&dyn Accounts) -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let accounts = Arc::clone(&shared.parts.accounts);
    let done = tokio::task::spawn_blocking(move || work(&*accounts)).await;
    done.map_err(|error| error.to_string())??;
    let (user, domain) = aor.split_once('@').unwrap_or((aor, ""));
    shared.backend.mi("auth_db_forget", json!({ "user": user, "domain": domain })).await.map(drop)
}

async fn remove_extension(shared: &Shared, aor: &str) -> Result<(), String> {
    let own = aor.to_string();
    account(shared, aor, move |accounts| accounts.remove(&own)).await?;
    let whose = json!({ "table_name": "location", "aor": aor });
    // Nobody may be registered as it.
    match shared.backend.mi("ul_show_contact", whose.clone()).await {
        Ok(_) => shared.backend.mi("ul_rm", whose).await.map(drop),
        Err(_) => Ok(()),
    }
}

fn put_person(shared: &Shared, fields: &Fields) -> Result<(), String> {
    let role = Role::named(fields.get("role")).ok_or("no such role")?;
    let put = shared.logins.people().put(fields.get("name"), role, fields.get("password"));
    put.map_err(|error| error.to_string())
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
