//! The typed commands against what QEMU says of itself, and against what it said.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};
use xlsnap_qmp_transport::commands::*;
use xlsnap_qmp_transport::schema::Schema;
use xlsnap_qmp_transport::{Command, Features};

use crate::transcripts::{Line, all};

const SYSTEM_11: &str = "qemu-system-x86_64-11.1.3";
const STORAGE_DAEMON_11: &str = "qemu-storage-daemon-11.1.3";
const SYSTEM_10: &str = "qemu-system-x86_64-10.0.2";
const STORAGE_DAEMON_10: &str = "qemu-storage-daemon-10.0.2";
const SYSTEM_7: &str = "qemu-system-x86_64-7.2.22";
const STORAGE_DAEMON_7: &str = "qemu-storage-daemon-7.2.22";

/// Commands that a program does not have.
const MISSING: &[(&str, &[&[&str]])] = &[
    (SYSTEM_11, &[]),
    (STORAGE_DAEMON_11, &[OF_A_GUEST]),
    (SYSTEM_10, &[]),
    (STORAGE_DAEMON_10, &[OF_A_GUEST]),
    (SYSTEM_7, &[NEWER_THAN_7]),
    (STORAGE_DAEMON_7, &[OF_A_GUEST, NEWER_THAN_7]),
];

const OF_A_GUEST: &[&str] = &[
    "add-fd",
    "cont",
    "getfd",
    "human-monitor-command",
    "migrate",
    "migrate-continue",
    "migrate-incoming",
    "migrate-set-capabilities",
    "migrate-set-parameters",
    "migrate_cancel",
    "query-kvm",
    "query-memory-size-summary",
    "query-migrate",
    "query-migrate-capabilities",
    "query-migrate-parameters",
    "query-name",
    "query-status",
    "query-uuid",
    "remove-fd",
    "snapshot-delete",
    "snapshot-load",
    "snapshot-save",
    "stop",
    "system_powerdown",
    "system_reset",
    "xen-save-devices-state",
];

const NEWER_THAN_7: &[&str] = &["blockdev-set-active"];

fn schema(program: &str) -> Schema {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schemas/{program}.json"));
    let entries: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    Schema::new(entries)
}

fn sample<C: Command>(command: C) -> (&'static str, Map<String, Value>) {
    match serde_json::to_value(&command).unwrap() {
        Value::Object(arguments) => (C::NAME, arguments),
        Value::Null => (C::NAME, Map::new()),
        other => panic!("{} has arguments {other}", C::NAME),
    }
}

