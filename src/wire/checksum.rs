//! The Internet checksum (RFC 1071), in two steps so that a constant part is summed only once.

use std::net::IpAddr;

/// The sum of the 16-bit words of `bytes`, an odd byte padded with zero; not yet folded.
///
/// Does not overflow below 128 KiB, twice what an IP packet can hold.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    let (words, odd) = bytes.as_chunks::<2>();
    let even: u32 = words.iter().map(|w| u32::from(u16::from_be_bytes(*w))).sum();
    even + odd.first().map_or(0, |b| u32::from(*b) << 8)
}

/// A sum with its carries added in; 0xffff over a message that includes a right checksum.
pub(super) fn fold(sum: u32) -> u16 {
    let [a, b, c, d] = sum.to_be_bytes();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let (folded, carry) = low.overflowing_add(high);
    folded + u16::from(carry)
}

/// The sum of the pseudo-header before `length` bytes of `protocol`: RFC 8200 §8.1, and its
/// IPv4 twin of RFC 9293 §3.1.
pub(super) fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, length: usize) -> u32 {
    let address = |ip| match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    };
    // No IP payload is longer.
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    address(src) + address(dst) + u32::from(protocol) + u32::from(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&example)), 0xddf2);
        assert_eq!(fold(sum(&[0x12])), 0x1200);
        assert_eq!(fold(0xffff_ffff), 0xffff);
        assert_eq!(fold(0x0001_ffff), 0x0001);
        assert_eq!(fold(0), 0);
    }
}
