//! Echo of ICMP (RFC 792) and `ICMPv6` (RFC 4443 §4.1).

use super::checksum::{fold, sum};
use crate::types::Family;

/// Identifier, sequence and data: what comes back as it was sent. The kernel puts an identifier of
/// its own into what goes out of a datagram socket, so only the data tells whose an echo is.
pub type Mark = [u8; 8];

/// A request with `mark` as its data. The kernel writes the checksum of `ICMPv6`.
pub fn request(family: Family, mark: Mark) -> [u8; 16] {
    let kind = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    let mut message = [0; 16];
    message[0] = kind;
    // The sequence is 1; there is but one request of each mark.
    message[7] = 1;
    message[8..].copy_from_slice(&mark);
    if family == Family::V4 {
        let checksum = !fold(sum(&message));
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// Whether a received packet is the reply to the request with `mark`: the message alone, or, from
/// a raw socket of IPv4, behind its IP header.
pub fn is_reply(family: Family, packet: &[u8], mark: Mark) -> bool {
    let message = match (family, packet.first()) {
        (Family::V4, Some(first)) if first >> 4 == 4 => {
            packet.get(usize::from(first & 0x0f) * 4..).unwrap_or_default()
        }
        _ => packet,
    };
    let kind = match family {
        Family::V4 => 0,
        Family::V6 => 129,
    };
    message.first_chunk().is_some_and(|[k, code]| *k == kind && *code == 0)
        && message.get(8..) == Some(&mark[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_known_by_its_mark() {
        let mark = *b"12345678";
        let sent = request(Family::V4, mark);
        assert_eq!(fold(sum(&sent)), 0xffff);
        assert!(!is_reply(Family::V4, &sent, mark));
        let mut reply = sent;
        reply[0] = 0;
        assert!(is_reply(Family::V4, &reply, mark));
        assert!(!is_reply(Family::V4, &reply, *b"12345679"));
        let header = [&[0x45][..], &[0; 19]].concat();
        assert!(is_reply(Family::V4, &[&header[..], &reply].concat(), mark));
        let mut six = request(Family::V6, mark);
        assert_eq!(six[..8], [128, 0, 0, 0, 0, 0, 0, 1]);
        six[0] = 129;
        assert!(is_reply(Family::V6, &six, mark));
        for cut in 0..16 {
            assert!(!is_reply(Family::V4, &reply[..cut], mark));
            assert!(!is_reply(Family::V6, &six[..cut], mark));
        }
        assert!(!is_reply(Family::V4, &[0x4f], mark));
    }
}
