//! What a step is carried out by, in QEMU's and qemu-img's own words.

use async_trait::async_trait;
use xlsnap_orchestrator::{Command, Commands, Does, MemorySave, PortError, Run, SnapshotAction, Stage, Step};
use xlsnap_qmp_transport::Command as _;
use xlsnap_qmp_transport::commands::BlockdevSetActive;
use xlsnap_types::model::{DiskName, MemoryWay};

use super::Machine;
use super::state::On;
use crate::error::of_memory_file;
use crate::images;
use crate::memory::{abandon, inside, save, settings};

/// The first QEMU with `blockdev-set-active`, for one that is started yet.
const HAS_SET_ACTIVE: u32 = 10;

/// The domain at some stage of a plan.
#[derive(Clone, Copy, PartialEq, Eq)]
struct At {
    /// A process has the disks.
    on: bool,
    /// It has let go of them.
    released: bool,
    /// Its guest runs.
    runs: bool,
    /// Its process has the disks, or has let go of them, as it is found now.
    as_found: bool,
    /// It is the process that there is now, if there is one.
    is_one_process: bool,
}

impl At {
    /// Whether the monitor answers for the disks.
    fn live(self) -> bool {
        self.on && !self.released
    }

    /// After a step.
    fn after(self, does: &Does) -> Self {
        match does {
            Does::EndProcess(_) => {
                Self { on: false, released: false, runs: false, as_found: false, is_one_process: false }
            }
            Does::Start { run } | Does::Restore { run, .. } => {
                Self { on: true, released: false, runs: run.runs(), as_found: false, is_one_process: false }
            }
            Does::Load { run, .. } => Self { runs: run.runs(), ..self },
            Does::Release => Self { released: true, as_found: false, ..self },
            Does::TakeBack => Self { released: false, as_found: false, ..self },
            Does::StopGuest { .. } | Does::BeginMemory(_) => Self { runs: false, ..self },
            // The guest stands until the description says which layer is right.
            Does::Merge(merge) if merge.active && self.live() => Self { runs: false, ..self },
            Does::ResumeGuest => Self { runs: true, ..self },
            Does::RunOn(save) | Does::AbandonMemory(save) => Self { runs: save.was.runs(), ..self },
            _ => self,
        }
    }
}

fn qmp(command: &str) -> Command {
    Command::new(format!("QMP {command}"))
}

fn qmp_on(command: &str, files: Vec<String>) -> Command {
    Command::on_all(format!("QMP {command}"), files)
}

#[async_trait]
impl Commands for Machine {
    async fn commands(&self, stage: &Stage, before: &[Stage]) -> Result<Vec<Command>, PortError> {
        let on = self.living()?;
        let runs = match &on {
            Some(on) => on.live.runs().await?,
            None => false,
        };
        let now = At { on: on.is_some(), released: false, runs, as_found: true, is_one_process: true };
        let at = before.iter().flat_map(Stage::steps).fold(now, |at, step| at.after(&step.does));
        if let Stage::AtOnce(steps) = stage {
            return Ok(self.at_once(steps, at));
        }
        let mut commands = Vec::new();
        // What goes together goes one after the other.
        let mut before = before.to_vec();
        for step in stage.commanded() {
            let by_live = match &on {
                Some(on) if at.live() && at.is_one_process => {
                    on.live.layer_commands(&step.does, at.runs, &before).await?
                }
                _ => None,
            };
            before.push(Stage::One(step.clone()));
            commands.extend(match by_live {
                Some(words) => words,
                None => self.of(&step.does, at, on.as_deref()).await?,
            });
        }
        Ok(commands)
    }
}

impl Machine {
    fn image_of(&self, disk: &DiskName) -> Option<String> {
        let specs = self.specs();
        specs.into_iter().find(|spec| spec.name == *disk).map(|spec| spec.file)
    }

