//! The content codings that a client accepts: `Accept-Encoding` (RFC 9110, section 12.5.3).

use actix_http::header;

use super::head::Head;
use super::headers::Headers;

/// Those of `offered` that the client accepts at least as gladly as the uncompressed response: the best first, and
/// of equal ones the first.
pub(super) fn accepted<'o>(head: &Head, offered: &[&'o str]) -> Vec<&'o str> {
    if !head.has(&header::ACCEPT_ENCODING) {
        return Vec::new();
    }
    let others = quality(head, "*").unwrap_or(0);
    // The uncompressed response is preferred only if the client says so.
    let least = quality(head, "identity").unwrap_or(0).max(1);
    let qualities = offered
        .iter()
        .map(|name| (*name, quality(head, name).unwrap_or(others)));
    let mut found: Vec<_> = qualities.filter(|(_, quality)| *quality >= least).collect();
    found.sort_by_key(|(_, quality)| std::cmp::Reverse(*quality));
    found.into_iter().map(|(name, _)| name).collect()
}

/// The weight of a coding, in thousandths.
fn quality(head: &Head, name: &str) -> Option<u16> {
    let lines = head.values(&header::ACCEPT_ENCODING);
    let texts = lines.filter_map(|value| std::str::from_utf8(value).ok());
    let mut items = texts.flat_map(|text| text.split(','));
    items.find_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let is_it = coding.eq_ignore_ascii_case(name)
            || name == "gzip" && coding.eq_ignore_ascii_case("x-gzip");
        if !is_it {
            return None;
        }
        let weight = parts.find_map(|it| it.strip_prefix("q=").or(it.strip_prefix("Q=")));
        let weight = weight.map_or(Some(1.0), |text| text.trim().parse::<f32>().ok());
        // A coding with an invalid weight counts as refused: the client may be unable to read it.
        let weight = weight.filter(|it| (0.0..=1.0).contains(it)).unwrap_or(0.0);
        Some((weight * 1000.0).round() as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadWriter, Version};
    use crate::http::peer::Peer;

    #[test]
    fn the_weights_of_the_client_decide_and_then_the_order() {
        for (line, expected) in [
            (Some("gzip, deflate, br, zstd"), Some("zstd")),
            (Some("gzip, deflate, br"), Some("br")),
            (Some("x-gzip"), Some("gzip")),
            (Some("*"), Some("zstd")),
            (Some("gzip;q=1, zstd;q=0.5, br;q=0.9"), Some("gzip")),
            (Some("zstd;q=0, *"), Some("br")),
            (Some("zstd;q=0,br;q=0.0,gzip;q=0.001"), Some("gzip")),
            (Some("GZIP; Q=0.5"), Some("gzip")),
            (Some("br;q=0.4, identity;q=0.7, gzip;q=0.5"), None),
            (Some("identity;q=0.5, gzip"), Some("gzip")),
            (Some("gzip;q=x"), None),
            (Some("gzip;q=0"), None),
            (Some("deflate"), None),
            (Some(""), None),
            (None, None),
        ] {
            let mut writer = HeadWriter::new("/", None, 128, 1);
            if let Some(line) = line {
                assert!(writer.add(b"accept-encoding", line.as_bytes()));
            }
            let peer = Peer {
                address: None,
                is_secure: false,
            };
            let head = writer.finish(Version::Http11, peer);
            let found = accepted(&head, &["zstd", "br", "gzip"]);
            assert_eq!(found.first().copied(), expected, "{line:?}");
        }
    }
}
