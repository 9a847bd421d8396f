//! A dry run says what a run does: the commands of xl, qemu-img and QEMU's monitor, with the images and files that they change.

use uuid::Uuid;
use xlsnap_orchestrator::{
    Command, CreateRequest, DeleteRequest, MemoryRequest, Ports, RevertRequest, Run, Stage, create, delete,
    plan_create, plan_delete, plan_recover, plan_revert, planned_stages, recover, revert,
};
use xlsnap_xen::XlDomain;

use crate::world::World;

const ID: Uuid = Uuid::from_u128(7);

fn name(name: &str) -> xlsnap_types::model::SnapshotName {
    name.parse().unwrap()
}

fn with_memory(snapshot: &str) -> CreateRequest {
    CreateRequest { memory: Some(MemoryRequest::default()), ..disks_alone(snapshot) }
}

fn disks_alone(snapshot: &str) -> CreateRequest {
    CreateRequest { name: Some(name(snapshot)), ..CreateRequest::default() }
}

/// An operation.
enum Op {
    Create(Box<CreateRequest>),
    Revert(RevertRequest),
    Delete(DeleteRequest),
}

impl Op {
    fn create(request: CreateRequest) -> Self {
        Self::Create(Box::new(request))
    }

    fn revert(snapshot: &str) -> Self {
        Self::Revert(RevertRequest::new(name(snapshot)))
    }

    async fn plan(&self, world: &World, ports: &Ports<'_>) -> Vec<Vec<Stage>> {
        let domain = world.reference();
        match self {
            Self::Create(request) => vec![plan_create(ports, &domain, request, ID).await.unwrap().stages],
            Self::Delete(request) => vec![plan_delete(ports, &domain, request, ID).await.unwrap().stages],
            Self::Revert(request) => {
                let plan = plan_revert(ports, &domain, request, ID).await.unwrap();
                plan.safety.map(|safety| safety.stages).into_iter().chain([plan.stages]).collect()
            }
        }
    }

    async fn run(&self, world: &World, ports: &Ports<'_>) {
        let domain = world.reference();
        match self {
            Self::Create(request) => drop(create(ports, &domain, request, ID).await.unwrap()),
            Self::Delete(request) => drop(delete(ports, &domain, request, ID).await.unwrap()),
            Self::Revert(request) => drop(revert(ports, &domain, request, ID).await.unwrap()),
        }
    }
}

/// What a dry run says.
async fn said(world: &World, domain: &XlDomain, op: &Op) -> Vec<Command> {
    let lists = op.plan(world, &world.ports(domain)).await;
    let said = words_of(world, domain, &lists).await;
    assert!(said.iter().any(|command| command.command == "xlsnap: the domain's records"), "{said:?}");
    traced(world, said)
}

async fn words_of(world: &World, domain: &XlDomain, lists: &[Vec<Stage>]) -> Vec<Command> {
    let mut said = Vec::new();
    for stages in lists {
        let planned = planned_stages(world.ports(domain).commands, stages).await.unwrap();
        said.extend(planned.into_iter().flat_map(|stage| stage.commands));
    }
    said
}

/// What of it a trace has: not what xlsnap does itself.
fn traced(world: &World, mut said: Vec<Command>) -> Vec<Command> {
    said.retain(|command| !command.command.starts_with("xlsnap"));
    assert!(world.trace.take().is_empty(), "a dry run has no effect");
    tidy(world, said)
}

/// In an order that does not depend on which of several at a time was first, and with names instead of paths. The file that xl writes
/// beside a memory file is that one.
fn tidy(world: &World, mut commands: Vec<Command>) -> Vec<Command> {
    let directory = format!("{}/", world.scratch.dir().display());
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

fn words(commands: &[Command]) -> Vec<String> {
    commands.iter().map(|command| format!("{} {}", command.command, command.files.join(" "))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_what_its_dry_run_says() {
    let world = World::running();
    let kept = world.domain(None).to_keep().await.unwrap();
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
        let domain = world.domain(kept.clone());
        let said = said(&world, &domain, &op).await;
        assert_eq!(words(&said), expected);
        op.run(&world, &world.ports(&domain)).await;
        assert_eq!(words(&tidy(&world, world.trace.take())), expected);
    }
}

#[tokio::test]
async fn a_run_on_a_domain_that_is_off_does_what_its_dry_run_says() {
    let world = World::off();
    let kept = world.domain(None).to_keep().await.unwrap();
    world.store.end(1);
    let each =
        |words: &str| ["xvda.qcow2", "xvdb.qcow2"].map(|image| format!("qemu-img {words} {image}")).to_vec();
    let delete_d = DeleteRequest::new(name("d"));
    let all = vec![
        (Op::create(disks_alone("d")), each("snapshot -c")),
        (Op::revert("d"), [each("snapshot -c"), each("snapshot -a"), each("snapshot -d")].concat()),
        (Op::Delete(delete_d), each("snapshot -d")),
    ];
    for (op, expected) in all {
        let domain = world.domain(kept.clone());
        let said = said(&world, &domain, &op).await;
        assert_eq!(words(&said), expected);
        op.run(&world, &world.ports(&domain)).await;
        assert_eq!(words(&tidy(&world, world.trace.take())), expected);
    }
}

/// xlsnap ends while a command of xl is at work, and the next one recovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_does_what_its_dry_run_says() {
    let mut met = Vec::new();
    for (op, commands) in [(Op::create(with_memory("s")), 2), (Op::revert("m"), 4)] {
        for after in 0..commands {
            let world = World::running();
            let kept = world.domain(None).to_keep().await.unwrap();
            let domain = world.domain(kept.clone());
            if matches!(op, Op::Revert(_)) {
                Op::create(with_memory("m")).run(&world, &world.ports(&domain)).await;
            }
            *world.toolstack.hangs.lock().unwrap() = Some(after);
            let ports = world.ports(&domain);
            tokio::select! {
                () = op.run(&world, &ports) => panic!("it ended"),
                () = world.toolstack.hung() => {}
            }
            world.trace.take();
            let domain = world.domain(kept);
            let (ports, reference) = (world.ports(&domain), world.reference());
            let plan = plan_recover(&ports, &reference, false).await.unwrap().expect("a journal is left");
            let said = traced(&world, words_of(&world, &domain, &[plan.stages]).await);
            recover(&ports, &reference).await.unwrap();
            assert_eq!(words(&tidy(&world, world.trace.take())), words(&said), "after command {after} of xl");
            met.extend(said);
        }
    }
    for command in ["xl unpause", "xl restore -p", "qemu-img snapshot -a"] {
        assert!(met.iter().any(|met| met.command == command), "{command} is met: {met:?}");
    }
}
