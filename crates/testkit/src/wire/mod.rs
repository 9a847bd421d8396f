//! A QMP monitor that does what a test says, on a Unix socket or in memory.
//!
//! It serves one client at a time, as QEMU does: the next connection is accepted, by the kernel, and hears nothing
//! until the one before has ended. What happens on each connection is a [`Script`]; a [`Gate`] holds a script until
//! the test has seen what it wants, so that no test sleeps.
//!
//! ```
//! use serde_json::json;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use xlsnap_testkit::wire::{Script, connect};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let mut monitor = connect(Script::new().read().give(json!({"running": true})).close());
//! monitor.write_all(br#"{"execute": "query-status", "id": 7}"#).await.unwrap();
//! monitor.write_all(b"\n").await.unwrap();
//! let mut said = String::new();
//! monitor.read_to_string(&mut said).await.unwrap();
//! assert_eq!(said, "{\"id\":7,\"return\":{\"running\":true}}\r\n");
//! # }
//! ```

pub mod check;
mod gate;
mod script;
mod server;
mod xenstored;

pub use gate::Gate;
pub use script::{Answer, GREETING, Script};
pub use server::{WireServer, connect};
pub use xenstored::Xenstored;
