//! From the bytes of a request's head to the endpoint that answers it.

use std::hint::black_box;

use actix_http::Method;
use fanbus::http::http1::parse::parse;
use fanbus::http::peer::Peer;
use fanbus::http::router::{EndpointId, RouteLookup, Router};

use crate::walk::Walk;

const COUNT: usize = 500;

const PLAIN: &str = "GET /health HTTP/1.1\r\nHost: localhost:5000\r\n\r\n";

const PARAMETERS: &str =
    "GET /rooms/42/messages/caf%C3%A9 HTTP/1.1\r\nHost: localhost:5000\r\n\r\n";

const QUERY: &str = "q=shared+memory&page=2&tag=rust&tag=python&name=Caf%C3%A9";

/// What a browser sends along.
const BROWSER: &str = "GET /search?q=shared+memory&page=2&tag=rust&tag=python&name=Caf%C3%A9 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Dest: document\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

/// Twenty routes, as a small application has them.
fn router() -> Router {
    let mut router = Router::new();
    let mut add = |path: &str, number| {
        let added = router.add_http(&[Method::GET], path, EndpointId(number));
        added.expect("no conflict");
    };
    add("/health", 0);
    add("/rooms/{room:int}/messages/{name}", 1);
    add("/search", 2);
    for number in 3..20 {
        add(&format!("/part{number}/{{id:int}}"), number);
    }
    router
}

pub(crate) fn paths(walk: &mut Walk<'_>) {
    let router = router();
    let direct = Peer {
        address: None,
        is_secure: false,
    };
    let head = |walk: &mut Walk<'_>, name, bytes: &str| {
        walk.path(name, COUNT, || {
            let start = parse(black_box(bytes.as_bytes()), direct).expect("a good head");
            let start = start.expect("the head is whole");
            let found = router.http(&start.method, start.head.path());
            assert!(matches!(black_box(found), RouteLookup::Match(_)));
        });
    };
    head(walk, "HTTP head to endpoint, plain path", PLAIN);
    head(walk, "HTTP head to endpoint, two parameters", PARAMETERS);
    head(walk, "HTTP head to endpoint, a browser's headers", BROWSER);

    let route = |walk: &mut Walk<'_>, name, path: &str| {
        walk.path(name, COUNT, || {
            let found = router.http(&Method::GET, black_box(path));
            assert!(matches!(black_box(found), RouteLookup::Match(_)));
        });
    };
    route(walk, "route, plain path", "/health");
    route(walk, "route, two parameters", "/rooms/42/messages/hello");
    route(
        walk,
        "route, percent-encoded parameter",
        "/rooms/42/messages/caf%C3%A9",
    );
    walk.path("query, five pairs", COUNT, || {
        let pairs = form_urlencoded::parse(black_box(QUERY).as_bytes());
        let pairs: Vec<(String, String)> = pairs.into_owned().collect();
        assert_eq!(pairs.len(), 5);
        pairs
    });
}
