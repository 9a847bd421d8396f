//! Keeps the record of a snapshot, finds it again and deletes it: `cargo run --example keep -- DIRECTORY`.

use std::error::Error;
use std::time::Duration;

use uuid::Uuid;
use xlsnap_conf_store::{ConfStore, FsStore, Owner, Record};
use xlsnap_types::libxl::DomainSnapshot;
use xlsnap_types::model::SnapshotName;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os().nth(1).ok_or("usage: keep DIRECTORY")?;
    let store = FsStore::new(root);
    let domain = Uuid::from_u128(0x1d8d_7c4e_0b1f_4b0e_9a39_9c5d_0f6b_0d2e);
    let owner = Owner { pid: std::process::id(), operation: "example".into(), since: 1_800_000_000 };

    let mut lock = store.lock(domain, &owner, Duration::from_secs(5)).await?;
    let snapshot = DomainSnapshot { name: Some("before".into()), ..DomainSnapshot::default() };
    lock.store(&Record { snapshot, meta: None }, false).await?;

    // Reading needs no lock.
    store.list(domain, &mut |entry| println!("{}: {}", entry.name, entry.record.is_ok())).await?;
    lock.delete(&SnapshotName::new("before")?).await?;
    println!("{} left", store.names(domain).await?.len());
    Ok(())
}
