//! What a step is carried out by, in the words of xl, QEMU's monitor and qemu-img.

use async_trait::async_trait;
use xlsnap_memory_file::MemoryFile;
use xlsnap_orchestrator::{Command, Commands, Does, MemorySave, PortError, Run, SnapshotAction, Stage, Step};
use xlsnap_qemu::{DiskSpec, Images, of_memory_file};
use xlsnap_types::model::DiskName;

use crate::vbd;

use super::XlDomain;
use super::look::{spec, spec_kept};
use super::pause::stands_still;

/// What the domain is at some stage of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// There is none: its disks are files.
    Off,
    /// It is there, and its guest runs or waits.
    On(Run),
}

impl At {
    fn is_on(self) -> bool {
        self != Self::Off
    }

    /// After a step.
    fn after(self, does: &Does) -> Self {
        match does {
            Does::EndProcess(_) => Self::Off,
            Does::Start { run } | Does::Restore { run, .. } => Self::On(*run),
            _ if !self.is_on() => self,
            Does::StopGuest { .. } | Does::BeginMemory(_) => Self::On(Run::Waits),
            // What takes the writes changes under a guest that stands still.
            Does::Merge(merge) if merge.active => Self::On(Run::Waits),
            Does::ResumeGuest => Self::On(Run::Runs),
            Does::RunOn(save) => Self::On(save.was),
            Does::AbandonMemory(save) if save.was.runs() => Self::On(Run::Runs),
            _ => self,
        }
    }
}

/// What the domain is before the first stage.
struct Now {
    at: At,
    /// Whether QEMU has the disks of a domain that is there: it has not ended before the domain.
    serves: bool,
    specs: Vec<DiskSpec>,
}

#[async_trait]
impl Commands for XlDomain {
    async fn commands(&self, stage: &Stage, before: &[Stage]) -> Result<Vec<Command>, PortError> {
        let Now { at, serves, specs } = self.now().await?;
        let ends = |step: &Step| matches!(step.does, Does::EndProcess(_));
        // A QEMU that ended before its domain comes back with the next domain.
        let serves = serves || before.iter().flat_map(Stage::steps).any(ends);
        let at = before.iter().flat_map(Stage::steps).fold(at, |at, step| at.after(&step.does));
        let live = serves && at.is_on();
        if let Stage::AtOnce(steps) = stage
            && live
        {
            return Ok(vec![transaction(steps, &specs)]);
        }
        let images = Images::new(
            specs,
            self.context.qemu_img.clone(),
            std::sync::Arc::new(super::domain::ToolstacksOwn),
        );
        let mut commands = Vec::new();
        match stage {
            Stage::AtOnce(_) => commands = images.commands(stage, &[]).await?,
            Stage::One(_) | Stage::Parallel(_) | Stage::OneWrite(_) => {
                // What it has is its own until the domain is another one.
                let as_found = !before.iter().flat_map(Stage::steps).any(ends);
                let disks = if live && as_found { self.served().await? } else { None };
                // What goes together goes one after the other.
                let mut before = before.to_vec();
                for step in stage.commanded() {
                    let sends = self.sends(&step.does).await?;
                    let of_layers = match &disks {
                        Some(disks) => {
                            let runs = at == At::On(Run::Runs);
                            let words = disks.live()?.layer_commands(&step.does, runs, &before).await?;
                            words.map(|words| words.into_iter().map(by_xl).collect())
                        }
                        None => None,
                    };
                    before.push(Stage::One(step.clone()));
                    match of_layers
                        .map_or_else(|| self.of(&step.does, at, (live, sends)), |words| Ok(Some(words)))?
                    {
                        Some(own) => commands.extend(own),
                        None => commands.extend(images.commands(&Stage::One(step.clone()), &[]).await?),
                    }
                }
                if let Some(disks) = &disks {
                    disks.leave().await;
                }
            }
        }
        Ok(commands)
    }
}

impl XlDomain {
    async fn now(&self) -> Result<Now, PortError> {
        match self.running_with_state().await? {
            Some((domain, state)) => {
                let vbds = vbd::list(&*self.context.store, domain.domid).await?;
                let run = Run::if_it(!stands_still(state));
                let serves = !self.monitor(domain.domid).is_abandoned().await;
                Ok(Now { at: At::On(run), serves, specs: vbds.iter().map(|vbd| spec(vbd, None)).collect() })
            }
            None => {
                let kept = self.kept().unwrap_or_default();
                Ok(Now { at: At::Off, serves: true, specs: kept.disks.iter().map(spec_kept).collect() })
            }
        }
    }

    /// Whether it is a step of a save that goes on while the guest runs.
    async fn sends(&self, does: &Does) -> Result<bool, PortError> {
        let (Does::BeginMemory(save) | Does::RunOn(save)) = does else { return Ok(false) };
        match self.running_with_state().await? {
            Some((domain, _)) => self.saves_live(&domain, save).await,
            None => Ok(false),
        }
    }

