//! The file of one namespace: a line that says what it is, with a checksum of what follows, and then JSON.
//!
//! It is replaced in one piece: written beside, synchronised, renamed, and the directory synchronised. So there is either the old state or the new one. A
//! file that is damaged is an error that names it; it is never taken for an empty one, since hosts rely on what it says.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nvmf_core::reservation::{RegistrantRecord, ReservationRecord};
use nvmf_core::wire::reservation::ReservationType;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the first line starts with: the format, and its version.
const FORMAT: &str = "quiesce-reservations 1";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The system.
    #[error("{path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what was written.
    #[error(
        "{path} is damaged ({why}): restore it, or move it away to start without the reservations that it kept, which hosts may rely on"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It can be read, and not written.
    #[error(
        "{path} cannot be written ({source}): make room and give the target the right to write in its directory, or choose another file"
    )]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another namespace's.
    #[error(
        "{path} keeps the reservations of namespace {found}, and this one is {wanted}: give each namespace a file of its own"
    )]
    Other {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// Who asks.
        wanted: Uuid,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(with = "as_text")]
    namespace: Uuid,
    persists: bool,
    generation: u32,
    reservation: Option<Held>,
    registrants: Vec<Registrant>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    kind: u8,
    #[serde(with = "as_text")]
    holder: Uuid,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registrant {
    #[serde(with = "as_text")]
    host: Uuid,
    key: u64,
}

/// UUIDs as people write them.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(uuid: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&uuid.as_hyphenated())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        Uuid::parse_str(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// What was kept of a namespace, where more can be kept.
///
/// # Errors
/// [`KeepError`] names the file and the way out.
pub fn open(path: &Path, namespace: Uuid) -> Result<ReservationRecord, KeepError> {
    let record = read(path, namespace)?;
    let beside = beside(path);
    // What a target left there that was killed while it wrote goes with it.
    let tried = File::create(&beside).and_then(|_| fs::remove_file(&beside));
    tried.map_err(|source| KeepError::Unwritable { path: path.into(), source })?;
    Ok(record)
}

/// One that has no file never had a reservation that persists.
fn read(path: &Path, namespace: Uuid) -> Result<ReservationRecord, KeepError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ReservationRecord::default()),
        Err(source) => return Err(KeepError::Io { path: path.into(), source }),
    };
    let contents = parse(&text).map_err(|why| KeepError::Damaged { path: path.into(), why })?;
    if contents.namespace != namespace {
        return Err(KeepError::Other { path: path.into(), found: contents.namespace, wanted: namespace });
    }
    let record = to_record(contents).map_err(|why| KeepError::Damaged { path: path.into(), why })?;
    record.check().map_err(|error| KeepError::Damaged { path: path.into(), why: error.to_string() })?;
    Ok(record)
}

/// Puts it on stable storage, all of it or nothing.
///
/// # Errors
/// [`KeepError`]. The file is what it was then, or where only its directory could not be synchronised, the new one.
pub(super) fn write(path: &Path, namespace: Uuid, record: &ReservationRecord) -> Result<(), KeepError> {
    let replaced = replace(path, text(namespace, record).as_bytes());
    replaced.map_err(|(path, source)| KeepError::Io { path, source })
}

/// Writes a file beside, synchronises it, and has it take the place of the old one: there is either the old one or the new one.
///
/// # Errors
/// Where what went wrong. The file is what it was then, or where only its directory could not be synchronised, the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), (PathBuf, io::Error)> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let beside = beside(path);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| (path, source)
    };
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if written.is_err() {
        // Half of it is of no use, and its room may be what is missing.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(failed(&beside))?;
    fs::rename(&beside, path).map_err(failed(path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed(directory))
}

/// Where the new one is written before it takes the place of the old one.
fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    beside.into()
}

fn text(namespace: Uuid, record: &ReservationRecord) -> String {
    let held = record.reservation.map(|(kind, holder)| Held { kind: kind.to_byte(), holder: Uuid::from_bytes(holder) });
    let registrants = record.registrants.iter();
    let contents = Contents {
        namespace,
        persists: record.is_persistent,
        generation: record.generation,
        reservation: held,
        registrants: registrants
            .map(|registrant| Registrant { host: Uuid::from_bytes(registrant.host_id), key: registrant.key })
            .collect(),
    };
    // Plain data: it has no map whose keys are no strings.
    let json = serde_json::to_string_pretty(&contents).unwrap_or_default();
    format!("{FORMAT} crc32 {:08x}\n{json}\n", crc32fast::hash(json.as_bytes()))
}

