//! The pages: what stands at each path.

mod calls;
pub(crate) mod config;
mod extensions;
mod ladder;
mod now;
mod people;
mod routes;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse as _, Response};
use minijinja::context;
use roost_recorder::Language;
use serde_json::{Value, json};

use crate::backend::{decoded, form};
use crate::guard::{Visitor, cookie};
use crate::people::Role;
use crate::shared::Shared;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Parts of the path, decoded.
    parts: Vec<String>,
    /// The path and query as they came.
    whole: String,
    query: Vec<(String, String)>,
    language: Language,
    theme: &'static str,
    pub(crate) visitor: Visitor,
    /// Whether it is asked again and again, for a page that is there already: times in it run by themselves.
    is_stream: bool,
}

impl Asked {
    /// From a path with its query.
    pub(crate) fn of(whole: &str, headers: &HeaderMap, visitor: Visitor) -> Asked {
        let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
        let query = form(query);
        let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let said =
            query.iter().find(|(name, _)| name == "lang").and_then(|(_, value)| Language::wanted(value));
        let chosen = || cookie(headers, "lang").and_then(Language::wanted);
        let browsers = || text(header::ACCEPT_LANGUAGE).and_then(Language::wanted);
        let theme = match cookie(headers, "theme") {
            Some("light") => "light",
            Some("dark") => "dark",
            _ => "auto",
        };
        Asked {
            parts: path.split('/').filter(|part| !part.is_empty()).filter_map(decoded).collect(),
            whole: whole.to_string(),
            query,
            language: said.or_else(chosen).or_else(browsers).unwrap_or(Language::English),
            theme,
            visitor,
            is_stream: false,
        }
    }

    /// The same, for a page that is there already.
    pub(crate) fn into_stream(self) -> Asked {
        Asked { is_stream: true, ..self }
    }

    pub(crate) fn language(&self) -> Language {
        self.language
    }

    pub(crate) fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value.as_str())
    }

    /// All values of a parameter that may come several times.
    pub(crate) fn queries(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> usize {
        self.query(name).parse().unwrap_or(0)
    }
}

/// A page's content.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) html: String,
    /// The name of its title's words, and of its place in the menu.
    title: &'static str,
    /// Whether it is the whole answer: rows of a list.
    is_part: bool,
    /// Whether who has no JavaScript sees it change, too: messages that come.
    refreshes: bool,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Failed {
    NotFound,
    /// It takes a role.
    Forbidden(Role),
    /// For people.
    Why(String),
}

impl std::convert::From<String> for Failed {
    fn from(why: String) -> Failed {
        Failed::Why(why)
    }
}

/// What a page is made of: a template, the name of its title, and what it shows.
pub(crate) struct Made {
    template: &'static str,
    title: &'static str,
    data: Value,
}

impl Made {
    fn render(&self, shared: &Shared, asked: &Asked) -> Result<Content, Failed> {
        let Made { template, title, data } = self;
        let html = render(shared, asked, template, title, data)?;
        let ladder = &data["ladder"];
        let is_going = ladder["note"].is_null() || ladder["note"]["name"] == "full";
        let refreshes = ladder["is_live"] == true && is_going;
        Ok(Content { html, title, is_part: *template == "rows.html", refreshes })
    }
}

/// Whether a page changes while one looks.
pub(crate) fn is_live(asked: &Asked) -> bool {
    let parts: Vec<&str> = asked.parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        [] | ["calls" | "routes" | "wall"] => true,
        ["extensions", aor] => *aor != "rows",
        ["calls", "ladder"] => wants_messages(asked),
        _ => false,
    }
}

/// Whether messages are to be shown as they come: they are for operators.
fn wants_messages(asked: &Asked) -> bool {
    asked.query("live") == "yes" && asked.visitor.may(Role::Operator)
}

/// The content of a page, without what stands around it.
///
/// # Errors
/// [`Failed`].
pub(crate) async fn content(shared: &Shared, asked: &Asked) -> Result<Content, Failed> {
    let parts: Vec<&str> = asked.parts.iter().map(String::as_str).collect();
    let made = match parts.as_slice() {
        [] => now::page(shared, asked).await?,
        ["extensions"] => extensions::list(shared, asked).await?,
        ["extensions", "rows"] => extensions::rows(shared, asked).await?,
        ["extensions", aor] => extensions::one(shared, asked, aor).await?,
        ["calls"] => calls::now(shared, asked).await?,
        ["calls", "history"] => calls::history(shared, asked).await?,
        ["calls", "ladder"] => calls::ladder(shared, asked).await?,
        ["routes"] => routes::page(shared, asked).await?,
        ["wall"] => extensions::wall(shared, asked).await?,
        ["config"] => config::page(shared, asked).await?,
        ["people"] if asked.visitor.may(Role::Administrator) => people::page(shared),
        ["people"] => return Err(Failed::Forbidden(Role::Administrator)),
        ["phone"] => Made { template: "phone.html", title: "phone", data: phone(shared) },
        ["login"] => {
            Made { template: "login.html", title: "login", data: json!({ "once": asked.query("once") }) }
        }
        ["reasons", name] => now::reason(shared, asked, name)?,
        _ => return Err(Failed::NotFound),
    };
    made.render(shared, asked)
}