    fn images_of<'a>(&self, disks: impl IntoIterator<Item = &'a DiskName>) -> Vec<String> {
        disks.into_iter().filter_map(|disk| self.image_of(disk)).collect()
    }

    fn at_once(&self, steps: &[Step], at: At) -> Vec<Command> {
        if !at.live() {
            return images::commands::taken(steps, |disk| self.image_of(disk));
        }
        let mut commands = Vec::new();
        let mut files = Vec::new();
        let mut actions = Vec::new();
        for step in steps {
            match &step.does {
                Does::Take(SnapshotAction::External(overlay)) => {
                    commands.push(Command::on("QMP blockdev-add", &overlay.file));
                    actions.push("blockdev-snapshot");
                    files.push(overlay.file.clone());
                }
                Does::Take(SnapshotAction::Internal { disk, .. }) => {
                    actions.push("blockdev-snapshot-internal-sync");
                    files.extend(self.image_of(disk));
                }
                Does::MarkUndo(point) => {
                    actions.push("blockdev-snapshot-internal-sync");
                    files.push(point.image.clone());
                }
                _ => {}
            }
        }
        actions.dedup();
        commands.push(qmp_on(&format!("transaction: {}", actions.join(", ")), files));
        commands
    }

    async fn of(&self, does: &Does, at: At, on: Option<&On>) -> Result<Vec<Command>, PortError> {
        Ok(match does {
            Does::Freeze { .. } => vec![Command::new("guest agent guest-fsfreeze-freeze")],
            Does::Thaw { .. } => vec![Command::new("guest agent guest-fsfreeze-thaw")],
            Does::StopGuest { .. } => at.runs.then(|| qmp("stop")).into_iter().collect(),
            Does::ResumeGuest => (!at.runs).then(|| qmp("cont")).into_iter().collect(),
            Does::ResetGuest => vec![qmp("system_reset")],
            Does::BeginMemory(save) => begin_memory(save, on).await?,
            Does::RunOn(save) => run_on(save),
            Does::FinishMemory(save) => {
                let mut commands = set_up(save, on).await?;
                commands.push(Command::on("xlsnap: fsync, rename", save.file().unwrap_or_default()));
                commands
            }
            Does::AbandonMemory(save) => self.abandon_words(save, on).await?,
            Does::TakeInside { actions, .. } => {
                let files = self.images_of(actions.iter().map(SnapshotAction::disk));
                vec![qmp_on("snapshot-save", files), qmp("job-dismiss")]
            }
            Does::Load { inside, run, copies, .. } => {
                let copy = |disk: &DiskName| copies.iter().find(|copy| copy.disk == *disk);
                let image =
                    |disk| copy(disk).map_or_else(|| self.image_of(disk), |copy| Some(copy.file.clone()));
                let load = qmp_on("snapshot-load", inside.disks.iter().filter_map(image).collect());
                vec![load, qmp("job-dismiss"), qmp(if run.runs() { "cont" } else { "stop" })]
            }
            Does::DeleteInside(target) if at.live() => {
                vec![Command::on("QMP blockdev-snapshot-delete-internal-sync", &target.image)]
            }
            Does::DropUndo(point) if at.live() => {
                vec![Command::on("QMP blockdev-snapshot-delete-internal-sync", &point.image)]
            }
            Does::DropBitmap { image, .. } if at.live() => {
                vec![Command::on("QMP block-dirty-bitmap-remove", image)]
            }
            Does::Release => match on {
                // What another program began.
                Some(on) if at.as_found && self.keeps_let_go(on).await? => Vec::new(),
                on => vec![let_go(on).await?],
            },
            Does::TakeBack => {
                // Twice, so that nothing that QEMU knew of the images before is believed.
                let take = if has_set_active(on).await? {
                    qmp(BlockdevSetActive::NAME)
                } else {
                    // Each node is exported, which activates it, and the export taken away again.
                    qmp("block-export-add, each node")
                };
                vec![take.clone(), let_go(on).await?, take]
            }
            Does::EndProcess(_) => at.on.then(|| qmp("quit")).into_iter().collect(),
            Does::Start { run } => vec![self.start_words(if run.runs() { "" } else { " -S" })?],
            Does::Restore { run, .. } => {
                let mut commands = vec![self.start_words(" -S -incoming defer")?, qmp("migrate-incoming")];
                if run.runs() {
                    commands.push(qmp("cont"));
                } else if self.would_have_set_active().await? {
                    commands.push(qmp(BlockdevSetActive::NAME));
                }
                commands
            }
            other => images::commands::of(other),
        })
    }

    /// What ends a save that another program began. The guest's memory is seen to first, so QEMU is as it is now.
    async fn abandon_words(&self, save: &MemorySave, on: Option<&On>) -> Result<Vec<Command>, PortError> {
        let mut commands: Vec<Command> = Vec::new();
        if save.file().is_none() {
            let Some(on) = on else { return Ok(commands) };
            if inside::is_there(&on.client, &inside::job_id(&save.token)).await? {
                commands.push(qmp("job-dismiss"));
            }
            if save.was.runs() && abandon::is_held_up(on.qmp()).await? {
                commands.push(qmp("cont"));
            }
            return Ok(commands);
        }
        let file = save::file_of(save)?;
        if let Some(on) = on {
            let words = abandon::commands(on.qemu(), &self.sockets, &file, save).await?;
            commands.extend(words.into_iter().map(qmp));
        }
        let part = file.staged_path(&save.token).map_err(of_memory_file)?;
        let left = if file.is_staged(&save.token).map_err(of_memory_file)? {
            Some(part.as_path())
        } else {
            // Finished, unless it is another's.
            file.size().await.map_err(of_memory_file)?.map(|_| file.path())
        };
        commands.extend(left.map(|left| Command::on("xlsnap: unlink", left.to_string_lossy())));
        Ok(commands)
    }

    /// The start of the domain's process, with what is added to its command line for it.
    fn start_words(&self, options: &str) -> Result<Command, PortError> {
        let program = self.process().map(|process| process.command()).transpose()?;
        Ok(Command::new(format!("{}{options}", program.unwrap_or_default())))
    }

    /// Whether the QEMU that a start would start has the command that takes disks; one that does not tell its version is new.
    async fn would_have_set_active(&self) -> Result<bool, PortError> {
        let Some(process) = self.process() else { return Ok(true) };
        let version = process.program()?.version().await;
        let major = version.as_deref().and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        Ok(major.is_none_or(|major| major >= HAS_SET_ACTIVE))
    }
}

