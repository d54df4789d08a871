//! The cache that stores the responses of turbo routes for a time, and serves them to later requests.
//!
//! The first request for a missing response calls user code; requests that arrive meanwhile wait for that response.
//! A response that may not be cached goes to its own client only. Then each waiting request calls user code itself,
//! so that they do not wait for each other one by one.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_http::header::{self, HeaderName, HeaderValue};
use actix_web::http::StatusCode;
use bytes::Bytes;
use lru::LruCache;
use sha1::{Digest, Sha1};
use tokio::sync::Notify;

use super::head::Head;
use super::response::{Response, ResponseBody, WireBody, WireResponse};
use super::router::EndpointId;

/// Responses that a worker caches. Above it the least recently used ones are removed.
const MAX_ENTRIES: usize = 4096;

/// Bytes of all cached responses, with headers and targets.
const MAX_BYTES: usize = 16 << 20;

/// Larger responses are not cached: one must not replace all others.
const MAX_ENTRY_BYTES: usize = MAX_BYTES / 8;

/// Bytes that an entry costs besides its contents.
const OVERHEAD: usize = 512;

/// The key of a response: its endpoint, with path and query as the client sent them.
type CacheKey = (u32, Rc<[u8]>);

/// The parts of a key, owned or borrowed: a look-up allocates nothing.
trait KeyParts {
    fn parts(&self) -> (u32, &[u8]);
}

impl KeyParts for CacheKey {
    fn parts(&self) -> (u32, &[u8]) {
        (self.0, &self.1)
    }
}

impl KeyParts for (u32, &[u8]) {
    fn parts(&self) -> (u32, &[u8]) {
        *self
    }
}

impl Hash for dyn KeyParts + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state); // as a CacheKey hashes
    }
}

impl PartialEq for dyn KeyParts + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn KeyParts + '_ {}

impl<'n> Borrow<dyn KeyParts + 'n> for CacheKey {
    fn borrow(&self) -> &(dyn KeyParts + 'n) {
        self
    }
}

/// The cached responses of one worker.
pub(super) struct Cache(RefCell<State>);

struct State {
    cached: LruCache<CacheKey, Entry>,
    /// The cost of all entries.
    bytes: usize,
    /// Responses that user code is computing, and the requests that wait for them.
    in_progress: HashMap<CacheKey, Rc<Notify>>,
}

struct Entry {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// None: the entry does not expire.
    expires: Option<Instant>,
    cost: usize,
}

/// The result of a look-up.
pub(super) enum CacheLookup {
    /// The response is cached.
    Hit(WireResponse),
    /// The caller must call user code, and store the response.
    Miss(CacheFill),
}

impl Default for Cache {
    fn default() -> Self {
        Self(RefCell::new(State {
            cached: LruCache::unbounded(),
            bytes: 0,
            in_progress: HashMap::new(),
        }))
    }
}

impl Cache {
    /// The response to this request, if it is cached.
    pub(super) fn get(&self, endpoint: EndpointId, head: &Head) -> Option<WireResponse> {
        self.0.borrow_mut().get(&(endpoint.0, head.target_bytes()))
    }

    /// The response to this request, or the duty to compute it. Waits while another request computes it.
    pub(super) async fn look_up(self: &Rc<Self>, endpoint: EndpointId, head: &Head) -> CacheLookup {
        self.look_up_key((endpoint.0, head.target_bytes().into()))
            .await
    }

    async fn look_up_key(self: &Rc<Self>, key: CacheKey) -> CacheLookup {
        let in_progress = {
            let state = &mut *self.0.borrow_mut();
            if let Some(response) = state.get(&key) {
                return CacheLookup::Hit(response);
            }
            state.in_progress.get(&key).cloned()
        };
        let Some(in_progress) = in_progress else {
            let notify = Rc::<Notify>::default();
            let in_progress = &mut self.0.borrow_mut().in_progress;
            in_progress.insert(key.clone(), notify);
            return CacheLookup::Miss(self.fill(key, true));
        };
        in_progress.notified().await;
        match self.0.borrow_mut().get(&key) {
            Some(response) => CacheLookup::Hit(response),
            None => CacheLookup::Miss(self.fill(key, false)),
        }
    }

