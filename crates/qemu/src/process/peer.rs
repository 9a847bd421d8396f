//! Which process serves a monitor.
//!
//! A process's name proves nothing: `-name process=`, NixOS's `.qemu-system-x86_64-wrapped` and Proxmox's `kvm` have other names
//! than `qemu-system-*`. The peer's pid (unix(7), `SO_PEERCRED`) is only a half of the proof: it is the process that called
//! listen(2), and that may have been another program, which hands each connection on, or which has ended and left its pid to a
//! third. (A QEMU that is given a listening socket, as libvirt does, calls listen(2) on it once more: then it is QEMU's pid.)
//!
//! The proof is the connection itself. The process that serves it has a descriptor of a socket that is connected and bound to
//! the name that the kernel gives for our peer (getpeername(2)): the kernel gives each accepted socket the name of the one
//! that listens. `/proc/PID/net/unix` lists those sockets by their inodes, `/proc/PID/fd` the process's inodes. A process that
//! holds only the listening socket does not pass. A relay that stands before a monitor (ssh, socat) does: for us it is the domain's
//! process, which ends when QEMU does.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use xlsnap_qmp_transport as qmp;

use super::Identity;

/// How much of a list of sockets is read: a line has about a hundred bytes.
const MAX_SOCKETS: u64 = 64 << 20;

/// The flag of a socket that listens (`__SO_ACCEPTCON`), and the state of one that is connected (`SS_CONNECTED`).
const LISTENS: &str = "00010000";
const CONNECTED: &str = "03";

/// The process at the other end of a monitor's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    listener: Option<u32>,
    server: Option<Identity>,
}

impl Peer {
    /// Looks it up. The client has got its greeting, so the connection has been accepted.
    pub fn of(client: &qmp::Client) -> Self {
        let listener = client.peer_pid();
        let server = client.peer_path().and_then(|name| server(listener, name));
        Self { listener, server }
    }

    /// The process that serves the connection; `None` when `/proc` does not tell, as of another user's process.
    pub fn process(&self) -> Option<Identity> {
        self.server
    }

    /// The process that called listen(2).
    pub fn listener(&self) -> Option<u32> {
        self.listener
    }

    /// Whether it is `process`, which lives. Of one whose descriptors may not be looked at, it is enough that it opened the
    /// socket.
    pub fn is(&self, process: &Identity) -> bool {
        match &self.server {
            Some(server) => server == process,
            None => self.listener == Some(process.pid),
        }
    }
}

/// The process that has a connected socket of this name.
fn server(listener: Option<u32>, name: &Path) -> Option<Identity> {
    let alone = listener.and_then(|pid| serving(pid, &connected(&pid.to_string(), name)?));
    if alone.is_some() {
        return alone;
    }
    // The socket was handed on. In another network namespace the process is not found so.
    let sockets = connected("self", name)?;
    let mut servers = pids().ok()?.filter_map(|pid| serving(pid, &sockets));
    match (servers.next(), servers.next()) {
        (Some(server), None) => Some(server),
        _ => None,
    }
}

/// The process of this pid, if it has one of the sockets open.
fn serving(pid: u32, sockets: &HashSet<u64>) -> Option<Identity> {
    if sockets.is_empty() || pid == std::process::id() {
        return None;
    }
    let process = Identity::of(pid).ok()??;
    let has = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().any(|descriptor| {
        let target = fs::read_link(descriptor.path()).unwrap_or_default();
        target.to_str().and_then(socket_inode).is_some_and(|inode| sockets.contains(&inode))
    });
    // Nothing of another process that got the pid meanwhile is believed.
    (has && process.lives().ok()?).then_some(process)
}

/// Of `socket:[44677]`.
pub(super) fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The inodes of the connected sockets of this name, in the network namespace of process `of`.
fn connected(of: &str, name: &Path) -> Option<HashSet<u64>> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{of}/net/unix")).ok()?.take(MAX_SOCKETS).read_to_end(&mut bytes).ok()?;
    Some(connected_in(&bytes, name.as_os_str().as_encoded_bytes()))
}

/// The same of the file's content: `Num RefCount Protocol Flags Type St Inode Path` (unix_seq_show in the kernel's
/// net/unix/af_unix.c).
fn connected_in(list: &[u8], name: &[u8]) -> HashSet<u64> {
    let inode = |line: &[u8]| {
        let before = line.strip_suffix(name)?.strip_suffix(b" ")?;
        let mut fields = std::str::from_utf8(before).ok()?.split_ascii_whitespace().skip(3);
        let (flags, state) = (fields.next()?, fields.nth(1)?);
        let inode = fields.next()?.parse().ok()?;
        (fields.next().is_none() && flags != LISTENS && state == CONNECTED).then_some(inode)
    };
    list.split(|byte| *byte == b'\n').filter_map(inode).collect()
}

/// The pids of all processes that there are.
pub(super) fn pids() -> io::Result<impl Iterator<Item = u32>> {
    Ok(fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    use super::*;

    const LIST: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000032c78272: 00000003 00000000 00000000 0001 03 44677 /run/a b.qmp
00000000332af5ce: 00000002 00000000 00010000 0001 01 44398 /run/a b.qmp
0000000032c78273: 00000003 00000000 00000000 0001 03   677 b.qmp
0000000032c78274: 00000003 00000000 00000000 0001 03 44679
0000000032c78275: 00000003 00000000 00000000 0001 03 44680 /run/other.qmp
";

    /// The one that listens is this process, and hands each connection on.
    #[test]
    fn the_process_that_serves_is_not_the_one_that_listens() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a.qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let mut child = Command::new("sleep").arg("600").stdin(OwnedFd::from(accepted)).spawn().unwrap();
        let found = server(Some(std::process::id()), &path);
        assert_eq!(found, Identity::of(child.id()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(server(Some(std::process::id()), &path), None);
        drop(client);
    }

    #[test]
    fn the_connected_sockets_of_a_name_are_listed() {
        let of = |name: &str| {
            let mut found: Vec<u64> = connected_in(LIST.as_bytes(), name.as_bytes()).into_iter().collect();
            found.sort_unstable();
            found
        };
        assert_eq!(of("/run/a b.qmp"), [44677], "not the one that listens");
        assert_eq!(of("b.qmp"), [677], "not a name that ends so");
        assert_eq!(of("/run/nothing"), [0; 0]);
        assert_eq!(socket_inode("socket:[44677]"), Some(44677));
        assert_eq!(socket_inode("pipe:[44677]"), None);
    }
}
