//! Snapshots with memory, made and reverted to by hand.

use std::fs::File;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Map, Value, json};
use xlsnap_qmp_transport::{Client, Options, Qmp};
use xlsnap_testkit::real::guest::{Guest, GuestOptions};
use xlsnap_testkit::real::{DEADLINE, Disk, Scratch, qemu_img};

/// The monitor of a guest.
pub(crate) struct Hand {
    qmp: Client,
}

impl Hand {
    pub(crate) async fn on(guest: &Guest) -> Self {
        Self { qmp: Client::connect_unix(guest.qmp(), Options::default()).await.unwrap() }
    }

    pub(crate) async fn call(&self, command: &str, arguments: Value) -> Value {
        let arguments: Map<String, Value> = serde_json::from_value(arguments).unwrap();
        self.qmp.execute_raw(command, arguments).await.unwrap_or_else(|e| panic!("{command}: {e}"))
    }

    /// A snapshot inside all disks at once.
    pub(crate) async fn snapshot(&self, disks: &[Disk], name: &str) {
        let action = |disk: &Disk| {
            let data = json!({"device": disk.name, "name": name});
            json!({"type": "blockdev-snapshot-internal-sync", "data": data})
        };
        let actions: Vec<Value> = disks.iter().map(action).collect();
        self.call("transaction", json!({"actions": actions})).await;
    }

    /// Saves the memory of a guest that stands still, into `file`, and lets it go on before that has ended.
    pub(crate) async fn save_in_the_background(&self, file: &Path) {
        let capability = json!({"capability": "background-snapshot", "state": true});
        self.call("migrate-set-capabilities", json!({"capabilities": [capability]})).await;
        let saved = self.migrate(file).await;
        // From here on pages are saved as they were: its setup alone sends less.
        self.wait(|migration| migration["ram"]["transferred"].as_u64() > Some(1 << 20)).await;
        self.call("cont", json!({})).await;
        self.completed(saved).await;
    }

    /// Saves the memory of a guest that stands still, into `file`.
    pub(crate) async fn save(&self, file: &Path) {
        let saved = self.migrate(file).await;
        self.completed(saved).await;
    }

    /// Fills the memory of a guest that waits for it, and lets it go on.
    pub(crate) async fn restore(&self, file: &Path) {
        let socket = socket(file);
        let mut saved = File::open(file).unwrap();
        self.call("migrate-incoming", json!({"uri": format!("unix:{}", socket.display())})).await;
        let mut stream = UnixStream::connect(&socket).unwrap();
        let sent = thread::spawn(move || io::copy(&mut saved, &mut stream));
        self.wait(|migration| migration["status"] == "completed").await;
        sent.join().unwrap().unwrap();
        self.call("cont", json!({})).await;
    }

    /// QEMU connects to a socket, and all that it sends goes into `file`.
    async fn migrate(&self, file: &Path) -> thread::JoinHandle<io::Result<()>> {
        let socket = socket(file);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut file = File::create_new(file).unwrap();
        let saved = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            io::copy(&mut stream, &mut file)?;
            file.sync_all()
        });
        self.call("migrate", json!({"uri": format!("unix:{}", socket.display())})).await;
        saved
    }

    async fn completed(&self, saved: thread::JoinHandle<io::Result<()>>) {
        self.wait(|migration| migration["status"] == "completed").await;
        saved.join().unwrap().unwrap();
    }

    async fn wait(&self, is_so: impl Fn(&Value) -> bool) {
        let start = std::time::Instant::now();
        loop {
            let migration = self.call("query-migrate", json!({})).await;
            if is_so(&migration) {
                return;
            }
            assert!(migration["status"] != "failed" && start.elapsed() < DEADLINE, "{migration}");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Ends QEMU in order.
    pub(crate) async fn quit(self, guest: Guest) {
        self.qmp.close().await;
        guest.vm.quit();
    }
}

fn socket(file: &Path) -> PathBuf {
    let socket = file.with_extension("socket");
    // The one that was used last.
    let _ = std::fs::remove_file(&socket);
    socket
}

/// Makes the disks what they were, while no process has them.
pub(crate) fn apply(disks: &[Disk], name: &str) {
    for disk in disks {
        qemu_img(&["snapshot", "-a", name, disk.file.as_ref().unwrap().to_str().unwrap()]);
    }
}

/// Starts the guest again, with its memory from `file`.
pub(crate) async fn revive(scratch: &Scratch, disks: &[Disk], options: &GuestOptions, file: &Path) -> Guest {
    let guest = Guest::start(scratch, disks, &GuestOptions { incoming: true, ..options.clone() });
    Hand::on(&guest).await.restore(file).await;
    guest
}