/// Only a process that lives lets go of its disks.
async fn has_set_active(on: Option<&On>) -> Result<bool, PortError> {
    match on {
        Some(on) => Ok(on.features().await?.has_command(BlockdevSetActive::NAME)),
        None => Ok(true),
    }
}

async fn let_go(on: Option<&On>) -> Result<Command, PortError> {
    let by = if has_set_active(on).await? { BlockdevSetActive::NAME } else { "xen-save-devices-state" };
    Ok(qmp(by))
}

/// How QEMU's migration is set up for a save, and put back after it: the same commands, as far as something differs.
async fn set_up(save: &MemorySave, on: Option<&On>) -> Result<Vec<Command>, PortError> {
    let Some(on) = on else { return Ok(Vec::new()) };
    Ok(settings::commands(on.qmp(), save.way()).await?.into_iter().map(qmp).collect())
}

async fn begin_memory(save: &MemorySave, on: Option<&On>) -> Result<Vec<Command>, PortError> {
    let mut commands = set_up(save, on).await?;
    if save.way() == MemoryWay::Switchover {
        // At its end QEMU stops the guest by itself.
        commands.push(Command::on("QMP migrate", save.file().unwrap_or_default()));
    } else if save.was.runs() {
        commands.push(qmp("stop"));
    }
    Ok(commands)
}

fn run_on(save: &MemorySave) -> Vec<Command> {
    let migrate = match save.way() {
        MemoryWay::Switchover => qmp("migrate-continue"),
        _ => Command::on("QMP migrate", save.file().unwrap_or_default()),
    };
    let cont = (save.was == Run::Runs).then(|| qmp("cont"));
    [migrate].into_iter().chain(cont).collect()
}
