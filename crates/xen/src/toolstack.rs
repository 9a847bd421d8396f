//! What is done to a domain by Xen's toolstack.

use std::path::Path;
use std::time::Instant;

use async_trait::async_trait;
use xlsnap_types::model::StateFlags;

use crate::Domid;
use crate::domains::GuestKind;
use crate::xl::Error;

/// A domain's memory that was saved.
#[derive(Debug, Clone, Copy)]
pub struct Saved {
    /// When the guest was asked to stand still, or a little before that.
    pub since: Instant,
}

/// Told how many bytes were moved, of how many where that is known.
pub type Told<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

/// A guest that is suspended, since the last of its memory was saved. Dropped, it goes on too, and nobody waits for that.
#[async_trait]
pub trait Suspended: Send {
    /// Lets it go on.
    async fn resume(self: Box<Self>) -> Result<(), Error>;
}

/// Xen's toolstack: [`crate::xl::Xl`], or a stand-in.
///
/// Each method acts once. None trusts a status alone: `xl unpause` of a domain that runs succeeds, so a caller looks afterwards.
///
/// # Cancel safety
/// A future that looks may be dropped. The act of one that acts goes on to its end by itself.
#[async_trait]
pub trait Toolstack: Send + Sync {
    /// The state of a domain; `None` when there is none of that domid.
    async fn state(&self, domid: Domid) -> Result<Option<StateFlags>, Error>;

    /// The domain's configuration, as libxl's JSON.
    async fn configuration(&self, domid: Domid) -> Result<String, Error>;

    /// Saves the domain's memory into `file`, which is there and empty, and leaves the domain paused.
    async fn save(&self, domid: Domid, file: &Path, told: Told<'_>) -> Result<Saved, Error>;

    /// Whether [`Toolstack::save_live`] works on this host with a guest of this kind.
    async fn saves_live(&self, kind: GuestKind) -> Result<bool, Error>;

    /// Saves the domain's memory into `file`, which is there and empty, while its guest runs; then the guest is suspended. When it was, or a
    /// little before that. The guest goes on when the answer is told to let it, when that is dropped, and when this process ends. A busy
    /// guest's pages are saved more than once, so that the file is larger than that of [`Toolstack::save`]: by libxl's own bound up to six times.
    async fn save_live(
        &self,
        domid: Domid,
        file: &Path,
        told: Told<'_>,
    ) -> Result<(Instant, Box<dyn Suspended>), Error>;

    /// Ends the save into `file`, whichever process began it, so that the guest goes on; whether there was one.
    async fn end_save(&self, file: &Path) -> Result<bool, Error>;

    /// Makes a domain from a save file, and leaves it paused.
    async fn restore(&self, file: &Path, told: Told<'_>) -> Result<(), Error>;

    /// Makes a domain from a configuration in `xl.cfg(5)`'s form, and leaves it paused.
    async fn create(&self, configuration: &Path) -> Result<(), Error>;

    /// Adds one pause to a domain, so that its processors stop. Pauses count: two need two of [`Toolstack::unpause`].
    async fn pause(&self, domid: Domid) -> Result<(), Error>;

    /// Takes one pause away from a domain.
    async fn unpause(&self, domid: Domid) -> Result<(), Error>;

    /// Ends a domain at once.
    async fn destroy(&self, domid: Domid) -> Result<(), Error>;
}