    fn fill(self: &Rc<Self>, key: CacheKey, has_waiters: bool) -> CacheFill {
        CacheFill {
            cache: Rc::clone(self),
            key,
            has_waiters,
        }
    }
}

impl State {
    fn get(&mut self, key: &dyn KeyParts) -> Option<WireResponse> {
        let entry = self.cached.get(key)?;
        if entry.expires.is_some_and(|at| at <= Instant::now()) {
            self.remove(key);
            return None;
        }
        Some(entry.response())
    }

    fn put(&mut self, key: CacheKey, entry: Entry) {
        self.remove(&key);
        self.bytes += entry.cost;
        self.cached.put(key, entry);
        while self.bytes > MAX_BYTES || self.cached.len() > MAX_ENTRIES {
            let (_, oldest) = self.cached.pop_lru().expect("it costs something");
            self.bytes -= oldest.cost;
        }
    }

    fn remove(&mut self, key: &dyn KeyParts) {
        if let Some(entry) = self.cached.pop(key) {
            self.bytes -= entry.cost;
        }
    }
}

impl Entry {
    fn response(&self) -> WireResponse {
        Response {
            status: self.status,
            content_type: self.content_type.clone(),
            headers: self.headers.clone(),
            body: WireBody::Bytes(self.body.clone()),
            trailers: None,
        }
    }
}

/// The duty to compute a response. Dropping it wakes the requests that wait.
pub(super) struct CacheFill {
    cache: Rc<Cache>,
    key: CacheKey,
    /// Other requests wait for this response.
    has_waiters: bool,
}

impl CacheFill {
    /// Caches the response if that is allowed, and adds an `ETag` if it has none.
    pub(super) fn store(self, response: &mut Response, ttl: Option<Duration>) {
        let ResponseBody::Bytes(body) = &response.body else {
            return;
        };
        if !is_cacheable(response) {
            return;
        }
        let body = body.clone();
        let is_tagged = response.headers.iter().any(|it| it.0 == header::ETAG);
        if response.status == StatusCode::OK && !is_tagged {
            response.headers.push((header::ETAG, tag(&body)));
        }
        let headers = response.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let cost = body.len() + headers + self.key.1.len() + OVERHEAD;
        if cost > MAX_ENTRY_BYTES {
            return;
        }
        // A time that is too far away for the clock does not expire.
        let expires = ttl.and_then(|ttl| Instant::now().checked_add(ttl));
        let entry = Entry {
            status: response.status,
            content_type: response.content_type.clone(),
            headers: response.headers.clone(),
            body,
            expires,
            cost,
        };
        let key = self.key.clone();
        self.cache.0.borrow_mut().put(key, entry);
    }
}

impl Drop for CacheFill {
    fn drop(&mut self) {
        if self.has_waiters
            && let Some(notify) = self.cache.0.borrow_mut().in_progress.remove(&self.key)
        {
            notify.notify_waiters();
        }
    }
}

/// Whether the response is the same for every client, and not an error of the server.
fn is_cacheable(response: &Response) -> bool {
    !response.status.is_server_error()
        && response.headers.iter().all(|(name, value)| {
            let says = |word: &str| {
                let text = value.to_str().unwrap_or_default();
                text.to_ascii_lowercase().contains(word)
            };
            match *name {
                header::SET_COOKIE | header::VARY => false,
                header::CACHE_CONTROL => !says("no-store") && !says("private"),
                _ => true,
            }
        })
}

