//! `/`, `/docs` and `/page/...`: the page to pay with and to watch, and the page of the API. Files without a build and without anything from elsewhere; the
//! policy that goes with them lets a browser run and load only what stands in files of this origin, and nothing inline.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use warp::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::path::Tail;
use warp::reply::{Reply, Response};

use super::{get, header_value, otherwise};
use crate::http::Problem;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types paylog-worker";

/// The page's one worker, which is told by Web Push: it is for all of the page, and not for the files beside it alone.
const WORKER: &str = "service-worker.js";

const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");

const INDEX: &str = "index.html";
const DOCS: &str = "docs.html";

/// By their paths in `web/`.
macro_rules! files {
    ($($path:literal),* $(,)?) => { [$(File::new($path, include_str!(concat!("../../web/", $path)))),*] };
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    files![
        "index.html",
        "docs.html",
        "style.css",
        "main.js",
        "access.js",
        "keys.js",
        "tickets.js",
        "dom.js",
        "money.js",
        "server.js",
        "payment.js",
        "connection.js",
        "sse.js",
        "websocket.js",
        "polling.js",
        "channels.js",
        "checkout.js",
        "following.js",
        "listing.js",
        "timeline.js",
        "deliveries.js",
        "exposition.js",
        "operations.js",
        "charts.js",
        "versions.js",
        "push.js",
        "docs.js",
        "described.js",
        "prose.js",
        "service-worker.js",
        "vendor/uplot/uPlot.esm.js",
        "vendor/uplot/uPlot.min.css",
        "vendor/uplot/LICENSE",
    ]
    .into()
});

struct File {
    path: &'static str,
    text: &'static str,
    tag: HeaderValue,
}

impl File {
    fn new(path: &'static str, text: &'static str) -> Self {
        let tag = data_encoding::HEXLOWER.encode(&Sha256::digest(text)[..16]);
        Self { path, text, tag: header_value(&format!("\"{tag}\"")) }
    }

    fn content_type(&self) -> &'static str {
        match self.path.rsplit_once('.') {
            Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            _ => "text/plain; charset=utf-8",
        }
    }

    /// To be asked for again each time, so that a page is of one version; what has not changed is not sent again.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(IF_NONE_MATCH).is_some_and(|tag| tag == self.tag);
        let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { self.text.into_response() };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        headers.insert(ETAG, self.tag.clone());
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if self.path == WORKER {
            headers.insert(SERVICE_WORKER_ALLOWED, HeaderValue::from_static("/"));
        }
        response
    }
}

pub(super) fn route() -> BoxedFilter<(Response,)> {
    let (index, docs) = (warp::path::end, || warp::path!("docs"));
    let file = || warp::path("page").and(warp::path::tail());
    let asked = || get().and(warp::header::headers_cloned());
    let others = otherwise(index().or(docs()).unify().or(file().map(drop).untuple_one()).unify(), "GET, HEAD");
    let index = index().and(asked()).map(|headers: HeaderMap| answer(INDEX, &headers));
    let docs = docs().and(asked()).map(|headers: HeaderMap| answer(DOCS, &headers));
    let file = file().and(asked()).map(|path: Tail, headers: HeaderMap| answer(path.as_str(), &headers));
    index.or(docs).unify().or(file).unify().or(others).unify().boxed()
}

fn answer(path: &str, headers: &HeaderMap) -> Response {
    let file = FILES.iter().find(|file| file.path == path);
    file.map_or_else(not_found, |file| file.answer(headers))
}

fn not_found() -> Response {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "the page has no such file: it begins at /").into_response()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use warp::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
    use warp::http::{HeaderMap, StatusCode};

    use super::{FILES, answer};

    fn files_in(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_in(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served_and_no_other() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let (mut there, mut served) = (Vec::new(), FILES.iter().map(|file| file.path).collect::<Vec<_>>());
        files_in(&root, &root, &mut there);
        there.sort();
        served.sort_unstable();
        assert_eq!(there, served);
        assert_eq!(answer("../Cargo.toml", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn the_page_takes_nothing_from_elsewhere_and_makes_no_markup_of_text() {
        for file in FILES.iter().filter(|file| !file.path.starts_with("vendor/")) {
            for outside in ["http://", "https://", "innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!file.text.contains(outside), "{}: {outside}", file.path);
            }
        }
    }

    #[test]
    fn nothing_in_the_page_is_inline() {
        let index = answer("index.html", &HeaderMap::new());
        assert_eq!(index.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        for page in FILES.iter().filter(|file| file.path.ends_with(".html")).map(|file| file.text) {
            for tag in page.split('<').filter(|tag| tag.starts_with("script")) {
                assert!(tag.contains(" src=\"/page/") && tag.ends_with('>'), "{tag}");
            }
            for inline in ["<style", " style=", " onclick=", " onsubmit=", "javascript:"] {
                assert!(!page.contains(inline), "{inline}");
            }
        }
    }

    #[test]
    fn the_worker_is_for_all_of_the_page_and_loads_as_strictly_as_it() {
        let worker = answer("service-worker.js", &HeaderMap::new());
        assert_eq!(worker.headers()["service-worker-allowed"], "/");
        assert_eq!(worker.headers()[CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(
            worker.headers()["content-security-policy"],
            answer("index.html", &HeaderMap::new()).headers()["content-security-policy"]
        );
        assert!(!answer("push.js", &HeaderMap::new()).headers().contains_key("service-worker-allowed"));
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let first = answer("style.css", &HeaderMap::new());
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(
            (first.status(), answer("style.css", &headers).status()),
            (StatusCode::OK, StatusCode::NOT_MODIFIED)
        );
        assert_eq!(answer("main.js", &headers).status(), StatusCode::OK, "that was another file");
    }
}
