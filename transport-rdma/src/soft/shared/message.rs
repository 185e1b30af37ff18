//! What two processes say over their Unix socket: fixed layouts, little-endian, in one place.
//!
//! | message | from | with | says |
//! |---|---|---|---|
//! | `Hello` | who was connected to | | who I am |
//! | `Pair` | who connected | pair page, key table | who I am, and the memory between us |
//! | `Paired` | who was connected to | key table | it is mapped; connections may be asked for |
//! | `Refuse` | either | | why I close |
//! | `Arena`, `ArenaTaken`, `ArenaWithdrawn` | owner, copier, owner | arena | memory with remote keys |
//! | `Doorbell` | either | sending end | how to wake one of my ports: before the first `Connect` or `Accept` that names it |
//! | `Connect`, `Accept`, `Reject`, `ReadyToUse`, `Disconnect`, `DisconnectReply` | | rings | connection management, as REQ, REP, REJ, RTU, DREQ, DREP of InfiniBand's CM |
//! | `Ended` | either | | my queue pair is gone: its place on your news board is free |
//! | `Unmapped` | copier | | a withdrawn arena is unmapped |
//!
//! Parsing takes any bytes: lengths are checked first, and a message that is too short, too long or unknown is `None`, for which its sender is ended.
//! Numbers that name things of the receiver are looked up there.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::socket::MESSAGE_LEN_MAX;

/// Changes with any layout here or in shared memory.
pub(super) const VERSION: u32 = 2;
/// "QUIESCE" and a NUL.
const MAGIC: u64 = 0x0045_4353_4549_5551;
/// Most private data: of an accept.
pub(super) const PRIVATE_DATA_LEN_MAX: usize = 196;
const TEXT_LEN_MAX: usize = 380;

/// Who a provider is: random, so that a listener's other addresses are known for the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instance(pub(super) [u8; 16]);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Hello { version: u32, instance: Instance },
    Pair { version: u32, instance: Instance, page_len: u32, key_count: u32 },
    Paired { key_count: u32 },
    Refuse { text: String },
    Arena { slot: u32, len: u64, base: u64 },
    ArenaTaken { slot: u32, error: String },
    ArenaWithdrawn { slot: u32 },
    Unmapped { slot: u32 },
    Doorbell { port: u32 },
    Connect(Connect),
    Accept(Accept),
    Reject { to: u64, reason: Reason },
    ReadyToUse { to: u64 },
    Disconnect { to: u64 },
    DisconnectReply { to: u64 },
    Ended { to: u64 },
}

/// A connection request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connect {
    /// The sender's name of the connection.
    pub(super) from: u64,
    pub(super) queue_pair_number: u32,
    /// The address that is connected to.
    pub(super) address: SocketAddr,
    /// What the sender calls itself.
    pub(super) source: SocketAddr,
    /// Bytes of each ring.
    pub(super) ring_len: u32,
    /// Where the receiver stores its producer index.
    pub(super) news_slot: u32,
    /// The sender's port: whose asleep word the receiver looks at.
    pub(super) port: u32,
    pub(super) parameters: Parameters,
    pub(super) private_data: Vec<u8>,
}

/// Its acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    /// The receiver's name of the connection.
    pub(super) to: u64,
    /// The sender's.
    pub(super) from: u64,
    pub(super) queue_pair_number: u32,
    pub(super) news_slot: u32,
    pub(super) port: u32,
    pub(super) parameters: Parameters,
    pub(super) private_data: Vec<u8>,
}

/// Numbers of `rdma_conn_param`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Parameters {
    pub(super) responder_resources: u8,
    pub(super) initiator_depth: u8,
    pub(super) retry_count: u8,
    pub(super) rnr_retry_count: u8,
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Consumer(Vec<u8>),
    Unreachable(String),
    Stale,
    TimedOut,
}

