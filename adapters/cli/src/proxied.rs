//! Which proxy a client goes through: the one of its option, or the one that the environment names, much as `curl` reads it. Of the
//! variables for a scheme only that for TLS is heeded, since a proxy is mostly asked to lead on to ports that TLS uses.

use std::env;

use reattach_tokio::Proxy;
use reattach_tokio::ProxyError;

/// The proxy for a URL, and where it was found.
///
/// # Errors
///
/// Where it was found, and what is wrong with it.
pub(crate) fn proxy_for(url: &str, option: Option<&str>) -> Result<Option<Proxy>, (String, ProxyError)> {
    let read = |at: &str, address: &str| {
        // Without a scheme it is an HTTP proxy, as everywhere.
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        address.parse().map(Some).map_err(|error| (at.to_owned(), error))
    };
    if let Some(address) = option {
        return read("--proxy", address);
    }
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let spared = ["no_proxy", "NO_PROXY"].iter().find_map(|name| set(name)).unwrap_or_default();
    if is_spared(host, &spared) {
        return Ok(None);
    }
    let of_scheme: &[&str] = if scheme.eq_ignore_ascii_case("wss") { &["https_proxy", "HTTPS_PROXY"] } else { &[] };
    for name in of_scheme.iter().chain(&["all_proxy", "ALL_PROXY"]) {
        if let Some(address) = set(name) {
            return read(name, &address);
        }
    }
    Ok(None)
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a host, with or without a port, is on the list of those that are reached directly.
fn is_spared(host: &str, list: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    list.split(',').map(|entry| entry.trim().trim_start_matches('.')).filter(|entry| !entry.is_empty()).any(|entry| {
        let above = name.len().checked_sub(entry.len() + 1).and_then(|at| name.get(at..));
        entry == "*"
            || name.eq_ignore_ascii_case(entry)
            || above.is_some_and(|above| above.starts_with('.') && above[1..].eq_ignore_ascii_case(entry))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_on_the_list_and_below_them_are_reached_directly() {
        let list = "localhost, .example.org,10.0.0.1,::1";
        for host in ["localhost", "localhost:80", "example.org", "a.EXAMPLE.org:443", "10.0.0.1:9", "[::1]:9400"] {
            assert!(is_spared(host, list), "{host}");
        }
        for host in ["example.com", "badexample.org", "10.0.0.11", "", "rg"] {
            assert!(!is_spared(host, list), "{host}");
        }
        assert!(is_spared("anything", "*") && !is_spared("anything", ""));
    }

    #[test]
    fn the_option_comes_first_and_its_faults_are_named() {
        assert!(proxy_for("ws://example.org/", Some("socks5://127.0.0.1:1")).unwrap().is_some());
        let (at, error) = proxy_for("ws://example.org/", Some("ftp://127.0.0.1")).unwrap_err();
        assert_eq!((at.as_str(), error), ("--proxy", ProxyError::Scheme { scheme: "ftp".to_owned() }));
    }
}
