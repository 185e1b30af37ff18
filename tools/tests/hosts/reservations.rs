//! Reservations of hosts that are processes: conflicts and preemption between them, and what is left of them when the target is killed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::processes::{Host, SUBSYSTEM, Target, signal, wait_for};
use crate::{FILE, MEMORY, PATIENCE};

/// A host by its letter.
#[derive(Clone, Copy)]
struct Who(char);

const A: Who = Who('a');
const B: Who = Who('b');
const C: Who = Who('c');

impl Who {
    fn id(self) -> String {
        format!("00000000-0000-4000-8000-00000000000{}", self.0)
    }

    fn starts(self, target: &Target, nsid: &str, words: &str) -> Host {
        let nqn = format!("nqn.2026-11.io.quiesce:host-{}", self.0);
        let id = self.id();
        let mut arguments = vec!["--nsid", nsid, "--host-nqn", &nqn, "--host-id", &id];
        arguments.extend(words.split(' '));
        target.host(&arguments)
    }

    fn does(self, target: &Target, nsid: &str, words: &str) {
        self.starts(target, nsid, &format!("reservation {words}")).succeeds();
    }

    /// With this in what it says.
    fn is_refused(self, target: &Target, nsid: &str, words: &str, why: &str) {
        let said = self.starts(target, nsid, words).fails();
        assert!(said.contains(why), "{words}: {said}");
    }

    fn report(self, target: &Target, nsid: &str) -> Report {
        Report(last_json(&self.starts(target, nsid, "reservation report --json -").succeeds()))
    }
}

/// As nvme-cli has it.
struct Report(Value);

impl Report {
    fn key(&self, host: Who) -> Option<u64> {
        let id = host.id().replace('-', "");
        let registrants = self.0["regctlext"].as_array().unwrap();
        registrants.iter().find(|registrant| registrant["hostid"] == *id)?["rkey"].as_u64()
    }

    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap()
    }
}

fn last_json(text: &str) -> Value {
    let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no JSON: {text}"));
    serde_json::from_str(line).unwrap()
}

/// What a file keeps, whatever its first line says.
fn kept(file: &Path) -> Option<Value> {
    let text = fs::read_to_string(file).ok()?;
    Some(serde_json::from_str(text.split_once('\n')?.1).unwrap())
}

fn kept_key(file: &Path, host: Who) -> u64 {
    let contents = kept(file).unwrap_or_default();
    let mut registrants = contents["registrants"].as_array().into_iter().flatten();
    registrants.find(|registrant| registrant["host"] == *host.id()).map_or(0, |found| found["key"].as_u64().unwrap())
}

fn in_state_directory(configuration: String) -> String {
    configuration.replace("[target]", "[target]\nstate_directory = \"state\"")
}

/// The only file of a directory.
fn only_file(directory: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    file.clone()
}