impl Message {
    /// How many descriptors come with it: least and most.
    pub(super) fn descriptor_count(&self) -> (usize, usize) {
        match self {
            Self::Pair { key_count, .. } => (1 + usize::from(*key_count > 0), 1 + usize::from(*key_count > 0)),
            Self::Paired { key_count } => (usize::from(*key_count > 0), usize::from(*key_count > 0)),
            Self::Arena { .. } | Self::Doorbell { .. } | Self::Connect(_) => (1, 1),
            Self::Hello { .. }
            | Self::Refuse { .. }
            | Self::ArenaTaken { .. }
            | Self::ArenaWithdrawn { .. }
            | Self::Unmapped { .. }
            | Self::Accept(_)
            | Self::Reject { .. }
            | Self::ReadyToUse { .. }
            | Self::Disconnect { .. }
            | Self::DisconnectReply { .. }
            | Self::Ended { .. } => (0, 0),
        }
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(MESSAGE_LEN_MAX));
        match self {
            Self::Hello { version, instance } => {
                w.u32(1).u32(*version).u64(MAGIC).bytes(&instance.0);
            }
            Self::Pair { version, instance, page_len, key_count } => {
                w.u32(2).u32(*version).u64(MAGIC).bytes(&instance.0).u32(*page_len).u32(*key_count);
            }
            Self::Paired { key_count } => {
                w.u32(3).u32(*key_count);
            }
            Self::Refuse { text } => {
                w.u32(4).text(text);
            }
            Self::Arena { slot, len, base } => {
                w.u32(5).u32(*slot).u64(*len).u64(*base);
            }
            Self::ArenaTaken { slot, error } => {
                w.u32(6).u32(*slot).text(error);
            }
            Self::ArenaWithdrawn { slot } => {
                w.u32(7).u32(*slot);
            }
            Self::Unmapped { slot } => {
                w.u32(8).u32(*slot);
            }
            Self::Connect(connect) => {
                w.u32(9).u32(connect.queue_pair_number).u64(connect.from).u32(connect.ring_len).u32(connect.news_slot);
                w.u32(connect.port).parameters(connect.parameters).address(connect.address).address(connect.source);
                w.data(&connect.private_data);
            }
            Self::Accept(accept) => {
                w.u32(10).u32(accept.queue_pair_number).u64(accept.to).u64(accept.from).u32(accept.news_slot);
                w.u32(accept.port).parameters(accept.parameters).data(&accept.private_data);
            }
            Self::Reject { to, reason } => {
                let (code, data) = match reason {
                    Reason::Consumer(data) => (0, data.as_slice()),
                    Reason::Unreachable(text) => (1, text.as_bytes()),
                    Reason::Stale => (2, [].as_slice()),
                    Reason::TimedOut => (3, [].as_slice()),
                };
                w.u32(11).u32(code).u64(*to).data(&data[..data.len().min(TEXT_LEN_MAX)]);
            }
            Self::ReadyToUse { to } => {
                w.u32(12).u32(0).u64(*to);
            }
            Self::Disconnect { to } => {
                w.u32(13).u32(0).u64(*to);
            }
            Self::DisconnectReply { to } => {
                w.u32(14).u32(0).u64(*to);
            }
            Self::Ended { to } => {
                w.u32(15).u32(0).u64(*to);
            }
            Self::Doorbell { port } => {
                w.u32(16).u32(*port);
            }
        }
        w.0
    }

    /// What the bytes say. `None`: nobody who follows the protocol sends them.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        let message = match r.u32()? {
            1 => {
                let version = r.u32()?;
                r.magic()?;
                Self::Hello { version, instance: r.instance()? }
            }
            2 => {
                let version = r.u32()?;
                r.magic()?;
                Self::Pair { version, instance: r.instance()?, page_len: r.u32()?, key_count: r.u32()? }
            }
            3 => Self::Paired { key_count: r.u32()? },
            4 => Self::Refuse { text: r.text()? },
            5 => Self::Arena { slot: r.u32()?, len: r.u64()?, base: r.u64()? },
            6 => Self::ArenaTaken { slot: r.u32()?, error: r.text()? },
            7 => Self::ArenaWithdrawn { slot: r.u32()? },
            8 => Self::Unmapped { slot: r.u32()? },
            9 => {
                let (queue_pair_number, from) = (r.u32()?, r.u64()?);
                let (ring_len, news_slot, port) = (r.u32()?, r.u32()?, r.u32()?);
                let parameters = r.parameters()?;
                let (address, source) = (r.address()?, r.address()?);
                let private_data = r.data(PRIVATE_DATA_LEN_MAX)?;
                Self::Connect(Connect {
                    from,
                    queue_pair_number,
                    address,
                    source,
                    ring_len,
                    news_slot,
                    port,
                    parameters,
                    private_data,
                })
            }
            10 => {
                let queue_pair_number = r.u32()?;
                let (to, from) = (r.u64()?, r.u64()?);
                let (news_slot, port) = (r.u32()?, r.u32()?);
                let parameters = r.parameters()?;
                let private_data = r.data(PRIVATE_DATA_LEN_MAX)?;
                Self::Accept(Accept { to, from, queue_pair_number, news_slot, port, parameters, private_data })
            }
            11 => {
                let code = r.u32()?;
                let to = r.u64()?;
                let data = r.data(TEXT_LEN_MAX)?;
                let reason = match code {
                    0 => Reason::Consumer(data),
                    1 => Reason::Unreachable(printable(&data)),
                    2 => Reason::Stale,
                    3 => Reason::TimedOut,
                    _ => return None,
                };
                Self::Reject { to, reason }
            }
            12 => Self::ReadyToUse { to: r.name()? },
            13 => Self::Disconnect { to: r.name()? },
            14 => Self::DisconnectReply { to: r.name()? },
            15 => Self::Ended { to: r.name()? },
            16 => Self::Doorbell { port: r.u32()? },
            _ => return None,
        };
        if r.0.is_empty() { Some(message) } else { None }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A length and as many bytes.
    fn data(&mut self, data: &[u8]) -> &mut Self {
        let len = u32::try_from(data.len()).unwrap_or(0);
        self.u32(len).bytes(data)
    }

    /// Cut at a length that fits into a message.
    fn text(&mut self, text: &str) -> &mut Self {
        self.data(&text.as_bytes()[..text.len().min(TEXT_LEN_MAX)])
    }

    fn parameters(&mut self, p: Parameters) -> &mut Self {
        self.bytes(&[p.responder_resources, p.initiator_depth, p.retry_count, p.rnr_retry_count])
    }

    fn address(&mut self, address: SocketAddr) -> &mut Self {
        let (family, octets) = match address.ip() {
            IpAddr::V4(ip) => (4_u16, ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => (6, ip.octets()),
        };
        self.bytes(&family.to_le_bytes()).bytes(&address.port().to_le_bytes()).bytes(&octets)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn magic(&mut self) -> Option<()> {
        (self.u64()? == MAGIC).then_some(())
    }

    fn instance(&mut self) -> Option<Instance> {
        self.array().map(Instance)
    }

    /// A word of padding and a connection's name.
    fn name(&mut self) -> Option<u64> {
        let _ = self.u32()?;
        self.u64()
    }

    fn data(&mut self, len_max: usize) -> Option<Vec<u8>> {
        let len = usize::try_from(self.u32()?).ok()?;
        if len > len_max { None } else { Some(self.bytes(len)?.to_vec()) }
    }

    fn text(&mut self) -> Option<String> {
        self.data(TEXT_LEN_MAX).map(|data| printable(&data))
    }

    fn parameters(&mut self) -> Option<Parameters> {
        let [responder_resources, initiator_depth, retry_count, rnr_retry_count] = self.array()?;
        // 3 bits on the wire of InfiniBand; more is nonsense that must not reach a multiplication.
        if retry_count > 7 || rnr_retry_count > 7 {
            return None;
        }
        Some(Parameters { responder_resources, initiator_depth, retry_count, rnr_retry_count })
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let (family, port) = (self.u16()?, self.u16()?);
        let octets = Ipv6Addr::from(self.array::<16>()?);
        let ip = match family {
            4 => IpAddr::V4(octets.to_ipv4_mapped()?),
            6 => IpAddr::V6(octets),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }
}

/// What a peer wrote, fit for a log.
fn printable(data: &[u8]) -> String {
    String::from_utf8_lossy(data).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Message> {
        let instance = Instance(*b"0123456789abcdef");
        let parameters = Parameters { responder_resources: 1, initiator_depth: 2, retry_count: 3, rnr_retry_count: 7 };
        vec![
            Message::Hello { version: VERSION, instance },
            Message::Pair { version: VERSION, instance, page_len: 16384, key_count: 4096 },
            Message::Paired { key_count: 0 },
            Message::Refuse { text: "no".into() },
            Message::Arena { slot: 3, len: 1 << 40, base: 0x7fff_0000_0000 },
            Message::ArenaTaken { slot: 3, error: "full".into() },
            Message::ArenaWithdrawn { slot: 3 },
            Message::Unmapped { slot: 3 },
            Message::Doorbell { port: 31 },
            Message::Connect(Connect {
                from: 7,
                queue_pair_number: 9,
                address: "127.0.0.1:4420".parse().unwrap(),
                source: "[::1]:50000".parse().unwrap(),
                ring_len: 32768,
                news_slot: 1023,
                port: 31,
                parameters,
                private_data: vec![5; 56],
            }),
            Message::Accept(Accept {
                to: 7,
                from: 8,
                queue_pair_number: 10,
                news_slot: 0,
                port: 0,
                parameters,
                private_data: vec![6; 196],
            }),
            Message::Reject { to: 7, reason: Reason::Consumer(vec![1; 148]) },
            Message::Reject { to: 7, reason: Reason::Unreachable("x".repeat(TEXT_LEN_MAX)) },
            Message::Reject { to: 7, reason: Reason::Stale },
            Message::ReadyToUse { to: 7 },
            Message::Disconnect { to: 7 },
            Message::DisconnectReply { to: 7 },
            Message::Ended { to: 7 },
        ]
    }

    #[test]
    fn what_is_encoded_is_parsed_and_fits() {
        for message in samples() {
            let bytes = message.encode();
            assert!(bytes.len() <= MESSAGE_LEN_MAX, "{message:?} has {} bytes", bytes.len());
            assert_eq!(Message::parse(&bytes).as_ref(), Some(&message));
        }
    }

    #[test]
    fn truncated_and_longer_messages_are_refused() {
        for message in samples() {
            let bytes = message.encode();
            for len in 0..bytes.len() {
                assert_eq!(Message::parse(&bytes[..len]), None, "{message:?} cut to {len}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(Message::parse(&longer), None, "{message:?} and one byte");
        }
    }

    #[test]
    fn real_bytes_of_a_disconnect() {
        let bytes = [13, 0, 0, 0, 0, 0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Message::parse(&bytes), Some(Message::Disconnect { to: 42 }));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..512), kind in 0_u8..18) {
            let mut bytes = bytes;
            if bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            let _ = Message::parse(&bytes);
        }
    }
}
