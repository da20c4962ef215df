//! The IPv4 header that raw sockets leave on what they receive. PURE.

use std::net::Ipv4Addr;

use crate::wire::vrrp::{Meta, PROTOCOL};

/// What the IP header of a whole datagram tells, and its payload.
///
/// The payload ends where the header says, not where the frame did: short frames are padded.
/// `None` for what is not a VRRP datagram with a header that can be.
pub(super) fn strip(datagram: &[u8]) -> Option<(Meta, &[u8])> {
    let header: &[u8; 20] = datagram.first_chunk()?;
    let [version, _, high, low, _, _, _, _, hops, protocol, ..] = *header;
    let start = 4 * usize::from(version & 0x0f);
    let end = usize::from(u16::from_be_bytes([high, low]));
    if version >> 4 != 4 || start < header.len() || protocol != PROTOCOL {
        return None;
    }
    let payload = datagram.get(start..end)?;
    let address = |at| Some(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?).into());
    Some((Meta { src: address(12)?, dst: address(16)?, hops }, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of `words`, a total length of `total`, and a payload counting up from 1.
    fn datagram(words: u8, total: u16, payload: u8) -> Vec<u8> {
        let mut bytes = vec![0x40 | words, 0xc0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 255, PROTOCOL, 0, 0, 192, 0, 2, 1, 224, 0, 0, 18]);
        bytes.resize(usize::from(words.max(5)) * 4, 0);
        bytes.extend(1..=payload);
        bytes
    }

    #[test]
    fn the_payload_is_what_the_header_says() {
        let cases: [(u8, u16, u8, Option<&[u8]>); 7] = [
            (5, 23, 3, Some(&[1, 2, 3])),
            (5, 23, 26, Some(&[1, 2, 3])),
            (6, 27, 3, Some(&[1, 2, 3])),
            (5, 20, 0, Some(&[])),
            (5, 24, 3, None),
            (5, 19, 3, None),
            (4, 23, 3, None),
        ];
        for (words, total, payload, expected) in cases {
            let datagram = datagram(words, total, payload);
            let found = strip(&datagram);
            assert_eq!(found.map(|(_, payload)| payload), expected, "{words} {total} {payload}");
        }
    }

    #[test]
    fn the_header_tells_who_sent_it() {
        let bytes = datagram(5, 21, 1);
        let (meta, _) = strip(&bytes).unwrap();
        let (src, dst) = ([192, 0, 2, 1].into(), [224, 0, 0, 18].into());
        assert_eq!(meta, Meta { src, dst, hops: 255 });
    }

    #[test]
    fn another_version_or_protocol_is_none_of_ours() {
        for (at, value) in [(0, 0x65), (9, 17)] {
            let mut bytes = datagram(5, 23, 3);
            bytes[at] = value;
            assert_eq!(strip(&bytes), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            strip(&bytes);
        }

        #[test]
        fn any_header_is_survived(words in 0u8..16, total: u16, payload in 0u8..80) {
            let bytes = datagram(words, total, payload);
            if let Some((_, stripped)) = strip(&bytes) {
                prop_assert!(words >= 5);
                prop_assert_eq!(stripped.len(), usize::from(total) - 4 * usize::from(words));
            }
        }
    }
}
