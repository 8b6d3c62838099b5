//! `/`: the page to pay with and to watch. One file without a build and without anything from elsewhere; the policy that
//! goes with it names its one script and its one style by their hashes, so that nothing else can run in it.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::HeaderValue;
use warp::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use warp::reply::{Reply, Response};

use super::{get, header_value};

const PAGE: &str = include_str!("../../web/index.html");

static POLICY: LazyLock<String> = LazyLock::new(|| policy(PAGE));

pub(super) fn route() -> BoxedFilter<(Response,)> {
    warp::path::end().and(get()).map(page).boxed()
}

fn page() -> Response {
    let mut response = warp::reply::html(PAGE).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, header_value(&POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn policy(page: &str) -> String {
    let hash = |tag: &str| {
        let text = between(page, &format!("<{tag}>"), &format!("</{tag}>")).unwrap_or_default();
        data_encoding::BASE64.encode(&Sha256::digest(text))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    )
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    text.split_once(from)?.1.split_once(to).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::{PAGE, between, policy};

    #[test]
    fn the_page_is_whole_and_takes_nothing_from_elsewhere() {
        for tag in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "one {tag}, without attributes");
            assert!(between(PAGE, &format!("<{tag}>"), &format!("</{tag}>")).is_some_and(|text| text.len() > 100));
        }
        for outside in
            ["http://", "https://", "innerHTML", "insertAdjacentHTML", "document.write", " style=", " onclick="]
        {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_policy_names_the_script_by_its_hash() {
        // printf 'a' | openssl dgst -sha256 -binary | base64
        let policy = policy("<style></style><script>a</script>");
        assert!(policy.contains("script-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"), "{policy}");
        assert!(policy.contains("default-src 'none'"));
    }
}
