use serde::Serialize;
use serde::de::DeserializeOwned;
use xlsnap_types::model::{DomainRecord, Meta};

/// `snapshotmeta-<name>.json` and `domain.json`: what can be read is written so that it reads the same.
pub fn snapshot_meta(data: &[u8]) {
    reads_back::<Meta>(data);
    reads_back::<DomainRecord>(data);
}

fn reads_back<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_vec(&value).expect("plain data has a JSON form");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, value);
}
