//! What a service manager is told, by a socket in its place: start, reload, end, and signs of life that stop when a polling CPU does.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::processes::{MANAGER_SOCKET, Target, now, signal};
use super::stall::Stopped;
use crate::{MEMORY, PATIENCE};

/// Receives what a target tells its service manager.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    /// Starts a target that has one. The directory is the target's.
    fn start(name: &str, change: impl FnOnce(String) -> String) -> (Self, Target) {
        let mut manager = None;
        let target = Target::start_in(name, |directory, configuration| {
            manager = Some(Self::new(directory));
            change(configuration)
        });
        (manager.unwrap(), target)
    }

    fn new(directory: &Path) -> Self {
        let socket = UnixDatagram::bind(directory.join(MANAGER_SOCKET)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    fn next(&self) -> String {
        let mut message = [0; 512];
        let len = self.socket.recv(&mut message).expect("the service manager is told nothing");
        String::from_utf8(message[..len].to_vec()).unwrap()
    }

    /// Waits for a message that begins so. The message.
    fn hears(&self, beginning: &str) -> String {
        let start = now();
        loop {
            let message = self.next();
            if message.starts_with(beginning) {
                return message;
            }
            assert!(now() - start < PATIENCE, "not told: {beginning}; last: {message}");
        }
    }

    /// Takes what has come: how many of it begins so.
    fn takes(&self, beginning: &str) -> usize {
        self.socket.set_nonblocking(true).unwrap();
        let mut message = [0; 512];
        let mut count = 0;
        while let Ok(len) = self.socket.recv(&mut message) {
            count += usize::from(message[..len].starts_with(beginning.as_bytes()));
        }
        self.socket.set_nonblocking(false).unwrap();
        count
    }
}

#[test]
fn the_service_manager_is_told_of_start_reload_and_end() {
    let (manager, target) = Manager::start("manager", |configuration| configuration);
    manager.hears("READY=1");
    manager.hears("STATUS=subsystems: 1, connections: 0");
    target.host(&["--nsid", MEMORY, "--verify", "-w", "randwrite", "-o", "4k", "-q", "8", "-n", "200"]).succeeds();

    target.signal(signal::HUP);
    let reloading = manager.hears("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    manager.hears("READY=1");
    // One that is refused is over, too.
    let file = target.directory().join("target.toml");
    let configuration = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, configuration.replace("[target]", "[target]\nno_such_key = 1")).unwrap();
    target.signal(signal::HUP);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    target.says(&["ERROR the target stays as it is", "no_such_key"]);

    target.signal(signal::TERM);
    let stopping = manager.hears("STOPPING=1");
    assert_eq!(stopping, "STOPPING=1\nEXTEND_TIMEOUT_USEC=25000000", "the deadline of 10 s, and what follows it");
    std::fs::remove_file(target.directory().join(MANAGER_SOCKET)).unwrap();
    target.ends_clean_soon();
}

#[test]
fn signs_of_life_end_while_a_cpu_does_not_turn() {
    let (manager, target) = Manager::start("watchdog", |configuration| {
        configuration.replace("cpus = [0]", "cpus = [0, 1]\npoll_mode = \"busy\"")
    });
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    let stopped = Stopped::new(&target, "poll-1");
    target.says(&["WARN a CPU does not turn cpu=\"1\""]);
    manager.hears("STATUS=CPU 1 does not turn");
    // JSON-RPC is answered: the control plane lives, and could lie.
    assert_eq!(target.result("rpc_get_methods", json!({})).as_array().map(Vec::is_empty), Some(false));
    super::processes::pause(Duration::from_secs(2));
    assert_eq!(manager.takes("WATCHDOG=1"), 0);
    drop(stopped);
    manager.hears("WATCHDOG=1");
    std::fs::remove_file(target.directory().join(MANAGER_SOCKET)).unwrap();
    target.ends_clean();
}
