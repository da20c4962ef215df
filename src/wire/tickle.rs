//! A bare TCP acknowledgement with numbers that fit nothing.
//!
//! A client that has the connection answers it with its real numbers (RFC 9293 §3.10.7.4: an
//! unacceptable segment draws an acknowledgement), and a host that does not know the connection
//! answers that with a reset (§3.10.7.1) which the client believes. So whoever has taken over an
//! address can end connections of which it knows nothing but their ends.

use std::net::IpAddr;

use super::checksum::{fold, pseudo_header, sum};
use super::peer::connections::Connection;

const TCP: u8 = 6;
/// Bytes of a TCP header without options.
const SEGMENT: u16 = 20;
const ACK: u8 = 0x10;
const HOPS: u8 = 64;
/// What the client could send if it believed this segment, in spite of all.
const WINDOW: u16 = 1024;

/// Sequence and acknowledgement number of one of several segments to the same client: the second is
/// half the number space away from the first, so at least one of the two is outside of any window
/// there can be (RFC 7323 §2.3: less than 2^30).
fn numbers(connection: &Connection, round: usize) -> (u32, u32) {
    let shift = match round % 4 {
        0 => 0,
        1 => 1 << 31,
        2 => 1 << 30,
        _ => 3 << 30,
    };
    let mark = connection.mark();
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    (half(mark).wrapping_add(shift), half(mark >> 32).wrapping_add(shift))
}

/// An IP packet from the served end of `connection` to its client, headers included: one of
/// several, whose numbers differ.
pub fn tickle(connection: &Connection, round: usize) -> Vec<u8> {
    let (sequence, acknowledged) = numbers(connection, round);
    let (from, to) = (connection.local(), connection.remote());
    let mut segment = Vec::with_capacity(SEGMENT.into());
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    // Five words of header.
    segment.extend([5 << 4, ACK]);
    segment.extend(WINDOW.to_be_bytes());
    segment.extend([0; 4]);
    let sum = sum(&segment) + pseudo_header(from.ip(), to.ip(), TCP, segment.len());
    if let Some(place) = segment.get_mut(16..18) {
        place.copy_from_slice(&(!fold(sum)).to_be_bytes());
    }
    let mut packet = header(from.ip(), to.ip());
    packet.extend(segment);
    packet
}

fn header(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(60);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend([0x45, 0]);
            out.extend((20 + SEGMENT).to_be_bytes());
            // No identification, as it must not be fragmented (RFC 6864 §4.1).
            out.extend([0, 0, 0x40, 0, HOPS, TCP, 0, 0]);
            out.extend(from.octets());
            out.extend(to.octets());
            let sum = !fold(sum(&out));
            if let Some(place) = out.get_mut(10..12) {
                place.copy_from_slice(&sum.to_be_bytes());
            }
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            out.extend([0x60, 0, 0, 0]);
            out.extend(SEGMENT.to_be_bytes());
            out.extend([TCP, HOPS]);
            out.extend(from.octets());
            out.extend(to.octets());
        }
        // There is no such connection.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use pnet_packet::ipv4::{self, Ipv4Packet};
    use pnet_packet::ipv6::Ipv6Packet;
    use pnet_packet::tcp::{self, TcpFlags, TcpPacket};

    use super::*;

    fn connection(local: &str, remote: &str) -> Connection {
        Connection::new(local.parse().unwrap(), remote.parse().unwrap()).unwrap()
    }

    #[test]
    fn another_library_reads_the_segment() {
        let check = |connection: &Connection, segment: &[u8], right: u16| {
            let expected = numbers(connection, 1);
            let segment = TcpPacket::new(segment).unwrap();
            assert_eq!((segment.get_source(), segment.get_destination()), (5000, 40_000));
            assert_eq!((segment.get_sequence(), segment.get_acknowledgement()), expected);
            assert_eq!((segment.get_flags(), segment.get_data_offset()), (TcpFlags::ACK, 5));
            assert_eq!(segment.get_checksum(), right);
        };
        let v4 = connection("192.0.2.85:5000", "198.51.100.7:40000");
        let packet = tickle(&v4, 1);
        let ip = Ipv4Packet::new(&packet).unwrap();
        assert_eq!(usize::from(ip.get_total_length()), packet.len());
        assert_eq!(ip.get_checksum(), ipv4::checksum(&ip));
        let segment = TcpPacket::new(&packet[20..]).unwrap();
        let right = tcp::ipv4_checksum(&segment, &ip.get_source(), &ip.get_destination());
        check(&v4, &packet[20..], right);

        let v6 = connection("[fd00::85]:5000", "[fd00::7]:40000");
        let packet = tickle(&v6, 1);
        let ip = Ipv6Packet::new(&packet).unwrap();
        assert_eq!(usize::from(ip.get_payload_length()) + 40, packet.len());
        let segment = TcpPacket::new(&packet[40..]).unwrap();
        let right = tcp::ipv6_checksum(&segment, &ip.get_source(), &ip.get_destination());
        check(&v6, &packet[40..], right);
    }

    #[test]
    fn no_window_has_both_of_two_rounds() {
        for port in 1..100 {
            let connection = connection("192.0.2.85:5000", &format!("198.51.100.7:{port}"));
            let ((one, _), (two, _)) = (numbers(&connection, 0), numbers(&connection, 1));
            assert_eq!(two.wrapping_sub(one), 1 << 31);
        }
    }
}