/// Every typed command, with every argument that it can have.
fn samples() -> Vec<(&'static str, Map<String, Value>)> {
    let text = String::from;
    let sync = BlockdevSnapshotSync {
        device: Some(text("d0")),
        node_name: Some(text("n0")),
        snapshot_file: text("/o.qcow2"),
        snapshot_node_name: Some(text("o")),
        format: Some(text("qcow2")),
        mode: Some(NewImageMode::AbsolutePaths),
    };
    let overlay = BlockdevAdd {
        read_only: Some(false),
        backing: Some(Backing::None),
        options: Map::from_iter([("discard".to_owned(), json!("unmap"))]),
        ..BlockdevAdd::image("o", "qcow2", "/o.qcow2")
    };
    let inline_backing = Backing::Node(NodeRef::Inline(Box::new(BlockdevAdd::image("b", "raw", "/b"))));
    vec![
        sample(QueryVersion),
        sample(QueryCommands),
        sample(QueryQmpSchema),
        sample(QueryName),
        sample(QueryUuid),
        sample(QueryStatus),
        sample(QueryKvm),
        sample(QueryBlock),
        sample(QueryNamedBlockNodes::FLAT),
        sample(QueryBlockGraph),
        sample(QueryBlockExports),
        sample(QueryBlockJobs),
        sample(QueryJobs),
        sample(QomGetString { path: text("/machine"), property: text("type") }),
        sample(QomList { path: text("/machine/peripheral") }),
        sample(QomSetString {
            path: text("/machine/peripheral/vd0"),
            property: text("drive"),
            value: text("d0"),
        }),
        sample(BlockCommit {
            job_id: text("j"),
            device: text("o"),
            top_node: Some(text("o")),
            base_node: Some(text("d0")),
            backing_file: Some(text("d0.qcow2")),
            speed: Some(1 << 20),
            auto_finalize: Some(false),
            auto_dismiss: Some(false),
        }),
        sample(BlockStream {
            job_id: text("j"),
            device: text("o"),
            base_node: Some(text("d0")),
            backing_file: Some(text("d0.qcow2")),
            speed: Some(1 << 20),
            auto_finalize: Some(false),
            auto_dismiss: Some(false),
        }),
        sample(BlockJobSetSpeed { device: text("j"), speed: 1 << 20 }),
        sample(JobDismiss { id: text("j") }),
        sample(JobComplete { id: text("j") }),
        sample(JobCancel { id: text("j") }),
        sample(JobFinalize { id: text("j") }),
        sample(BlockdevSnapshotInternalSync { device: text("d0"), name: text("s") }),
        sample(BlockdevSnapshotDeleteInternalSync {
            device: text("d0"),
            id: Some(text("1")),
            name: Some(text("s")),
        }),
        sample(BlockdevSnapshot { node: text("d0"), overlay: text("o") }),
        sample(BlockdevSnapshotSync { mode: Some(NewImageMode::Existing), ..sync.clone() }),
        sample(BlockdevSnapshotSync { snapshot_file: text("/o"), ..BlockdevSnapshotSync::default() }),
        sample(Transaction::new([
            Action::internal("d0", "s"),
            Action::overlay("d1", "o"),
            Action::BlockdevSnapshotSync(sync),
            Action::Abort {},
        ])),
        sample(overlay.clone()),
        sample(overlay.clone().with_backing(Backing::Node(NodeRef::Name(text("d0"))))),
        sample(overlay.with_backing(inline_backing)),
        sample(BlockdevDel { node_name: text("o") }),
        sample(BlockDirtyBitmapAdd { node: text("d0"), name: text("b"), persistent: Some(true) }),
        sample(BlockDirtyBitmapRemove { node: text("d0"), name: text("b") }),
        sample(BlockdevSetIothread { node_name: text("o"), iothread: text("t") }),
        sample(BlockdevSetActive { node_name: Some(text("d0")), active: false }),
        sample(BlockdevSetActive { node_name: None, active: true }),
        sample(Stop),
        sample(Cont),
        sample(SystemReset),
        sample(SystemPowerdown),
        sample(Quit),
        sample(HumanMonitorCommand { command_line: text("info status") }),
        sample(NbdServerStart { addr: SocketAddress::Unix { path: text("/nbd") }, max_connections: Some(1) }),
        sample(NbdServerStop),
        sample(BlockExportAdd {
            export_type: ExportType::Nbd,
            id: text("e"),
            node_name: text("d0"),
            writable: Some(true),
            name: Some(text("e")),
        }),
        sample(BlockExportDel { id: text("e"), mode: Some(RemovalMode::Hard) }),
        sample(BlockExportDel { id: text("e"), mode: Some(RemovalMode::Safe) }),
        sample(Getfd { fdname: text("m") }),
        sample(AddFd { opaque: text("m") }),
        sample(RemoveFd { fdset_id: 1 }),
        sample(Migrate { uri: text("unix:/m") }),
        sample(MigrateIncoming { uri: text("unix:/m"), exit_on_error: None }),
        sample(MigrateContinue { state: MigrationStatus::PreSwitchover }),
        sample(MigrateCancel),
        sample(QueryMigrate),
        sample(QueryMigrateCapabilities),
        sample(MigrateSetCapabilities {
            capabilities: vec![MigrationCapability { capability: text("background-snapshot"), state: true }],
        }),
        sample(QueryMigrateParameters),
        sample(MigrateSetParameters(MigrationParameters {
            max_bandwidth: Some(1 << 40),
            tls_creds: Some(text("")),
        })),
        sample(XenSaveDevicesState { filename: text("/s"), live: true }),
        sample(QueryMemorySizeSummary),
        sample(SnapshotSave {
            job_id: text("j"),
            tag: text("s"),
            vmstate: text("d0"),
            devices: vec![text("d0")],
        }),
        sample(SnapshotLoad {
            job_id: text("j"),
            tag: text("s"),
            vmstate: text("d0"),
            devices: vec![text("d0")],
        }),
        sample(SnapshotDelete { job_id: text("j"), tag: text("s"), devices: vec![text("d0")] }),
    ]
}

#[test]
fn a_failure_of_an_incoming_migration_can_be_survived_since_7_2() {
    let survive = sample(MigrateIncoming { uri: "unix:/m".to_owned(), exit_on_error: Some(false) }).1;
    schema(SYSTEM_10).check("migrate-incoming", &survive).unwrap();
    schema(SYSTEM_7).check("migrate-incoming", &survive).unwrap_err();
}

