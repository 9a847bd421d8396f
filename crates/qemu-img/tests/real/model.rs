//! Random sequences of operations against a model of what an image holds.

use proptest::prelude::*;
use xlsnap_qemu_img::{Image, Kind, QemuImg, SnapshotRef};

use crate::scratch::{Scratch, holds, program, write};

#[derive(Debug, Clone)]
enum Step {
    Write(u8),
    Create(usize),
    Apply(usize, bool),
    Delete(usize, bool),
}

/// Few, so that they collide; digits, since ids are digits.
const NAMES: [&str; 5] = ["1", "2", "a", "-b", "größe, c"];

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        2 => (1..=255_u8).prop_map(Step::Write),
        3 => name.clone().prop_map(Step::Create),
        2 => (name.clone(), any::<bool>()).prop_map(|(n, id)| Step::Apply(n, id)),
        2 => (name, any::<bool>()).prop_map(|(n, id)| Step::Delete(n, id)),
    ]
}

/// What the image should hold.
#[derive(Debug, Default)]
struct Model {
    byte: u8,
    /// Id, name, content.
    snapshots: Vec<(u64, &'static str, u8)>,
}

impl Model {
    fn find(&self, name: &str) -> Option<usize> {
        self.snapshots.iter().position(|s| s.1 == name)
    }

    fn meant(&self, name: &str, with_id: bool) -> SnapshotRef {
        let id = with_id.then(|| self.find(name).map_or(77, |at| self.snapshots[at].0).to_string());
        SnapshotRef { name: name.into(), id }
    }

    async fn take(&mut self, disk: &Image, step: &Step) -> Result<(), TestCaseError> {
        let (expected, got) = match *step {
            Step::Write(byte) => {
                write(disk, byte);
                self.byte = byte;
                (None, Ok(()))
            }
            Step::Create(name) => {
                let name = NAMES[name];
                let taken = self.snapshots.iter().any(|s| s.1 == name || s.0.to_string() == name);
                if !taken {
                    // QEMU takes the highest id and adds one.
                    let id = self.snapshots.iter().map(|s| s.0).max().unwrap_or(0) + 1;
                    self.snapshots.push((id, name, self.byte));
                }
                (taken.then_some(Kind::Ambiguous), program().snapshot_create(disk, name).await)
            }
            Step::Apply(name, with_id) => {
                let meant = self.meant(NAMES[name], with_id);
                let found = self.find(NAMES[name]);
                self.byte = found.map_or(self.byte, |at| self.snapshots[at].2);
                (found.is_none().then_some(Kind::NotFound), program().snapshot_apply(disk, &meant).await)
            }
            Step::Delete(name, with_id) => {
                let meant = self.meant(NAMES[name], with_id);
                let found = self.find(NAMES[name]).map(|at| self.snapshots.remove(at));
                (found.is_none().then_some(Kind::NotFound), program().snapshot_delete(disk, &meant).await)
            }
        };
        prop_assert_eq!(got.err().map(|e| e.kind()), expected, "{:?}", step);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, failure_persistence: None, ..Default::default() })]

    #[test]
    fn an_image_does_as_the_model(steps in prop::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let scratch = Scratch::new();
            let disk = scratch.qcow2("disk");
            let mut model = Model::default();
            for step in &steps {
                model.take(&disk, step).await?;
                let info = program().info(&disk).await.unwrap();
                let found: Vec<_> = info.snapshots.iter().map(|s| (s.id.clone(), s.name.as_str())).collect();
                let expected: Vec<_> = model.snapshots.iter().map(|s| (s.0.to_string(), s.1)).collect();
                prop_assert_eq!(found, expected);
                prop_assert!(holds(&disk, model.byte));
            }
            prop_assert_eq!(program().check(&disk, None).await.unwrap(), Default::default());
            Ok(())
        })?;
    }
}
