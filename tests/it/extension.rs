//! What clients offer of permessage-deflate, and what they are answered (RFC 7692, section 7.1).

use actix_http::header::HeaderName;
use fanbus::http::headers::Headers;
use fanbus::http::websocket::extension::agree_on_deflate;

/// The lines of `Sec-WebSocket-Extensions`.
struct Lines<'l>(&'l [&'l str]);

impl Headers for Lines<'_> {
    fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        assert_eq!(name, "sec-websocket-extensions");
        self.0.iter().map(|value| value.as_bytes())
    }
}

const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The answer to these lines: what is agreed, or the status of a refusal.
fn answer(lines: &[&str]) -> Result<Option<String>, u16> {
    let agreement = agree_on_deflate(&Lines(lines)).map_err(|refusal| refusal.status.as_u16())?;
    Ok(agreement.map(|agreed| {
        let answer = agreed.answer.to_str().expect("ASCII").to_owned();
        let said = match answer.rsplit_once("server_max_window_bits=") {
            Some((_, bits)) => bits.parse().expect("a number"),
            None => 15,
        };
        assert_eq!(agreed.window.bits(), said, "what is said is what is kept");
        answer
    }))
}

#[test]
fn what_browsers_and_libraries_offer_is_accepted() {
    for offer in [
        "permessage-deflate",                         // Firefox, Safari
        "permessage-deflate; client_max_window_bits", // Chromium, ws, Python's websockets
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover", // Go
        "permessage-deflate;client_max_window_bits=\"10\"",
        "permessage-deflate ; client_max_window_bits = 8",
        "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=15",
        ", ,permessage-deflate,",
    ] {
        assert_eq!(answer(&[offer]), Ok(Some(AGREED.to_owned())), "{offer}");
    }
    assert_eq!(answer(&[]), Ok(None));
    assert_eq!(answer(&["foo; bar=1, baz"]), Ok(None));
}

#[test]
fn requested_window_of_the_server_is_accepted() {
    for bits in 9..=15 {
        let with_window = Ok(Some(format!("{AGREED}; server_max_window_bits={bits}")));
        for parameters in [
            format!("server_max_window_bits={bits}"),
            format!("server_max_window_bits=\"{bits}\"; client_max_window_bits"),
            format!("server_no_context_takeover; server_max_window_bits={bits}"),
        ] {
            let offer = format!("permessage-deflate; {parameters}, permessage-deflate");
            assert_eq!(answer(&[&offer]), with_window, "{offer}");
        }
    }
    let escaped = "permessage-deflate; server_max_window_bits=\"1\\5\"";
    let with_window = format!("{AGREED}; server_max_window_bits=15");
    assert_eq!(answer(&[escaped]), Ok(Some(with_window)));
}

#[test]
fn a_window_that_no_compressor_keeps_to_is_declined() {
    for bits in ["8", "7", "16", "09", "015", "nine", "256"] {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        assert_eq!(answer(&[&offer]), Ok(None), "{offer}");
        let with_fallback = format!("{offer}, permessage-deflate");
        assert_eq!(
            answer(&[&with_fallback]),
            Ok(Some(AGREED.to_owned())),
            "{with_fallback}"
        );
        assert_eq!(
            answer(&[&offer, "permessage-deflate"]),
            Ok(Some(AGREED.to_owned()))
        );
    }
}

#[test]
fn an_offer_with_anything_unknown_or_wrong_is_declined() {
    for parameters in [
        "server_no_context_takeover=1",
        "client_no_context_takeover=\"x\"",
        "server_max_window_bits",
        "server_max_window_bits=16",
        "server_max_window_bits=7",
        "server_max_window_bits=015",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=08",
        "client_max_window_bits=1000000000000000000000",
        "client_max_window_bits=ten",
        "client_max_window_bits; client_max_window_bits",
        "server_no_context_takeover; server_no_context_takeover",
        "server_max_window_bits=15; server_max_window_bits=15",
        "mux",
        "Client_max_window_bits",
    ] {
        let offer = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(&[&offer]), Ok(None), "{offer}");
        let with_fallback = format!("{offer}, permessage-deflate");
        assert_eq!(
            answer(&[&with_fallback]),
            Ok(Some(AGREED.to_owned())),
            "{with_fallback}"
        );
    }
}

#[test]
fn a_header_that_is_malformed_fails_the_handshake() {
    for value in [
        "permessage-deflate;",
        "permessage-deflate; =15",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"1,5\"",
        "permessage-deflate; server_max_window_bits=\"15\\",
        "permessage-deflate client_max_window_bits",
        "permessage-deflate; a=b=c",
        "; permessage-deflate",
        "permessage/deflate",
    ] {
        assert_eq!(answer(&[value]), Err(400), "{value}");
        assert_eq!(answer(&["permessage-deflate", value]), Err(400), "{value}");
    }
}