#[test]
fn every_command_is_as_each_qemu_has_it() {
    for (program, missing) in MISSING {
        let schema = schema(program);
        let mut absent = BTreeSet::new();
        for (name, arguments) in samples() {
            if schema.has_command(name) {
                schema.check(name, &arguments).unwrap_or_else(|why| panic!("{program}: {why}"));
            } else {
                absent.insert(name);
            }
        }
        assert_eq!(absent, missing.iter().copied().flatten().copied().collect(), "{program}");
    }
}

#[test]
fn the_schema_finds_what_is_wrong() {
    let schema = schema(SYSTEM_10);
    let wrong = |command: &str, arguments: Value| {
        schema.check(command, arguments.as_object().unwrap()).expect_err("this is wrong")
    };
    let internal = "blockdev-snapshot-internal-sync";
    assert_eq!(wrong("nosuch", json!({})), "there is no command nosuch");
    assert_eq!(wrong(internal, json!({"device": "d"})), format!("{internal}.name is missing"));
    assert_eq!(
        wrong(internal, json!({"device": "d", "name": 5})),
        format!("{internal}.name is not a string")
    );
    assert_eq!(wrong("query-version", json!({"x": 1})), "query-version.x is unexpected");
    assert_eq!(wrong("transaction", json!({"actions": {}})), "transaction.actions is not an array");
    assert_eq!(
        wrong("transaction", json!({"actions": [{"type": internal, "data": {"device": "d"}}]})),
        "transaction.actions[0].data.name is missing"
    );
    assert_eq!(
        wrong("transaction", json!({"actions": [{"type": "new", "data": {}}]})),
        "transaction.actions[0].type does not take \"new\""
    );
    assert_eq!(wrong("blockdev-add", json!({"driver": "qcow2"})), "blockdev-add.file is missing");
    let inline = wrong("blockdev-add", json!({"driver": "qcow2", "file": {"driver": "file"}}));
    assert!(inline.contains("blockdev-add.file.filename is missing"), "{inline}");
}

#[test]
fn the_schema_tells_features() {
    let (new, old) = (schema(SYSTEM_10), schema(SYSTEM_7));
    assert!(new.has_command("blockdev-set-active") && !old.has_command("blockdev-set-active"));
    assert!(!new.has_command("SHUTDOWN"), "an event is no command");
    assert!(new.has_argument("block-export-add", "allow-inactive"));
    assert!(!old.has_argument("block-export-add", "allow-inactive"));
    assert!(new.has_argument("block-export-add", "bitmaps"), "of a variant");
    assert!(new.has_argument("blockdev-add", "active") && !old.has_argument("blockdev-add", "active"));
    assert!(old.has_action("blockdev-snapshot-internal-sync"));
    assert!(!new.has_action("blockdev-snapshot-delete-internal-sync"));
    let features: Features = ["stop".to_owned()].into_iter().collect();
    assert!(features.has_command("stop") && !features.has_command("cont"));
}

#[test]
fn a_schema_with_what_we_do_not_know_is_read() {
    let schema = Schema::new([
        json!({"name": "new", "meta-type": "news"}),
        json!({"meta-type": "command", "arg-type": "0"}),
        json!({"name": "c", "meta-type": "command", "arg-type": "0", "features": ["x"]}),
        json!({"name": "0", "meta-type": "object", "members": [{"name": "a", "type": "new", "default": null}]}),
        json!(7),
    ]);
    assert_eq!(schema.check("c", &Map::new()), Ok(()));
    assert!(schema.check("c", &Map::from_iter([("a".to_owned(), json!(1))])).is_err());
}

/// The results of a command in the transcripts of a program.
fn results<C: Command>(program: &str) -> Vec<C::Ok> {
    let mut results = Vec::new();
    for (_, lines) in all().iter().filter(|(name, _)| name.starts_with(program)) {
        let mut asked = None;
        for line in lines {
            match line {
                Line::Sent(sent) if sent["execute"] == C::NAME => asked = Some(&sent["id"]),
                Line::Received(text) => {
                    let mut message: Value = serde_json::from_str(text).unwrap();
                    if asked.is_some_and(|id| message["id"] == *id) && message.get("return").is_some() {
                        results.push(serde_json::from_value(message["return"].take()).unwrap());
                    }
                }
                _ => {}
            }
        }
    }
    assert!(!results.is_empty(), "{program}: {}", C::NAME);
    results
}