    /// The commands of one step; `None` where it is carried out as for any domain whose images no process has.
    fn of(
        &self,
        does: &Does,
        at: At,
        (live, sends): (bool, bool),
    ) -> Result<Option<Vec<Command>>, PortError> {
        let xl = |words: &str| Command::new(format!("xl {words}"));
        let unpause = |run: Run| run.runs().then(|| xl("unpause"));
        let one = |command: &str, image: &str| vec![Command::on(command, image)];
        Ok(Some(match does {
            Does::StopGuest { .. } if at == At::On(Run::Runs) => vec![xl("pause")],
            Does::ResumeGuest if at == At::On(Run::Waits) => vec![xl("unpause")],
            Does::StopGuest { .. } | Does::ResumeGuest => Vec::new(),
            Does::BeginMemory(save) if sends => one("xl migrate -s ''", save.file().unwrap_or_default()),
            Does::RunOn(_) if sends => vec![Command::new("xlsnap: leave xl migrate without an answer")],
            Does::BeginMemory(save) => one("xl save -p", save.file().unwrap_or_default()),
            // Of a guest that was paused before, the pause that `xl save -p` added.
            Does::RunOn(_) => vec![xl("unpause")],
            Does::FinishMemory(save) => one("xlsnap: fsync, rename", save.file().unwrap_or_default()),
            Does::AbandonMemory(save) => self.of_abandoning(save, at)?,
            Does::EndProcess(_) => at.is_on().then(|| xl("destroy")).into_iter().collect(),
            Does::Start { run } => {
                let file = self.context.places.records.join(".xlsnap-new-<id>.cfg");
                let file = file.to_string_lossy();
                let mut commands = one("xlsnap: write", &file);
                commands.push(xl("create -p"));
                commands.extend(one("xlsnap: unlink", &file));
                commands.extend(unpause(*run));
                commands
            }
            Does::Restore { run, .. } => [xl("restore -p")].into_iter().chain(unpause(*run)).collect(),
            Does::DeleteInside(target) if live => {
                one("QMP blockdev-snapshot-delete-internal-sync", &target.image)
            }
            Does::DropUndo(point) if live => one("QMP blockdev-snapshot-delete-internal-sync", &point.image),
            Does::DropBitmap { image, .. } if live => one("QMP block-dirty-bitmap-remove", image),
            _ => return Ok(None),
        }))
    }

    fn of_abandoning(&self, save: &MemorySave, at: At) -> Result<Vec<Command>, PortError> {
        let stands = save.was.runs() && at == At::On(Run::Waits);
        let mut commands: Vec<Command> = stands.then(|| Command::new("xl unpause")).into_iter().collect();
        if let Some(name) = save.file() {
            let file = MemoryFile::new(name).map_err(of_memory_file)?;
            let part = file.staged_path(&save.token).map_err(of_memory_file)?;
            if [part.as_path(), file.path()].iter().any(|path| path.symlink_metadata().is_ok()) {
                commands.push(Command::on("xlsnap: unlink", name));
            }
        }
        Ok(commands)
    }
}

/// QEMU does not stop the guest of a domain of Xen's.
fn by_xl(command: Command) -> Command {
    if command.command == "QMP stop" { Command::new("xl pause") } else { command }
}

/// The snapshots of a stage while QEMU has the disks.
fn transaction(steps: &[Step], specs: &[DiskSpec]) -> Command {
    let image = |disk: &DiskName| specs.iter().find(|spec| spec.name == *disk).map(|spec| spec.file.clone());
    let files = steps.iter().filter_map(|step| match &step.does {
        Does::Take(SnapshotAction::Internal { disk, .. }) => image(disk),
        Does::MarkUndo(point) => Some(point.image.clone()),
        _ => None,
    });
    Command::on_all("QMP transaction: blockdev-snapshot-internal-sync", files)
}

#[cfg(test)]
mod tests {
    use xlsnap_orchestrator::SaveTo;
    use xlsnap_types::model::{AbsoluteFile, Compression, MemoryMeta, MemoryWay, SavedIn};

    use super::*;

    #[test]
    fn what_a_domain_is_follows_from_the_steps_before() {
        use Run::{Runs, Waits};
        let save = |was| MemorySave {
            to: SaveTo::File {
                file: AbsoluteFile::new("/srv/s.save").unwrap(),
                way: MemoryWay::Toolstack,
                compression: Compression::None,
            },
            was,
            token: "t".into(),
        };
        let file = SavedIn::File {
            file: "/srv/s.save".into(),
            way: MemoryWay::Toolstack,
            checksum: None,
            compression: Compression::None,
        };
        let memory = MemoryMeta { place: file, bytes: 1 };
        let ended = || Does::EndProcess(xlsnap_orchestrator::Ended { was: None, memory: None });
        for (before, does, after) in [
            (At::On(Runs), Does::StopGuest { was: Runs }, At::On(Waits)),
            (At::On(Waits), Does::ResumeGuest, At::On(Runs)),
            (At::Off, Does::ResumeGuest, At::Off),
            (At::On(Runs), Does::BeginMemory(save(Runs)), At::On(Waits)),
            (At::On(Waits), Does::RunOn(save(Runs)), At::On(Runs)),
            (At::On(Waits), Does::RunOn(save(Waits)), At::On(Waits)),
            (At::On(Waits), Does::AbandonMemory(save(Runs)), At::On(Runs)),
            (At::Off, Does::AbandonMemory(save(Runs)), At::Off),
            (At::On(Runs), ended(), At::Off),
            (At::Off, Does::Start { run: Waits }, At::On(Waits)),
            (At::Off, Does::Restore { memory, run: Runs }, At::On(Runs)),
            (At::On(Runs), Does::Commit, At::On(Runs)),
        ] {
            assert_eq!(before.after(&does), after, "{before:?} {does:?}");
        }
    }
}
