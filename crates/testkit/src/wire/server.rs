//! Where scripts are played.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::Script;

/// A monitor on a Unix socket in a directory of its own. Dropping it ends it, also in the middle of a script.
#[derive(Debug)]
pub struct WireServer {
    directory: tempfile::TempDir,
    heard: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl WireServer {
    /// Listens; the n-th connection gets the n-th script, and those after them are closed at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let directory = tempfile::tempdir().expect("there is a temporary directory");
        let listener =
            UnixListener::bind(directory.path().join("qmp")).expect("a new directory takes a socket");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let scripts: Vec<_> = scripts.into_iter().collect();
        let task = tokio::spawn(serve(listener, scripts, Arc::clone(&heard)));
        Self { directory, heard, task }
    }

    /// Its socket.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("qmp")
    }

    /// Every command that was read so far, on all connections, as it was sent.
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of [`WireServer::heard`].
    pub fn commands(&self) -> Vec<String> {
        let name = |command: &Value| command["execute"].as_str().unwrap_or_default().to_owned();
        self.heard().iter().map(name).collect()
    }
}

impl Drop for WireServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, scripts: Vec<Script>, heard: Arc<Mutex<Vec<Value>>>) {
    let mut scripts = scripts.into_iter();
    // One after the other: the next client waits.
    while let Ok((stream, _)) = listener.accept().await {
        if let Some(script) = scripts.next() {
            let hear = |command: &Value| {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(command.clone());
            };
            // A client that leaves in the middle is what some tests are about.
            let _ = script.play(stream, hear).await;
        }
    }
}

/// A client's end of a connection in memory, on which `script` is played.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn connect(script: Script) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move { script.play(theirs, |_| {}).await });
    ours
}
