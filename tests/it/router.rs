//! The router: matching paths, values of parameters, and errors of invalid routes.

use actix_http::Method;
use fanbus::http::path::{PathTemplate, Value};
use fanbus::http::router::{EndpointId, RouteError, RouteLookup, Router};
use proptest::prelude::{prop_assert, prop_assert_eq, prop_assume, proptest};

fn get(paths: &[&str]) -> Router {
    let mut router = Router::new();
    for (id, path) in (0..).zip(paths) {
        router
            .add_http(&[Method::GET], path, EndpointId(id))
            .expect(path);
    }
    router
}

/// The endpoint's number and its values, or the status as text.
fn ask(router: &Router, method: &Method, path: &str) -> Result<(u32, Vec<Value>), String> {
    match router.http(method, path) {
        RouteLookup::Match(found) => Ok((found.endpoint.0, found.values.into_vec())),
        RouteLookup::MethodNotAllowed { allow } => Err(format!("405 {allow}")),
        RouteLookup::OtherSlash { path } => Err(format!("307 {path}")),
        RouteLookup::NotFound => Err("404".to_owned()),
    }
}

/// The values of the only route's parameters.
fn values(path: &str, request: &str) -> Option<Vec<Value>> {
    ask(&get(&[path]), &Method::GET, request)
        .ok()
        .map(|(_, values)| values)
}

fn text(value: &str) -> Value {
    Value::Str(value.to_owned())
}

fn error(paths: &[&str]) -> String {
    let (last, first) = paths.split_last().expect("a path");
    let mut router = get(first);
    let error = router
        .add_http(&[Method::GET], last, EndpointId(99))
        .expect_err(last);
    error.to_string()
}

#[test]
fn text_takes_precedence_over_a_parameter() {
    let router = get(&[
        "/",
        "/users",
        "/users/{name}",
        "/users/me",
        "/users/{name}/posts",
    ]);
    let ask = |path| ask(&router, &Method::GET, path);
    assert_eq!(ask("/"), Ok((0, vec![])));
    assert_eq!(ask("/users"), Ok((1, vec![])));
    assert_eq!(ask("/users/me"), Ok((3, vec![])));
    assert_eq!(ask("/users/mel"), Ok((2, vec![text("mel")])));
    assert_eq!(ask("/users/me/posts"), Ok((4, vec![text("me")])));
    assert_eq!(ask("/users/"), Err("307 /users".to_owned()));
    assert_eq!(ask("/users/a/b"), Err("404".to_owned()));
    assert_eq!(ask(""), Err("404".to_owned()));
}

#[test]
fn a_path_with_the_wrong_trailing_slash_is_redirected() {
    let mut router = get(&["/a", "/b/", "/c", "/c/", "/n/{id:int}"]);
    router
        .add_http(&[Method::POST], "/p", EndpointId(9))
        .expect("another path");
    let ask = |path| ask(&router, &Method::GET, path).map(|(id, _)| id);
    assert_eq!(ask("/a/"), Err("307 /a".to_owned()));
    assert_eq!(ask("/b"), Err("307 /b/".to_owned()));
    assert_eq!((ask("/c"), ask("/c/")), (Ok(2), Ok(3)));
    assert_eq!(ask("/n/7/"), Err("307 /n/7".to_owned()));
    for nowhere in ["/n/x/", "/n/", "/a//", "//a/", "/p/", "/n", "//", "*"] {
        assert_eq!(ask(nowhere), Err("404".to_owned()), "{nowhere}");
    }
}

#[test]
fn a_websocket_is_not_redirected() {
    let mut router = Router::new();
    router
        .add_websocket("/chat", EndpointId(0))
        .expect("a path");
    assert!(router.websocket("/chat/").is_none());
}

