//! What a drive says of itself: the fields of Identify pages that matter here. The drive is believed nothing that would lead beyond a page, a block
//! that is not there, or a number that does not fit.

use std::ops::Range;

use crate::device::{Atomic, BdevError, Deallocation, Identity, Preferred};

/// Bytes of every Identify page [NVMe Base 2.0, 5.17].
pub(super) const PAGE_LEN: usize = 4096;

/// An Identify page.
pub(super) type Page = [u8; PAGE_LEN];

/// The drive's smallest page, at least: limits are told in these, and how large they are beyond that is not told here.
const PAGE_UNIT_LEN: u64 = 4096;

/// Blocks of a command whose count is a 16-bit number, zero-based.
pub(super) const COMMAND_BLOCK_COUNT_MAX: u64 = 1 << 16;

/// Where fields stand in Identify Controller [NVMe Base 2.0, 5.17.2.1].
mod controller {
    use super::Range;
    pub(super) const SN: Range<usize> = 4..24;
    pub(super) const MN: Range<usize> = 24..64;
    pub(super) const FR: Range<usize> = 64..72;
    pub(super) const MDTS: usize = 77;
    pub(super) const ONCS: Range<usize> = 520..522;
    pub(super) const VWC: usize = 525;
    pub(super) const AWUN: Range<usize> = 526..528;
    pub(super) const AWUPF: Range<usize> = 528..530;
}

/// Where fields stand in Identify Namespace [NVM Command Set 1.0, 4.1.5.1].
mod namespace {
    use super::Range;
    pub(super) const NSZE: Range<usize> = 0..8;
    pub(super) const NSFEAT: usize = 24;
    pub(super) const FLBAS: usize = 26;
    pub(super) const DPS: usize = 29;
    pub(super) const DLFEAT: usize = 33;
    pub(super) const NAWUN: Range<usize> = 34..36;
    pub(super) const NAWUPF: Range<usize> = 36..38;
    pub(super) const NABSN: Range<usize> = 40..42;
    pub(super) const NABSPF: Range<usize> = 44..46;
    pub(super) const NOIOB: Range<usize> = 46..48;
    pub(super) const NPWG: Range<usize> = 64..66;
    pub(super) const NPDG: Range<usize> = 68..70;
    pub(super) const NOWS: Range<usize> = 72..74;
    pub(super) const NSATTR: usize = 99;
    pub(super) const NGUID: Range<usize> = 104..120;
    pub(super) const EUI64: Range<usize> = 120..128;
    pub(super) const LBAF: usize = 128;
}

/// The commands of a drive and how large each may be, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commands {
    /// The namespace.
    pub(super) nsid: u32,
    /// Bytes of a block.
    pub(super) block_len: u32,
    /// Of a read or write, at least 1.
    pub(super) transfer_block_count_max: u64,
    /// Of Write Zeroes. 0: there is no such command.
    pub(super) zeroes_block_count_max: u64,
    /// Whether Write Zeroes may deallocate.
    pub(super) zeroes_deallocate: bool,
    /// Of Dataset Management with one range. 0: there is no such command.
    pub(super) deallocate_block_count_max: u64,
    /// Of Write Uncorrectable. 0: there is no such command.
    pub(super) uncorrectable_block_count_max: u64,
}

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) commands: Commands,
    pub(super) block_count: u64,
    pub(super) volatile_write_cache: bool,
    pub(super) write_protected: bool,
    pub(super) deallocation: Deallocation,
    pub(super) preferred: Preferred,
    pub(super) atomic: Atomic,
    pub(super) identity: Identity,
}

/// The pages that are looked at.
pub(super) struct Pages<'p> {
    /// Identify Controller.
    pub(super) controller: &'p Page,
    /// Identify Namespace.
    pub(super) namespace: &'p Page,
    /// Identify Controller of the NVM command set. A drive before NVMe 2.0 has none.
    pub(super) command_set: Option<&'p Page>,
    /// The list of identification descriptors. A drive before NVMe 1.3 has none.
    pub(super) descriptors: Option<&'p Page>,
}

/// Size and format of a namespace, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) block_len: u32,
    pub(super) block_count: u64,
}

