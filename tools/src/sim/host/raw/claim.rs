//! What a host asks of a namespace's reservations.

/// A command that changes reservations. What it comes to is for the scenario to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub(super) opcode: u8,
    /// CDW10.
    pub(super) word: u32,
    /// CRKEY, and NRKEY or PRKEY.
    pub(super) keys: [u64; 2],
    /// Hosts of which nothing on the namespace takes effect once it was answered with success.
    pub(super) aborts: Vec<u32>,
}

/// Write Exclusive: others do not write.
pub const WRITE_EXCLUSIVE: u8 = 1;
/// Exclusive Access: others neither read nor write.
pub const EXCLUSIVE_ACCESS: u8 = 2;
/// Write Exclusive, all registrants.
pub const WRITE_EXCLUSIVE_ALL: u8 = 5;

const REGISTER: u8 = 0x0D;
const ACQUIRE: u8 = 0x11;
const RELEASE: u8 = 0x15;
const IGNORES_KEY: u32 = 1 << 3;
const PERSISTS: u32 = 3 << 30;

impl Claim {
    /// A host that has no key gets one; through a loss of power, if that is asked for.
    #[must_use]
    pub fn register(key: u64, persists: bool) -> Self {
        Self::new(REGISTER, if persists { PERSISTS } else { 0 }, [0, key])
    }

    /// Its key becomes another, whatever it was.
    #[must_use]
    pub fn replace(key: u64) -> Self {
        Self::new(REGISTER, 2 | IGNORES_KEY, [0, key])
    }

    /// It has none any more.
    #[must_use]
    pub fn unregister(key: u64) -> Self {
        Self::new(REGISTER, 1, [key, 0])
    }

    /// Takes what nobody holds.
    #[must_use]
    pub fn acquire(key: u64, kind: u8) -> Self {
        Self::new(ACQUIRE, u32::from(kind) << 8, [key, 0])
    }

    /// Takes over from those with `victim_key`, who are registered no more.
    #[must_use]
    pub fn preempt(key: u64, victim_key: u64, kind: u8) -> Self {
        Self::new(ACQUIRE, 1 | u32::from(kind) << 8, [key, victim_key])
    }

    /// The same, and when it is answered nothing of these hosts is under way any more.
    #[must_use]
    pub fn preempt_and_abort(key: u64, victim_key: u64, kind: u8, victims: &[u32]) -> Self {
        Self { aborts: victims.to_vec(), ..Self::new(ACQUIRE, 2 | u32::from(kind) << 8, [key, victim_key]) }
    }

    /// Gives back what it holds.
    #[must_use]
    pub fn release(key: u64, kind: u8) -> Self {
        Self::new(RELEASE, u32::from(kind) << 8, [key, 0])
    }

    fn new(opcode: u8, word: u32, keys: [u64; 2]) -> Self {
        Self { opcode, word, keys, aborts: Vec::new() }
    }

    /// Its data.
    pub(super) fn data(&self) -> Vec<u8> {
        let bytes: Vec<u8> = self.keys.iter().flat_map(|key| key.to_le_bytes()).collect();
        let len = if self.opcode == RELEASE { 8 } else { 16 };
        bytes[..len].to_vec()
    }
}
