//! The value of `Date`: formatted once a second and thread.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::header::HttpDate;

/// "Sun, 06 Nov 1994 08:49:37 GMT".
const LEN: usize = 29;

thread_local! {
    static LAST: Cell<(u64, [u8; LEN])> = const { Cell::new((u64::MAX, [0; LEN])) };
}

/// The present time as HTTP writes it (RFC 9110, section 5.6.7).
pub(super) fn now() -> [u8; LEN] {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    let (known, text) = LAST.get();
    if known == second {
        return text;
    }
    let text = HttpDate::from(now).to_string();
    let text = text
        .as_bytes()
        .try_into()
        .expect("dates of HTTP are of one length");
    LAST.set((second, text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_one_that_http_knows() {
        let text = now();
        let text = std::str::from_utf8(&text).expect("it is ASCII");
        let date: HttpDate = text.parse().expect("a date");
        assert_eq!(date.to_string(), text);
    }
}
