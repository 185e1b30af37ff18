//! Host processes of a storm: who they are, what may be done to them, and how they must end.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::processes::{Target, now, pause, program, send_signal, signal};

const ADDRESS: &str = "trtype:RDMA adrfam:IPv4 traddr:127.0.0.1 trsvcid:4420 subnqn:nqn.2026-11.io.quiesce:test";

/// How long any of them may take to end by itself, stops and a busy machine included.
const END_LIMIT: Duration = Duration::from_secs(90);

/// What a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `nvmf-perf connect`: associations that come and go.
    Guest,
    /// Reads and writes without end, until it is killed.
    Loader,
    /// Verifies what it wrote; is stopped and goes on, but not killed: what a killed host's last writes do, nobody knows, and the next verifies the same blocks.
    Verifier,
}

/// How it must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expectation {
    Success,
    /// The target was stopped for longer than it was patient: it may say that the connection died.
    SuccessOrReport,
}

/// One host process.
pub(crate) struct Party {
    pub(crate) role: Role,
    /// While it is stopped: when it goes on.
    pub(crate) stopped_until: Option<Instant>,
    expectation: Expectation,
    arguments: String,
    child: Child,
    output: PathBuf,
}

impl Party {
    pub(crate) fn start(target: &Target, number: u64, role: Role, cpu: u64, arguments: &str) -> Self {
        let output = target.directory().join(format!("host-{number}.log"));
        let file = fs::File::create(&output).unwrap();
        let child = Command::new(program("nvmf-perf"))
            .args(["-r", ADDRESS, "--no-progress", "--cpus", &cpu.to_string()])
            .args(arguments.split_whitespace())
            .env("QUIESCE_RUNTIME_DIR", target.directory().join("run"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let arguments = arguments.to_owned();
        Self { role, stopped_until: None, expectation: Expectation::Success, arguments, child, output }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn stop(&mut self, until: Instant) {
        send_signal(&self.child, signal::STOP);
        self.stopped_until = Some(until);
    }

    pub(crate) fn go_on(&mut self) {
        send_signal(&self.child, signal::CONT);
        self.stopped_until = None;
    }

    /// Also one that is stopped. It is gone afterwards, and its output with it. One that has ended before must have ended well.
    pub(crate) fn kill(mut self) {
        if self.has_ended() {
            return self.conclude();
        }
        let _ = self.child.kill();
        self.child.wait().unwrap();
        self.forget();
    }

    /// The target is to be stopped for long.
    pub(crate) fn excuse(&mut self) {
        self.expectation = Expectation::SuccessOrReport;
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn conclude(mut self) {
        // The signal to stop may have come too late.
        if !self.has_ended() && self.stopped_until.is_some() {
            self.go_on();
        }
        let limit = now() + END_LIMIT;
        while !self.has_ended() {
            assert!(now() < limit, "a host hangs: {}\n{}", self.arguments, self.text());
            pause(Duration::from_millis(5));
        }
        let status = self.child.wait().unwrap();
        let text = self.text();
        let has_ended_well = match self.expectation {
            Expectation::Success => status.code() == Some(0),
            Expectation::SuccessOrReport => matches!(status.code(), Some(0 | 1)),
        };
        assert!(has_ended_well, "a host ended with {status}: {}\n{text}", self.arguments);
        for wrong in ["VERIFICATION FAILED", "(hang)", "panicked", "Sanitizer"] {
            assert!(!text.contains(wrong), "a host ended with {status}: {}\n{text}", self.arguments);
        }
        self.forget();
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    fn forget(&self) {
        let _ = fs::remove_file(&self.output);
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
