//! The limits that one WebSocket route has, and the token bucket that one of them needs.

use std::time::{Duration, Instant};

use super::outbox::Overflow;

/// The limits of a session. There is one set per route, shared by its sessions.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest message a client may send, in bytes, over all its fragments. Above it: close 1009.
    pub max_message_size: usize,
    /// Frames a client may send in a second (messages, pings and pongs). Above it: close 1008.
    pub rate_limit: Option<u32>,
    /// A ping is sent when a client was silent for this long, or up to a tenth less. None: no pings.
    pub heartbeat_interval: Option<Duration>,
    /// An empty text message is sent this often, or up to a tenth more often, whatever else is sent: a browser does
    /// not see pings. None: no such messages.
    pub tick: Option<Duration>,
    /// A client that gives no sign of life for this long is closed with 1001. None: never.
    pub timeout: Option<Duration>,
    /// Bytes that may wait for a client that reads too slowly.
    pub max_queue_bytes: usize,
    /// The policy when `max_queue_bytes` is reached.
    pub overflow: Overflow,
    /// The handler has this long to accept or reject a client. After that the client gets 504.
    pub open_timeout: Duration,
    /// A client that neither takes bytes nor answers a close frame for this long is disconnected. The whole close
    /// handshake may take twelve times as long.
    pub close_timeout: Duration,
    /// The time in which a handler may answer messages that came before its client broke a rule. After it, the
    /// client is closed in any case.
    pub answer_timeout: Duration,
    /// Sessions that this route may have in one worker. None: no limit of its own.
    pub max_connections: Option<usize>,
}

impl Limits {
    /// [`Limits::open_timeout`], which no option changes.
    pub const OPEN_TIMEOUT: Duration = Duration::from_secs(60);
    /// [`Limits::close_timeout`], which no option changes.
    pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
    /// [`Limits::answer_timeout`], which no option changes.
    pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
}

/// The defaults of `fanbus.WebSocketConfig`, for tests: a test compares them.
impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_size: 1 << 20,
            rate_limit: None,
            heartbeat_interval: Some(Duration::from_secs(25)),
            tick: None,
            timeout: Some(Duration::from_secs(60)),
            max_queue_bytes: 1 << 20,
            overflow: Overflow::Close,
            open_timeout: Self::OPEN_TIMEOUT,
            close_timeout: Self::CLOSE_TIMEOUT,
            answer_timeout: Self::ANSWER_TIMEOUT,
            max_connections: None,
        }
    }
}

/// A token bucket that holds the tokens of one second: bursts up to the rate, the rate in the long run.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            tokens: per_second,
            filled: now,
        }
    }

    /// Takes one token; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_second_passes_and_then_only_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, start);
        assert_eq!((0..20).filter(|_| bucket.take(start)).count(), 10);
        let later = start + Duration::from_millis(350);
        assert_eq!((0..20).filter(|_| bucket.take(later)).count(), 3);
    }

    #[test]
    fn a_clock_that_stands_still_or_jumps_back_gives_no_tokens() {
        let earlier = Instant::now();
        let start = earlier + Duration::from_secs(5);
        let mut bucket = TokenBucket::new(1, start);
        assert!(bucket.take(start));
        assert!(!bucket.take(earlier));
        assert!(!bucket.take(earlier));
    }
}
