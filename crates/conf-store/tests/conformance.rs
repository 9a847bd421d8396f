//! What every store must do, on both of them.

use xlsnap_conf_store::FsStore;
use xlsnap_testkit::conf_store::conformance;
use xlsnap_testkit::fake::MemStore;

#[tokio::test]
async fn the_store_on_a_file_system_conforms() {
    let scratch = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    let make = || {
        count.set(count.get() + 1);
        FsStore::new(scratch.path().join(format!("deeper/{}", count.get())))
    };
    conformance(make).await;
}

#[tokio::test]
async fn the_store_in_memory_conforms() {
    conformance(MemStore::default).await;
}
