//! What the service manager is told, and by it the administrator: sd_notify(3), as systemd and others understand it.
//!
//! Owns the socket that `NOTIFY_SOCKET` names; without that variable nothing is sent. Used by the control plane, so it never waits: a message that finds the
//! manager's queue full is left out, and the next one says the same or something newer.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::system;

/// Says where messages go.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Says how long the manager waits for a sign of life, in µs, and of which process.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
const WATCHDOG_PROCESS_VARIABLE: &str = "WATCHDOG_PID";

/// Something that the manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'t> {
    /// It serves; or the reload that was announced is over.
    Ready,
    /// It reads its configuration again.
    Reloading,
    /// It drains, for so long at most.
    Stopping {
        /// What it asks the manager to wait, whatever the unit says.
        at_most_ns: u64,
    },
    /// One line for people.
    Status(&'t str),
    /// A sign of life.
    Alive,
}

impl fmt::Display for News<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            // The time is how the manager tells this reload's end from that of one before (Type=notify-reload).
            Self::Reloading => write!(f, "RELOADING=1\nMONOTONIC_USEC={}", system::monotonic_us()),
            Self::Stopping { at_most_ns } => write!(f, "STOPPING=1\nEXTEND_TIMEOUT_USEC={}", at_most_ns / 1000),
            // A line feed would begin another assignment.
            Self::Status(text) => write!(f, "STATUS={}", text.replace('\n', " ")),
            Self::Alive => f.write_str("WATCHDOG=1"),
        }
    }
}

/// The way to the manager; or to nobody.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog_ns: Option<u64>,
    /// What people were told last.
    status: String,
}

impl Notifier {
    /// As the environment says. What is wrong with it is a line in the log: the target runs without a manager, too.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(address) = env::var_os(SOCKET_VARIABLE) else { return Self::default() };
        let socket = match connect(&address) {
            Ok(socket) => socket,
            Err(error) => {
                let address = address.to_string_lossy();
                tracing::warn!("{SOCKET_VARIABLE}={address}: the service manager is told nothing: {error}");
                return Self::default();
            }
        };
        let watchdog_ns = watchdog_ns(env::var_os(WATCHDOG_VARIABLE), env::var_os(WATCHDOG_PROCESS_VARIABLE));
        let watchdog_ns = watchdog_ns.unwrap_or_else(|value| {
            let value = value.to_string_lossy();
            tracing::warn!("{WATCHDOG_VARIABLE}={value}: not a number of µs above 0; there is no watchdog");
            None
        });
        Self { socket: Some(socket), watchdog_ns, status: String::new() }
    }

    /// How long the manager waits for [`News::Alive`]. `None`: it does not ask.
    #[must_use]
    pub fn watchdog_ns(&self) -> Option<u64> {
        self.watchdog_ns
    }

    /// Tells it.
    pub fn tell(&self, news: News<'_>) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(news.to_string().as_bytes()) {
            tracing::debug!(%error, ?news, "the service manager could not be told");
        }
    }

    /// Tells people what it does, if that is something else than before.
    pub fn show(&mut self, status: String) {
        if self.socket.is_some() && self.status != status {
            self.tell(News::Status(&status));
            self.status = status;
        }
    }
}

/// A path, or, with `@` before it, a name of the abstract namespace.
fn connect(address: &OsString) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither an absolute path nor a name after @")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// `None` where no watchdog is asked for, or that of another process. The value, where it is wrong.
fn watchdog_ns(value: Option<OsString>, process: Option<OsString>) -> Result<Option<u64>, OsString> {
    let Some(value) = value else { return Ok(None) };
    if process.is_some_and(|process| process != std::process::id().to_string().as_str()) {
        return Ok(None);
    }
    match value.to_str().and_then(|text| text.parse::<u64>().ok()) {
        Some(us) if us > 0 => Ok(Some(us.saturating_mul(1000))),
        _ => Err(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_lines_of_sd_notify() {
        assert_eq!(News::Ready.to_string(), "READY=1");
        assert_eq!(News::Stopping { at_most_ns: 25_000 }.to_string(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=25");
        assert_eq!(News::Status("two\nREADY=1").to_string(), "STATUS=two READY=1");
        let reloading = News::Reloading.to_string();
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn a_watchdog_is_ours_and_a_number() {
        let text = |text: &str| Some(OsString::from(text));
        assert_eq!(watchdog_ns(None, None), Ok(None));
        assert_eq!(watchdog_ns(text("3000000"), None), Ok(Some(3_000_000_000)));
        assert_eq!(watchdog_ns(text("3000000"), text(&std::process::id().to_string())), Ok(Some(3_000_000_000)));
        assert_eq!(watchdog_ns(text("3000000"), text("1")), Ok(None));
        assert_eq!(watchdog_ns(text("0"), None), Err("0".into()));
        assert_eq!(watchdog_ns(text("3s"), None), Err("3s".into()));
    }

    #[test]
    fn an_address_is_a_path_or_an_abstract_name() {
        let name = format!("quiesce-notify-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let socket = Some(connect(&OsString::from(format!("@{name}"))).unwrap());
        let mut notifier = Notifier { socket, ..Notifier::default() };
        notifier.show("serves".to_owned());
        notifier.show("serves".to_owned());
        notifier.tell(News::Alive);
        let mut message = [0; 64];
        let mut next = || receiver.recv(&mut message).map(|len| String::from_utf8_lossy(&message[..len]).into_owned());
        assert_eq!([next().unwrap(), next().unwrap()], ["STATUS=serves", "WATCHDOG=1"]);
        // Nobody takes these: whoever tells does not wait.
        for _ in 0..10_000 {
            notifier.tell(News::Alive);
        }
        let error = connect(&OsString::from("run/notify")).unwrap_err().to_string();
        assert!(error.contains("absolute path"), "{error}");
    }
}