fn phone(shared: &Shared) -> Value {
    json!({ "is_there": shared.parts.phone.is_some(), "domain": shared.parts.domain })
}

/// Why nothing was done: of a login the name of its words, else what the session's last form met.
fn failed(shared: &Shared, asked: &Asked, template: &str) -> Option<String> {
    match template {
        "login.html" => {
            ["refused", "wait"].into_iter().find(|name| *name == asked.query("failed")).map(str::to_string)
        }
        "base.html" => {
            let token = asked.visitor.token.as_deref()?;
            shared.sessions.take_failure(token, &asked.whole)
        }
        _ => None,
    }
}

fn render(
    shared: &Shared,
    asked: &Asked,
    template: &str,
    title: &str,
    data: &Value,
) -> Result<String, Failed> {
    let session = asked.visitor.session.as_ref();
    let context = context! {
        lang => asked.language.tag(),
        theme => asked.theme,
        title => title,
        path => asked.whole,
        user => session.map(|session| session.who.name.as_str()),
        role => session.map(|session| session.who.role.as_str()),
        is_operator => asked.visitor.may(Role::Operator),
        is_administrator => asked.visitor.may(Role::Administrator),
        csrf => session.map(|session| session.csrf.as_str()),
        is_local => shared.is_local(),
        said => Some(asked.query("said")).filter(|said| shared.templates.has_word(&format!("said.{said}"))),
        failed => failed(shared, asked, template),
        is_stream => asked.is_stream,
        data => data,
    };
    shared.templates.render(template, &context).map_err(|why| {
        tracing::error!(template, why, "a page of the console cannot be rendered");
        Failed::Why(why)
    })
}

/// A page, whole.
pub(crate) async fn page(
    State(shared): State<Arc<Shared>>,
    Extension(visitor): Extension<Visitor>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let whole = uri.path_and_query().map_or("/", |whole| whole.as_str());
    let asked = Asked::of(whole, &headers, visitor);
    whole_page(&shared, &asked, content(&shared, &asked).await)
}

/// A content with what stands around it.
pub(crate) fn whole_page(shared: &Shared, asked: &Asked, content: Result<Content, Failed>) -> Response {
    let (status, content) = match content {
        Ok(content) if content.is_part => return Html(content.html).into_response(),
        Ok(content) => (StatusCode::OK, content),
        Err(failed) => {
            let (status, why) = match failed {
                Failed::NotFound => (StatusCode::NOT_FOUND, json!({ "name": "not-found" })),
                Failed::Forbidden(role) => {
                    (StatusCode::FORBIDDEN, json!({ "name": "forbidden", "role": role.as_str() }))
                }
                Failed::Why(why) => {
                    (StatusCode::SERVICE_UNAVAILABLE, json!({ "name": "failed", "why": why }))
                }
            };
            let html = render(shared, asked, "error.html", "error", &why).unwrap_or_default();
            (status, Content { html, title: "error", is_part: false, refreshes: false })
        }
    };
    let is_live = status == StatusCode::OK && is_live(asked);
    let whole = json!({ "content": content.html, "is_live": is_live, "refreshes": content.refreshes });
    match render(shared, asked, "base.html", content.title, &whole) {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be rendered; see the log\n").into_response()
        }
    }
}

/// Files that pages load: names, types and texts.
const ASSETS: &[(&str, &str, &str)] = &[
    ("console.css", "text/css; charset=utf-8", include_str!("../../assets/console.css")),
    ("phone.css", "text/css; charset=utf-8", include_str!("../../assets/phone.css")),
    ("console.js", "text/javascript; charset=utf-8", include_str!("../../assets/console.js")),
    ("phone.js", "text/javascript; charset=utf-8", include_str!("../../assets/phone.js")),
    ("sip.js", "text/javascript; charset=utf-8", include_str!("../../assets/sip.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../assets/icon.svg")),
];

/// A file that pages load.
pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(own, ..)| *own == name) {
        Some((_, kind, text)) => {
            ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")], *text).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}
