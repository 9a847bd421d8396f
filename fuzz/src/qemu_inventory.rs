//! What a QEMU that may be anything says of its disks.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use serde_json::{Map, Value};
use xlsnap_orchestrator::{Disks, Effect, ImageFile, PortError};
use xlsnap_qemu::{Description, DiskSpec, Live};
use xlsnap_qemu_img::Program;
use xlsnap_qmp_transport::{Error, EventStream, Qmp};
use xlsnap_types::model::{DiskName, ImageFormat};

/// The bytes are a JSON object: under `disks` the described disks (name, file, format, node), under the names of QMP
/// commands the answers; a command that is not there is refused. The inventory of it is an error without effect, or has
/// each disk once, the described ones in their order, and an obstacle for each that has no image.
pub fn qemu_inventory(data: &[u8]) {
    let Ok(Value::Object(answers)) = serde_json::from_slice(data) else { return };
    let specs: Vec<DiskSpec> =
        answers.get("disks").and_then(Value::as_array).into_iter().flatten().filter_map(spec).collect();
    let described: Vec<DiskName> = specs.iter().map(|spec| spec.name.clone()).collect();
    let live =
        Live::new(Arc::new(Answers(answers)), Arc::new(Program::new("false")), specs, Arc::new(Nowhere));
    // Every answer is there at once, so nothing is ever waited for.
    let inventory = live.inventory().now_or_never().expect("nothing is waited for");
    match inventory {
        Err(error) => assert_eq!(error.effect, Effect::None, "{error}"),
        Ok(inventory) => {
            let names: Vec<&DiskName> = inventory.disks.iter().map(|disk| &disk.name).collect();
            if described.is_empty() {
                assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
            } else {
                assert_eq!(names, described.iter().collect::<Vec<_>>());
            }
            for disk in &inventory.disks {
                let can = disk.internal.is_yes() || disk.external.is_yes();
                assert!(!disk.internal.is_yes() || disk.format == ImageFormat::Qcow2, "{disk:?}");
                assert!(!(can && disk.read_only), "{disk:?}");
            }
        }
    }
}

fn spec(value: &Value) -> Option<DiskSpec> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    Some(DiskSpec {
        name: DiskName::new(text("name")?).ok()?,
        file: text("file").unwrap_or_default().to_owned(),
        format: ImageFormat::from_driver(text("format").unwrap_or("qcow2")),
        read_only: false,
        removable: value.get("removable").and_then(Value::as_bool).unwrap_or(false),
        node: text("node").map(str::to_owned),
        key_file: None,
        overlays: None,
    })
}

struct Answers(Map<String, Value>);

#[async_trait]
impl Qmp for Answers {
    async fn execute_raw(&self, command: &str, _arguments: Map<String, Value>) -> Result<Value, Error> {
        let answer = self.0.get(command).cloned();
        answer.ok_or_else(|| Error::rejected(command, "CommandNotFound", "it has not been found"))
    }

    fn events(&self) -> EventStream {
        unreachable!("an inventory waits for no event")
    }

    fn version(&self) -> (u32, u32, u32) {
        (10, 0, 2)
    }
}

/// A description that is never written.
pub(crate) struct Nowhere;

#[async_trait]
impl Description for Nowhere {
    async fn set_images(&self, _: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        unreachable!("nothing is described")
    }
}
