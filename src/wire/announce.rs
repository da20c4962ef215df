//! Gratuitous ARP and unsolicited NA.
