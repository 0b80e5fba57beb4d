//! Style, script and mark, from the program itself.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

const CSS: &str = include_str!("../static/console.css");
const SCRIPT: &str = include_str!("../static/console.js");
const ICON: &str = include_str!("../static/icon.svg");

pub(crate) async fn css() -> Response {
    file("text/css; charset=utf-8", CSS)
}

pub(crate) async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

pub(crate) async fn icon() -> Response {
    file("image/svg+xml", ICON)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    // Short, so that a new version of the program is seen soon.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
}