#[test]
fn parameters_have_types() {
    assert_eq!(values("/{n:int}", "/42"), Some(vec![Value::Int(42)]));
    assert_eq!(values("/{n:int}", "/007"), Some(vec![Value::Int(7)]));
    assert_eq!(
        values("/{n:int}", &format!("/{}", i64::MAX)),
        Some(vec![Value::Int(i64::MAX)])
    );
    assert_eq!(values("/{x:float}", "/2.5"), Some(vec![Value::Float(2.5)]));
    assert_eq!(values("/{x:float}", "/2"), Some(vec![Value::Float(2.0)]));
    assert_eq!(
        values("/{id:uuid}", "/6BA7B810-9dad-11d1-80b4-00c04fd430c8"),
        Some(vec![Value::Uuid(
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned()
        )])
    );
    assert_eq!(
        values("/f/{rest:path}", "/f/a/b.txt"),
        Some(vec![text("a/b.txt")])
    );
    assert_eq!(
        values("/{a:str}/{b}", "/x/y"),
        Some(vec![text("x"), text("y")])
    );
    assert_eq!(
        values("/img-{id:int}.png", "/img-7.png"),
        Some(vec![Value::Int(7)])
    );
}

#[test]
fn values_that_a_converter_refuses_are_not_found() {
    let cases = [
        ("/{n:int}", "/x"),
        ("/{n:int}", "/-1"),
        ("/{n:int}", "/+1"),
        ("/{n:int}", "/1.0"),
        ("/{n:int}", "/9223372036854775808"),
        ("/{n:int}", "/%D9%A1"), // a digit, but not a decimal one of ASCII
        ("/{x:float}", "/1e5"),
        ("/{x:float}", "/.5"),
        ("/{x:float}", "/inf"),
        ("/{x:float}", "/NaN"),
        ("/{x:float}", &format!("/{}", "9".repeat(400))),
        ("/{id:uuid}", "/6ba7b8109dad11d180b400c04fd430c8"),
        ("/{id:uuid}", "/6ba7b810-9dad-11d1-80b4-00c04fd430cx"),
        ("/f/{rest:path}", "/f/"),
        ("/{name}", "/"),
    ];
    for (path, request) in cases {
        assert_eq!(values(path, request), None, "{path} {request}");
    }
}