/// Reads a namespace's size and format.
pub(super) fn format(device: &str, page: &Page) -> Result<Format, BdevError> {
    let refuse = |field, value: String, allowed| BdevError::Field { device: device.to_owned(), field, value, allowed };
    let block_count = number(page, namespace::NSZE);
    if block_count == 0 {
        return Err(refuse("namespace", "inactive".to_owned(), "one that has blocks: `nvme attach-ns` attaches it"));
    }
    // Bits 6:5 stand above bits 3:0 where there are more than 16 formats.
    let flbas = page[namespace::FLBAS];
    let format = usize::from(flbas & 0xF | (flbas >> 1) & 0x30);
    let at = namespace::LBAF + 4 * format;
    let (metadata_len, block_shift) = (number(page, at..at + 2), page[at + 2]);
    if page[namespace::DPS] & 0b111 != 0 {
        let value = format!("type {}", page[namespace::DPS] & 0b111);
        return Err(refuse("protection information", value, "none: `nvme format --pi=0` takes it away, and all data"));
    }
    if metadata_len != 0 {
        let value = format!("{metadata_len} bytes a block");
        return Err(refuse(
            "metadata",
            value,
            "none: `nvme format --lbaf=N` chooses another format, and takes all data",
        ));
    }
    let block_len = match block_shift {
        9 => 512,
        12 => 4096,
        other => {
            let allowed = "2^9 or 2^12 bytes: `nvme format --lbaf=N` chooses another format, and takes all data";
            return Err(refuse("block size", format!("2^{other} bytes"), allowed));
        }
    };
    if block_count > i64::MAX as u64 / u64::from(block_len) {
        return Err(refuse("size", format!("{block_count} blocks"), "less than 8 EiB"));
    }
    Ok(Format { block_len, block_count })
}

/// Reads what a drive says. `len_max` is the longest transfer that the operating system takes.
pub(super) fn facts(device: &str, nsid: u32, pages: &Pages<'_>, len_max: u64) -> Result<Facts, BdevError> {
    let (controller, page) = (pages.controller, pages.namespace);
    if let Some(set) = pages.descriptors.map_or(Some(0), command_set).filter(|set| *set != 0) {
        let value = match set {
            1 => "key value".to_owned(),
            2 => "zoned".to_owned(),
            other => format!("number {other}"),
        };
        let allowed = "the NVM command set: namespaces of other sets cannot be served";
        return Err(BdevError::Field { device: device.to_owned(), field: "command set", value, allowed });
    }
    let Format { block_len, block_count } = format(device, page)?;
    let blocks = |len: u64| (len / u64::from(block_len)).clamp(1, COMMAND_BLOCK_COUNT_MAX);
    // 0 is no limit. What is more than 2^63 bytes is none either.
    let limit = |power: u8| if power == 0 || power > 51 { u64::MAX } else { PAGE_UNIT_LEN << power };
    let transfer_len_max = limit(controller[controller::MDTS]).min(len_max);
    let transfer = blocks(transfer_len_max);
    let oncs = number(controller, controller::ONCS);
    let has = |bit: u32| oncs >> bit & 1 != 0;
    // Before there was a limit of its own some drives had that of transfers for Write Zeroes, without saying so: Linux assumes it as well.
    let (zeroes, uncorrectable) = match pages.command_set {
        Some(set) => (blocks(limit(set[1])), blocks(limit(set[2]))),
        None => (transfer, transfer),
    };
    let range = pages.command_set.map_or(0, |set| number(set, 4..8));
    let all_ranges = pages.command_set.map_or(0, |set| number(set, 8..16));
    let deallocate = [range, all_ranges].into_iter().filter(|most| *most > 0).fold(u64::from(u32::MAX), u64::min);
    let dlfeat = page[namespace::DLFEAT];
    Ok(Facts {
        commands: Commands {
            nsid,
            block_len,
            transfer_block_count_max: transfer,
            zeroes_block_count_max: if has(3) { zeroes } else { 0 },
            zeroes_deallocate: dlfeat & 0b1000 != 0,
            deallocate_block_count_max: if has(2) { deallocate } else { 0 },
            uncorrectable_block_count_max: if has(1) { uncorrectable } else { 0 },
        },
        block_count,
        volatile_write_cache: controller[controller::VWC] & 1 != 0,
        write_protected: page[namespace::NSATTR] & 1 != 0,
        // What is deallocated may be left as it was, whatever a block reads as that was not [NVM Command Set 1.0, 3.2.3].
        deallocation: if has(2) { Deallocation::Unspecified } else { Deallocation::Unsupported },
        preferred: preferred(page),
        atomic: atomic(controller, page, transfer),
        identity: identity(controller, page),
    })
}

