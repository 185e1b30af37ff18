//! A disk whose power can be cut: serves an image by the NBD protocol to one client, and keeps what was written in memory until a flush, or a write that
//! forces unit access, takes it to the image. When the client is gone, by a kill or in good order, the power is: of what was not flushed a part that the
//! seed decides is in the image, and the rest never was.
//!
//! ```text
//! volatile-disk SOCKET IMAGE SEED
//! ```
//!
//! What a cut leaves of each block is the image's, or any of the versions that were written since, as a disk that reorders its cache would: nothing of
//! the cache, whole writes, or blocks of writes, by chance. A block of 512 bytes is never torn. Answers are sent after what they acknowledge is in the cache,
//! so that a flush covers all writes that were acknowledged before it came [NBD protocol, Ordering of messages and writes].

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};

/// What is kept or lost as a whole.
const BLOCK_LEN: usize = 512;
/// Longest request: what the protocol lets clients assume.
const REQUEST_LEN_MAX: usize = 32 << 20;

// [NBD protocol, Values].
const MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const FIXED_NEWSTYLE_NO_ZEROES: u16 = 0b11;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 1 << 31 | 1;
const INFO_EXPORT: u16 = 0;
const HAS_FLAGS: u16 = 1 << 0;
const SEND_FLUSH: u16 = 1 << 2;
const SEND_FUA: u16 = 1 << 3;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const FLAG_FUA: u16 = 1 << 0;
const EINVAL: u32 = 22;

type Block = [u8; BLOCK_LEN];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, image, seed] = arguments.as_slice() else {
        eprintln!("usage: volatile-disk SOCKET IMAGE SEED");
        std::process::exit(2);
    };
    match seed.parse().map_err(io::Error::other).and_then(|seed| serve(socket, image, seed)) {
        Ok(told) => println!("{told}"),
        Err(error) => {
            eprintln!("volatile-disk: {image}: {error}");
            std::process::exit(1);
        }
    }
}

/// Serves one client, and cuts the power when it is gone.
fn serve(socket: &str, image: &str, seed: u64) -> io::Result<String> {
    let image = OpenOptions::new().read(true).write(true).open(image)?;
    let mut disk = Disk::new(image)?;
    let listener = UnixListener::bind(socket)?;
    let (client, _) = listener.accept()?;
    // However the client went: a power cut has no other side.
    if let Err(error) = attend(client, &mut disk)
        && error.kind() != io::ErrorKind::UnexpectedEof
        && error.kind() != io::ErrorKind::BrokenPipe
        && error.kind() != io::ErrorKind::ConnectionReset
    {
        return Err(error);
    }
    disk.cut(seed)
}

fn attend(mut client: UnixStream, disk: &mut Disk) -> io::Result<()> {
    if !negotiate(&mut client, disk.len)? {
        return Ok(());
    }
    let mut data = Vec::new();
    loop {
        if u32::from_be_bytes(take(&mut client)?) != REQUEST_MAGIC {
            return Err(io::Error::other("a request without its magic number"));
        }
        let flags = u16::from_be_bytes(take(&mut client)?);
        let kind = u16::from_be_bytes(take(&mut client)?);
        let cookie: [u8; 8] = take(&mut client)?;
        let offset = u64::from_be_bytes(take(&mut client)?);
        let len = u32::from_be_bytes(take(&mut client)?) as usize;
        if len > REQUEST_LEN_MAX {
            return Err(io::Error::other("a request that is longer than any may be"));
        }
        data.resize(len, 0);
        let mut answer = 0;
        match kind {
            DISCONNECT => return Ok(()),
            READ if disk.holds(offset, len) => disk.read(offset, &mut data)?,
            WRITE => {
                client.read_exact(&mut data)?;
                if disk.holds(offset, len) {
                    disk.write(offset, &data, flags & FLAG_FUA != 0)?;
                } else {
                    answer = EINVAL;
                }
            }
            FLUSH => disk.flush()?,
            _ => answer = EINVAL,
        }
        client.write_all(&[&REPLY_MAGIC.to_be_bytes()[..], &answer.to_be_bytes(), &cookie].concat())?;
        if kind == READ && answer == 0 {
            client.write_all(&data)?;
        }
    }
}

