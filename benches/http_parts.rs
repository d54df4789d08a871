//! What a request's address costs before anybody answers it: its path parameters, its
//! percent-encoding and its query, in one thread. `cargo bench --bench http_parts`
//!
//! Whether one of them costs more than it did is better asked of `make cost`, which counts
//! instructions; here they have their time.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use actix_http::Method;
use criterion::{BenchmarkId, Criterion, Throughput};
use fanbus::http::router::{EndpointId, RouteLookup, Router};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    parameters(&mut criterion);
    percent_decoding(&mut criterion);
    query(&mut criterion);
    criterion.final_summary();
}

/// A route of each sort of parameter, among as many as an application may have.
fn router() -> Router {
    let paths = [
        "/plain",
        "/str/{a}",
        "/int/{a:int}",
        "/float/{a:float}",
        "/uuid/{a:uuid}",
        "/path/{a:path}",
        "/four/{a}/{b:int}/{c}/{d:int}",
    ];
    let others = (0..50).map(|number| format!("/others/{number}/{{id:int}}"));
    let mut router = Router::new();
    for (number, path) in (0..).zip(paths.map(str::to_owned).into_iter().chain(others)) {
        let added = router.add_http(&[Method::GET], &path, EndpointId(number));
        added.expect("no conflict");
    }
    router
}

fn find(router: &Router, path: &str) {
    let found = router.http(&Method::GET, black_box(path));
    assert!(matches!(black_box(found), RouteLookup::Match(_)), "{path}");
}

/// From a path to its endpoint and the values of its parameters.
fn parameters(criterion: &mut Criterion) {
    let router = router();
    let mut group = criterion.benchmark_group("path parameters");
    for (what, path) in [
        ("none", "/plain"),
        ("str", "/str/lobby"),
        ("int", "/int/1234567"),
        ("float", "/float/12.5"),
        ("uuid", "/uuid/01890a5d-ac96-774b-bcce-b302099a8057"),
        ("path", "/path/images/2026/11/cat.png"),
        ("four", "/four/lobby/42/messages/7"),
    ] {
        group.bench_function(what, |bencher| bencher.iter(|| find(&router, path)));
    }
    group.finish();
}

/// The same for a text of 64 characters, none, some and all of which are encoded.
fn percent_decoding(criterion: &mut Criterion) {
    let router = router();
    let mut group = criterion.benchmark_group("percent-decoding, 64 characters");
    for encoded in [0, 8, 64] {
        let mut path = String::from("/str/");
        for at in 0..64 {
            if at * encoded / 64 < (at + 1) * encoded / 64 {
                write!(path, "%{:02X}", b'a' + at as u8 % 26).expect("into a string");
            } else {
                path.push('x');
            }
        }
        group.bench_function(BenchmarkId::new("encoded", encoded), |bencher| {
            bencher.iter(|| find(&router, &path));
        });
    }
    group.finish();
}

/// A query string into names and values, as `request.query` does it.
fn query(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("query");
    for pairs in [1, 5, 50] {
        let texts: Vec<_> = (0..pairs)
            .map(|n| format!("name{n}=a+value%20{n}"))
            .collect();
        let query = texts.join("&");
        group.throughput(Throughput::Bytes(query.len() as u64));
        group.bench_function(BenchmarkId::new("pairs", pairs), |bencher| {
            bencher.iter(|| -> Vec<(String, String)> {
                let pairs = form_urlencoded::parse(black_box(query.as_bytes()));
                pairs.into_owned().collect()
            });
        });
    }
    group.finish();
}