fn preferred(page: &Page) -> Preferred {
    let boundary = number(page, namespace::NOIOB).try_into().unwrap_or(0);
    // OPTPERF: the fields are there.
    if page[namespace::NSFEAT] & 0b1_0000 == 0 {
        return Preferred { boundary, write: 1, write_optimal: 1, deallocate: 1 };
    }
    let [write, deallocate, optimal] =
        [namespace::NPWG, namespace::NPDG, namespace::NOWS].map(|field| small(page, field) + 1);
    // A best size that is no multiple of the smallest is no advice.
    let write_optimal = if optimal.is_multiple_of(write) { optimal } else { write };
    Preferred { boundary, write, write_optimal, deallocate }
}

/// At least one block is whole. More only where no boundary divides it, and as long as it is one command.
fn atomic(controller: &Page, page: &Page, transfer_block_count_max: u64) -> Atomic {
    // NSABP: the namespace's own fields are there; 0 in one of them is the controller's.
    let has_own = page[namespace::NSFEAT] & 0b10 != 0;
    let of = |own: Range<usize>, boundary: Range<usize>, all: Range<usize>| {
        let own = if has_own { small(page, own) } else { 0 };
        let is_divided = has_own && small(page, boundary) != 0;
        let count = if own > 0 { own } else { small(controller, all) } + 1;
        let most = u32::try_from(transfer_block_count_max).unwrap_or(u32::MAX);
        if is_divided { 1 } else { count.min(most) }
    };
    let write = of(namespace::NAWUN, namespace::NABSN, controller::AWUN);
    let power_fail = of(namespace::NAWUPF, namespace::NABSPF, controller::AWUPF);
    Atomic { write, power_fail: power_fail.min(write) }
}

fn identity(controller: &Page, page: &Page) -> Identity {
    let some = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0);
    Identity {
        nguid: page[namespace::NGUID].try_into().ok().filter(|nguid: &[u8; 16]| some(nguid)),
        eui64: page[namespace::EUI64].try_into().ok().filter(|eui64: &[u8; 8]| some(eui64)),
        serial: text(&controller[controller::SN]),
        model: text(&controller[controller::MN]),
        firmware: text(&controller[controller::FR]),
    }
}

/// The command set that the descriptors name. `None`: they name none [NVMe Base 2.0, 5.17.2.3].
fn command_set(page: &Page) -> Option<u8> {
    let mut at = 0;
    while let Some([kind, len, _, _]) = page.get(at..at + 4).and_then(|head| <[u8; 4]>::try_from(head).ok()) {
        match (kind, len) {
            (_, 0) => return None,
            (4, 1) => return page.get(at + 4).copied(),
            _ => at += 4 + usize::from(len),
        }
    }
    None
}

/// Printable ASCII without the blanks that fill a field.
fn text(bytes: &[u8]) -> String {
    let shown: String =
        bytes.iter().map(|byte| if (0x20..0x7F).contains(byte) { char::from(*byte) } else { ' ' }).collect();
    shown.trim().to_owned()
}