/// An `ETag` that is the same in all workers and their replacements.
fn tag(body: &[u8]) -> HeaderValue {
    let mut tag = String::from("\"");
    for byte in Sha1::digest(body) {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::from_str(&tag).expect("hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn key(text: &str) -> CacheKey {
        (0, text.as_bytes().into())
    }

    /// The result of a look-up that does not wait.
    fn found(cache: &Rc<Cache>, text: &str) -> Option<CacheLookup> {
        let found = pin!(cache.look_up_key(key(text)));
        match found.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(found) => Some(found),
            Poll::Pending => None,
        }
    }

    fn fill(cache: &Rc<Cache>, text: &str) -> CacheFill {
        match found(cache, text) {
            Some(CacheLookup::Miss(fill)) => fill,
            _ => panic!("{text}: it is cached, or in progress"),
        }
    }

    fn is_cached(cache: &Rc<Cache>, text: &str) -> bool {
        matches!(found(cache, text), Some(CacheLookup::Hit(_)))
    }

    fn response(body: impl Into<Bytes>) -> Response {
        Response {
            status: StatusCode::OK,
            content_type: None,
            headers: Vec::new(),
            body: ResponseBody::Bytes(body.into()),
            trailers: None,
        }
    }

    #[test]
    fn a_second_request_waits_for_the_response_of_the_first() {
        let cache = Rc::<Cache>::default();
        let first = fill(&cache, "/");
        let mut second = pin!(cache.look_up_key(key("/")));
        let mut task = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut task).is_pending());
        let _another = fill(&cache, "/?page=2");
        first.store(&mut response("hello"), None);
        assert!(matches!(
            second.poll(&mut task),
            Poll::Ready(CacheLookup::Hit(_))
        ));
        assert!(is_cached(&cache, "/"));
    }

    #[test]
    fn requests_that_waited_in_vain_compute_their_own_responses() {
        let cache = Rc::<Cache>::default();
        let first = fill(&cache, "/");
        let mut waiting = [(); 3].map(|()| Box::pin(cache.look_up_key(key("/"))));
        let mut task = Context::from_waker(Waker::noop());
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut task).is_pending());
        }
        drop(first); // its client has disconnected
        let fills = waiting.map(|mut one| match one.as_mut().poll(&mut task) {
            Poll::Ready(CacheLookup::Miss(fill)) => fill,
            _ => panic!("a request waits for the others"),
        });
        for fill in fills {
            fill.store(&mut response("hello"), None);
        }
        assert!(is_cached(&cache, "/"));
        assert!(cache.0.borrow().in_progress.is_empty());
    }

    #[test]
    fn expired_responses_are_computed_again() {
        let cache = Rc::<Cache>::default();
        fill(&cache, "/").store(&mut response("hello"), Some(Duration::ZERO));
        fill(&cache, "/").store(&mut response("hello"), Some(Duration::MAX));
        assert!(is_cached(&cache, "/"));
        let state = cache.0.borrow();
        let costs: usize = state.cached.iter().map(|(_, entry)| entry.cost).sum();
        assert_eq!((state.cached.len(), state.bytes), (1, costs));
    }

    #[test]
    fn private_responses_and_errors_are_not_cached() {
        let with = |name, value| response("").with_header(name, HeaderValue::from_static(value));
        let mut failed = response("");
        failed.status = StatusCode::BAD_GATEWAY;
        for mut response in [
            failed,
            with(header::SET_COOKIE, "a=b"),
            with(header::VARY, "cookie"),
            with(header::CACHE_CONTROL, "max-age=1, Private"),
            with(header::CACHE_CONTROL, "no-store"),
            response(vec![0; MAX_ENTRY_BYTES]),
        ] {
            let cache = Rc::<Cache>::default();
            fill(&cache, "/").store(&mut response, None);
            assert!(!is_cached(&cache, "/"), "{response:?}");
        }
    }

    #[test]
    fn the_least_recently_used_responses_are_removed_first() {
        let cache = Rc::<Cache>::default();
        for number in 0..MAX_ENTRIES {
            fill(&cache, &number.to_string()).store(&mut response("x"), None);
        }
        assert!(is_cached(&cache, "0"));
        fill(&cache, "one more").store(&mut response("x"), None);
        assert!(is_cached(&cache, "0") && is_cached(&cache, "one more"));
        assert!(!is_cached(&cache, "1"));
        let large = MAX_ENTRY_BYTES - 2 * OVERHEAD;
        for number in 0..20 {
            fill(&cache, &format!("large {number}")).store(&mut response(vec![0; large]), None);
        }
        let state = cache.0.borrow();
        assert!(state.bytes <= MAX_BYTES && state.bytes > MAX_BYTES - 2 * MAX_ENTRY_BYTES);
    }
}
