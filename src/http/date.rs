//! The `Date` header: each thread formats it once a second.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::header::HttpDate;
use nix::time::{ClockId, clock_gettime};

/// "Sun, 06 Nov 1994 08:49:37 GMT".
const LEN: usize = 29;

/// The header's line over HTTP/1.
const LINE_LEN: usize = b"date: ".len() + LEN + b"\r\n".len();

/// The clock needs no more than seconds. This one is at most a tick of the kernel late, and takes a third of the
/// time to read.
const CLOCK: ClockId = ClockId::CLOCK_REALTIME_COARSE;

thread_local! {
    static LAST: Cell<(u64, [u8; LINE_LEN])> = const { Cell::new((u64::MAX, [0; LINE_LEN])) };
}

/// The current time as in HTTP (RFC 9110, section 5.6.7).
pub(super) fn now() -> [u8; LEN] {
    let line = line();
    *line[b"date: ".len()..]
        .first_chunk()
        .expect("the line is longer")
}

/// The header's line over HTTP/1, with the current time.
pub(super) fn line() -> [u8; LINE_LEN] {
    let now = clock_gettime(CLOCK).map_or(0, |now| u64::try_from(now.tv_sec()).unwrap_or(0));
    let (known, line) = LAST.get();
    if known == now {
        return line;
    }
    let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(now));
    let line = format!("date: {date}\r\n");
    let line = line
        .as_bytes()
        .try_into()
        .expect("dates of HTTP are of one length");
    LAST.set((now, line));
    line
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_date_is_one_that_http_knows() {
        let text = now();
        let text = std::str::from_utf8(&text).expect("it is ASCII");
        let date: HttpDate = text.parse().expect("a date");
        assert_eq!(date.to_string(), text);
        let age = SystemTime::now().duration_since(date.into());
        assert!(age.expect("it has been") < Duration::from_secs(60));
    }
}
