//! What a start needs and is not there now.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tokio::net::TcpSocket;

use super::needs::{Need, Thing};
use super::peer::pids;
use super::program::Program;

/// Where QEMU is started: where its relative names begin.
const DIRECTORY: &str = "/";

/// The most of a process's command line that is read.
const MAX_LINE: usize = 1 << 20;

/// One thing that a start needs and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What is needed.
    pub need: Need,
    /// That it is not there, as a clause with the thing and the option.
    pub why: String,
}

/// What of `needs` is not there. Nothing is changed by looking, and what cannot be told is taken to be there: what is not
/// readable for us, and what the script that starts QEMU names, and so may make itself.
///
/// `is_on` tells that a QEMU of the domain runs: what that one holds is free when it has ended, and what ends with it is not
/// there then.
pub(super) fn of(needs: Vec<Need>, program: &Program, is_on: bool) -> Vec<Missing> {
    let missing = |need: Need| {
        let why = why(&need, program, is_on)?;
        Some(Missing { need, why })
    };
    needs.into_iter().filter_map(missing).collect()
}

fn why(need: &Need, program: &Program, is_on: bool) -> Option<String> {
    let option = &need.option;
    match &need.thing {
        Thing::File(path) => (!program.may_make(path) && is_gone(path))
            .then(|| format!("the file {path}, which {option} names, is not there")),
        Thing::Directory(path) => (!program.may_make(path) && is_gone(path))
            .then(|| format!("the directory {path}, which {option} names, is not there")),
        Thing::Place(path) => {
            let whole = Path::new(DIRECTORY).join(path);
            let directory = whole.parent()?.to_str()?;
            (!program.may_make(directory) && is_gone(directory))
                .then(|| format!("the directory of {path}, which {option} names, is not there"))
        }
        Thing::Listener(path) if program.may_make(path) => None,
        Thing::Listener(path) => match listens(path) {
            Some(false) => {
                Some(format!("no process listens at the socket {path}, to which {option} connects"))
            }
            _ if is_on => ends_with_qemu(path).map(|pid| {
                format!(
                    "process {pid}, which listens at the socket {path} of {option}, ends with QEMU (--terminate), and \
                     nothing starts it again"
                )
            }),
            _ => None,
        },
        Thing::Port { host, port } => (!is_on && is_taken(host, *port))
            .then(|| format!("the TCP port {port}, at which {option} listens, is taken by another process")),
        Thing::Interface(name) => is_gone(&format!("/sys/class/net/{name}"))
            .then(|| format!("the network interface {name}, which {option} names, is not there")),
    }
}

fn is_gone(path: &str) -> bool {
    let found = fs::metadata(Path::new(DIRECTORY).join(path));
    found.is_err_and(|e| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// Whether a process listens at a Unix socket; `None` when that cannot be told.
///
/// A datagram socket cannot be connected to one of streams, and the kernel says which of the two is the matter only after it
/// has found the socket of that name alive (unix_find_bsd in the kernel's net/unix/af_unix.c). So the one that listens
/// notices nothing: swtpm with `--terminate` would end when a client that connected leaves.
fn listens(path: &str) -> Option<bool> {
    let whole = Path::new(DIRECTORY).join(path);
    match UnixDatagram::unbound().and_then(|socket| socket.connect(&whole)) {
        Ok(()) => None,
        Err(e) if e.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => Some(true),
        Err(e) => matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound).then_some(false),
    }
}

/// The process that was told to listen at this socket and to end when its client leaves: swtpm(8).
fn ends_with_qemu(path: &str) -> Option<u32> {
    let names_it = |word: &[u8]| {
        let text = std::str::from_utf8(word).unwrap_or_default();
        text.split(',').any(|part| part.strip_prefix("path=") == Some(path))
    };
    pids().ok()?.find(|pid| {
        let line = read_line(*pid).unwrap_or_default();
        let words = || line.split(|byte| *byte == 0);
        words().any(|word| matches!(word, b"--terminate" | b"-t")) && words().any(names_it)
    })
}

fn read_line(pid: u32) -> io::Result<Vec<u8>> {
    let mut line = fs::read(PathBuf::from(format!("/proc/{pid}/cmdline")))?;
    line.truncate(MAX_LINE);
    Ok(line)
}

/// Whether QEMU could not listen at this address. Of every address it is content with one of the two families (measured on
/// 10.0): the port is taken when the one has it and the other has it too, or is not there. Names are not looked up.
fn is_taken(host: &str, port: u16) -> bool {
    let (address, any) = match host {
        "" | "0.0.0.0" => (Ipv4Addr::UNSPECIFIED, host.is_empty()),
        host => match host.parse() {
            Ok(address) => (address, false),
            Err(_) => return false,
        },
    };
    if !is_bound(SocketAddr::from((address, port))) {
        return false;
    }
    !any || fs::read_to_string("/proc/net/tcp6").map_or(true, |list| listens_at_every(&list, port))
}

/// Bound and not listening, the socket is seen by no client.
fn is_bound(address: SocketAddr) -> bool {
    let bind = TcpSocket::new_v4().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)
    });
    bind.is_err_and(|e| e.kind() == ErrorKind::AddrInUse)
}