#[test]
fn recorded_results_are_understood() {
    for program in [SYSTEM_11, SYSTEM_10, SYSTEM_7] {
        let version = results::<QueryVersion>(program).remove(0);
        assert!(
            program
                .ends_with(&format!("-{}.{}.{}", version.qemu.major, version.qemu.minor, version.qemu.micro))
        );
        assert!(version.package.starts_with("Debian"));
        assert!(results::<QueryStatus>(program).iter().any(|status| status.running));
        assert_eq!(results::<QueryName>(program).remove(0).name.as_deref(), Some("lab"));
        assert_eq!(results::<QueryUuid>(program).remove(0).uuid.len(), 36);
        let drives: Vec<BlockDevice> = results::<QueryBlock>(program).into_iter().flatten().collect();
        let disk = drives.iter().find_map(|drive| drive.inserted.as_ref()).unwrap();
        assert_eq!((disk.drv.as_str(), disk.ro), ("qcow2", false));
        assert_eq!(disk.active, (program != SYSTEM_7).then_some(true), "7.2 does not say");
        assert_eq!(disk.image.cluster_size, Some(65536));
        let format = disk.image.format_specific.as_ref().unwrap();
        assert_eq!((format.format.as_str(), format.data.corrupt), ("qcow2", Some(false)));
        results::<BlockdevSnapshotDeleteInternalSync>(program);
    }
    for program in [SYSTEM_11, STORAGE_DAEMON_11, SYSTEM_10, STORAGE_DAEMON_10, SYSTEM_7, STORAGE_DAEMON_7] {
        let nodes: Vec<BlockNode> = results::<QueryNamedBlockNodes>(program).into_iter().flatten().collect();
        let snapshots: Vec<&SnapshotInfo> = nodes.iter().flat_map(|node| &node.image.snapshots).collect();
        assert!(snapshots.iter().any(|snapshot| snapshot.name == "t1" && snapshot.date_sec > 1_700_000_000));
        let jobs: Vec<JobInfo> = results::<QueryJobs>(program).into_iter().flatten().collect();
        assert!(jobs.iter().any(|job| job.job_type == "commit" && job.status == JobStatus::Ready));
        results::<Transaction>(program);
    }
    for program in [STORAGE_DAEMON_11, STORAGE_DAEMON_10, STORAGE_DAEMON_7] {
        let jobs: Vec<BlockJobInfo> = results::<QueryBlockJobs>(program).into_iter().flatten().collect();
        assert!(jobs.iter().any(|job| job.device == "j0" && job.ready && job.status == JobStatus::Ready));
        let exports: Vec<BlockExport> = results::<QueryBlockExports>(program).into_iter().flatten().collect();
        assert_eq!((exports[0].id.as_str(), exports[0].node_name.as_str()), ("e0", "d0"));
    }
    for program in [SYSTEM_11, SYSTEM_10, SYSTEM_7] {
        let graph = results::<QueryBlockGraph>(program).remove(0);
        assert!(graph.nodes.iter().any(|node| node.name == "d0" && node.kind == GraphNodeKind::BlockDriver));
        assert!(results::<QomGetString>(program)[0].starts_with("pc-q35-"));
        assert_eq!(results::<HumanMonitorCommand>(program)[0], "VM status: paused\r\n");
        assert!(!results::<QueryKvm>(program)[0].enabled);
        assert_eq!(results::<QueryMemorySizeSummary>(program)[0].base_memory, 64 << 20);
        let jobs: Vec<JobInfo> = results::<QueryJobs>(program).into_iter().flatten().collect();
        let failed = jobs.iter().find(|job| job.job_type == "snapshot-load" && job.error.is_some()).unwrap();
        assert!(failed.error.as_ref().unwrap().contains("'nope' does not exist"));
        let capabilities = results::<QueryMigrateCapabilities>(program).remove(0);
        let background = capabilities.iter().find(|c| c.capability == "background-snapshot").unwrap();
        assert!(!background.state);
        let parameters = results::<QueryMigrateParameters>(program).remove(0);
        assert_eq!((parameters.max_bandwidth, parameters.tls_creds.as_deref()), (Some(128 << 20), Some("")));
        let migrations = results::<QueryMigrate>(program);
        assert!(migrations[0].status.is_none_or(MigrationStatus::is_over));
        let done = migrations.last().unwrap();
        assert_eq!(done.status, Some(MigrationStatus::Completed));
        let ram = done.ram.unwrap();
        assert!(ram.remaining == 0 && ram.normal + ram.duplicate >= (64 << 20) / 4096, "{ram:?}");
    }
}

#[test]
fn values_that_come_later_are_understood() {
    let status: StatusInfo =
        serde_json::from_value(json!({"running": false, "status": "new", "x": 1})).unwrap();
    assert_eq!(status.status, RunState::Unknown);
    let job = json!({"id": "j", "type": "new", "status": "new"});
    assert_eq!(serde_json::from_value::<JobInfo>(job).unwrap().status, JobStatus::Unknown);
}