#[test]
fn the_syntax_of_flask_declares_the_same_parameters() {
    assert_eq!(values("/<int:n>", "/42"), Some(vec![Value::Int(42)]));
    assert_eq!(values("/<name>", "/x"), Some(vec![text("x")]));
    assert_eq!(values("/<string:name>", "/x"), Some(vec![text("x")]));
    assert_eq!(values("/<path:rest>", "/a/b"), Some(vec![text("a/b")]));
    let template = PathTemplate::parse("/<int:a>/{b:float}/<c>").expect("a path");
    assert_eq!(template.names().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn values_are_percent_decoded_and_not_split() {
    assert_eq!(
        values("/{x}", "/caf%C3%A9%20%F0%9F%8E%89"),
        Some(vec![text("café 🎉")])
    );
    assert_eq!(values("/{x}", "/a%2Fb%2fc"), Some(vec![text("a/b/c")]));
    assert_eq!(
        values("/{x}/end", "/a%2Fend/end"),
        Some(vec![text("a/end")])
    );
    assert_eq!(values("/{x}", "/100%25"), Some(vec![text("100%")]));
    assert_eq!(values("/{x}", "/%252F"), Some(vec![text("%2F")]));
    assert_eq!(values("/{x}", "/a+b"), Some(vec![text("a+b")]));
    assert_eq!(values("/{x}", "/%7Bx%7D"), Some(vec![text("{x}")]));
    assert_eq!(values("/{n:int}", "/%34%32"), Some(vec![Value::Int(42)]));
    assert_eq!(
        values("/f/{rest:path}", "/f/a%2Fb/c"),
        Some(vec![text("a/b/c")])
    );
}

#[test]
fn a_percent_sign_that_encodes_nothing_stands_for_itself() {
    for (request, value) in [("/%", "%"), ("/%4", "%4"), ("/%zz", "%zz"), ("/%é", "%é")] {
        assert_eq!(
            values("/{x}", request),
            Some(vec![text(value)]),
            "{request}"
        );
    }
}

#[test]
fn paths_that_are_not_utf_8_match_no_route() {
    for request in ["/%FF", "/%C3", "/a%ED%A0%80", "/%C0%AF"] {
        assert_eq!(values("/{x}", request), None, "{request}");
        assert_eq!(values("/{x:path}", request), None, "{request}");
    }
}

#[test]
fn an_encoded_path_is_the_same_path() {
    for path in ["/café/%7Ex", "/caf%C3%A9/~x"] {
        for request in ["/caf%C3%A9/~x", "/caf%c3%a9/%7ex", "/café/~x"] {
            assert_eq!(values(path, request), Some(vec![]), "{path} {request}");
        }
    }
    assert_eq!(values("/100%", "/100%25"), Some(vec![]));
    assert_eq!(values("/a/b", "/a%2Fb"), None);
}

#[test]
fn head_uses_the_route_of_get_and_other_methods_get_the_allowed_ones() {
    let mut router = get(&["/a"]);
    router
        .add_http(&[Method::POST, Method::PUT], "/a", EndpointId(7))
        .expect("other methods");
    router
        .add_http(&[Method::DELETE], "/b", EndpointId(8))
        .expect("another path");
    let ask = |method, path| ask(&router, &method, path).map(|(id, _)| id);
    assert_eq!(ask(Method::GET, "/a"), Ok(0));
    assert_eq!(ask(Method::HEAD, "/a"), Ok(0));
    assert_eq!(ask(Method::PUT, "/a"), Ok(7));
    assert_eq!(
        ask(Method::PATCH, "/a"),
        Err("405 GET, HEAD, OPTIONS, POST, PUT".to_owned())
    );
    assert_eq!(
        ask(Method::HEAD, "/b"),
        Err("405 DELETE, OPTIONS".to_owned())
    );
    assert_eq!(ask(Method::PATCH, "/c"), Err("404".to_owned()));
}

#[test]
fn text_of_another_method_hides_no_parameter() {
    let mut router = get(&["/a/{x}", "/all/{rest:path}"]);
    let mut add = |methods: &[Method], path, number| {
        router
            .add_http(methods, path, EndpointId(number))
            .expect("no conflict");
    };
    add(&[Method::POST], "/a/b", 10);
    add(&[Method::PUT], "/a/{y:int}", 11);
    add(&[Method::DELETE], "/a/{rest:path}", 12);
    let ask = |method, path| ask(&router, &method, path);
    assert_eq!(ask(Method::GET, "/a/b"), Ok((0, vec![text("b")])));
    assert_eq!(ask(Method::HEAD, "/a/b"), Ok((0, vec![text("b")])));
    assert_eq!(ask(Method::POST, "/a/b"), Ok((10, vec![])));
    assert_eq!(ask(Method::DELETE, "/a/b"), Ok((12, vec![text("b")])));
    assert_eq!(ask(Method::GET, "/all/b/c"), Ok((1, vec![text("b/c")])));
    // Every route of the path counts, except those whose converter refuses the value.
    let all = "405 DELETE, GET, HEAD, OPTIONS, POST";
    assert_eq!(ask(Method::PUT, "/a/b"), Err(all.to_owned()));
    assert_eq!(
        ask(Method::PATCH, "/a/5"),
        Err("405 DELETE, GET, HEAD, OPTIONS, PUT".to_owned())
    );
    assert_eq!(
        ask(Method::POST, "/all/x"),
        Err("405 GET, HEAD, OPTIONS".to_owned())
    );
}

#[test]
fn head_has_the_same_route_as_get() {
    let mut router = get(&["/about"]);
    router
        .add_http(&[Method::GET, Method::HEAD], "/{page}", EndpointId(1))
        .expect("no conflict");
    router
        .add_http(&[Method::HEAD], "/about", EndpointId(2))
        .expect("of its own");
    router
        .add_http(&[Method::GET], "/terms", EndpointId(3))
        .expect("no conflict");
    let ask = |method, path| ask(&router, &method, path).map(|(id, _)| id);
    assert_eq!(ask(Method::HEAD, "/about"), Ok(2));
    assert_eq!(ask(Method::GET, "/about"), Ok(0));
    assert_eq!(ask(Method::HEAD, "/terms"), Ok(3));
    assert_eq!(ask(Method::HEAD, "/other"), Ok(1));
}

#[test]
fn a_refused_route_changes_nothing() {
    let mut router = get(&["/a/{x}"]);
    let methods = [Method::POST, Method::PUT, Method::GET];
    let refused = router.add_http(&methods, "/a/{rest:path}", EndpointId(1));
    assert!(
        matches!(refused, Err(RouteError::Conflict { .. })),
        "{refused:?}"
    );
    assert_eq!(
        ask(&router, &Method::POST, "/a/b"),
        Err("405 GET, HEAD, OPTIONS".to_owned())
    );
    let twice = [&methods[..2], &methods[..2]].concat();
    router
        .add_http(&twice, "/a/{x}/{y}", EndpointId(1))
        .expect("nothing is in its way");
    let found = ask(&router, &Method::PUT, "/a/b/c");
    assert_eq!(found, Ok((1, vec![text("b"), text("c")])));
}

#[test]
fn methods_of_one_path_may_name_and_type_their_parameters_differently() {
    let mut router = get(&["/users/{id:int}"]);
    router
        .add_http(&[Method::PUT], "/users/<name>", EndpointId(1))
        .expect("another method");
    let ask = |method, path| ask(&router, &method, path);
    assert_eq!(ask(Method::GET, "/users/5"), Ok((0, vec![Value::Int(5)])));
    assert_eq!(ask(Method::PUT, "/users/5"), Ok((1, vec![text("5")])));
    assert_eq!(
        ask(Method::GET, "/users/x"),
        Err("405 OPTIONS, PUT".to_owned())
    );
    let RouteLookup::Match(found) = router.http(&Method::PUT, "/users/5") else {
        panic!("found")
    };
    assert_eq!(found.path.names().collect::<Vec<_>>(), ["name"]);
}

#[test]
fn websockets_have_their_own_paths() {
    let mut router = get(&["/chat"]);
    router
        .add_websocket("/chat", EndpointId(5))
        .expect("another table");
    router
        .add_websocket("/rooms/{room}", EndpointId(6))
        .expect("a path");
    assert_eq!(
        router.websocket("/chat").map(|found| found.endpoint),
        Some(EndpointId(5))
    );
    let found = router.websocket("/rooms/a%20b").expect("found");
    assert_eq!(found.values[..], [text("a b")]);
    assert!(router.websocket("/rooms/").is_none());
    assert!(
        router
            .add_websocket("/rooms/{name}", EndpointId(7))
            .is_err()
    );
}

#[test]
fn errors_of_invalid_paths_say_what_to_do() {
    assert_eq!(
        error(&["users"]),
        "The path \"users\" must begin with a slash: write \"/users\"."
    );
    assert_eq!(
        error(&["/u/{id:integer}"]),
        "The path \"/u/{id:integer}\" uses the unknown converter \"integer\": \
         use str, int, float, path, uuid."
    );
    assert_eq!(
        error(&["/{a}/x/<int:a>"]),
        "The path \"/{a}/x/<int:a>\" has two parameters named \"a\": rename one."
    );
    assert_eq!(
        error(&["/{rest:path}/more"]),
        "The path \"/{rest:path}/more\" goes on after {rest:path}, which takes all the rest: \
         put it last."
    );
    assert!(error(&["/{a}-{b}"]).contains("two parameters in one segment"));
    for path in ["/{a", "/a}", "/<a", "/a>", "/{a>", "/{a{b}}"] {
        let error = error(&[path]);
        assert!(
            error.contains("an unmatched bracket") || error.contains("named"),
            "{error}"
        );
    }
    for path in ["/{}", "/{1a}", "/{a-b}", "/{*rest}", "/<int:>"] {
        assert!(error(&[path]).contains("has a parameter named"), "{path}");
    }
    assert!(error(&["/a?b=c"]).contains("contains '?'"));
    let none = Router::new()
        .add_http(&[], "/a", EndpointId(0))
        .expect_err("no methods");
    assert!(none.to_string().contains("at least one, such as GET"));
}

#[test]
fn a_conflict_names_both_paths() {
    assert_eq!(
        error(&["/users/{id:int}", "/users/<name>"]),
        "The path \"/users/<name>\" conflicts with \"/users/{id:int}\": a request could match \
         both. Change one of them, or remove it."
    );
    for (first, second) in [
        ("/a", "/a"),
        ("/a/{x}", "/a/{rest:path}"),
        ("/a/{rest:path}", "/a/{x:int}"),
        ("/a/{x}/b", "/a/{rest:path}"),
        ("/{x}.json", "/{rest:path}"),
        ("/caf%C3%A9", "/café"),
    ] {
        let error = error(&["/other", first, second]);
        assert!(error.contains(first) && error.contains(second), "{error}");
    }

    let mut router = get(&["/a"]);
    let conflict = router.add_http(&[Method::PUT, Method::GET], "/a", EndpointId(1));
    assert!(
        matches!(
            conflict,
            Err(RouteError::Conflict {
                endpoint: Some(EndpointId(0)),
                ..
            })
        ),
        "{conflict:?}"
    );
}

#[test]
fn a_url_matches_its_path_with_the_same_values() {
    type Case = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
    );
    let cases: &[Case] = &[
        ("/", &[], "/"),
        ("/café/{id:int}/x", &[("id", "7")], "/caf%C3%A9/7/x"),
        (
            "/names/<name>",
            &[("name", "a/b c%?#ü+")],
            "/names/a%2Fb%20c%25%3F%23%C3%BC%2B",
        ),
        // One segment of this name is not a step in the tree.
        ("/names/<name>", &[("name", "../.")], "/names/..%2F."),
        ("/f/{rest:path}", &[("rest", "a/b c.txt")], "/f/a/b%20c.txt"),
        ("/r/{x:float}", &[("x", "0.5")], "/r/0.5"),
        ("/100%25/a%2Fb", &[], "/100%25/a%2Fb"),
    ];
    for (path, given, expected) in cases {
        let template = PathTemplate::parse(path).expect(path);
        let value = |name: &str| {
            given
                .iter()
                .find(|(other, _)| *other == name)
                .map(|(_, it)| *it)
        };
        let url = template.url(value).expect(path);
        assert_eq!(url, *expected);
        let back = values(path, &url).expect(path);
        let back: Vec<String> = back.iter().map(ToString::to_string).collect();
        assert_eq!(
            back,
            given
                .iter()
                .map(|(_, it)| (*it).to_owned())
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn values_that_no_request_can_have_are_refused_in_urls() {
    let url = |path, value| PathTemplate::parse(path).expect(path).url(|_| value);
    for (path, value) in [
        ("/{id:int}", "-1"),
        ("/{id:int}", "x"),
        ("/{x:float}", "inf"),
        ("/{id:uuid}", "1"),
        ("/{name}", ""),
        ("/{name}", ".."),
        ("/{rest:path}", "a/../b"),
        ("/{rest:path}", ""),
    ] {
        let error = url(path, Some(value)).expect_err(path).to_string();
        assert!(
            error.contains(path) && error.contains("cannot be"),
            "{error}"
        );
    }
    let missing = url("/{name}", None).expect_err("no value").to_string();
    assert_eq!(missing, "The path \"/{name}\" needs a value for \"name\".");
}

proptest! {
    #[test]
    fn any_text_comes_back_out_of_its_url(text in "\\PC{1,20}") {
        prop_assume!(!matches!(text.as_str(), "." | ".."));
        let template = PathTemplate::parse("/a/{text}/b").expect("a good path");
        let url = template.url(|_| Some(&text)).expect("one segment may be any text");
        prop_assert!(url.is_ascii());
        prop_assert_eq!(values("/a/{text}/b", &url), Some(vec![Value::Str(text)]));
    }
}
