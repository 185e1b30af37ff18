//! Hosts that have to prove who they are, as processes: keys in files, by RPC and by configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nvmf_core::auth::{HashId, Secret};
use serde_json::{Value, json};

use super::processes::{Host, SUBSYSTEM, Target};
use crate::{MEMORY, PATIENCE};

const HOST: &str = "nqn.2026-11.io.quiesce:proven";

/// A file with a secret of its own.
fn key_file(directory: &Path, name: &str, byte: u8) -> PathBuf {
    let path = directory.join(name);
    let secret = Secret::generate(Some(HashId::Sha384), &mut |bytes| bytes.fill(byte));
    fs::write(&path, &*secret.to_text()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn result(target: &Target, method: &str, parameters: Value) -> Value {
    let mut answer = target.rpc(method, parameters);
    assert!(answer["error"].is_null(), "{method}: {answer}");
    answer["result"].take()
}

fn refusal(target: &Target, method: &str, parameters: Value) -> String {
    target.rpc(method, parameters)["error"]["message"].as_str().unwrap().to_owned()
}

/// A host of that name, with these files.
fn host(target: &Target, secret: Option<&Path>, controller: Option<&Path>, more: &[&str]) -> Host {
    let mut arguments = vec!["--host-nqn", HOST, "--nsid", MEMORY];
    arguments.extend(more);
    let pairs = [("--dhchap-secret-file", secret), ("--dhchap-ctrl-secret-file", controller)];
    for (option, path) in pairs {
        arguments.extend(path.into_iter().flat_map(|path| [option, path.to_str().unwrap()]));
    }
    target.host(&arguments)
}

/// A counter of all CPUs.
fn count(target: &Target, name: &str) -> f64 {
    let metrics = target.metrics();
    let values: Vec<f64> = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(!values.is_empty(), "no {name}:\n{metrics}");
    values.iter().sum()
}

const VERIFY: [&str; 10] = ["--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-P", "2", "-n"];

fn verify(target: &Target, secret: Option<&Path>, controller: Option<&Path>, more: &[&str]) -> Host {
    host(target, secret, controller, &[&VERIFY[..], &["400"], more].concat())
}

#[test]
fn hosts_prove_who_they_are_with_keys_that_come_by_rpc() {
    let target = Target::start("authentication");
    let baseline = target.gauges_at_rest(PATIENCE);
    let directory = target.directory();
    let (ours, theirs, other) =
        (key_file(directory, "host", 1), key_file(directory, "controller", 2), key_file(directory, "other", 3));
    let add = |name: &str, path: &Path| json!({ "name": name, "path": path });
    for (name, path) in [("host", &ours), ("controller", &theirs), ("other", &other)] {
        assert_eq!(result(&target, "keyring_file_add_key", add(name, path)), true);
    }
    fs::set_permissions(&other, fs::Permissions::from_mode(0o640)).unwrap();
    let open = refusal(&target, "keyring_file_add_key", add("open", &other));
    assert!(open.contains("chmod 0600"), "{open}");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();

    let keys = json!({ "nqn": SUBSYSTEM, "host": HOST, "dhchap_key": "host", "dhchap_ctrlr_key": "controller" });
    assert_eq!(result(&target, "nvmf_subsystem_add_host", keys), true);
    let hosts = result(&target, "nvmf_get_subsystems", json!({ "nqn": SUBSYSTEM }))[0]["hosts"].clone();
    let told = json!({ "nqn": HOST, "dhchap_key": "host", "dhchap_ctrlr_key": "controller" });
    assert!(hosts.as_array().unwrap().contains(&told), "{hosts}");
    let listed = result(&target, "keyring_get_keys", json!({}));
    let uses: Vec<_> =
        listed.as_array().unwrap().iter().map(|key| (key["name"].clone(), key["refcnt"].clone())).collect();
    assert_eq!(uses, [(json!("controller"), json!(2)), (json!("host"), json!(2)), (json!("other"), json!(1))]);

    // One-way, two-way, with and without a key exchange; on the admin queue and on both I/O queues.
    verify(&target, Some(&ours), None, &["--dhchap-dhgroups", "null"]).succeeds();
    verify(&target, Some(&ours), Some(&theirs), &["--dhchap-dhgroups", "ffdhe2048", "--dhchap-digests", "sha512"])
        .succeeds();
    assert!(count(&target, "nvmf_authentications_total") >= 6.0);

    let missing = verify(&target, None, None, &[]).fails();
    assert!(missing.contains("asks for authentication"), "{missing}");
    let wrong = verify(&target, Some(&other), None, &[]).fails();
    assert!(wrong.contains("authentication failed: the controller refused"), "{wrong}");
    let imposter = verify(&target, Some(&ours), Some(&other), &[]).fails();
    assert!(imposter.contains("did not prove that it knows its secret"), "{imposter}");

    // Who is in stays in when the key changes; who comes needs the new one.
    let stays = host(&target, Some(&ours), None, &["-w", "randread", "-o", "4k", "-q", "4", "-t", "60"]);
    stays.is_running_io(&target);
    let change = json!({ "nqn": SUBSYSTEM, "host": HOST, "dhchap_key": "other" });
    assert_eq!(result(&target, "nvmf_subsystem_set_keys", change), true);
    let old = verify(&target, Some(&ours), None, &[]).fails();
    assert!(old.contains("authentication failed"), "{old}");
    verify(&target, Some(&other), None, &[]).succeeds();
    stays.is_running_io(&target);
    stays.signal(super::processes::signal::TERM);

    // Only what is allowed is used.
    let allowed = json!({ "dhchap_digests": ["sha512"], "dhchap_dhgroups": ["null"] });
    assert_eq!(result(&target, "nvmf_set_config", allowed), true);
    verify(&target, Some(&other), None, &[]).succeeds();
    let unusable = verify(&target, Some(&other), None, &["--dhchap-digests", "sha256"]).fails();
    assert!(unusable.contains("no hash function in common"), "{unusable}");
    let unknown = refusal(&target, "nvmf_set_config", json!({ "dhchap_digests": ["md5"] }));
    assert!(unknown.contains("should be a list of"), "{unknown}");

    // Without keys nobody is asked; the name is free again.
    assert_eq!(result(&target, "nvmf_subsystem_set_keys", json!({ "nqn": SUBSYSTEM, "host": HOST })), true);
    verify(&target, None, None, &[]).succeeds();
    assert_eq!(result(&target, "keyring_file_remove_key", json!({ "name": "other" })), true);
    let gone = json!({ "nqn": SUBSYSTEM, "host": HOST, "dhchap_key": "other" });
    assert!(refusal(&target, "nvmf_subsystem_set_keys", gone).contains("should be the name of a key"));

    let log = target.log();
    assert!(!log.contains("DHHC-1"), "{log}");
    assert!(log.contains("a host has not authenticated") && log.contains(HOST), "{log}");
    for path in [ours, theirs, other] {
        fs::remove_file(path).unwrap();
    }
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}

#[test]
fn keys_of_the_configuration_and_strangers_that_storm() {
    let name = "authentication-storm";
    let mut files = None;
    let target = Target::start_with(name, |configuration| {
        let directory = std::env::temp_dir().join(format!("quiesce-test-{}-{name}", std::process::id()));
        let (ours, other) = (key_file(&directory, "host", 1), key_file(&directory, "other", 3));
        let keys = format!("[[key]]\nname = \"host\"\npath = \"{}\"\n", ours.display());
        let host = format!("[[subsystem.host]]\nnqn = \"{HOST}\"\ndhchap_key = \"host\"\n[[subsystem.namespace]]");
        files = Some((ours, other));
        keys + &configuration.replacen("[[subsystem.namespace]]", &host, 1)
    });
    let baseline = target.gauges_at_rest(PATIENCE);
    let (ours, other) = files.unwrap();
    verify(&target, Some(&ours), None, &[]).succeeds();

    // Strangers who make the target compute and know nothing; beside them another host, which never needed a key, reads and loses nothing.
    let reads = target.host(&["--nsid", MEMORY, "-w", "randread", "-o", "4k", "-q", "8", "-t", "4"]);
    reads.is_running_io(&target);
    let storm = ["connect", "-P", "0", "-j", "4", "-t", "3", "--continue-on-error", "--dhchap-dhgroups", "ffdhe3072"];
    let stranger = [&["--host-nqn", HOST, "--dhchap-secret-file", other.to_str().unwrap()], &storm[..]].concat();
    let told = target.host(&stranger).succeeds();
    assert!(told.contains("authentication"), "{told}");
    reads.succeeds();
    assert!(count(&target, "nvmf_authentications_failed_total") >= 4.0);
    verify(&target, Some(&ours), None, &[]).succeeds();
    for path in [ours, other] {
        fs::remove_file(path).unwrap();
    }
    target.gauges_return_to(&baseline, PATIENCE);
    target.ends_clean();
}
