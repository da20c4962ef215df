//! The forms a text value can have: each is read here and nowhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::routing::Net;
use crate::types::Family;

/// Why a text does not have its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What is wrong, to stand beside the text.
    pub(super) why: String,
    /// What to write instead, as TOML.
    pub(super) write: Option<String>,
}

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), write: None }
    }

    fn write(why: impl Into<String>, instead: impl AsRef<str>) -> Self {
        Self { why: why.into(), write: Some(format!("\"{}\"", instead.as_ref())) }
    }
}

/// A form of text: what it is called, how it is checked, and a pattern for editors.
#[derive(Debug)]
pub(super) struct Form {
    /// With its article: `an IP address`.
    pub(super) what: &'static str,
    /// Refuses what does not have the form.
    pub(super) check: fn(&str) -> Result<(), Refusal>,
    /// A regular expression for the JSON schema.
    pub(super) pattern: Option<&'static str>,
    /// Whether a refused value may be a secret.
    pub(super) hide: bool,
}

const fn form(
    what: &'static str,
    check: fn(&str) -> Result<(), Refusal>,
    pattern: Option<&'static str>,
) -> Form {
    Form { what, check, pattern, hide: false }
}

pub(super) static NAME: Form = form(
    "made of letters, digits, `.`, `_` and `-`",
    |s| name(s, 64),
    Some("^[A-Za-z0-9._-]{1,64}$"),
);
pub(super) static HOST: Form = form("a host name", host, Some("^[A-Za-z0-9.-]{1,253}$"));
pub(super) static INTERFACE: Form =
    form("the name of a network interface", interface, Some("^[^/:\\s]{1,15}$"));
pub(super) static LABEL: Form = form("an interface label", label, Some("^[^/\\s]{1,15}$"));
pub(super) static UNIT: Form =
    form("the name of a systemd unit", unit, Some("^[^/\\s]+\\.service$"));
pub(super) static ANY_UNIT: Form =
    form("the name of a systemd unit", any_unit, Some("^[^/\\s]+\\.[a-z]+$"));
pub(super) static USER: Form = form("a user name", user, Some("^[A-Za-z_][A-Za-z0-9_.-]*$"));
pub(super) static PATH: Form = form("an absolute path", path, Some("^/"));
pub(super) static SECRET: Form =
    Form { what: "the path of a file", check: path, pattern: Some("^/"), hide: true };
pub(super) static AGENT: Form =
    form("the name of a fence agent, or its path", agent, Some("^(/.*|[A-Za-z0-9._-]+)$"));
pub(super) static CREDENTIAL: Form =
    Form { what: "the name of a credential", check: credential, pattern: None, hide: true };
pub(super) static WORD: Form = form("a string", word, None);
pub(super) static URL: Form = Form {
    what: "an http or https URL",
    check: url,
    pattern: Some("^https?://[^/\\s@]+"),
    hide: true,
};
pub(super) static SOCKET: Form = form(
    "an IP address and a port",
    |s| socket(s).map(drop),
    Some("^([0-9.]+|\\[[0-9a-fA-F.:]+\\]):[0-9]{1,5}$"),
);
pub(super) static NODE_IP: Form =
    form("an IP address without prefix length", |s| node_ip(s).map(drop), Some("^[0-9a-fA-F.:]+$"));
pub(super) static VOTER_IP: Form = form(
    "an IP address without prefix length",
    |s| voter_ip(s).map(drop),
    Some("^[0-9a-fA-F.:]+$"),
);
pub(super) static NODE_IP6: Form = form(
    "an IPv6 address without prefix length",
    |s| node_ip6(s).map(drop),
    Some("^[0-9a-fA-F.:]+$"),
);
pub(super) static VIRTUAL: Form = form(
    "an IP address with its prefix length",
    |s| cidr(s).map(drop),
    Some("^[0-9a-fA-F.:]+/[0-9]{1,3}$"),
);
pub(super) static NETWORK: Form = form(
    "an IP address or network",
    |s| network(s).map(drop),
    Some("^[0-9a-fA-F.:]+(/[0-9]{1,3})?$"),
);
pub(super) static DESTINATION: Form = form(
    "an IP address, a network or \"default\"",
    |s| if s == "default" { Ok(()) } else { network(s).map(drop) },
    Some("^(default|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$"),
);
pub(super) static LINK_LOCAL: Form =
    form("an IPv6 link-local address", |s| link_local(s).map(drop), Some("^[fF][eE][89aAbB]"));

