//! Asks QEMU for its disks.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use futures_util::future::{try_join, try_join3};
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind, Undescribed};
use xlsnap_qemu_img::backing_file;
use xlsnap_qmp_transport::commands::{
    BlockGraph, BlockJobInfo, ObjectProperty, QomGetString, QomList, QueryBlock, QueryBlockExports,
    QueryBlockGraph, QueryBlockJobs, QueryMemorySizeSummary, QueryNamedBlockNodes, QueryStatus, RunState,
};
use xlsnap_qmp_transport::{Command, Kind, QmpExt};
use xlsnap_types::model::{DiskName, Hypervisor};

use crate::inventory::attached;
use crate::inventory::identity::Files;
use crate::inventory::limits::Limited;
use crate::inventory::matching::{self, Found};
use crate::{DiskSpec, error, images};

use super::{Live, merge};
use crate::process;

/// The most devices that are told of.
const MAX_DEVICES: usize = 4096;

/// What QEMU has.
#[derive(Debug)]
pub(crate) struct Looked {
    /// The domain's disks.
    pub(crate) disks: Vec<Found>,
    /// What the guest writes to besides.
    pub(crate) undescribed: Vec<Undescribed>,
}

impl Live {
    /// The domain's disks. A machine is asked three things at once, the first of them only the first time; then for the
    /// graph while block jobs run. A storage daemon, which has no drives, is asked three more.
    pub(super) async fn look(&self) -> Result<Looked, PortError> {
        let (machine, devices, jobs) =
            try_join3(self.machine(), self.ask(QueryBlock), self.ask(QueryBlockJobs)).await?;
        within_limits(&devices[..])?;
        within_limits(&jobs[..])?;
        let attached = if machine.is_some() {
            let graph = if jobs.is_empty() { None } else { self.graph().await? };
            let mut nodes = devices.iter().filter_map(|device| device.inserted.as_ref());
            let active =
                if nodes.any(|node| node.active.is_none()) { self.may_be_active().await? } else { true };
            attached::of_machine(devices, active, &jobs, graph.as_ref())
        } else {
            let nodes = self.ask(QueryNamedBlockNodes::FLAT);
            let exports = self.ask(QueryBlockExports);
            let (nodes, exports, graph) = try_join3(nodes, exports, self.graph()).await?;
            within_limits(&nodes[..])?;
            within_limits(&exports[..])?;
            attached::of_daemon(nodes, &exports, &jobs, graph.as_ref())
        };
        let names = attached.iter().filter_map(|attached| Some(attached.medium.as_ref()?.file.as_str()));
        let mut files = Files::new(self.directory.as_deref()).with_process(self.process, names);
        let specs = self.specs();
        if specs.is_empty() {
            return Ok(Looked { disks: matching::undescribed(attached, &files), undescribed: Vec::new() });
        }
        let media: HashSet<String> = attached
            .iter()
            .filter_map(|attached| attached.medium.as_ref().map(|medium| medium.file.clone()))
            .collect();
        let below = self.below_merged(&specs, &jobs, |file| media.contains(file)).await;
        let (disks, mut undescribed) = matching::described(&specs, attached, &below, &mut files)?;
        if machine.is_none() {
            // A storage daemon has no guest, and may serve several.
            undescribed.clear();
        }
        Ok(Looked { disks, undescribed })
    }

    /// What is right below each described image that QEMU does not have, while there are merges that are done and not dismissed: the
    /// description may still name a layer whose data went down.
    async fn below_merged(
        &self,
        specs: &[DiskSpec],
        jobs: &[BlockJobInfo],
        is_attached: impl Fn(&str) -> bool,
    ) -> HashMap<DiskName, String> {
        let is_done =
            |job: &BlockJobInfo| merge::is_done(&job.device, &job.job_type, job.status, job.error.as_deref());
        let mut below = HashMap::new();
        if !jobs.iter().any(is_done) {
            return below;
        }
        // The guest may stand still for this: no program is started for what QEMU has.
        for spec in specs.iter().filter(|spec| !spec.file.is_empty() && !is_attached(&spec.file)) {
            // One that is gone is not merged any more.
            let Ok(info) = self.qemu_img.info(&images::image(&spec.file, &spec.format)).await else {
                continue;
            };
            let named = info.backing.and_then(|backing| backing_file(Path::new(&spec.file), &backing.name));
            if let Some(file) = named.and_then(|file| file.to_str().map(str::to_owned)) {
                below.insert(spec.name.clone(), file);
            }
        }
        below
    }

