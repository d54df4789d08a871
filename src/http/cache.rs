//! What turbo routes have answered: kept for a time, and given to the next who ask for the same.
//!
//! Who asks for what is not there is told to ask user code, and whoever comes meanwhile waits for that
//! answer. What may not be kept is passed on; then those who have waited ask for themselves, so that
//! they do not wait for each other one by one.

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
use super::response::{Body, Response};
use super::router::EndpointId;

/// Answers that a worker keeps. Above it those go that were asked for longest ago.
const MOST_ENTRIES: usize = 4096;

/// Bytes of them, with headers and addresses.
const MOST_BYTES: usize = 16 << 20;

/// Larger answers are not kept: one must not push out all others.
const MOST_ENTRY_BYTES: usize = MOST_BYTES / 8;

/// What an answer costs besides its bytes.
const OVERHEAD: usize = 512;

/// Which answer: its endpoint, with path and query as they came.
type Key = (u32, Rc<[u8]>);

/// The same, owned or lent: looking up what is known allocates nothing.
trait Name {
    fn parts(&self) -> (u32, &[u8]);
}

impl Name for Key {
    fn parts(&self) -> (u32, &[u8]) {
        (self.0, &self.1)
    }
}

impl Name for (u32, &[u8]) {
    fn parts(&self) -> (u32, &[u8]) {
        *self
    }
}

impl Hash for dyn Name + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state); // as a Key hashes
    }
}

impl PartialEq for dyn Name + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Name + '_ {}

impl<'n> Borrow<dyn Name + 'n> for Key {
    fn borrow(&self) -> &(dyn Name + 'n) {
        self
    }
}

/// The answers of one worker.
pub(super) struct Cache(RefCell<Inside>);

struct Inside {
    kept: LruCache<Key, Entry>,
    /// The cost of all that is kept.
    bytes: usize,
    /// What user code is being asked for, and who waits for it.
    asked: HashMap<Key, Rc<Notify>>,
}

struct Entry {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// None: never.
    expires: Option<Instant>,
    cost: usize,
}

/// What is known of an answer.
pub(super) enum Found {
    /// All of it.
    Known(Response),
    /// User code is to be asked.
    Asking(Asking),
}

impl Default for Cache {
    fn default() -> Self {
        Self(RefCell::new(Inside {
            kept: LruCache::unbounded(),
            bytes: 0,
            asked: HashMap::new(),
        }))
    }
}

impl Cache {
    /// The answer to this request, if it is kept.
    pub(super) fn known(&self, endpoint: EndpointId, head: &Head) -> Option<Response> {
        self.0.borrow_mut().get(&(endpoint.0, head.target_bytes()))
    }

    /// The answer to this request, or who asks for it.
    pub(super) async fn find(self: &Rc<Self>, endpoint: EndpointId, head: &Head) -> Found {
        self.look_up((endpoint.0, head.target_bytes().into())).await
    }

    async fn look_up(self: &Rc<Self>, key: Key) -> Found {
        let waited_for = {
            let inside = &mut *self.0.borrow_mut();
            if let Some(response) = inside.get(&key) {
                return Found::Known(response);
            }
            inside.asked.get(&key).cloned()
        };
        let Some(asked) = waited_for else {
            let notify = Rc::<Notify>::default();
            let asked = &mut self.0.borrow_mut().asked;
            asked.insert(key.clone(), notify);
            return Found::Asking(self.asking(key, true));
        };
        asked.notified().await;
        match self.0.borrow_mut().get(&key) {
            Some(response) => Found::Known(response),
            None => Found::Asking(self.asking(key, false)),
        }
    }

    fn asking(self: &Rc<Self>, key: Key, awaited: bool) -> Asking {
        Asking {
            cache: Rc::clone(self),
            key,
            awaited,
        }
    }
}

impl Inside {
    fn get(&mut self, key: &dyn Name) -> Option<Response> {
        let entry = self.kept.get(key)?;
        if entry.expires.is_some_and(|at| at <= Instant::now()) {
            self.forget(key);
            return None;
        }
        Some(entry.response())
    }

    fn put(&mut self, key: Key, entry: Entry) {
        self.forget(&key);
        self.bytes += entry.cost;
        self.kept.put(key, entry);
        while self.bytes > MOST_BYTES || self.kept.len() > MOST_ENTRIES {
            let (_, oldest) = self.kept.pop_lru().expect("it costs something");
            self.bytes -= oldest.cost;
        }
    }

    fn forget(&mut self, key: &dyn Name) {
        if let Some(entry) = self.kept.pop(key) {
            self.bytes -= entry.cost;
        }
    }
}

impl Entry {
    fn response(&self) -> Response {
        Response {
            status: self.status,
            content_type: self.content_type.clone(),
            headers: self.headers.clone(),
            body: Body::Bytes(self.body.clone()),
            trailers: None,
        }
    }
}

/// Somebody asks user code. Dropping it lets go those who wait.
pub(super) struct Asking {
    cache: Rc<Cache>,
    key: Key,
    /// Others wait for this answer.
    awaited: bool,
}

