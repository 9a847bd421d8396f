//! A xenstored on a Unix socket that answers from what `xenstore-ls -f` printed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

type Nodes = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// The message types of `xs_wire.h` that it knows.
const DIRECTORY: u32 = 1;
const READ: u32 = 2;
const WATCH: u32 = 4;
const WATCH_EVENT: u32 = 15;
const ERROR: u32 = 16;

/// A xenstored in a directory of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Xenstored {
    directory: tempfile::TempDir,
    nodes: Nodes,
    task: JoinHandle<()>,
}

impl Xenstored {
    /// Listens, with the nodes of a recording: lines `path = "value"`.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub fn start(recording: &str) -> Self {
        let lines = recording.lines().filter_map(|line| line.split_once(" = "));
        let nodes = lines.map(|(path, value)| (path.to_owned(), value.trim_matches('"').as_bytes().to_vec()));
        let nodes: Nodes = Arc::new(Mutex::new(nodes.collect()));
        let directory = tempfile::tempdir().expect("there is a temporary directory");
        let listener =
            UnixListener::bind(directory.path().join("socket")).expect("a new directory takes a socket");
        let task = tokio::spawn(serve(listener, Arc::clone(&nodes)));
        Self { directory, nodes, task }
    }

    /// Its socket.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Sets a node; those above it must be there.
    pub fn set(&self, path: &str, value: &str) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(path.to_owned(), value.as_bytes().to_vec());
    }

    /// Removes a node and all below it.
    pub fn cut(&self, path: &str) {
        let below = format!("{path}/");
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|node, _| node != path && !node.starts_with(&below));
    }
}

impl Drop for Xenstored {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, nodes: Nodes) {
    while let Ok((stream, _)) = listener.accept().await {
        let nodes = Arc::clone(&nodes);
        // It serves all clients at once, as the real one.
        tokio::spawn(async move {
            let _ = talk(stream, &nodes).await;
        });
    }
}

async fn talk(mut stream: UnixStream, nodes: &Nodes) -> std::io::Result<()> {
    let mut header = [0; 16];
    loop {
        stream.read_exact(&mut header).await?;
        let number =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (kind, id, transaction, length) = (number(0), number(4), number(8), number(12));
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        let (answered, reply) = match answer(kind, &payload, nodes) {
            Ok(reply) => (kind, reply),
            Err(code) => (ERROR, format!("{code}\0").into_bytes()),
        };
        stream.write_all(&message(answered, id, transaction, &reply)).await?;
        if kind == WATCH {
            stream.write_all(&message(WATCH_EVENT, 0, 0, &payload)).await?;
        }
    }
}

fn answer(kind: u32, payload: &[u8], nodes: &Nodes) -> Result<Vec<u8>, &'static str> {
    let end = payload.iter().position(|byte| *byte == 0).ok_or("EINVAL")?;
    let path = std::str::from_utf8(&payload[..end]).map_err(|_| "EINVAL")?;
    let nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
    match kind {
        READ => nodes.get(path).cloned().ok_or("ENOENT"),
        DIRECTORY if nodes.contains_key(path) => {
            let below = format!("{path}/");
            let names = nodes.keys().filter_map(|node| node.strip_prefix(&below));
            Ok(names
                .filter(|name| !name.contains('/'))
                .flat_map(|name| format!("{name}\0").into_bytes())
                .collect())
        }
        DIRECTORY => Err("ENOENT"),
        // Nothing is changed here; a client that waits looks for itself.
        _ => Ok(b"OK\0".to_vec()),
    }
}

fn message(kind: u32, id: u32, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a fixture's values are short");
    [&[kind, id, transaction, length].map(u32::to_ne_bytes).concat(), payload].concat()
}