    /// The machine's type; `None` of a storage daemon.
    async fn machine(&self) -> Result<Option<&str>, PortError> {
        let ask = async || {
            let question = QomGetString { path: "/machine".into(), property: "type".into() };
            let name = self.ask_if_known(question).await?;
            Ok(name.map(|name| name.strip_suffix("-machine").unwrap_or(&name).to_owned()))
        };
        self.machine.get_or_try_init(ask).await.map(Option::as_deref)
    }

    /// What runs the guest. It is asked once: the adapter lives as long as an operation.
    pub(crate) async fn hypervisor(&self) -> Result<Hypervisor, PortError> {
        let ask = async {
            let (machine, (memory_bytes, devices)) = try_join(self.machine(), self.machine_facts()).await?;
            let (major, minor, micro) = self.qmp.version();
            let qemu = Some(format!("{major}.{minor}.{micro}"));
            Ok(Hypervisor { memory_bytes, devices, qemu, machine: machine.map(str::to_owned) })
        };
        self.hypervisor.get_or_try_init(|| ask).await.cloned()
    }

    /// The guest's memory, in bytes, and the devices that have an id, in the words of
    /// [`StartFacts`](crate::process::StartFacts); neither of a storage daemon.
    async fn machine_facts(&self) -> Result<(Option<u64>, Vec<String>), PortError> {
        let peripherals = QomList { path: "/machine/peripheral".into() };
        let (size, devices) =
            try_join(self.ask_if_known(QueryMemorySizeSummary), self.ask_if_known(peripherals)).await?;
        let memory = size.map(|size| size.base_memory.saturating_add(size.plugged_memory));
        let of = |property: ObjectProperty| {
            let kind = property.property_type.strip_prefix("child<")?.strip_suffix('>')?;
            process::device(&property.name, kind)
        };
        let mut devices: Vec<String> =
            devices.into_iter().flatten().take(MAX_DEVICES).filter_map(of).collect();
        devices.sort_unstable();
        Ok((memory, devices))
    }

    /// Whether images can be active, for a QEMU that does not say of each (7.2): after a migration, while one comes in, and
    /// after the state was saved for Xen they are not.
    async fn may_be_active(&self) -> Result<bool, PortError> {
        let state = self.ask(QueryStatus).await?.status;
        let inactive =
            [RunState::Postmigrate, RunState::FinishMigrate, RunState::Inmigrate, RunState::SaveVm];
        Ok(!inactive.contains(&state))
    }

    /// Which node is built on which; `None` where QEMU does not tell.
    async fn graph(&self) -> Result<Option<BlockGraph>, PortError> {
        let graph = self.ask_if_known(QueryBlockGraph).await?;
        graph.as_ref().map_or(Ok(()), within_limits)?;
        Ok(graph)
    }

    pub(super) async fn ask<C: Command>(&self, command: C) -> Result<C::Ok, PortError> {
        self.qmp.execute(command).await.map_err(unanswered)
    }

    /// The answer, or `None` when QEMU refuses the question.
    pub(super) async fn ask_if_known<C: Command>(&self, command: C) -> Result<Option<C::Ok>, PortError> {
        match self.qmp.execute(command).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.kind() == Kind::Rejected => Ok(None),
            Err(error) => Err(unanswered(error)),
        }
    }
}

fn unanswered(error: xlsnap_qmp_transport::Error) -> PortError {
    error::of_query("QEMU could not be asked for its disks".into(), error)
}

pub(super) fn within_limits<T: Limited + ?Sized>(answer: &T) -> Result<(), PortError> {
    match answer.excess() {
        None => Ok(()),
        Some(what) => {
            let message = format!("QEMU's answer is not believed: too many {what}");
            Err(PortError::new(PortErrorKind::Unreachable, Effect::None, message))
        }
    }
}