impl Asking {
    /// Keeps the answer for the next, if it may be kept, and gives it an `ETag` if it has none.
    pub(super) fn keep(self, response: &mut Response, ttl: Option<Duration>) {
        let Body::Bytes(body) = &response.body else {
            return;
        };
        if !may_be_kept(response) {
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
        if cost > MOST_ENTRY_BYTES {
            return;
        }
        // A time that no clock can say does not end.
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

impl Drop for Asking {
    fn drop(&mut self) {
        if self.awaited
            && let Some(asked) = self.cache.0.borrow_mut().asked.remove(&self.key)
        {
            asked.notify_waiters();
        }
    }
}

/// Is it the same for everybody, and no mishap?
fn may_be_kept(response: &Response) -> bool {
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

/// The same in all workers, and in their replacements.
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

    fn key(text: &str) -> Key {
        (0, text.as_bytes().into())
    }

    /// What is found at once.
    fn found(cache: &Rc<Cache>, text: &str) -> Option<Found> {
        let found = pin!(cache.look_up(key(text)));
        match found.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(found) => Some(found),
            Poll::Pending => None,
        }
    }

    fn asking(cache: &Rc<Cache>, text: &str) -> Asking {
        match found(cache, text) {
            Some(Found::Asking(asking)) => asking,
            _ => panic!("{text}: it is known, or asked for"),
        }
    }

    fn is_known(cache: &Rc<Cache>, text: &str) -> bool {
        matches!(found(cache, text), Some(Found::Known(_)))
    }

    fn answer(body: impl Into<Bytes>) -> Response {
        Response {
            status: StatusCode::OK,
            content_type: None,
            headers: Vec::new(),
            body: Body::Bytes(body.into()),
            trailers: None,
        }
    }

    #[test]
    fn who_asks_for_what_is_asked_for_waits_and_gets_it() {
        let cache = Rc::<Cache>::default();
        let first = asking(&cache, "/");
        let mut second = pin!(cache.look_up(key("/")));
        let mut task = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut task).is_pending());
        let _another = asking(&cache, "/?page=2");
        first.keep(&mut answer("hello"), None);
        assert!(matches!(
            second.poll(&mut task),
            Poll::Ready(Found::Known(_))
        ));
        assert!(is_known(&cache, "/"));
    }

    #[test]
    fn those_who_waited_for_nothing_ask_for_themselves() {
        let cache = Rc::<Cache>::default();
        let first = asking(&cache, "/");
        let mut waiting = [(); 3].map(|()| Box::pin(cache.look_up(key("/"))));
        let mut task = Context::from_waker(Waker::noop());
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut task).is_pending());
        }
        drop(first); // its client has gone
        let asking = waiting.map(|mut one| match one.as_mut().poll(&mut task) {
            Poll::Ready(Found::Asking(asking)) => asking,
            _ => panic!("it waits for the others"),
        });
        for one in asking {
            one.keep(&mut answer("hello"), None);
        }
        assert!(is_known(&cache, "/"));
        assert!(cache.0.borrow().asked.is_empty());
    }

    #[test]
    fn what_is_too_old_is_asked_for_again() {
        let cache = Rc::<Cache>::default();
        asking(&cache, "/").keep(&mut answer("hello"), Some(Duration::ZERO));
        asking(&cache, "/").keep(&mut answer("hello"), Some(Duration::MAX));
        assert!(is_known(&cache, "/"));
        let inside = cache.0.borrow();
        let costs: usize = inside.kept.iter().map(|(_, entry)| entry.cost).sum();
        assert_eq!((inside.kept.len(), inside.bytes), (1, costs));
    }

    #[test]
    fn what_is_for_one_client_or_a_mishap_is_not_kept() {
        let with = |name, value| answer("").with_header(name, HeaderValue::from_static(value));
        let mut failed = answer("");
        failed.status = StatusCode::BAD_GATEWAY;
        for mut response in [
            failed,
            with(header::SET_COOKIE, "a=b"),
            with(header::VARY, "cookie"),
            with(header::CACHE_CONTROL, "max-age=1, Private"),
            with(header::CACHE_CONTROL, "no-store"),
            answer(vec![0; MOST_ENTRY_BYTES]),
        ] {
            let cache = Rc::<Cache>::default();
            asking(&cache, "/").keep(&mut response, None);
            assert!(!is_known(&cache, "/"), "{response:?}");
        }
    }

    #[test]
    fn what_was_asked_for_longest_ago_makes_room() {
        let cache = Rc::<Cache>::default();
        for number in 0..MOST_ENTRIES {
            asking(&cache, &number.to_string()).keep(&mut answer("x"), None);
        }
        assert!(is_known(&cache, "0"));
        asking(&cache, "one more").keep(&mut answer("x"), None);
        assert!(is_known(&cache, "0") && is_known(&cache, "one more"));
        assert!(!is_known(&cache, "1"));
        let large = MOST_ENTRY_BYTES - 2 * OVERHEAD;
        for number in 0..20 {
            asking(&cache, &format!("large {number}")).keep(&mut answer(vec![0; large]), None);
        }
        let inside = cache.0.borrow();
        assert!(inside.bytes <= MOST_BYTES && inside.bytes > MOST_BYTES - 2 * MOST_ENTRY_BYTES);
    }
}
