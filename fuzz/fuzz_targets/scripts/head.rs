//! The check of HTTP/1 request heads: for any bytes, and every way of cutting them, a head is refused or understood
//! in one way.

use fanbus::http::http1::parse::{RequestStart, parse};
use fanbus::http::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use fanbus::http::peer::Peer;

const DIRECT: Peer = Peer {
    address: None,
    is_secure: false,
};

/// The last bytes of a head, at each of which it is cut.
const CUTS: usize = 80;

/// All parts of a head, so that two results can be compared.
fn summary(start: &RequestStart) -> String {
    let headers: Vec<_> = start.head.headers().collect();
    format!(
        "{} {} {:?} {:?} {:?} {} {} {} {}",
        start.method,
        start.head.target(),
        start.head.version,
        headers,
        start.framing,
        start.keep_alive,
        start.expects_continue,
        start.wants_websocket,
        start.len
    )
}

/// Reads a head.
pub(crate) fn play(bytes: &[u8]) {
    let Ok(whole) = parse(bytes, DIRECT) else {
        return;
    };
    let Some(start) = whole else {
        assert!(bytes.len() < MAX_HEAD_BYTES, "more is read than may be");
        return;
    };
    assert!(start.len <= bytes.len() && start.len <= MAX_HEAD_BYTES);
    let (head, _) = bytes.split_at(start.len);
    let alone = parse(head, DIRECT).expect("the bytes behind the head change nothing");
    let alone = alone.expect("the bytes behind the head are not needed");
    assert_eq!(summary(&alone), summary(&start));
    for cut in start.len.saturating_sub(CUTS)..start.len {
        let cut = parse(&head[..cut], DIRECT).expect("a good head has a good beginning");
        assert!(cut.is_none(), "it is whole only with its empty line");
    }
    assert!(start.head.headers().count() <= MAX_HEADERS + 1);
    for (name, value) in start.head.headers() {
        assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
        assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)));
    }
    let target = start.head.target();
    assert!(target.starts_with('/') || target == "*", "{target}");
    assert!(!target.contains([' ', '\r', '\n', '\0']));
}
