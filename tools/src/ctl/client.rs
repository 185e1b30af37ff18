//! A target's JSON-RPC socket: found, connected to, asked. One request at a time, and its answer is waited for.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::trouble::Trouble;

/// Names the socket where `--socket` does not.
pub const SOCKET_VARIABLE: &str = "QUIESCE_RPC_SOCKET";

/// What the socket is called in the directories where it is looked for.
const SOCKET_NAME: &str = "nvmf-tgt.sock";

/// A connection to a target.
pub struct Client {
    stream: BufReader<UnixStream>,
    timeout: Duration,
    next_id: u64,
}

impl Client {
    /// Connects. Without a path it looks where targets have their socket: see [`places`].
    ///
    /// # Errors
    /// If there is no target, or it may not be asked: which path, and what to do.
    pub fn connect(socket: Option<&Path>, timeout: Duration) -> Result<Self, Trouble> {
        let path = match socket {
            Some(path) => path.to_owned(),
            None => find(&places())?,
        };
        let stream = UnixStream::connect(&path).map_err(|error| no_target(&path, &error))?;
        stream.set_read_timeout(Some(timeout)).map_err(|error| no_target(&path, &error))?;
        Ok(Self { stream: BufReader::new(stream), timeout, next_id: 1 })
    }

    /// Calls a method: its result.
    ///
    /// # Errors
    /// What the target answered instead, or that it did not answer.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, Trouble> {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = json!({ "jsonrpc": "2.0", "id": id, "method": method });
        if !parameters.is_null() {
            request["params"] = parameters.clone();
        }
        let waited_s = self.timeout.as_secs();
        let gone = |error: &std::io::Error| {
            if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) {
                let advice =
                    "What was asked for may still be done later: look before asking again. --timeout waits longer";
                return Trouble::NoTarget(format!("{method}: no answer within {waited_s} s. {advice}"));
            }
            Trouble::NoTarget(format!("{method}: the target went away before it answered ({error}); its log says why"))
        };
        self.stream.get_mut().write_all(request.to_string().as_bytes()).map_err(|error| gone(&error))?;
        let mut line = String::new();
        let len = self.stream.read_line(&mut line).map_err(|error| gone(&error))?;
        if len == 0 {
            return Err(gone(&ErrorKind::UnexpectedEof.into()));
        }
        let no_answer = || Trouble::NoTarget(format!("{method}: what answered is no nvmf-tgt: {:?}", line.trim_end()));
        let mut answer: Value = serde_json::from_str(&line).map_err(|_| no_answer())?;
        if let Some(message) = answer["error"]["message"].as_str() {
            return Err(Trouble::Refused(message.to_owned()));
        }
        let is_ours = answer["id"] == json!(id);
        match answer.get_mut("result") {
            Some(result) if is_ours => Ok(result.take()),
            Some(_) | None => Err(no_answer()),
        }
    }
}

/// Where a target's socket is looked for, in this order: the runtime directories of a service and of this user, and the directory that this was started in.
#[must_use]
pub fn places() -> Vec<PathBuf> {
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("quiesce"));
    let directories = std::env::var_os("QUIESCE_RUNTIME_DIR").map(PathBuf::from).into_iter();
    let directories = directories.chain(["/run/quiesce".into()]).chain(of_user).chain([".".into()]);
    directories.map(|directory| directory.join(SOCKET_NAME)).collect()
}

fn find(places: &[PathBuf]) -> Result<PathBuf, Trouble> {
    let found = places.iter().find(|place| place.symlink_metadata().is_ok());
    found.cloned().ok_or_else(|| {
        let places = places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ");
        Trouble::NoTarget(format!(
            "no target's socket at {places}. Start one: nvmf-tgt --config FILE, with socket = \"…\" in [rpc]. One that runs and has its socket elsewhere is \
             named by --socket PATH, or by {SOCKET_VARIABLE}"
        ))
    })
}

fn no_target(path: &Path, error: &std::io::Error) -> Trouble {
    let path = path.display();
    let what = match error.raw_os_error() {
        Some(libc::ENOENT) => "is not there: no target that has it as rpc.socket runs. Start one: nvmf-tgt --config FILE".to_owned(),
        Some(libc::ECONNREFUSED) => {
            "was left by a target that is gone. Start one: nvmf-tgt --config FILE (it replaces the socket)".to_owned()
        }
        Some(libc::EACCES) => {
            "may not be used by this user: only the target's own user and root may. Try sudo, or sudo -u with the target's user".to_owned()
        }
        _ => format!("cannot be connected to: {error}"),
    };
    Trouble::NoTarget(format!("the socket {path} {what}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Connects to what answers each request with the next of these lines.
    fn answered_by(name: &str, answers: &'static [&'static str]) -> Client {
        let path = std::env::temp_dir().join(format!("quiesce-ctl-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            let mut request = [0; 1024];
            for answer in answers {
                assert!(std::io::Read::read(&mut stream, &mut request).unwrap() > 0);
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        let client = Client::connect(Some(&path), Duration::from_secs(20)).unwrap();
        std::fs::remove_file(&path).unwrap();
        client
    }

    #[test]
    fn results_refusals_and_strangers_are_told_apart() {
        let mut client = answered_by(
            "kinds",
            &[
                "{\"id\":1,\"result\":{\"a\":1}}\n",
                "{\"id\":2,\"error\":{\"code\":-32602,\"message\":\"Invalid parameters: x\"}}\n",
                "SSH-2.0\n",
            ],
        );
        assert_eq!(client.call("m", &Value::Null), Ok(json!({ "a": 1 })));
        assert_eq!(client.call("m", &Value::Null), Err(Trouble::Refused("Invalid parameters: x".into())));
        let trouble = client.call("m", &Value::Null).unwrap_err();
        assert!(trouble.to_string().contains("no nvmf-tgt: \"SSH-2.0\""), "{trouble}");
        let trouble = client.call("m", &Value::Null).unwrap_err();
        assert!(matches!(&trouble, Trouble::NoTarget(why) if why.contains("went away")), "{trouble}");
    }

    #[test]
    fn a_socket_that_is_not_there_is_named_with_the_way_out() {
        let path = Path::new("/nonexistent/rpc.sock");
        let trouble = Client::connect(Some(path), Duration::from_secs(1)).err().unwrap();
        assert!(
            matches!(&trouble, Trouble::NoTarget(why) if why.contains("/nonexistent/rpc.sock") && why.contains("nvmf-tgt --config"))
        );
        let trouble = find(&["/nonexistent/a".into(), "/nonexistent/b".into()]).unwrap_err();
        let said = trouble.to_string();
        assert!(
            ["/nonexistent/a, /nonexistent/b", "--socket", SOCKET_VARIABLE].iter().all(|word| said.contains(word)),
            "{said}"
        );
    }
}