/// Three hosts change their keys as fast as they can while the target is killed. What it finds when it comes back is what was answered last or what was under
/// way, for each host; and the generation, which counts all changes, says that no change is missing in between, and none is there twice.
#[test]
fn no_answered_change_is_lost_when_the_target_is_killed() {
    const ROUNDS: u64 = 4;
    let target = Target::start_with("killed-reservations", in_state_directory);
    let state = target.directory().join("state");
    let mut keys = [(A, 1000), (B, 2_000_000), (C, 3_000_000_000)];
    let (mut generation, mut under_way_count, mut change_count) = (0, 0, 0);
    for round in 0..ROUNDS {
        let begin = keys;
        let rotates = |(host, key): (Who, u64)| {
            host.starts(&target, MEMORY, &format!("--json - reservation rotate --persist --key {key} -n 1000000"))
        };
        let hosts = begin.map(rotates);
        let progress = || {
            let file = fs::read_dir(&state).unwrap().flatten().map(|entry| entry.path());
            file.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "reservations"))
        };
        let enough = 10 + 7 * round;
        let all_have_changed =
            || progress().is_some_and(|file| begin.iter().all(|(host, key)| kept_key(&file, *host) >= key + enough));
        assert!(wait_for(PATIENCE, all_have_changed), "{}", target.log());
        target.signalled(signal::KILL);
        let ends = hosts.map(|host| last_json(&host.fails()));
        target.start_again();
        let report = A.report(&target, MEMORY);
        assert_eq!((report.number("regctl"), report.number("ptpls"), report.number("rtype")), (3, 1, 0));
        for ((host, key), end) in keys.iter_mut().zip(&ends) {
            let found = report.key(*host).unwrap();
            let (answered, under_way) = (end["last_key"].as_u64().unwrap(), end["in_flight_key"].as_u64());
            assert!(found == answered || Some(found) == under_way, "{found} of {end}");
            under_way_count += u64::from(found != answered);
            // Each of them registered or replaced one key.
            generation += found - *key + 1;
            change_count += found - *key + 1;
            *key = found;
        }
        assert_eq!(report.number("gen"), generation, "round {round}");
    }
    eprintln!("{change_count} changes, {ROUNDS} kills, {under_way_count} of 12 changes under way were kept");
    // What it kept keeps others out, too, from the first command on.
    A.does(&target, MEMORY, &format!("acquire --key {} --type write-exclusive", keys[0].1));
    target.signalled(signal::KILL);
    target.start_again();
    B.is_refused(&target, MEMORY, "-w write -o 4k -q 1 -n 1", "reservation conflict");
    A.starts(&target, MEMORY, "-w write -o 4k -q 1 -n 1").succeeds();
    // Not to persist any more: the file is there, and keeps nothing.
    A.does(&target, MEMORY, &format!("register --action replace --key {0} --new-key {0} --persist false", keys[0].1));
    assert_eq!(kept(&only_file(&state)).unwrap()["registrants"], json!([]));
    fs::remove_dir_all(&state).unwrap();
    target.ends_clean();
}

#[test]
fn what_cannot_be_kept_is_refused_and_disturbs_nobody() {
    let target = Target::start_with("full-disk", |configuration| {
        let configuration = configuration.replace("device = \"memory\"", "device = \"memory\"\nptpl_file = \"full\"");
        in_state_directory(configuration)
    });
    let state = target.directory().join("state");
    let (file, beside) = (target.directory().join("full"), target.directory().join("full.new"));
    let stays = target.host(&["--nsid", FILE, "--verify", "-w", "randwrite", "-o", "4k", "-q", "4", "-n", "1500"]);
    A.does(&target, MEMORY, "register --new-key 7 --persist true");

    // No room on the disk: what is written goes where nothing can be.
    symlink("/dev/full", &beside).unwrap();
    A.is_refused(&target, MEMORY, "reservation acquire --key 7 --type 1", "internal error (type 0h, code 06h)");
    target.says(&["could not be written", "full.new", "No space left"]);
    // The directory is written to no more: what is in the way cannot be replaced, by root neither.
    fs::create_dir(&beside).unwrap();
    A.is_refused(&target, MEMORY, "reservation register --key 7 --new-key 8 --action replace", "internal error");
    B.is_refused(&target, MEMORY, "reservation register --new-key 9", "internal error");
    let report = B.report(&target, MEMORY);
    assert_eq!((report.key(A), report.key(B), report.number("rtype")), (Some(7), None, 0), "nothing has changed");
    B.starts(&target, MEMORY, "-w write -o 4k -q 1 -n 1").succeeds();
    // What is not to be kept needs no file; and other namespaces have other files.
    B.does(&target, FILE, "register --new-key 9");
    B.does(&target, FILE, "register --key 9 --new-key 10 --action replace --persist true");

    fs::remove_dir(&beside).unwrap();
    A.does(&target, MEMORY, "acquire --key 7 --type 1");
    B.is_refused(&target, MEMORY, "-w write -o 4k -q 1 -n 1", "reservation conflict");
    stays.succeeds();

    // The same files after an orderly end.
    target.signalled(signal::TERM);
    target.start_again();
    B.is_refused(&target, MEMORY, "-w write -o 4k -q 1 -n 1", "reservation conflict");
    assert_eq!(B.report(&target, FILE).key(B), Some(10));

    // A file that is damaged, and one that is not this namespace's, are not taken for empty ones.
    target.signalled(signal::TERM);
    let (whole, other) = (fs::read(&file).unwrap(), fs::read(only_file(&state)).unwrap());
    fs::write(&file, &whole[..whole.len() - 9]).unwrap();
    let said = target.refuses_to_start();
    assert!(said.contains("ptpl_file") && said.contains("full is damaged") && said.contains("move it away"), "{said}");
    fs::write(&file, other).unwrap();
    let said = target.refuses_to_start();
    assert!(said.contains("keeps the reservations of namespace"), "{said}");
    fs::write(&file, whole).unwrap();
    fs::create_dir(&beside).unwrap();
    let said = target.refuses_to_start();
    assert!(said.contains("full cannot be written"), "{said}");
    fs::remove_dir(&beside).unwrap();
    target.start_again();
    assert_eq!(A.report(&target, MEMORY).key(A), Some(7));
    fs::remove_dir_all(&state).unwrap();
    fs::remove_file(&file).unwrap();
    target.ends_clean();
}

