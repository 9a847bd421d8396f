//! A domain on which operations are planned, run and compared.

use std::time::Duration;

use uuid::Uuid;
use xlsnap_orchestrator::{
    Command, Does, DomainRef, Error, Outcome, Pause, Port, Ports, Power, Run, Session, Stage, create, delete,
    flatten, plan_adopt, plan_create, plan_delete, plan_delete_orphan, plan_flatten, plan_recover,
    plan_revert, planned_stages, recover, revert,
};
use xlsnap_qemu::Machine;
use xlsnap_testkit::fake::{Faults, MemStore};
use xlsnap_types::model::MemoryWay;

use super::operation::Op;
use super::recorder::{RENAME, Recorder};
use super::tap::Tap;
use crate::behaviour::WallClock;
use crate::rig::{Rig, ports_of, told};

/// The domain before an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Running,
    Paused,
    Off,
}

pub(super) struct Backend {
    pub(super) rig: Rig,
    pub(super) machine: Machine,
    store: MemStore,
    clock: WallClock,
    recorder: Recorder,
    before: Before,
}

/// What a dry run says of a stage.
struct Declared {
    commands: Vec<Command>,
    about: Vec<String>,
}

impl Backend {
    /// A domain with the snapshots `a` of its disks, `b` with its memory in a file, and `c` with its memory inside.
    pub(super) async fn new(before: Before) -> Self {
        let tap = Tap::open();
        let rig = Rig::new();
        let machine = rig.started().await;
        let faults = Faults::default();
        let recorder = Recorder::new(tap, faults.clone(), rig.scratch.path("saves"), rig.scratch.path(""));
        let backend = Self {
            rig,
            machine,
            store: MemStore::with_faults(faults).that_waits(),
            clock: WallClock::now(),
            recorder,
            before,
        };
        for op in [Op::create("a"), Op::memory("b", MemoryWay::Stopped), Op::memory("c", MemoryWay::Internal)]
        {
            backend.run(&op, Uuid::new_v4().as_u128()).await.unwrap();
        }
        backend
    }

    fn ports(&self) -> Ports<'_> {
        ports_of(&self.machine, &self.store, &self.clock, &self.recorder)
    }

    fn domain(&self) -> DomainRef {
        let lock_wait = Duration::from_secs(1);
        DomainRef { uuid: Uuid::from_u128(5), name: "guest".into(), pid: std::process::id(), lock_wait }
    }

    /// Brings the domain to what it is to be before an operation.
    pub(super) async fn settle(&self) {
        if self.before == Before::Off {
            return self.machine.end().await.unwrap();
        }
        if self.rig.pid().is_none() {
            self.machine.start(Run::Runs).await.unwrap();
        }
        self.machine.resume().await.unwrap();
        if self.before == Before::Paused {
            self.machine.stop().await.unwrap();
        }
    }

    async fn run(&self, op: &Op, id: u128) -> Result<(), Error> {
        let (ports, domain, id) = (self.ports(), self.domain(), Uuid::from_u128(id));
        match op {
            Op::Create(request) => create(&ports, &domain, request, id).await.map(drop),
            Op::Delete(request) => delete(&ports, &domain, request, id).await.map(drop),
            Op::Flatten(request) => flatten(&ports, &domain, request, id).await.map(drop),
            Op::Revert(request) => revert(&ports, &domain, request, id).await.map(drop),
            Op::Adopt(request) => {
                let session = Session::open(ports.store, ports.clock, &domain, "adopt").await?;
                session.adopt(&ports, request, id).await.map(drop)
            }
            Op::DeleteOrphan(request) => {
                let session = Session::open(ports.store, ports.clock, &domain, "delete").await?;
                session.delete_orphan(&ports, request, id).await.map(drop)
            }
        }
    }

    async fn plans(&self, op: &Op, id: u128) -> Vec<Vec<Stage>> {
        let (ports, domain, id) = (self.ports(), self.domain(), Uuid::from_u128(id));
        match op {
            Op::Create(request) => vec![plan_create(&ports, &domain, request, id).await.unwrap().stages],
            Op::Delete(request) => vec![plan_delete(&ports, &domain, request, id).await.unwrap().stages],
            Op::Adopt(request) => vec![plan_adopt(&ports, &domain, request, id).await.unwrap().stages],
            Op::DeleteOrphan(request) => {
                vec![plan_delete_orphan(&ports, &domain, request, id).await.unwrap().stages]
            }
            Op::Flatten(request) => vec![plan_flatten(&ports, &domain, request, id).await.unwrap().stages],
            Op::Revert(request) => {
                let plan = plan_revert(&ports, &domain, request, id).await.unwrap();
                plan.safety.map(|safety| safety.stages).into_iter().chain([plan.stages]).collect()
            }
        }
    }

    /// What the dry run says of each stage. The commit is a word in the journal, which is not recorded here.
    async fn declared(&self, plans: &[Vec<Stage>]) -> Vec<Declared> {
        let mut declared = Vec::new();
        for stages in plans {
            let told = planned_stages(Port::Has(&self.machine), stages).await.unwrap();
            let listed: Vec<&Stage> = stages.iter().filter(|stage| !stage.looks()).collect();
            assert_eq!(told.len(), listed.len());
            for (stage, planned) in listed.into_iter().zip(told) {
                let about = planned.steps.into_iter().map(|step| step.what).collect();
                let mut commands = planned.commands;
                if stage.steps().iter().any(|step| step.does == Does::Commit) {
                    assert_eq!(commands, [Command::new("xlsnap: the domain's journal")]);
                    commands.clear();
                }
                declared.push(Declared { commands, about });
            }
        }
        declared
    }

    /// Runs an operation, and compares.
    pub(super) async fn check(&self, op: &Op) {
        self.settle().await;
        let about = format!("{:?} {op:?}", self.before);
        let id = Uuid::new_v4().as_u128();
        let declared = self.declared(&self.plans(op, id).await).await;
        self.recorder.begin();
        self.run(op, id).await.unwrap_or_else(|e| panic!("{about}: {}", told(&e)));
        let done = compared(&declared, self.recorder.end(), &about);
        assert!(done > 0, "{about}: it does something");
    }

    /// Leaves an operation where a step has begun, as a crash would; recovers in another program, and compares.
    pub(super) async fn check_recovery(&mut self, op: &Op, step: &'static str) -> Outcome {
        self.settle().await;
        let about = format!("{:?} {op:?}: {step}", self.before);
        tokio::select! {
            biased;
            () = self.recorder.reaches(step) => {}
            ended = self.run(op, Uuid::new_v4().as_u128()) => panic!("{about}: {ended:?}"),
        }
        self.machine.close().await;
        self.machine = self.rig.reach_soon().await;
        let plan = plan_recover(&self.ports(), &self.domain(), false).await.unwrap().unwrap();
        let mut declared = self.declared(&[plan.stages]).await;
        self.recorder.begin();
        let recovered = recover(&self.ports(), &self.domain()).await;
        let recovered = recovered.unwrap_or_else(|e| panic!("{about}: {}", told(&e))).unwrap();
        let mut done = self.recorder.end();
        // What is noted already is not noted again, which only the store knows.
        let of_qemu = |command: &Command| command.command != "xlsnap: the domain's records";
        declared.iter_mut().for_each(|stage| stage.commands.retain(of_qemu));
        done.iter_mut().for_each(|commands| commands.retain(of_qemu));
        compared(&declared, done, &about);
        assert_eq!(recovered.outcome, plan.outcome);
        recovered.outcome
    }
}

