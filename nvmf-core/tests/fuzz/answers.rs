//! Our host's side against a controller that answers anything: it comes to an end, and never to a panic.

use fuzz::{Bytes, Features};
use nvmf_core::auth::{Credentials, Entropy, GroupId, GroupSet, HashId, Secret};
use nvmf_core::host::{AdminData, Discover, HostIdentity, Initialise, Outcome, Step};
use nvmf_core::wire::{CompletionEntry, Nqn};

use super::capsule::contents;
use super::harness::jobs::random;
use super::harness::{HOST_ID, HOST_NQN, NQN};

/// Far more than a controller can ask of a host that has its limits.
const STEP_COUNT_MAX: u64 = 20_000;

/// See the module.
pub(crate) fn run(input: &[u8]) -> Features {
    let mut bytes = Bytes::new(input);
    let identity = HostIdentity { nqn: Nqn::new(HOST_NQN).unwrap().as_str().to_owned(), id: HOST_ID };
    match bytes.u8() % 3 {
        0 => {
            let mut machine = Discover::new(&identity, 32);
            drive(&mut bytes, |outcome| machine.next(outcome))
        }
        choice => {
            let mut machine = Initialise::new(&identity, NQN, 32, 4, 1000);
            if choice == 2 {
                let secret = || Secret::generate(Some(HashId::Sha256), &mut |bytes| bytes.fill(3));
                let mut credentials = Credentials::new(secret(), Some(secret()));
                credentials.groups = GroupSet::empty().with(GroupId::Null);
                let mut drawn = 1;
                machine = machine.authenticating(credentials, Entropy::draw(&mut |bytes| random(&mut drawn, bytes)));
            }
            drive(&mut bytes, |outcome| machine.next(outcome))
        }
    }
}

fn drive<T>(bytes: &mut Bytes<'_>, mut next: impl FnMut(Option<Outcome<'_>>) -> Step<T>) -> Features {
    let mut features = Features::new();
    let mut step = next(None);
    for number in 0..STEP_COUNT_MAX {
        step = match step {
            Step::Submit { command, data } => {
                features.insert(u64::from(command[0]) << 16 | u64::from(command[4]) << 8 | number.min(24));
                let (completion, data) = answer(bytes, &data);
                next(Some(Outcome { completion, data: &data }))
            }
            Step::Wait { .. } => next(None),
            Step::Done(_) => {
                features.insert(1 << 40 | number.min(64));
                return features;
            }
            Step::Failed(error) => {
                let text = error.to_string();
                // Which error, not with which numbers.
                let words = text.split(' ').filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
                let kind = words.take(5).flat_map(str::bytes);
                features.insert(1 << 48 | kind.fold(0, |sum: u64, byte| (sum * 31 + u64::from(byte)) % 65_536));
                return features;
            }
        };
    }
    panic!("a controller keeps its host for ever");
}

/// A completion, most often a good one, and as many bytes as were asked for, or fewer.
fn answer(bytes: &mut Bytes<'_>, data: &AdminData) -> ([u8; 16], Vec<u8>) {
    let completion = match bytes.u8() % 12 {
        0 => bytes.array(),
        1 => CompletionEntry::new(0, nvmf_core::status::Status::INVALID_FIELD).to_bytes(),
        2..=5 => CompletionEntry::new(0, nvmf_core::status::Status::SUCCESS).with_result(bytes.number()).to_bytes(),
        // CAP, VS, CSTS: what a good controller says, one after the other, as far as one word can be.
        _ => {
            let result = bytes.pick(&[1, 1, 0x0002_0000, 0x0000_0020_1E01_03FF, 0x0003_0003, 5]);
            CompletionEntry::new(0, nvmf_core::status::Status::SUCCESS).with_result(result).to_bytes()
        }
    };
    let data = match data {
        AdminData::In(len) => {
            let mut data = contents(bytes);
            if !bytes.one_in(16) {
                data.resize(*len as usize, 0);
            }
            for _ in 0..bytes.u8() % 6 {
                let at = usize::from(bytes.u16() % 4096);
                if let Some(byte) = data.get_mut(at) {
                    *byte = bytes.u8();
                }
            }
            data.truncate(*len as usize);
            data
        }
        AdminData::None | AdminData::Out(_) => Vec::new(),
    };
    (completion, data)
}
