//! The files of the pages, built into the program. Each has a tag by its content, so that a browser asks and is told that
//! nothing has changed.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use sha2::{Digest as _, Sha256};

use super::Site;

const FILES: [(&str, &str, &str); 5] = [
    ("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("assets/page.js")),
    ("chart.js", "text/javascript; charset=utf-8", include_str!("assets/chart.js")),
    ("operator.js", "text/javascript; charset=utf-8", include_str!("assets/operator.js")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// The files' tags, in their order.
#[derive(Debug)]
pub(super) struct Assets([String; FILES.len()]);

impl Assets {
    pub(super) fn new() -> Self {
        Self(FILES.map(|(_, _, text)| {
            let digest: [u8; 32] = Sha256::digest(text).into();
            format!("\"{:016x}\"", digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
        }))
    }
}

pub(super) fn routes() -> Router<Arc<Site>> {
    Router::new().route("/assets/{name}", get(asset))
}

async fn asset(State(site): State<Arc<Site>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(index) = FILES.iter().position(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (_, kind, text) = FILES[index];
    let tag = &site.assets.0[index];
    let caching = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, "no-cache")];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|seen| seen.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (caching, [(header::CONTENT_TYPE, kind)], text).into_response()
}
