//! A xenstored in memory with the real one's rules: a tree, transactions with conflicts, watches. It writes the wire
//! by itself, so that a mistake of the crate is not made twice; the transcripts keep it true.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

type Tree = BTreeMap<String, Vec<u8>>;
pub(crate) type Sent = Vec<Vec<u8>>;

/// The store and the one connection to it.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    tree: Tree,
    /// Each with the tree at its start and its own.
    open: HashMap<u32, (Tree, Tree)>,
    last: u32,
    watches: Vec<(String, String)>,
    /// How often others still change the tree before a commit.
    pub(crate) conflicts: usize,
    /// Whether a long list comes in one message, as oxenstored sends it.
    pub(crate) lists_at_length: bool,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let tree = ["/", "/tool", "/tool/xenstored"].map(|path| (path.to_owned(), Vec::new())).into();
        Self { tree, ..Self::default() }
    }

    pub(crate) fn value(&self, path: &str) -> Option<&[u8]> {
        self.tree.get(path).map(Vec::as_slice)
    }

    pub(crate) fn open_transactions(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn watches(&self) -> usize {
        self.watches.len()
    }

    /// The messages that the request makes the real one send: the events of a change before the reply to it, the first
    /// event of a watch after.
    pub(crate) fn handle(&mut self, message: &[u8]) -> Sent {
        let number = |at| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
        let (kind, id, transaction) = (number(0), number(4), number(8));
        let payload = &message[16..];
        let (reply, changed) = match self.answer(kind, transaction, payload) {
            Ok((reply, changed)) => (encode(kind, id, transaction, &reply), changed),
            Err(code) => (encode(16, id, transaction, format!("{code}\0").as_bytes()), Vec::new()),
        };
        let mut sent = Vec::new();
        for path in changed {
            for (at, token) in &self.watches {
                if within(&path, at) {
                    sent.push(encode(15, 0, 0, format!("{path}\0{token}\0").as_bytes()));
                } else if kind == 13 && within(at, &path) {
                    sent.push(encode(15, 0, 0, format!("{at}\0{token}\0").as_bytes()));
                }
            }
        }
        sent.push(reply);
        if kind == 4 {
            sent.push(encode(15, 0, 0, payload));
        }
        sent
    }

    fn answer(&mut self, kind: u32, id: u32, payload: &[u8]) -> Result<(Vec<u8>, Vec<String>), &'static str> {
        let (first, rest) = payload.split_at(payload.iter().position(|&byte| byte == 0).ok_or("EINVAL")?);
        let path = String::from_utf8(first.to_vec()).unwrap();
        let rest = &rest[1..];
        let ok = || b"OK\0".to_vec();
        let tree = match id {
            0 => &mut self.tree,
            _ => &mut self.open.get_mut(&id).ok_or("ENOENT")?.1,
        };
        let mut changed = Vec::new();
        let reply = match kind {
            1 => {
                let list = children(tree, &path)?;
                if list.len() > 4096 && !self.lists_at_length { Err("E2BIG")? } else { list }
            }
            2 => tree.get(&path).ok_or("ENOENT")?.clone(),
            4 => {
                let token = String::from_utf8(rest[..rest.len() - 1].to_vec()).unwrap();
                self.watches.push((path, token));
                ok()
            }
            5 => {
                let before = self.watches.len();
                self.watches.retain(|(at, token)| (at, token.as_bytes()) != (&path, &rest[..rest.len() - 1]));
                if self.watches.len() == before { Err("ENOENT")? } else { ok() }
            }
            6 => {
                self.last += 1;
                self.open.insert(self.last, (self.tree.clone(), self.tree.clone()));
                format!("{}\0", self.last).into_bytes()
            }
            7 => {
                let (before, after) = self.open.remove(&id).ok_or("ENOENT")?;
                if path == "T" {
                    if self.conflicts > 0 {
                        self.conflicts -= 1;
                        self.tree.insert("/others".into(), self.conflicts.to_string().into_bytes());
                    }
                    if self.tree != before {
                        Err("EAGAIN")?;
                    }
                    changed =
                        after.keys().filter(|path| before.get(*path) != after.get(*path)).cloned().collect();
                    self.tree = after;
                }
                ok()
            }
            10 => format!("/local/domain/{path}\0").into_bytes(),
            11 | 12 => {
                let mut above = path.clone();
                while !tree.contains_key(&above) {
                    tree.insert(above.clone(), Vec::new());
                    above = parent(&above);
                }
                if kind == 11 {
                    tree.insert(path.clone(), rest.to_vec());
                }
                changed = vec![path];
                ok()
            }
            13 if tree.contains_key(&path) => {
                tree.retain(|node, _| !within(node, &path));
                changed = vec![path];
                ok()
            }
            13 if tree.contains_key(&parent(&path)) => ok(),
            13 => Err("ENOENT")?,
            22 => {
                const PART: usize = 1000;
                let offset: usize = String::from_utf8_lossy(&rest[..rest.len() - 1]).parse().unwrap();
                let list = children(tree, &path)?;
                let rest = &list[offset..];
                let end = rest.iter().take(PART).rposition(|&byte| byte == 0).map_or(0, |at| at + 1);
                let last: &[u8] = if end == rest.len() { b"\0" } else { b"" };
                [b"1\0", &rest[..end], last].concat()
            }
            _ => Err("ENOSYS")?,
        };
        Ok((reply, if id == 0 || kind == 7 { changed } else { Vec::new() }))
    }
}

/// Serves one connection until it ends.
pub(crate) fn serve(fake: Arc<Mutex<Fake>>) -> DuplexStream {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let mut header = [0; 16];
        while theirs.read_exact(&mut header).await.is_ok() {
            let length = u32::from_le_bytes(header[12..].try_into().unwrap());
            let mut message = header.to_vec();
            message.resize(16 + length as usize, 0);
            theirs.read_exact(&mut message[16..]).await.unwrap();
            let sent = fake.lock().unwrap().handle(&message);
            if theirs.write_all(&sent.concat()).await.is_err() {
                break;
            }
        }
    });
    ours
}

pub(crate) fn encode(kind: u32, id: u32, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&[kind, id, transaction, length].map(u32::to_le_bytes).concat(), payload].concat()
}

fn children(tree: &Tree, path: &str) -> Result<Vec<u8>, &'static str> {
    tree.get(path).ok_or("ENOENT")?;
    let names = tree.keys().filter(|node| *node != "/" && parent(node) == path);
    Ok(names.flat_map(|node| format!("{}\0", node.rsplit_once('/').unwrap().1).into_bytes()).collect())
}

fn parent(path: &str) -> String {
    match path.rsplit_once('/').unwrap().0 {
        "" => "/".into(),
        parent => parent.into(),
    }
}

fn within(path: &str, above: &str) -> bool {
    above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