#[test]
fn hosts_conflict_and_preempt_each_other() {
    let target = Target::start_with("conflict", |configuration| configuration.replace("cpus = [0]", "cpus = [0, 1]"));
    let baseline = target.live_gauges();
    A.is_refused(&target, MEMORY, "reservation acquire --key 7 --type 1", "reservation conflict");
    A.is_refused(&target, MEMORY, "reservation register --new-key 7 --persist true", "invalid field");
    A.does(&target, MEMORY, "register --new-key 7");
    B.does(&target, MEMORY, "register --new-key 8");
    A.does(&target, MEMORY, "acquire --key 7 --type exclusive-access-registrants");
    B.is_refused(
        &target,
        MEMORY,
        "reservation acquire --key 8 --type exclusive-access-registrants",
        "reservation conflict",
    );
    C.is_refused(&target, MEMORY, "-w read -o 4k -q 1 -n 1", "reservation conflict");
    let table = C.starts(&target, MEMORY, "reservation report").succeeds();
    let rows = [
        "exclusive access, registrants only (type 4), 2 registrants, generation 2, not kept".to_owned(),
        format!("{}  0x0000000000000007  dynamic     yes", A.id()),
        format!("{}  0x0000000000000008  dynamic     no", B.id()),
    ];
    assert!(rows.iter().all(|row| table.contains(row)), "{table}");

    // While the second host writes with all it has.
    let writes = B.starts(&target, MEMORY, "-w randwrite -o 16k -q 32 -P 2 -t 60");
    writes.is_running_io(&target);
    let kind = "--type exclusive-access-registrants";
    A.does(&target, MEMORY, &format!("acquire --action preempt-and-abort --key 7 --preempt-key 8 {kind}"));
    let said = writes.fails();
    assert!(said.contains("reservation conflict") || said.contains("preempt and abort"), "{said}");
    let report = C.report(&target, MEMORY);
    assert_eq!((report.key(A), report.key(B), report.number("gen")), (Some(7), None, 3));
    A.starts(&target, MEMORY, "-w randwrite -o 16k -q 8 -n 100").succeeds();
    A.is_refused(&target, MEMORY, "reservation release --key 7 --type 1", "invalid field");
    A.does(&target, MEMORY, &format!("release --key 7 {kind}"));
    B.starts(&target, MEMORY, "-w randwrite -o 16k -q 8 -n 100").succeeds();
    A.does(&target, MEMORY, "release --action clear --key 7");
    assert_eq!(C.report(&target, MEMORY).number("regctl"), 0);
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

#[test]
fn a_namespace_that_is_added_again_has_its_reservations() {
    let target = Target::start("added-again");
    let file = target.directory().join("again.resv");
    let malloc = json!({ "name": "late", "num_blocks": 8192, "block_size": 512 });
    target.result("bdev_malloc_create", malloc);
    let namespace = |more: Value| {
        let mut namespace = json!({ "bdev_name": "late", "ptpl_file": &file });
        namespace.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "nqn": SUBSYSTEM, "namespace": namespace })
    };
    let remove = || assert_eq!(target.result("nvmf_subsystem_remove_ns", json!({ "nqn": SUBSYSTEM, "nsid": 4 })), true);
    assert_eq!(target.result("nvmf_subsystem_add_ns", namespace(json!({}))), 4);
    let shown = target.result("nvmf_get_subsystems", json!({}));
    assert_eq!(shown[0]["namespaces"][3]["ptpl_file"], json!(&file));
    assert!(!file.exists(), "nothing is kept yet");
    A.does(&target, "4", "register --new-key 7 --persist true");
    A.does(&target, "4", "acquire --key 7 --type write-exclusive");
    remove();
    assert_eq!(target.result("nvmf_subsystem_add_ns", namespace(json!({}))), 4);
    B.is_refused(&target, "4", "-w write -o 4k -q 1 -n 1", "reservation conflict");
    assert_eq!(B.report(&target, "4").key(A), Some(7));
    remove();

    let refused = |parameters: Value, words: &[&str]| {
        let (code, why) = target.refusal("nvmf_subsystem_add_ns", parameters);
        assert_eq!(code, -32603, "{why}");
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
    };
    let other = "6f1c2d9e-8f0b-4d5c-9a3b-0c1d2e3f4a5b";
    refused(namespace(json!({ "uuid": other })), &["keeps the reservations of namespace", other, "a file of its own"]);
    let nowhere = target.directory().join("nowhere/file");
    refused(namespace(json!({ "ptpl_file": &nowhere })), &["nowhere/file cannot be written", "No such file"]);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refused(namespace(json!({})), &["again.resv is damaged", "move it away"]);
    fs::write(&file, "somebody's\nletters\n").unwrap();
    refused(namespace(json!({})), &["again.resv is damaged", "first line"]);
    fs::write(&file, whole).unwrap();
    assert_eq!(target.result("nvmf_subsystem_add_ns", namespace(json!({}))), 4);
    assert_eq!(B.report(&target, "4").number("rtype"), 1);
    fs::remove_file(&file).unwrap();
    target.ends_clean();
}

