//! The `Host` of a request: what it may consist of.

/// A name or an address, with or without a port, or nothing. What ends it for another reader, as a slash
/// or a space, is none (RFC 3986, 3.2.2).
pub(super) fn is_host(value: &[u8]) -> bool {
    let marks = b"-._~:[]%!$&'()*+,;=";
    let mut bytes = value.iter();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || marks.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn names_addresses_and_ports_are_hosts_and_what_ends_them_is_not() {
        for host in [
            "",
            "example.org",
            "a_b:80",
            "[::1]:5000",
            "10.0.0.1",
            "%C3%BC.example",
        ] {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for other in [
            "a b", "a/b", "a?b", "a#b", "user@a", "a\\b", "a\"b", "a<b", "ü", "a\tb",
        ] {
            assert!(!is_host(other.as_bytes()), "{other:?}");
        }
    }
}
