//! The QMP commands that are used for snapshots, typed.
//!
//! Names are QEMU's, in Rust's spelling; what a member means stands in QEMU's own QMP reference manual. Of a result
//! only what is used is there: what QEMU has beyond is ignored, what an older QEMU does not have is an `Option`
//! or has a default that its documentation names, and an enumeration has a value for those that came later. Tests
//! hold the arguments against the recorded schema of QEMU 10.0, of its storage daemon, and of QEMU 7.2.
//!
//! ```no_run
//! # async fn f(qmp: &dyn xlsnap_qmp_transport::Qmp) -> Result<(), xlsnap_qmp_transport::Error> {
//! use xlsnap_qmp_transport::QmpExt;
//! use xlsnap_qmp_transport::commands::{Action, QueryStatus, Transaction};
//!
//! if qmp.execute(QueryStatus).await?.running {
//!     qmp.execute(Transaction::new([Action::internal("disk0", "before")])).await?;
//! }
//! # Ok(())
//! # }
//! ```

mod bitmap;
mod block;
mod command;
mod export;
mod graph;
mod introspect;
mod job;
mod migration;
mod node;
mod snapshot;
mod vm;
mod vmstate;

pub use bitmap::{BlockDirtyBitmapAdd, BlockDirtyBitmapRemove};
pub use block::{
    BlockDevice, BlockNode, CacheMode, DirtyBitmap, FormatData, FormatSpecific, ImageInfo, QueryBlock,
    QueryNamedBlockNodes, SnapshotInfo,
};
pub use command::Nothing;
pub(crate) use command::command;
pub use export::{
    BlockExport, BlockExportAdd, BlockExportDel, ExportType, NbdServerStart, NbdServerStop,
    QueryBlockExports, RemovalMode, SocketAddress,
};
pub use graph::{BlockGraph, GraphEdge, GraphNode, GraphNodeKind, QueryBlockGraph};
pub use introspect::{CommandInfo, QueryCommands, QueryName, QueryQmpSchema, QueryUuid, QueryVersion};
pub use introspect::{NameInfo, UuidInfo, VersionInfo, VersionTriple};
pub use job::{
    BlockCommit, BlockJobInfo, BlockJobSetSpeed, BlockStream, JobCancel, JobComplete, JobDismiss,
    JobFinalize, JobInfo, JobStatus, QueryBlockJobs, QueryJobs,
};
pub use migration::{
    AddFd, AddedFd, Getfd, MemorySize, Migrate, MigrateCancel, MigrateContinue, MigrateIncoming,
    MigrateSetCapabilities, MigrateSetParameters, MigrationCapability, MigrationInfo, MigrationParameters,
    MigrationRam, MigrationStatus, QueryMemorySizeSummary, QueryMigrate, QueryMigrateCapabilities,
    QueryMigrateParameters, RemoveFd, XenSaveDevicesState,
};
pub use node::{Backing, BlockdevAdd, BlockdevDel, BlockdevSetActive, BlockdevSetIothread, NodeRef};
pub use snapshot::{
    Action, BlockdevSnapshot, BlockdevSnapshotDeleteInternalSync, BlockdevSnapshotInternalSync,
    BlockdevSnapshotSync, NewImageMode, Transaction,
};
pub use vm::{
    Cont, HumanMonitorCommand, KvmInfo, ObjectProperty, QomGetString, QomList, QomSetString, QueryKvm,
    QueryStatus, Quit, RunState, StatusInfo, Stop, SystemPowerdown, SystemReset,
};
pub use vmstate::{SnapshotDelete, SnapshotLoad, SnapshotSave};