fn name(s: &str, max: usize) -> Result<(), Refusal> {
    let ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if s.is_empty() {
        Err(Refusal::new("is empty"))
    } else if s.len() > max {
        Err(Refusal::new(format!("has {} characters, more than {max}", s.len())))
    } else if let Some(bad) = s.chars().find(|c| !ok(*c)) {
        let instead = s.replace(|c| !ok(c), "-");
        Err(Refusal::write(format!("{bad:?} cannot be part of it"), instead))
    } else {
        Ok(())
    }
}

fn host(s: &str) -> Result<(), Refusal> {
    name(s, 253)?;
    if s.contains('_') {
        return Err(Refusal::write("a host name has no `_`", s.replace('_', "-")));
    }
    if s.split('.').any(str::is_empty) {
        return Err(Refusal::new("has an empty part beside a dot"));
    }
    if s.parse::<IpAddr>().is_ok() {
        return Err(Refusal::new("an address; here goes what `hostname` prints on that host"));
    }
    Ok(())
}

fn interface(s: &str) -> Result<(), Refusal> {
    if s.is_empty() || s == "." || s == ".." {
        return Err(Refusal::new("no interface can have this name"));
    }
    if let Some((device, _)) = s.split_once(':') {
        return Err(Refusal::write(
            "this is a label; the interface is what comes before `:`",
            device,
        ));
    }
    if let Some(bad) = s.chars().find(|c| *c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(Refusal::new(format!("no interface has {bad:?} in its name")));
    }
    if s.len() > 15 {
        return Err(Refusal::new(format!("{} bytes; the kernel allows 15", s.len())));
    }
    Ok(())
}

fn label(s: &str) -> Result<(), Refusal> {
    if s.is_empty() {
        Err(Refusal::new("is empty"))
    } else if let Some(bad) = s.chars().find(|c| c.is_whitespace() || c.is_control()) {
        Err(Refusal::new(format!("a label has no {bad:?}")))
    } else if s.len() > 15 {
        Err(Refusal::new(format!("{} bytes; the kernel allows 15", s.len())))
    } else {
        Ok(())
    }
}

fn unit(s: &str) -> Result<(), Refusal> {
    const OTHERS: [&str; 7] =
        [".socket", ".target", ".timer", ".mount", ".path", ".slice", ".scope"];
    if s.is_empty() || s.contains('/') || s.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Refusal::new("a unit's name, not a path: `haproxy.service`"));
    }
    if let Some(suffix) = OTHERS.iter().find(|o| s.ends_with(**o)) {
        return Err(Refusal::new(format!("a `{suffix}` unit has no process to watch")));
    }
    match s.strip_suffix(".service") {
        None => Err(Refusal::write("lacks the suffix `.service`", format!("{s}.service"))),
        Some("") => Err(Refusal::new("has a suffix only")),
        Some(stem) if stem.ends_with('@') => {
            Err(Refusal::new("a template; name one instance: `haproxy@main.service`"))
        }
        Some(_) => Ok(()),
    }
}

/// Whatever systemd can tell of whether it is active.
fn any_unit(s: &str) -> Result<(), Refusal> {
    const SUFFIXES: [&str; 9] = [
        ".service", ".socket", ".target", ".timer", ".mount", ".path", ".slice", ".scope",
        ".device",
    ];
    if s.is_empty() || s.contains('/') || s.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Refusal::new("a unit's name, not a path: `haproxy.service`"));
    }
    match SUFFIXES.iter().find_map(|suffix| s.strip_suffix(suffix)) {
        None => Err(Refusal::write("lacks its suffix", format!("{s}.service"))),
        Some("") => Err(Refusal::new("has a suffix only")),
        Some(stem) if stem.ends_with('@') => {
            Err(Refusal::new("a template; name one instance: `haproxy@main.service`"))
        }
        Some(_) => Ok(()),
    }
}

fn user(s: &str) -> Result<(), Refusal> {
    if s.is_empty() || s.contains(':') || s.chars().any(char::is_whitespace) {
        return Err(Refusal::new("one user name; its group is taken from the system"));
    }
    name(s, 64)
}

fn path(s: &str) -> Result<(), Refusal> {
    if s.starts_with('/') && !s.contains('\0') {
        return Ok(());
    }
    Err(Refusal::new("a path that begins with `/`"))
}

fn agent(s: &str) -> Result<(), Refusal> {
    if s.starts_with('/') {
        return path(s);
    }
    if let Some(kind) = s.strip_prefix("stonith:") {
        return Err(Refusal::write("the agent's own name, without what comes before", kind));
    }
    if s.contains('/') {
        return Err(Refusal::new("a name in /usr/sbin, or a path that begins with `/`"));
    }
    if s == "." || s == ".." {
        return Err(Refusal::new("no program has this name"));
    }
    name(s, 64)
}

