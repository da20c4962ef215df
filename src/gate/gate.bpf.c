// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The kernel's half of the gate: a frame for or from a virtual address passes only before the
// deadline of the address's slot. scripts/gate.sh makes gate.bpf.o of this file; neither a
// compiler nor a header of the kernel is needed to build or to run vipd.
//
// What a frame is, is read twice. From its first byte, as Ethernet has it: on the way out nothing
// else is sure, since a packet socket may call a frame what it likes. And from where the kernel
// says that the network header is, since tunnels have no Ethernet header. A packet in a tunnel
// that looks like a frame for a virtual address must be made to look so; it is lost while the gate
// is shut.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// linux/bpf.h; the numbers and the order are the kernel's promise to programs.
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
	u32 priority, ingress_ifindex, ifindex, tc_index, cb[5], hash;
};
enum { MAP_HASH = 1, MAP_ARRAY = 2 };
enum { F_NO_PREALLOC = 1 << 0, F_MMAPABLE = 1 << 10 };
enum { START_NET = 1 };

static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*store_bytes)(struct __sk_buff *, u32 at, const void *from, u32 length, u64 flags) =
	(void *)9;
static long (*load_bytes)(const struct __sk_buff *, u32 at, void *to, u32 length) = (void *)26;
static long (*load_bytes_relative)(const struct __sk_buff *, u32 at, void *to, u32 length,
				   u32 start) = (void *)68;
static u64 (*boot_ns)(void) = (void *)125;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// What the loader makes of each symbol in "maps".
struct map {
	u32 type, key, value, entries, flags;
};
struct address {
	u32 word[4];
};
struct slot {
	u64 deadline; // nanoseconds of the boot clock
	u64 owner[2]; // for user space
	u64 reserved;
};
enum { SLOTS = 4096, ADDRESSES = 65536 };

SEC("maps") struct map addresses = {
	MAP_HASH, sizeof(struct address), sizeof(u32), ADDRESSES, F_NO_PREALLOC };
SEC("maps") struct map slots = {
	MAP_ARRAY, sizeof(u32), sizeof(struct slot), SLOTS, F_MMAPABLE };
// Which gate this is, and of which boot: for user space.
SEC("maps") struct map identity = { MAP_ARRAY, sizeof(u32), 32, 1, 0 };
// In, out.
SEC("maps") struct map drops = { MAP_ARRAY, sizeof(u32), sizeof(u64), 2, 0 };

// No deadline is further away than this; one that is, is a mistake, and shut.
#define CAP 60000000000ULL

enum { PASS = -1, DROP = 2 }; // TCX_NEXT and TC_ACT_UNSPEC: the next program decides
enum { IN = 0, OUT = 1 };
enum { OTHERHOST = 3 };

#define BE16(n) ((u16)__builtin_bswap16(n))
#define IPV4 BE16(0x0800)
#define ARP BE16(0x0806)
#define IPV6 BE16(0x86dd)
#define VLAN BE16(0x8100)
#define SERVICE_VLAN BE16(0x88a8)
#define TAGS 2

enum { ICMPV6 = 58, SOLICITATION = 135, ADVERTISEMENT = 136 };

// Whether `key` is a virtual address, and shut.
INLINE int is_shut(const struct address *key)
{
	u32 *number = lookup(&addresses, key);
	if (!number)
		return 0;
	u32 index = *number;
	struct slot *slot = lookup(&slots, &index);
	if (!slot)
		return 1;
	// The deadline first: what passes in between makes the clock later, not earlier.
	u64 deadline = *(volatile u64 *)&slot->deadline;
	u64 now = boot_ns();
	return deadline <= now || deadline - now > CAP;
}

INLINE int is_shut4(u32 ip)
{
	struct address key = { { 0, 0, __builtin_bswap32(0xffff), ip } };
	return is_shut(&key);
}

// From the beginning of the frame, or from the network header.
INLINE long load(const struct __sk_buff *skb, int net, u32 at, void *to, u32 length)
{
	return net ? load_bytes_relative(skb, at, to, length, START_NET)
		   : load_bytes(skb, at, to, length);
}

INLINE int arp(const struct __sk_buff *skb, int net, u32 at, int way)
{
	struct { u16 hardware, protocol; u8 hardware_length, protocol_length; u16 operation; } head;
	u32 sender, target;
	if (load(skb, net, at, &head, sizeof(head)) || head.protocol != IPV4 ||
	    head.protocol_length != 4)
		return 0;
	u32 length = head.hardware_length;
	if (load(skb, net, at + 8 + length, &sender, 4) ||
	    load(skb, net, at + 12 + 2 * length, &target, 4))
		return 0;
	// Another host that claims the address for itself shall be heard.
	if (way == IN)
		return sender != target && is_shut4(target);
	return is_shut4(sender);
}

INLINE int ipv6(const struct __sk_buff *skb, int net, u32 at, int way)
{
	u8 next, type;
	struct address source, key;
	if (load(skb, net, at + 8, &source, 16) ||
	    load(skb, net, at + (way == IN ? 24 : 8), &key, 16))
		return 0;
	if (is_shut(&key))
		return 1;
	if (load(skb, net, at + 6, &next, 1) || next != ICMPV6 ||
	    load(skb, net, at + 40, &type, 1) || load(skb, net, at + 48, &key, 16))
		return 0;
	// Outwards, a solicitation without a source claims what it asks for (RFC 4862 5.4.2); one
	// with a source looks for who has the address, as any client may.
	int none = !(source.word[0] | source.word[1] | source.word[2] | source.word[3]);
	int claim = way == IN ? type == SOLICITATION
			      : type == ADVERTISEMENT || (type == SOLICITATION && none);
	return claim && is_shut(&key);
}

// What is at `at`, of type `protocol`, behind at most TAGS tags.
INLINE int packet(const struct __sk_buff *skb, int net, u32 at, u16 protocol, int way)
{
	u32 ip;
#pragma clang loop unroll(full)
	for (int tag = 0; tag < TAGS; tag++) {
		if (protocol != VLAN && protocol != SERVICE_VLAN)
			break;
		if (load(skb, net, at + 2, &protocol, 2))
			return 0;
		at += 4;
	}
	if (protocol == IPV4)
		return !load(skb, net, at + (way == IN ? 16 : 12), &ip, 4) && is_shut4(ip);
	if (protocol == ARP)
		return arp(skb, net, at, way);
	if (protocol == IPV6)
		return ipv6(skb, net, at, way);
	return 0;
}

INLINE int judge(struct __sk_buff *skb, int way)
{
	u16 protocol;
	int shut = !load(skb, 0, 12, &protocol, 2) && packet(skb, 0, 14, protocol, way);
	if (!shut && !packet(skb, 1, 0, skb->protocol, way))
		return PASS;
	u32 key = way;
	u64 *count = lookup(&drops, &key);
	if (count)
		__sync_fetch_and_add(count, 1);
	return DROP;
}

SEC("classifier/in") int vipd_in(struct __sk_buff *skb)
{
	// What a bridge or a sniffer takes, but this host does not, is others' business.
	if (skb->pkt_type == OTHERHOST)
		return PASS;
	return judge(skb, IN);
}

SEC("classifier/out") int vipd_out(struct __sk_buff *skb)
{
	return judge(skb, OUT);
}

// Never attached: tells user space which time the programs go by.
SEC("classifier/clock") int vipd_clock(struct __sk_buff *skb)
{
	u64 now = boot_ns();
	return store_bytes(skb, 16, &now, sizeof(now), 0) ? DROP : 0;
}

SEC("license") char its_license[] = "MIT";