/// Compares what was said with what was done, and gives how much that was.
fn compared(declared: &[Declared], done: Vec<Vec<Command>>, about: &str) -> usize {
    let mut done = done.into_iter();
    // QEMU tells which ways it has to save memory only when one is tried, and what was tried is put back.
    let planning = done.next().unwrap();
    let tries = planning.iter().all(|command| command.command == "QMP migrate-set-capabilities");
    assert!(tries && planning.len().is_multiple_of(2), "{about}: {planning:?}");
    let mut wrong = Vec::new();
    let mut some = 0;
    for Declared { commands, about } in declared {
        let done = comparable(done.next().unwrap_or_default());
        let said = comparable(commands.clone());
        some += done.len();
        if done != said {
            wrong.push(format!("{about:?}\n  said {said:?}\n  done {done:?}"));
        }
    }
    let more: Vec<_> = done.flatten().collect();
    assert!(wrong.is_empty() && more.is_empty(), "{about}:\n{}\nmore: {more:?}", wrong.join("\n"));
    some
}

/// What is run side by side in an order of its own; and what xlsnap does itself after what others do. Which file a stream of
/// memory goes to, and what is named in the domain's description, QEMU's monitor does not tell.
fn comparable(mut commands: Vec<Command>) -> Vec<Command> {
    commands.retain(|command| command.command != "xlsnap: the domain's file");
    for command in &mut commands {
        if command.command.starts_with("xlsnap: ") && command.command.ends_with("rename") {
            // A memory file gets its name by one too.
            let is_image = command.files.iter().all(|file| !file.ends_with(".save"));
            *command = if is_image { Command::new(RENAME) } else { command.clone() };
        }
        // Nor which layers a job is on that QEMU opened by itself.
        if ["QMP migrate", "QMP block-commit", "QMP block-stream"].contains(&command.command.as_str()) {
            command.files.clear();
        }
    }
    let key = |command: &Command| {
        let name = command.command.clone();
        // In which order files went nobody tells.
        let side_by_side = name.starts_with("qemu-img ") || name == "xlsnap: unlink";
        (name.starts_with("xlsnap"), side_by_side.then(|| (name, command.files.clone())))
    };
    commands.sort_by_key(key);
    commands
}
