//! The store in memory is a store.

use xlsnap_testkit::conf_store::conformance;
use xlsnap_testkit::fake::MemStore;

#[tokio::test]
async fn mem_store_conforms() {
    conformance(MemStore::default).await;
}
