//! A dry run says what a run does: the commands of xl, qemu-img and QEMU's monitor, with the images and files that they change.

use uuid::Uuid;
use xlsnap_orchestrator::{
    Command, CreateRequest, DeleteRequest, MemoryRequest, Ports, RevertRequest, Run, Stage, create, delete,
    plan_create, plan_delete, plan_recover, plan_revert, planned_stages, recover, revert,
};
use xlsnap_xen::XlDomain;

use crate::rig::Rig;

pub(crate) const ID: Uuid = Uuid::from_u128(7);

pub(crate) fn name(name: &str) -> xlsnap_types::model::SnapshotName {
    name.parse().unwrap()
}

pub(crate) fn with_memory(snapshot: &str) -> CreateRequest {
    CreateRequest { memory: Some(MemoryRequest::default()), ..disks_alone(snapshot) }
}

pub(crate) fn disks_alone(snapshot: &str) -> CreateRequest {
    CreateRequest { name: Some(name(snapshot)), ..CreateRequest::default() }
}

/// An operation.
pub(crate) enum Op {
    Create(Box<CreateRequest>),
    Revert(RevertRequest),
    Delete(DeleteRequest),
}

impl Op {
    pub(crate) fn create(request: CreateRequest) -> Self {
        Self::Create(Box::new(request))
    }

    pub(crate) fn revert(snapshot: &str) -> Self {
        Self::Revert(RevertRequest::new(name(snapshot)))
    }

    async fn plan(&self, rig: &Rig, ports: &Ports<'_>) -> Vec<Vec<Stage>> {
        let domain = rig.reference();
        match self {
            Self::Create(request) => vec![plan_create(ports, &domain, request, ID).await.unwrap().stages],
            Self::Delete(request) => vec![plan_delete(ports, &domain, request, ID).await.unwrap().stages],
            Self::Revert(request) => {
                let plan = plan_revert(ports, &domain, request, ID).await.unwrap();
                plan.safety.map(|safety| safety.stages).into_iter().chain([plan.stages]).collect()
            }
        }
    }

    pub(crate) async fn run(&self, rig: &Rig, ports: &Ports<'_>) {
        let domain = rig.reference();
        match self {
            Self::Create(request) => drop(create(ports, &domain, request, ID).await.unwrap()),
            Self::Delete(request) => drop(delete(ports, &domain, request, ID).await.unwrap()),
            Self::Revert(request) => drop(revert(ports, &domain, request, ID).await.unwrap()),
        }
    }
}

/// What a dry run says.
pub(crate) async fn said(rig: &Rig, domain: &XlDomain, op: &Op) -> Vec<Command> {
    let lists = op.plan(rig, &rig.ports(domain)).await;
    let said = words_of(rig, domain, &lists).await;
    assert!(said.iter().any(|command| command.command == "xlsnap: the domain's records"), "{said:?}");
    traced(rig, said)
}

async fn words_of(rig: &Rig, domain: &XlDomain, lists: &[Vec<Stage>]) -> Vec<Command> {
    let mut said = Vec::new();
    for stages in lists {
        let planned = planned_stages(rig.ports(domain).commands, stages).await.unwrap();
        said.extend(planned.into_iter().flat_map(|stage| stage.commands));
    }
    said
}

/// What of it a trace has: not what xlsnap does itself.
fn traced(rig: &Rig, mut said: Vec<Command>) -> Vec<Command> {
    said.retain(|command| !command.command.starts_with("xlsnap"));
    let done = rig.trace.take();
    assert!(done.is_empty(), "a dry run has no effect: {done:?}");
    tidy(rig, said)
}

/// In an order that does not depend on which of several at a time was first, and with names instead of paths. The file that xl writes
/// beside a memory file is that one.
pub(crate) fn tidy(rig: &Rig, mut commands: Vec<Command>) -> Vec<Command> {
    let directory = format!("{}/", rig.scratch.dir().display());
    for command in &mut commands {
        for file in &mut command.files {
            *file = file.trim_start_matches(&directory).to_owned();
            if let Some(part) = file.strip_prefix("records/.").and_then(|file| file.strip_suffix(".part")) {
                *file = format!("records/{}", part.rsplit_once('.').unwrap().0);
            }
        }
    }
    for group in commands.chunk_by_mut(|one, other| one.command == other.command) {
        group.sort_by(|one, other| one.files.cmp(&other.files));
    }
    commands
}

