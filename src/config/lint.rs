//! Mistakes in the files of others. PURE: the caller reads them.

use std::net::IpAddr;

use super::diag::{Diagnostic, Span};
use super::{Config, Run};

impl Config {
    /// Each HAProxy configuration worth a [`haproxy`], with the addresses that may be absent
    /// when that proxy starts.
    pub fn proxy_files(&self) -> Vec<(&std::path::Path, Vec<IpAddr>)> {
        let addresses: Vec<_> =
            self.groups.iter().flat_map(|g| &g.addresses).map(|a| a.ip).collect();
        let mut files: Vec<(&std::path::Path, Vec<IpAddr>)> = Vec::new();
        for (group, proxy) in self.groups.iter().filter_map(|g| Some((g, g.proxy.as_ref()?))) {
            let Some(path) = proxy.config.as_deref() else { continue };
            let own = |ip: &IpAddr| group.addresses.iter().any(|a| a.ip == *ip);
            let absent = addresses.iter().copied().filter(|ip| match proxy.run {
                Run::Always => true,
                Run::Active => !own(ip),
            });
            match files.iter_mut().find(|(p, _)| *p == path) {
                Some((_, vips)) => vips.extend(absent),
                None => files.push((path, absent.collect())),
            }
        }
        files.retain(|(_, vips)| !vips.is_empty());
        files
    }
}

/// Binds of an HAProxy configuration to one of `vips` without `transparent`: where the address
/// is absent, and that is on every node but one, HAProxy does not start.
///
/// Binds to names and environment variables cannot be told.
pub fn haproxy(text: &str, vips: &[IpAddr]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let words = words(line, start);
        start += line.len();
        let [(_, "bind"), (at, addresses), options @ ..] = words.as_slice() else { continue };
        if options.iter().any(|(_, o)| *o == "transparent") {
            continue;
        }
        let mut offset = at.start;
        for address in addresses.split(',') {
            let span = offset..offset + address.len();
            offset = span.end + 1;
            if let Some(ip) = bound(address).filter(|ip| vips.contains(ip)) {
                found.push(bind(span, ip, address));
            }
        }
    }
    found.into_iter().map(|d| d.fit(text)).collect()
}

fn bind(span: Span, ip: IpAddr, address: &str) -> Diagnostic {
    let d = Diagnostic::warning(span, format!("a bind to the virtual address {ip}"))
        .label("not `transparent`: fails wherever the address is not");
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    d.help(format!(
        "write `bind {address} transparent` or `bind :{port}`; or set net.ipv4.ip_nonlocal_bind \
         (net.ipv6.ip_nonlocal_bind) to 1"
    ))
}

/// The address of `[family@]address:port`.
fn bound(address: &str) -> Option<IpAddr> {
    let address = address.rsplit_once('@').map_or(address, |(_, a)| a);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Words of one line up to a comment, with their spans; quotes around a word are not part of it.
fn words(line: &str, start: usize) -> Vec<(Span, &str)> {
    let mut words = Vec::new();
    let mut from = None;
    let mut quote = None;
    let mut escaped = false;
    let mut push = |from: &mut Option<usize>, to: usize| {
        if let Some(begin) = from.take()
            && let Some(word) = line.get(begin..to)
        {
            let bare = word.trim_start_matches(['"', '\'']);
            let begin = begin + word.len() - bare.len();
            let bare = bare.trim_end_matches(['"', '\'']);
            words.push((start + begin..start + begin + bare.len(), bare));
        }
    };
    for (i, c) in line.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('#', None) => {
                push(&mut from, i);
                return words;
            }
            (c, None) if c.is_whitespace() => {
                push(&mut from, i);
                continue;
            }
            ('"' | '\'', None) => quote = Some(c),
            ('\\', None) => escaped = true,
            (_, Some(_) | None) => {}
        }
        from.get_or_insert(i);
    }
    push(&mut from, line.len());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_to_the_virtual_address_are_found() {
        let vips = ["192.168.34.85".parse().unwrap(), "2001:db8::85".parse().unwrap()];
        let bad = [
            "  bind 192.168.34.85:5000",
            "bind 192.168.34.85:5000 ssl crt /etc/x.pem",
            "bind ipv4@192.168.34.85:5000",
            "bind *:80,192.168.34.85:5000",
            "bind 2001:db8::85:5000",
            "bind [2001:db8::85]:5000",
            "bind '192.168.34.85:5000' # transparent",
        ];
        for line in bad {
            let found = haproxy(line, &vips);
            assert_eq!(found.len(), 1, "{line}");
            assert!(line[found[0].span.clone()].ends_with(":5000"), "{line}");
        }
        let good = [
            "bind 192.168.34.85:5000 transparent",
            "bind *:5000",
            "bind :5000",
            "bind 192.168.34.86:5000",
            "# bind 192.168.34.85:5000",
            "server s 192.168.34.85:5000",
            "bind ${VIP}:5000",
            "bind /run/x.sock",
            "bind",
            "bind \"unclosed",
        ];
        for line in good {
            assert_eq!(haproxy(line, &vips), [], "{line}");
        }
    }
}