/// A field of at most eight bytes.
fn number(page: &Page, field: Range<usize>) -> u64 {
    page[field].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A field of two bytes.
fn small(page: &Page, field: Range<usize>) -> u32 {
    u32::from(page[field.start]) | u32::from(page[field.start + 1]) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pages() -> (Box<Page>, Box<Page>) {
        let (mut controller, mut page) = (Box::new([0; PAGE_LEN]), Box::new([0; PAGE_LEN]));
        controller[4..24].copy_from_slice(b"SERIAL-1            ");
        controller[24..28].copy_from_slice(b"A\x07 B");
        controller[controller::MDTS] = 5;
        controller[520] = 0b1110;
        controller[controller::VWC] = 1;
        page[0..3].copy_from_slice(&[0, 0, 1]);
        page[namespace::LBAF + 2] = 9;
        (controller, page)
    }

    fn read(controller: &Page, page: &Page) -> Facts {
        facts("d", 1, &Pages { controller, namespace: page, command_set: None, descriptors: None }, MIB).unwrap()
    }

    fn refusal(page: &Page) -> String {
        format("d", page).unwrap_err().to_string()
    }

    #[test]
    fn an_ordinary_drive_is_what_it_says() {
        let (controller, page) = pages();
        let facts = read(&controller, &page);
        let commands = Commands {
            nsid: 1,
            block_len: 512,
            transfer_block_count_max: 256,
            zeroes_block_count_max: 256,
            zeroes_deallocate: false,
            deallocate_block_count_max: u64::from(u32::MAX),
            uncorrectable_block_count_max: 256,
        };
        assert_eq!((facts.commands, facts.block_count), (commands, 65536));
        assert!(facts.volatile_write_cache && !facts.write_protected);
        assert_eq!(facts.atomic, Atomic { write: 1, power_fail: 1 });
        assert_eq!(facts.preferred, Preferred { boundary: 0, write: 1, write_optimal: 1, deallocate: 1 });
        let Identity { nguid, eui64, serial, model, .. } = facts.identity;
        assert_eq!((nguid, eui64, serial.as_str(), model.as_str()), (None, None, "SERIAL-1", "A  B"));
    }

    #[test]
    fn limits_are_the_smallest_of_all_that_are_told() {
        let (mut controller, page) = pages();
        let mut set = Box::new([0; PAGE_LEN]);
        set[1] = 1;
        set[4..8].copy_from_slice(&1000_u32.to_le_bytes());
        set[8..16].copy_from_slice(&900_u64.to_le_bytes());
        controller[controller::MDTS] = 0;
        let pages = Pages { controller: &controller, namespace: &page, command_set: Some(&set), descriptors: None };
        let commands = facts("d", 1, &pages, 64 << 10).unwrap().commands;
        assert_eq!((commands.transfer_block_count_max, commands.zeroes_block_count_max), (128, 16));
        assert_eq!((commands.deallocate_block_count_max, commands.uncorrectable_block_count_max), (900, 65536));
        controller[520] = 0;
        let Facts { commands, deallocation, .. } = read(&controller, &page);
        assert_eq!((commands.zeroes_block_count_max, commands.uncorrectable_block_count_max), (0, 0));
        assert_eq!(deallocation, Deallocation::Unsupported);
    }

    #[test]
    fn atomic_writes_are_the_namespaces_or_the_controllers_and_never_divided() {
        let (mut controller, mut page) = pages();
        controller[526..530].copy_from_slice(&[31, 0, 7, 0]);
        assert_eq!(read(&controller, &page).atomic, Atomic { write: 32, power_fail: 8 });
        page[namespace::NSFEAT] = 0b10;
        page[34..38].copy_from_slice(&[15, 0, 0, 0]);
        assert_eq!(read(&controller, &page).atomic, Atomic { write: 16, power_fail: 8 });
        page[36] = 63;
        assert_eq!(read(&controller, &page).atomic, Atomic { write: 16, power_fail: 16 });
        page[44] = 1;
        assert_eq!(read(&controller, &page).atomic, Atomic { write: 16, power_fail: 1 });
        page[40] = 1;
        assert_eq!(read(&controller, &page).atomic, Atomic { write: 1, power_fail: 1 });
        controller[526..530].fill(0xFF);
        page[namespace::NSFEAT] = 0;
        // What is done in pieces is not whole.
        assert_eq!(read(&controller, &page).atomic, Atomic { write: 256, power_fail: 256 });
    }

    #[test]
    fn advice_that_contradicts_itself_is_none() {
        let (controller, mut page) = pages();
        page[namespace::NSFEAT] = 0b1_0000;
        page[46] = 64;
        page[64..74].copy_from_slice(&[7, 0, 0, 0, 15, 0, 0, 0, 20, 0]);
        let preferred = Preferred { boundary: 64, write: 8, write_optimal: 8, deallocate: 16 };
        assert_eq!(read(&controller, &page).preferred, preferred);
        page[72] = 23;
        assert_eq!(read(&controller, &page).preferred.write_optimal, 24);
    }

    #[test]
    fn formats_that_cannot_be_served_are_refused_with_the_way_out() {
        let (_, mut page) = pages();
        page[namespace::LBAF] = 8;
        assert!(refusal(&page).starts_with("d: metadata is 8 bytes a block: none: `nvme format"), "{}", refusal(&page));
        page[namespace::DPS] = 1;
        assert!(refusal(&page).starts_with("d: protection information is type 1: none"), "{}", refusal(&page));
        let (_, mut page) = pages();
        page[namespace::LBAF + 2] = 255;
        assert!(refusal(&page).starts_with("d: block size is 2^255 bytes: 2^9 or 2^12"), "{}", refusal(&page));
        page[0..8].fill(0);
        assert!(refusal(&page).starts_with("d: namespace is inactive"), "{}", refusal(&page));
        page[0..8].fill(0xFF);
        page[namespace::LBAF + 2] = 12;
        assert!(refusal(&page).starts_with("d: size is 18446744073709551615 blocks"), "{}", refusal(&page));
    }

    #[test]
    fn the_format_has_six_bits() {
        let (_, mut page) = pages();
        page[namespace::FLBAS] = 0b0111_0001;
        page[namespace::LBAF + 4 * 0b11_0001 + 2] = 12;
        assert_eq!(format("d", &page).unwrap().block_len, 4096);
    }

    #[test]
    fn other_command_sets_are_refused_and_broken_lists_name_none() {
        let (controller, page) = pages();
        let mut list = Box::new([0; PAGE_LEN]);
        list[..5].copy_from_slice(&[1, 8, 0, 0, 9]);
        list[12..17].copy_from_slice(&[4, 1, 0, 0, 2]);
        let pages = Pages { controller: &controller, namespace: &page, command_set: None, descriptors: Some(&list) };
        let text = facts("d", 1, &pages, MIB).unwrap_err().to_string();
        assert!(text.starts_with("d: command set is zoned: the NVM command set"), "{text}");
        assert_eq!(command_set(&[0xFF; PAGE_LEN]), None);
        let mut at_the_end = [0; PAGE_LEN];
        // Fifteen descriptors of 255 bytes, then one whose value would stand behind the page.
        for number in 0..15 {
            at_the_end[259 * number..][..2].copy_from_slice(&[1, 255]);
        }
        at_the_end[3885..3887].copy_from_slice(&[1, 203]);
        at_the_end[4092..4094].copy_from_slice(&[4, 1]);
        assert_eq!(command_set(&at_the_end), None);
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..300 {
            let mut pages = [[0; PAGE_LEN]; 4];
            for byte in pages.iter_mut().flatten() {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                *byte = seed.to_le_bytes()[0];
            }
            let [mut controller, mut page, set, descriptors] = pages;
            for byte in [namespace::DPS, namespace::FLBAS, 7, 128, 129] {
                page[byte] = 0;
            }
            page[130] = 9;
            controller[controller::MDTS] = seed.to_le_bytes()[1];
            let pages = Pages {
                controller: &controller,
                namespace: &page,
                command_set: Some(&set),
                descriptors: Some(&descriptors),
            };
            if let Ok(Facts { commands, preferred, atomic, block_count, .. }) = facts("d", 1, &pages, MIB) {
                assert!((1..=2048).contains(&commands.transfer_block_count_max) && block_count > 0);
                assert!(commands.zeroes_block_count_max <= COMMAND_BLOCK_COUNT_MAX);
                assert!(preferred.write_optimal.is_multiple_of(preferred.write));
                assert!(atomic.power_fail > 0 && atomic.power_fail <= atomic.write);
            }
        }
    }
}