fn credential(s: &str) -> Result<(), Refusal> {
    if s.contains('/') || s == "." || s == ".." {
        return Err(Refusal::new("a name as in `LoadCredential=NAME:...`, not a path"));
    }
    name(s, 255)
}

/// The value of an agent's parameter: one line.
pub(super) fn line(s: &str) -> Result<(), Refusal> {
    match s.chars().find(|c| c.is_control()) {
        Some(bad) => Err(Refusal::new(format!("has {bad:?}; an agent reads one line"))),
        None => Ok(()),
    }
}

fn word(s: &str) -> Result<(), Refusal> {
    if s.contains('\0') { Err(Refusal::new("has a NUL")) } else { Ok(()) }
}

/// What a webhook is reached by. Whatever could be a password in it is refused unseen.
fn url(s: &str) -> Result<(), Refusal> {
    let rest = s.strip_prefix("http://").or_else(|| s.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| Refusal::new("begins with neither `http://` nor `https://`"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err(Refusal::new("has a user or password in it; a token goes into `token-file`"));
    }
    if host.is_empty() || host.starts_with(':') {
        return Err(Refusal::new("names no host"));
    }
    if !s.chars().all(|c| c.is_ascii_graphic()) || s.contains('#') || s.len() > 2048 {
        return Err(Refusal::new("has characters that a URL cannot have here, or is too long"));
    }
    Ok(())
}

/// An address of a host.
pub(super) fn node_ip(s: &str) -> Result<IpAddr, Refusal> {
    if let Some((ip, _)) = s.split_once('/').filter(|(ip, _)| ip.parse::<IpAddr>().is_ok()) {
        return Err(Refusal::write("the address only, without a prefix length", ip));
    }
    let ip = ip(s)?;
    usable(ip)?;
    Ok(ip)
}

/// Where something listens: an address and a port. Loopback is what is meant most of the time.
pub(super) fn socket(s: &str) -> Result<SocketAddr, Refusal> {
    let (host, port) = match s.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
        Some(_) if s.parse::<Ipv6Addr>().is_ok() => {
            return Err(Refusal::new(format!("lacks its port: `[{s}]:5432`")));
        }
        Some(_) | None => return Err(Refusal::new("lacks its port: `127.0.0.1:5432`")),
    };
    let Some(port) = port.parse().ok().filter(|p| *p != 0 && !port.starts_with('+')) else {
        return Err(Refusal::new("a port is a number from 1 to 65535"));
    };
    if host == "localhost" {
        return Err(Refusal::write("a name; write the address", format!("127.0.0.1:{port}")));
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match ip(bare)? {
        ip if ip.is_unspecified() || ip.is_multicast() => {
            Err(Refusal::new("nobody can be reached at this address"))
        }
        ip => Ok(SocketAddr::new(ip, port)),
    }
}

/// An address of a host that has to be reached without naming an interface.
pub(super) fn voter_ip(s: &str) -> Result<IpAddr, Refusal> {
    match node_ip(s)? {
        ip if is_link_local(ip) => Err(Refusal::new(
            "link-local, which needs an interface beside it; give the global or unique-local one",
        )),
        ip => Ok(ip),
    }
}

/// Whether it is an IPv6 address of one link only.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// An IPv6 address of a host.
pub(super) fn node_ip6(s: &str) -> Result<Ipv6Addr, Refusal> {
    match node_ip(s)? {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Err(Refusal::new(
            "link-local, which the kernel chooses; give the global or unique-local one",
        )),
        IpAddr::V6(ip) => Ok(ip),
        IpAddr::V4(_) => Err(Refusal::new("an IPv4 address; it belongs in `address`")),
    }
}

/// A virtual address with its prefix length.
pub(super) fn cidr(s: &str) -> Result<(IpAddr, u8), Refusal> {
    let Some((address, length)) = s.split_once('/') else {
        let ip = ip(s)?;
        let why = "lacks the prefix length: that of its subnet, or of a single address";
        return Err(Refusal::write(why, format!("{ip}/{}", Family::of(ip).bits())));
    };
    let ip = ip(address).map_err(|refusal| Refusal {
        write: refusal.write.map(|w| format!("{}/{length}\"", w.trim_end_matches('"'))),
        ..refusal
    })?;
    if length == "0" {
        return Err(Refusal::new("prefix length 0 would be every address there is"));
    }
    let prefix = prefix(ip, length, 1)?;
    usable(ip)?;
    not_the_subnet(ip, prefix)?;
    Ok((ip, prefix))
}

/// A network, or one address: 192.168.34.85 is 192.168.34.85/32.
pub(super) fn network(s: &str) -> Result<(IpAddr, u8), Refusal> {
    let (address, length) = s.split_once('/').map_or((s, None), |(a, l)| (a, Some(l)));
    let ip = ip(address)?;
    let prefix = match length {
        None if ip.is_unspecified() => {
            return Err(Refusal::write("lacks the prefix length", format!("{ip}/0")));
        }
        None => Family::of(ip).bits(),
        Some(length) => prefix(ip, length, 0)?,
    };
    let Net { ip: first, .. } = Net::of(ip, prefix);
    if first != ip {
        let why = format!("an address in the network, whose own is {first}");
        return Err(Refusal::write(why, format!("{first}/{prefix}")));
    }
    if ip.is_multicast() {
        return Err(Refusal::new("multicast"));
    }
    Ok((ip, prefix))
}

/// A prefix length from `least` on, written as people do: no sign, no zeros before it.
fn prefix(ip: IpAddr, length: &str, least: u8) -> Result<u8, Refusal> {
    let max = Family::of(ip).bits();
    let plain = !length.starts_with('+') && (length == "0" || !length.starts_with('0'));
    if let Ok(n) = length.parse()
        && plain
        && (least..=max).contains(&n)
    {
        return Ok(n);
    }
    if let Ok(mask) = length.parse::<Ipv4Addr>().map(u32::from)
        && mask.leading_ones() == mask.count_ones()
    {
        let instead = format!("{ip}/{}", mask.count_ones());
        return Err(Refusal::write("a netmask; write it as a prefix length", instead));
    }
    Err(Refusal::new(format!("the prefix length goes from {least} to {max}")))
}

fn not_the_subnet(ip: IpAddr, prefix: u8) -> Result<(), Refusal> {
    match ip {
        IpAddr::V4(ip) if prefix < 31 => {
            let host = u32::from(ip) & (u32::MAX >> prefix);
            if host == 0 {
                Err(Refusal::new(format!("the address of the subnet /{prefix} itself, of no host")))
            } else if host == u32::MAX >> prefix {
                Err(Refusal::new(format!("the broadcast address of its subnet /{prefix}")))
            } else {
                Ok(())
            }
        }
        IpAddr::V6(ip) if prefix < 127 && u128::from(ip) & (u128::MAX >> prefix) == 0 => Err(
            Refusal::new(format!("the anycast address of every router of its subnet /{prefix}")),
        ),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}

/// The link-local address of a virtual router; a prefix length of 64 may be given.
pub(super) fn link_local(s: &str) -> Result<Ipv6Addr, Refusal> {
    match ip(s.strip_suffix("/64").unwrap_or(s))? {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Ok(ip),
        IpAddr::V6(_) | IpAddr::V4(_) => Err(Refusal::new("not in fe80::/10")),
    }
}

fn ip(s: &str) -> Result<IpAddr, Refusal> {
    if let Ok(ip) = s.parse::<IpAddr>() {
        return match ip {
            IpAddr::V6(six) => match six.to_ipv4_mapped() {
                Some(four) => {
                    Err(Refusal::write("an IPv4 address in IPv6 clothes", four.to_string()))
                }
                None => Ok(ip),
            },
            IpAddr::V4(_) => Ok(ip),
        };
    }
    if s.contains('%') {
        return Err(Refusal::new("without `%` and the zone; the interface has a key of its own"));
    }
    let stripped: Vec<_> = s.split('.').map(|n| n.trim_start_matches('0')).collect();
    let stripped: Vec<_> = stripped.iter().map(|n| if n.is_empty() { "0" } else { n }).collect();
    if let Ok(ip) = stripped.join(".").parse::<Ipv4Addr>() {
        return Err(Refusal::write("leading zeros, which some read as octal", ip.to_string()));
    }
    if s.trim() != s {
        return Err(Refusal::write("has blanks around it", s.trim()));
    }
    if s.chars().any(|c| c.is_ascii_alphabetic()) && !s.contains(':') {
        return Err(Refusal::new("a name; a fail-over must not wait for DNS: write the address"));
    }
    Err(Refusal::new("neither an IPv4 nor an IPv6 address"))
}

fn usable(ip: IpAddr) -> Result<(), Refusal> {
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_unspecified() {
        Err(Refusal::new("the unspecified address"))
    } else if ip.is_loopback() {
        Err(Refusal::new("a loopback address, which no other host can reach"))
    } else if ip.is_multicast() {
        Err(Refusal::new("a multicast address"))
    } else if broadcast {
        Err(Refusal::new("the broadcast address"))
    } else {
        Ok(())
    }
}

/// A time: decimal digits and a unit.
pub(super) fn time(s: &str) -> Result<Duration, Refusal> {
    let digits = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
    let (number, unit) = s.split_at(digits);
    let nanos: u64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" if !number.is_empty() => {
            return Err(Refusal::write("lacks its unit: ms, s, m or h", format!("{number}s")));
        }
        other => {
            let tidy = tidy_unit(other).filter(|_| !number.is_empty());
            return Err(match tidy {
                Some(unit) => {
                    Refusal::write("a number and ms, s, m or h", format!("{number}{unit}"))
                }
                None => Refusal::new("a number and ms, s, m or h"),
            });
        }
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let all_digits = |d: &str| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(part) || part.len() > 9 {
        return Err(Refusal::new(format!("`{number}` is not a number")));
    }
    let scale = 10_u64.pow(u32::try_from(part.len()).unwrap_or(9));
    let total = whole.parse::<u64>().ok().and_then(|w| w.checked_mul(nanos)).and_then(|w| {
        let part = u128::from(part.parse::<u64>().ok()?) * u128::from(nanos) / u128::from(scale);
        w.checked_add(u64::try_from(part).ok()?)
    });
    total.map(Duration::from_nanos).ok_or_else(|| Refusal::new("is too long"))
}

fn tidy_unit(unit: &str) -> Option<&'static str> {
    match unit.trim().to_ascii_lowercase().as_str() {
        "ms" | "msec" | "millis" | "milliseconds" => Some("ms"),
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hour" | "hours" => Some("h"),
        _ => None,
    }
}