/// Of `/proc/net/tcp6`: `sl local_address rem_address st ...`, where 0A is the state of one that listens.
fn listens_at_every(list: &str, port: u16) -> bool {
    let local = format!("{}:{port:04X}", "0".repeat(32));
    list.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next() == Some(local.as_str()) && fields.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::super::needs::needs;
    use super::*;

    fn missing(options: &str, program: &Program) -> Vec<String> {
        let line: Vec<String> =
            std::iter::once("qemu-system-x86_64").chain(options.split(' ')).map(str::to_owned).collect();
        of(needs(&line), program, false).into_iter().map(|missing| missing.why).collect()
    }

    #[tokio::test]
    async fn what_is_not_there_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("there"), "").unwrap();
        let live = UnixListener::bind(at("live")).unwrap();
        live.set_nonblocking(true).unwrap();
        drop(UnixListener::bind(at("dead")).unwrap());
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = port.local_addr().unwrap().port();
        let qemu = Program::default();
        for (options, says) in [
            (format!("-cdrom {}", at("there")), None),
            (format!("-cdrom {}", at("gone.iso")), Some("-cdrom names, is not there")),
            (format!("-cdrom {}", at("there/below")), Some("is not there")),
            (format!("-D {} -virtfs local,path={}", at("new"), at(".")), None),
            (format!("-D {}", at("none/new")), Some("the directory of")),
            (format!("-serial unix:{}", at("live")), None),
            (format!("-serial unix:{}", at("dead")), Some("no process listens")),
            (format!("-serial unix:{}", at("gone")), Some("no process listens")),
            (format!("-serial tcp:127.0.0.1:{number},server=on"), Some("is taken")),
            (format!("-serial tcp:127.0.0.2:{number},server=on"), None),
            ("-netdev bridge,id=n,br=xlsnap-none".to_owned(), Some("network interface")),
            ("-netdev bridge,id=n,br=lo".to_owned(), None),
            ("-cdrom etc/passwd".to_owned(), None),
        ] {
            let found = missing(&options, &qemu);
            let fits = match says {
                Some(says) => found.len() == 1 && found[0].contains(says),
                None => found.is_empty(),
            };
            assert!(fits, "{options}: {found:?}");
        }
        // The listener has heard nothing.
        assert_eq!(live.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn what_a_script_names_it_may_make() {
        let script = Program::script_of("#!/bin/sh\nmake-it \"$dir\"/gone.iso\nexec qemu \"$@\"\n");
        assert_eq!(missing("-cdrom /none/gone.iso", &script), [""; 0]);
        assert_eq!(missing("-cdrom /none/other.iso", &script).len(), 1);
    }

    #[test]
    fn a_port_of_every_address_is_found() {
        let list = "  sl  local_address remote_address st\n   0: 00000000000000000000000000000000:1759 0000:0000 0A 0\n";
        assert!(listens_at_every(list, 0x1759));
        assert!(!listens_at_every(list, 0x1758));
        assert!(!listens_at_every(&list.replace("0A", "01"), 0x1759));
    }
}
