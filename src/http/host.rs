//! The `Host` of a request: its valid characters, and the hosts that an application serves.

use actix_http::header::HOST;

use super::head::Head;

/// The response to a request that names another host.
pub(super) const NOT_SERVED: &str =
    "The application does not serve this host. Fanbus(hosts=[...]) lists the hosts that it serves.";

/// The hosts that an application serves.
///
/// A hostile page can let its own name resolve to this machine (DNS rebinding). Then the page has the same origin
/// as this server, and only the name reveals it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Hosts(Vec<String>);

/// A string that is not a host.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error(
    "{0:?} is not a host: write a name without scheme and port, as in \"example.org\", \
     \"*.example.org\" for all names below it, or \"*\" for all hosts."
)]
pub struct InvalidHost(pub String);

impl Hosts {
    /// The hosts, without ports. `*.` at the beginning stands for one or more further names, `*` for all hosts.
    ///
    /// ```
    /// use fanbus::http::host::Hosts;
    ///
    /// assert!(Hosts::new(["example.org", "*.example.org", "[::1]"]).is_ok());
    /// assert!(Hosts::new(["http://example.org"]).is_err());
    /// ```
    pub fn new<S: Into<String>>(list: impl IntoIterator<Item = S>) -> Result<Self, InvalidHost> {
        let list: Vec<String> = list.into_iter().map(Into::into).collect();
        let is_wrong = |host: &String| {
            let name = host.strip_prefix("*.").unwrap_or(host);
            host != "*"
                && (name.is_empty()
                    || !is_host(name.as_bytes())
                    || name.contains('*')
                    || without_port(name) != name)
        };
        match list.iter().find(|host| is_wrong(host)) {
            Some(host) => Err(InvalidHost(host.clone())),
            None => Ok(Self(list)),
        }
    }

    /// Whether the application serves the host that the request names.
    pub(super) fn serves(&self, head: &Head) -> bool {
        self.has(head.text(&HOST).unwrap_or_default())
    }

    fn has(&self, host: &str) -> bool {
        let name = without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_it = |listed: &String| match listed.strip_prefix("*.") {
            _ if listed == "*" => true,
            None => listed.eq_ignore_ascii_case(name),
            Some(domain) => {
                let at = name.len().checked_sub(domain.len() + 1);
                let parts = at.and_then(|at| name.split_at_checked(at));
                parts.is_some_and(|(below, rest)| {
                    let rest = rest.strip_prefix('.');
                    !below.is_empty() && rest.is_some_and(|it| it.eq_ignore_ascii_case(domain))
                })
            }
        };
        self.0.iter().any(is_it)
    }
}

/// The name without its port. An IPv6 address has its own colons in brackets.
fn without_port(host: &str) -> &str {
    let end = match host.find(']') {
        Some(bracket) if host.starts_with('[') => bracket + 1,
        _ => host.find(':').unwrap_or(host.len()),
    };
    &host[..end]
}

/// Whether the bytes are empty, or a name or address with or without a port. Characters that end a host for other
/// readers, such as a slash or a space, are not allowed (RFC 3986, section 3.2.2).
pub(super) fn is_host(value: &[u8]) -> bool {
    let marks = b"-._~:[]%!$&'()*+,;=";
    let mut bytes = value.iter();
    bytes.all(|byte| byte.is_ascii_alphanumeric() || marks.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::{Hosts, is_host};

    #[test]
    fn a_host_is_served_by_its_name_whatever_its_port() {
        let hosts = Hosts::new(["example.org", "*.chat.example", "[::1]", "10.0.0.1"]);
        let hosts = hosts.expect("hosts");
        for host in [
            "example.org",
            "EXAMPLE.org:8080",
            "example.org.",
            "example.org.:80",
            "a.chat.example",
            "a.b.CHAT.example:1",
            "[::1]",
            "[::1]:5000",
            "10.0.0.1:5000",
        ] {
            assert!(hosts.has(host), "{host:?}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "example.org.evil.example",
            "notexample.org",
            "chat.example",
            ".chat.example",
            "xchat.example",
            "[::2]",
            "::1",
            "10.0.0.1.evil.example",
        ] {
            assert!(!hosts.has(host), "{host:?}");
        }
        assert!(Hosts::new(["*"]).expect("all").has("anything:1"));
        assert!(!Hosts::new::<&str>([]).expect("none").has("anything"));
    }

    #[test]
    fn strings_that_are_not_hosts_are_refused() {
        for wrong in [
            "", "*.", "a:80", "http://a", "a/b", "a*", "*.*.a", "[::1]:80", "a b", "*a",
        ] {
            let error = Hosts::new([wrong]).expect_err(wrong);
            assert!(error.to_string().contains("is not a host"), "{error}");
        }
    }

    #[test]
    fn names_addresses_and_ports_are_hosts_and_delimiters_are_not() {
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