/// Why the contents of a `password-file` cannot be used; never shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Nothing but perhaps a newline.
    #[error("the password file is empty")]
    Empty,
    /// Longer than the field of the advert (RFC 2338 §5.3.6.1).
    #[error("the password has {0} bytes; version 2 carries 8 at most, and vipd cuts none off")]
    TooLong(usize),
    /// A NUL would end it early.
    #[error("the password has a NUL byte")]
    Nul,
}

/// The simple-text password of version 2 from the contents of its file, padded with NULs.
///
/// One newline at the end is not part of it.
///
/// # Errors
/// If it is empty, has a NUL, or is longer than 8 bytes.
pub fn password(bytes: &[u8]) -> Result<[u8; 8], PasswordError> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.is_empty() {
        return Err(PasswordError::Empty);
    }
    if bytes.contains(&0) {
        return Err(PasswordError::Nul);
    }
    let mut out = [0; 8];
    match out.get_mut(..bytes.len()) {
        Some(field) => field.copy_from_slice(bytes),
        None => return Err(PasswordError::TooLong(bytes.len())),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let ok = [
            ("0ms", 0),
            ("10ms", 10_000),
            ("0.5s", 500_000),
            ("1.1s", 1_100_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
        ];
        for (text, micros) in ok {
            assert_eq!(time(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for bad in ["", "5", "5us", "s", ".s", "1.s", "1..2s", "-1s", "1e3s", "9999999999999h"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(time("5 sec").unwrap_err().write.as_deref(), Some("\"5s\""));
    }

    #[test]
    fn virtual_addresses() {
        for ok in ["192.168.34.85/24", "10.0.0.0/31", "10.0.0.0/32", "2001:db8::5/64", "::5/128"] {
            assert!(cidr(ok).is_ok(), "{ok}");
        }
        for bad in [
            "192.168.34.0/24",
            "192.168.34.255/24",
            "192.168.34.85/33",
            "192.168.34.85/0",
            "192.168.34.85/024",
            "127.0.0.1/8",
            "224.0.0.18/32",
            "0.0.0.0/32",
            "255.255.255.255/32",
            "::1/128",
            "ff02::12/128",
            "2001:db8::/64",
            "::ffff:10.0.0.1/128",
            "fe80::1%eth0/64",
        ] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
        let netmask = cidr("192.168.34.85/255.255.255.0").unwrap_err();
        assert_eq!(netmask.write.as_deref(), Some("\"192.168.34.85/24\""));
        let zeros = cidr("192.168.034.085/24").unwrap_err();
        assert_eq!(zeros.write.as_deref(), Some("\"192.168.34.85/24\""));
    }

    #[test]
    fn a_password_is_never_cut() {
        assert_eq!(password(b"12345678\n"), Ok(*b"12345678"));
        assert_eq!(password(b"abc"), Ok(*b"abc\0\0\0\0\0"));
        assert_eq!(password(b"123456789"), Err(PasswordError::TooLong(9)));
        assert_eq!(password(b"\n"), Err(PasswordError::Empty));
        assert_eq!(password(b"a\0b"), Err(PasswordError::Nul));
    }
}