/// Until the client wants the one export that there is, by whatever name. False: it went before.
fn negotiate(client: &mut UnixStream, len: u64) -> io::Result<bool> {
    let hello = [&MAGIC.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes(), &FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes()];
    client.write_all(&hello.concat())?;
    let _flags: [u8; 4] = take(client)?;
    loop {
        if u64::from_be_bytes(take(client)?) != OPTION_MAGIC {
            return Err(io::Error::other("an option without its magic number"));
        }
        let option = u32::from_be_bytes(take(client)?);
        let option_len = u32::from_be_bytes(take(client)?) as usize;
        let mut said = vec![0; option_len.min(REQUEST_LEN_MAX)];
        client.read_exact(&mut said)?;
        let mut reply = |kind: u32, data: &[u8]| {
            let len = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
            let head = [&OPTION_REPLY_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes(), &len, data];
            client.write_all(&head.concat())
        };
        match option {
            OPTION_INFO | OPTION_GO => {
                let flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA;
                let facts = [&INFO_EXPORT.to_be_bytes()[..], &len.to_be_bytes(), &flags.to_be_bytes()].concat();
                reply(REPLY_INFO, &facts)?;
                reply(REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                reply(REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => reply(REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn take<const LEN: usize>(client: &mut UnixStream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// One write since the last flush, as far as it concerns one block.
struct Version {
    write: u64,
    block: Block,
}

/// An image, and before it a cache that no power cut spares.
struct Disk {
    image: File,
    len: u64,
    /// By block: what was written since it was last taken to the image, oldest first.
    cache: BTreeMap<u64, Vec<Version>>,
    write_count: u64,
    forced_count: u64,
    flush_count: u64,
}

impl Disk {
    fn new(image: File) -> io::Result<Self> {
        let len = image.metadata()?.len();
        if len == 0 || !len.is_multiple_of(BLOCK_LEN as u64) {
            return Err(io::Error::other(format!("{len} bytes: a multiple of {BLOCK_LEN} is needed")));
        }
        Ok(Self { image, len, cache: BTreeMap::new(), write_count: 0, forced_count: 0, flush_count: 0 })
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        let is_whole = offset.is_multiple_of(BLOCK_LEN as u64) && len.is_multiple_of(BLOCK_LEN);
        is_whole && offset.checked_add(len as u64).is_some_and(|end| end <= self.len)
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.image.read_exact_at(data, offset)?;
        for (block, number) in data.as_chunks_mut::<BLOCK_LEN>().0.iter_mut().zip(offset / BLOCK_LEN as u64..) {
            if let Some(version) = self.cache.get(&number).and_then(|versions| versions.last()) {
                *block = version.block;
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, data: &[u8], force: bool) -> io::Result<()> {
        let first = offset / BLOCK_LEN as u64;
        self.write_count += 1;
        if force {
            self.forced_count += 1;
            self.image.write_all_at(data, offset)?;
            // What was written to these blocks before is overwritten, also where it was not flushed.
            for number in (first..).take(data.len() / BLOCK_LEN) {
                self.cache.remove(&number);
            }
            return Ok(());
        }
        for (block, number) in data.as_chunks::<BLOCK_LEN>().0.iter().zip(first..) {
            let version = Version { write: self.write_count, block: *block };
            self.cache.entry(number).or_default().push(version);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_count += 1;
        for (number, versions) in std::mem::take(&mut self.cache) {
            if let Some(version) = versions.last() {
                self.image.write_all_at(&version.block, number * BLOCK_LEN as u64)?;
            }
        }
        Ok(())
    }

    /// The power is gone. Says what that did.
    fn cut(mut self, seed: u64) -> io::Result<String> {
        let mut random = Random(seed);
        let loss = random.below(4);
        let (unflushed_count, mut lost_count) = (self.cache.len(), 0);
        let mut writes_kept = BTreeMap::new();
        for (number, versions) in std::mem::take(&mut self.cache) {
            let survivor = match loss {
                0 => None,
                // Some blocks of writes.
                1 => versions.iter().rev().find(|_| random.below(2) == 0),
                // Some writes.
                _ => versions
                    .iter()
                    .rev()
                    .find(|version| *writes_kept.entry(version.write).or_insert_with(|| random.below(2) == 0)),
            };
            match survivor {
                Some(version) => self.image.write_all_at(&version.block, number * BLOCK_LEN as u64)?,
                None => lost_count += 1,
            }
        }
        let Self { write_count, forced_count, flush_count, .. } = self;
        Ok(format!(
            "{write_count} writes, {forced_count} of them forced, {flush_count} flushes; not flushed {unflushed_count} blocks, lost {lost_count}"
        ))
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ word >> 31) % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of an image after a cut, each by the byte that it is filled with.
    fn after_cut(name: &str, seed: u64, act: impl FnOnce(&mut Disk) -> io::Result<()>) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("volatile-disk-{name}-{}", std::process::id()));
        let image = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        image.set_len(8 * BLOCK_LEN as u64).unwrap();
        let mut disk = Disk::new(image.try_clone().unwrap()).unwrap();
        act(&mut disk).unwrap();
        disk.cut(seed).unwrap();
        std::fs::remove_file(path).unwrap();
        let mut bytes = [0; 8 * BLOCK_LEN];
        image.read_exact_at(&mut bytes, 0).unwrap();
        bytes
            .as_chunks::<BLOCK_LEN>()
            .0
            .iter()
            .inspect(|block| assert!(block.iter().all(|b| *b == block[0])))
            .map(|b| b[0])
            .collect()
    }

    fn write(disk: &mut Disk, block: u64, count: usize, byte: u8, force: bool) -> io::Result<()> {
        disk.write(block * BLOCK_LEN as u64, &vec![byte; count * BLOCK_LEN], force)
    }

    #[test]
    fn what_was_flushed_or_forced_survives_every_cut() {
        for seed in 0..64 {
            let left = after_cut("kept", seed, |disk| {
                write(disk, 0, 4, 1, false)?;
                disk.flush()?;
                write(disk, 4, 2, 2, false)?;
                write(disk, 4, 1, 3, true)?;
                let mut seen = [0; 2 * BLOCK_LEN];
                disk.read(4 * BLOCK_LEN as u64, &mut seen)?;
                assert_eq!((seen[0], seen[BLOCK_LEN]), (3, 2));
                Ok(())
            });
            assert_eq!(left[..5], [1, 1, 1, 1, 3], "seed {seed}");
            assert!([0, 2].contains(&left[5]), "seed {seed}: {left:?}");
        }
    }

    #[test]
    fn what_was_not_flushed_is_lost_by_blocks_and_in_any_version() {
        let mut seen = [false; 3];
        for seed in 0..64 {
            let left = after_cut("lost", seed, |disk| {
                write(disk, 0, 8, 1, false)?;
                write(disk, 0, 8, 2, false)
            });
            for byte in left {
                seen[usize::from(byte)] = true;
            }
        }
        assert_eq!(seen, [true; 3], "nothing, the first and the second write");
    }

    #[test]
    fn a_client_is_served_and_its_end_is_the_cut() {
        let directory = std::env::temp_dir().join(format!("volatile-disk-nbd-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (socket, image) = (directory.join("socket"), directory.join("image"));
        std::fs::write(&image, vec![0; 4 * BLOCK_LEN]).unwrap();
        let (socket_path, image_path) = (socket.to_str().unwrap().to_owned(), image.to_str().unwrap().to_owned());
        let server = std::thread::spawn(move || serve(&socket_path, &image_path, 1).unwrap());
        let mut client = loop {
            if let Ok(client) = UnixStream::connect(&socket) {
                break client;
            }
            std::thread::yield_now();
        };
        let hello: [u8; 18] = take(&mut client).unwrap();
        assert_eq!(&hello[..16], b"NBDMAGICIHAVEOPT");
        client.write_all(&3_u32.to_be_bytes()).unwrap();
        client
            .write_all(&[&b"IHAVEOPT"[..], &OPTION_GO.to_be_bytes(), &6_u32.to_be_bytes(), &[0; 6]].concat())
            .unwrap();
        let info: [u8; 20 + 12 + 20] = take(&mut client).unwrap();
        assert_eq!(u64::from_be_bytes(info[22..30].try_into().unwrap()), 4 * BLOCK_LEN as u64);
        let mut request = |flags: u16, kind: u16, offset: u64, len: usize, data: &[u8]| {
            let len = u32::try_from(len).unwrap().to_be_bytes();
            let head = [&REQUEST_MAGIC.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes(), &[7; 8]].concat();
            client.write_all(&[&head[..], &offset.to_be_bytes(), &len, data].concat()).unwrap();
            let reply: [u8; 16] = take(&mut client).unwrap();
            assert_eq!((&reply[..4], &reply[8..]), (&REPLY_MAGIC.to_be_bytes()[..], &[7; 8][..]));
            u32::from_be_bytes(reply[4..8].try_into().unwrap())
        };
        assert_eq!(request(0, WRITE, 0, BLOCK_LEN, &[1; BLOCK_LEN]), 0);
        assert_eq!(request(0, FLUSH, 0, 0, &[]), 0);
        assert_eq!(request(FLAG_FUA, WRITE, 512, BLOCK_LEN, &[2; BLOCK_LEN]), 0);
        assert_eq!(request(0, WRITE, 2048, BLOCK_LEN, &[3; BLOCK_LEN]), EINVAL, "past the end");
        assert_eq!(request(0, 4, 0, BLOCK_LEN, &[]), EINVAL, "a trim, which was not offered");
        drop(client);
        assert!(server.join().unwrap().starts_with("2 writes, 1 of them forced, 1 flushes; not flushed 0 blocks"));
        let left = std::fs::read(&image).unwrap();
        assert_eq!([left[0], left[512], left[1024]], [1, 2, 0]);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