/// As many as there may be, of whom two are processes: the others come out of the file, which is as another version of this program left it.
#[test]
fn a_thousand_registrants() {
    let uuid = "6f1c2d9e-8f0b-4d5c-9a3b-0c1d2e3f4a5b";
    let target = Target::start_with("thousand", |configuration| {
        let file = std::env::temp_dir().join(format!("quiesce-test-{}-thousand", std::process::id())).join("many");
        let registrant =
            |number: u32| json!({ "host": format!("10000000-0000-4000-8000-{number:012}"), "key": number });
        let contents = json!({
            "namespace": uuid, "persists": true, "generation": 1022,
            "reservation": { "kind": 3, "holder": "10000000-0000-4000-8000-000000000001" },
            "registrants": (1..=1022).map(registrant).collect::<Vec<_>>(),
        });
        let text = contents.to_string();
        let sum = crc32fast::hash(text.as_bytes());
        fs::write(file, format!("quiesce-reservations 1 crc32 {sum:08x}\n{text}\n")).unwrap();
        configuration
            .replace("device = \"memory\"", &format!("device = \"memory\"\nuuid = \"{uuid}\"\nptpl_file = \"many\""))
    });
    A.is_refused(&target, MEMORY, "-w write -o 4k -q 1 -n 1", "reservation conflict");
    A.does(&target, MEMORY, "register --new-key 2001");
    B.does(&target, MEMORY, "register --new-key 2002");
    // One too many, for whom there is no status of its own.
    C.is_refused(&target, MEMORY, "reservation register --new-key 2003", "internal error");
    A.starts(&target, MEMORY, "-w write -o 4k -q 1 -n 1").succeeds();
    C.is_refused(&target, MEMORY, "-w write -o 4k -q 1 -n 1", "reservation conflict");
    target.signalled(signal::KILL);
    target.start_again();
    let report = C.report(&target, MEMORY);
    assert_eq!((report.number("regctl"), report.number("gen")), (1024, 1024));
    assert_eq!(report.0["regctlext"].as_array().unwrap().len(), 1024);
    assert_eq!((report.key(A), report.key(B), report.key(C)), (Some(2001), Some(2002), None));
    fs::remove_file(target.directory().join("many")).unwrap();
    target.ends_clean();
}

/// Two targets never write over each other's files.
#[test]
fn a_state_directory_is_one_targets() {
    let target = Target::start_with("one-state", in_state_directory);
    let said = target.refuses_to_start();
    assert!(said.contains("target.state_directory") && said.contains("another target's"), "{said}");
    fs::remove_dir(target.directory().join("state")).unwrap();
    target.ends_clean();
}