pub(crate) fn words(commands: &[Command]) -> Vec<String> {
    commands.iter().map(|command| format!("{} {}", command.command, command.files.join(" "))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_what_its_dry_run_says() {
    let rig = Rig::running();
    let kept = rig.domain(None).to_keep().await.unwrap();
    let (a, b) = ("xvda.qcow2", "xvdb.qcow2");
    let transaction = format!("QMP transaction: blockdev-snapshot-internal-sync {a} {b}");
    let deletions = [a, b].map(|image| format!("QMP blockdev-snapshot-delete-internal-sync {image}"));
    let each = |words: &str| [a, b].map(|image| format!("qemu-img {words} {image}"));
    let reverting = |starts: &[&str]| -> Vec<String> {
        let first = ["xl pause ".to_owned(), transaction.clone(), "xl destroy ".to_owned()];
        let starts = starts.iter().map(|words| format!("{words} "));
        first.into_iter().chain(each("snapshot -a")).chain(starts).chain(deletions.clone()).collect()
    };
    let saving =
        ["xl save -p records/m.save".to_owned(), transaction.clone(), "xl unpause ".to_owned()].to_vec();
    let waiting = RevertRequest { run: Some(Run::Waits), ..RevertRequest::new(name("d")) };
    let safe = RevertRequest { safety: Some(name("safe")), ..RevertRequest::new(name("m")) };
    let delete_m = DeleteRequest::new(name("m"));
    let safe_words: Vec<String> = saving.iter().map(|words| words.replace("m.save", "safe.save")).collect();
    let all: Vec<(Op, Vec<String>)> = vec![
        (Op::create(disks_alone("d")), vec![transaction.clone()]),
        (Op::create(with_memory("m")), saving),
        (Op::revert("d"), reverting(&["xl create -p", "xl unpause"])),
        (Op::revert("m"), reverting(&["xl restore -p", "xl unpause"])),
        (Op::Revert(safe), [safe_words, reverting(&["xl restore -p", "xl unpause"])].concat()),
        (Op::Revert(waiting), reverting(&["xl create -p"])),
        // The guest is paused already.
        (Op::revert("m"), reverting(&["xl restore -p", "xl unpause"])[1..].to_vec()),
        (Op::Delete(delete_m), deletions.to_vec()),
    ];
    for (op, expected) in all {
        // As the next command would find it.
        let domain = rig.domain(kept.clone());
        let said = said(&rig, &domain, &op).await;
        assert_eq!(words(&said), expected);
        op.run(&rig, &rig.ports(&domain)).await;
        assert_eq!(words(&tidy(&rig, rig.trace.take())), expected);
    }
}

#[tokio::test]
async fn a_run_on_a_domain_that_is_off_does_what_its_dry_run_says() {
    let rig = Rig::off();
    let kept = rig.domain(None).to_keep().await.unwrap();
    rig.store.end(1);
    let each =
        |words: &str| ["xvda.qcow2", "xvdb.qcow2"].map(|image| format!("qemu-img {words} {image}")).to_vec();
    let delete_d = DeleteRequest::new(name("d"));
    let all = vec![
        (Op::create(disks_alone("d")), each("snapshot -c")),
        (Op::revert("d"), [each("snapshot -c"), each("snapshot -a"), each("snapshot -d")].concat()),
        (Op::Delete(delete_d), each("snapshot -d")),
    ];
    for (op, expected) in all {
        let domain = rig.domain(kept.clone());
        let said = said(&rig, &domain, &op).await;
        assert_eq!(words(&said), expected);
        op.run(&rig, &rig.ports(&domain)).await;
        assert_eq!(words(&tidy(&rig, rig.trace.take())), expected);
    }
}

/// xlsnap ends while a command of xl is at work, and the next one recovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_does_what_its_dry_run_says() {
    let mut met = Vec::new();
    for (op, commands) in [(Op::create(with_memory("s")), 2), (Op::revert("m"), 4)] {
        for after in 0..commands {
            let rig = Rig::running();
            let kept = rig.domain(None).to_keep().await.unwrap();
            let domain = rig.domain(kept.clone());
            if matches!(op, Op::Revert(_)) {
                Op::create(with_memory("m")).run(&rig, &rig.ports(&domain)).await;
            }
            *rig.toolstack.hangs.lock().unwrap() = Some(after);
            let ports = rig.ports(&domain);
            tokio::select! {
                () = op.run(&rig, &ports) => panic!("it ended"),
                () = rig.toolstack.hung() => {}
            }
            rig.trace.take();
            let domain = rig.domain(kept);
            let (ports, reference) = (rig.ports(&domain), rig.reference());
            let plan = plan_recover(&ports, &reference, false).await.unwrap().expect("a journal is left");
            let said = traced(&rig, words_of(&rig, &domain, &[plan.stages]).await);
            recover(&ports, &reference).await.unwrap();
            assert_eq!(words(&tidy(&rig, rig.trace.take())), words(&said), "after command {after} of xl");
            met.extend(said);
        }
    }
    for command in ["xl unpause", "xl restore -p", "qemu-img snapshot -a"] {
        assert!(met.iter().any(|met| met.command == command), "{command} is met: {met:?}");
    }
}