fn parse(text: &str) -> Result<Contents, String> {
    let (head, json) = text.split_once('\n').ok_or("it has one line only")?;
    let json = json.strip_suffix('\n').ok_or("its end is missing")?;
    let sum = head.strip_prefix(FORMAT).and_then(|rest| rest.strip_prefix(" crc32 "));
    let sum = sum.ok_or_else(|| format!("its first line does not start with \"{FORMAT} crc32\""))?;
    let found = format!("{:08x}", crc32fast::hash(json.as_bytes()));
    if sum != found {
        return Err(format!("its checksum is {found}, and should be {sum}"));
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn to_record(contents: Contents) -> Result<ReservationRecord, String> {
    let reservation = match contents.reservation {
        Some(Held { kind, holder }) => {
            let kind =
                ReservationType::from_byte(kind).ok_or_else(|| format!("there is no reservation of type {kind}"))?;
            Some((kind, holder.into_bytes()))
        }
        None => None,
    };
    let registrants = contents.registrants.into_iter();
    Ok(ReservationRecord {
        is_persistent: contents.persists,
        generation: contents.generation,
        reservation,
        registrants: registrants
            .map(|registrant| RegistrantRecord { host_id: registrant.host.into_bytes(), key: registrant.key })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ReservationRecord {
        ReservationRecord {
            is_persistent: true,
            generation: 7,
            reservation: Some((ReservationType::WriteExclusive, [1; 16])),
            registrants: vec![
                RegistrantRecord { host_id: [1; 16], key: u64::MAX },
                RegistrantRecord { host_id: [2; 16], key: 5 },
            ],
        }
    }

    fn place(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("quiesce-keeper-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory.join("namespace")
    }

    #[test]
    fn what_was_written_is_read() {
        let (path, namespace) = (place("round"), Uuid::from_bytes([3; 16]));
        assert_eq!(read(&path, namespace).unwrap(), ReservationRecord::default(), "no file yet");
        write(&path, namespace, &record()).unwrap();
        assert_eq!(read(&path, namespace).unwrap(), record());
        write(&path, namespace, &ReservationRecord::default()).unwrap();
        assert_eq!(read(&path, namespace).unwrap(), ReservationRecord::default());
        assert!(matches!(read(&path, Uuid::from_bytes([4; 16])), Err(KeepError::Other { .. })));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn every_damage_is_an_error_that_names_the_file() {
        let (path, namespace) = (place("damage"), Uuid::from_bytes([3; 16]));
        let whole = text(namespace, &record());
        for at in 0..whole.len() {
            let mut bytes = whole.clone().into_bytes();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let error = read(&path, namespace).unwrap_err().to_string();
            assert!(error.contains(&*path.to_string_lossy()), "{at}: {error}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path, namespace).is_err(), "cut at {at}");
        }
        // Sound, and yet nothing that could have been written.
        let mut nobody = record();
        nobody.registrants.remove(0);
        fs::write(&path, text(namespace, &nobody)).unwrap();
        assert!(matches!(read(&path, namespace), Err(KeepError::Damaged { .. })), "its holder has not registered");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn where_it_cannot_be_written_nothing_changes() {
        let (path, namespace) = (place("fails"), Uuid::from_bytes([3; 16]));
        write(&path, namespace, &record()).unwrap();
        let beside = beside(&path);
        fs::create_dir_all(&beside).unwrap();
        assert!(write(&path, namespace, &ReservationRecord::default()).is_err());
        assert_eq!(read(&path, namespace).unwrap(), record());
        let error = open(&path, namespace).unwrap_err().to_string();
        assert!(error.contains("cannot be written") && error.contains(&*path.to_string_lossy()), "{error}");
        fs::remove_dir(&beside).unwrap();

        // A disk that is full: half a file would be in the way of the next attempt.
        std::os::unix::fs::symlink("/dev/full", &beside).unwrap();
        let error = write(&path, namespace, &ReservationRecord::default()).unwrap_err();
        assert!(
            matches!(&error, KeepError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
        assert_eq!(read(&path, namespace).unwrap(), record());
        write(&path, namespace, &ReservationRecord::default()).unwrap();
        assert_eq!(open(&path, namespace).unwrap(), ReservationRecord::default());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(matches!(open(&path, namespace), Err(KeepError::Unwritable { .. })), "no directory");
    }
}
