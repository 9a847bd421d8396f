//! No room for the file.

use std::path::Path;
use std::process::Command;

use xlsnap_orchestrator::{Disks, Effect, Memory, MemorySave, PortErrorKind};
use xlsnap_types::model::Compression;

use crate::rig::{Rig, Unwatched, to_file};
use crate::save::{files, internal};

/// A file system of 4 MiB; unmounted with its guard.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    /// `None` where this process may not mount.
    fn mount(at: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_the_guest_goes_on() {
    let rig = Rig::new();
    let directory = rig.scratch.path("small");
    std::fs::create_dir(&directory).unwrap();
    let Some(_small) = Small::mount(&directory) else {
        eprintln!("not run: only root may mount a small file system");
        return;
    };
    let machine = rig.started().await;
    let file = directory.join("m.save").to_str().unwrap().to_owned();
    let survey = machine.survey(Some(&file)).await.unwrap();
    assert!(survey.free.unwrap() < survey.needed, "{survey:?}");
    for (at, way) in files().into_iter().enumerate() {
        for compression in [Compression::None, Compression::Zstd] {
            let save = MemorySave { to: to_file(&file, way, compression), ..rig.save(way) };
            let tag = format!("s{at}{compression:?}");
            // Once the guest was let run on, it may have written.
            let mut effect = Effect::None;
            let result = async {
                let stopped = machine.begin(&save, &Unwatched).await?;
                machine.snapshot(&[internal("vda", &tag), internal("vdb", &tag)]).await?;
                let (_, unfinished) = stopped.run_on().await.inspect_err(|_| effect = Effect::Unknown)?;
                unfinished.finish().await
            };
            let error = result.await.unwrap_err();
            assert_eq!((error.kind, error.effect), (PortErrorKind::NoSpace, effect), "{way:?}: {error}");
            assert_eq!(rig.status(), "running", "{way:?}");
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "{way:?}");
            machine.abandon(&save).await.unwrap();
            assert_eq!(rig.left(), Vec::<String>::new());
        }
    }
}
