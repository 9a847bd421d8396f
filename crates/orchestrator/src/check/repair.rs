//! The repairs: each changes one record, and no image.

use xlsnap_conf_store::{Error, Kind};
use xlsnap_types::model::{Meta, SnapshotName};

use super::Fix;
use crate::session::Session;

/// Mends one finding, and says what it did.
pub(super) async fn mend(session: &mut Session<'_>, fix: Fix) -> Result<String, Error> {
    match fix {
        Fix::Id { name, disk, id } => {
            let done = format!("the record of snapshot {name} names id {id} for disk {disk} now");
            let change = |meta: &mut Meta| {
                if let Some(found) = meta.disks.iter_mut().find(|found| found.disk == disk) {
                    found.id = Some(id);
                }
            };
            change_meta(session, &name, change).await?;
            Ok(done)
        }
        Fix::Parent { name } => {
            change_meta(session, &name, |meta| meta.parent = None).await?;
            Ok(format!("snapshot {name} is a root now"))
        }
        Fix::Current => {
            session.set_current(None).await?;
            Ok("the domain has no current snapshot now".to_owned())
        }
    }
}

async fn change_meta(
    session: &mut Session<'_>,
    name: &SnapshotName,
    change: impl FnOnce(&mut Meta),
) -> Result<(), Error> {
    let mut record = session.ports.store.load(session.domain.uuid, name).await?;
    let Some(meta) = &mut record.meta else { return Ok(()) };
    if meta.format_version > Meta::FORMAT_VERSION {
        return Err(Error::new(Kind::Newer, format!("a newer version wrote the record of snapshot {name}")));
    }
    change(meta);
    session.lock.store(&record, true).await
}
