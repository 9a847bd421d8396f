//! [`QemuImg`] by the program of that name.

use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;

use crate::argument::{Key, Protocol, checked_format, image_opts, json_without_backing, quote, secret};
use crate::invocation::{Does, Invocation, Limits};
use crate::lock::{Has, kept_from_readers};
use crate::{
    Check, CreateOptions, Effect, Error, Image, ImageInfo, InternalSnapshot, Kind, QemuImg, Repair,
    SnapshotRef, json,
};

mod layers;
mod looked;
mod new_file;

use looked::{Change, Looked, Stamp};
use new_file::NewFile;

/// The longest name of a snapshot, in bytes: QEMU cuts longer ones silently, even inside a character.
const MAX_SNAPSHOT_NAME: usize = 255;

/// The program qemu-img.
///
/// # Cancel safety
/// A future that only reads may be dropped: qemu-img is ended. One that writes does not take qemu-img along: that goes on
/// to its end, holding the image's lock, and the effect is unknown until it is looked at. A file that
/// [`create`](QemuImg::create) had begun is removed.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    limits: Limits,
    lender: Option<Arc<dyn Lender>>,
    looked: Arc<Looked>,
}

/// Has a file that each writing qemu-img is to hold open, as its standard input, until it ends: a locked one,
/// say, that stays locked even if the caller is killed while qemu-img works.
pub trait Lender: fmt::Debug + Send + Sync {
    /// The file; `None` when there is none now.
    ///
    /// # Errors
    /// When it cannot be lent; qemu-img is not started then.
    fn lend(&self) -> io::Result<Option<OwnedFd>>;
}

impl Default for Program {
    /// `qemu-img`, found through `PATH`.
    fn default() -> Self {
        Self::new("qemu-img")
    }
}

impl Program {
    /// The program at `path`; a bare name is looked for in `PATH`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        // 65,536 snapshots, the most an image can have, are 20 MB of JSON.
        let limits = Limits { output: 32 << 20, time: Duration::from_secs(60) };
        Self { path: path.into(), limits, lender: None, looked: Arc::default() }
    }

    /// The same, with a file that each qemu-img that writes holds open.
    #[must_use]
    pub fn holding(mut self, lender: Arc<dyn Lender>) -> Self {
        self.lender = Some(lender);
        self
    }

    /// The same with another limit on how long [`info`](QemuImg::info) may take (60 s). Nothing else has one: a check
    /// takes as long as the image is large, and a write that is cut off harms the image.
    #[must_use]
    pub fn with_info_time(mut self, limit: Duration) -> Self {
        self.limits.time = limit;
        self
    }

    /// The same with another limit on qemu-img's output (32 MiB), in bytes. A reading qemu-img is ended at it.
    #[must_use]
    pub fn with_output_limit(mut self, bytes: usize) -> Self {
        self.limits.output = bytes;
        self
    }

    fn invoke(&self, does: Does, words: &[&str]) -> Invocation<'_> {
        Invocation::new(&self.path, does).holding(self.lender.as_deref()).args(words.iter().copied())
    }

    /// `qemu-img WORDS [--image-opts] IMAGE`, with the image's backing file unopened.
    fn on_image<'a>(
        invocation: Invocation<'a>,
        image: &Image,
        protocol: Protocol,
        info: &ImageInfo,
    ) -> Result<Invocation<'a>, Error> {
        let mut invocation = invocation.about(image.path.as_os_str());
        let key = match &image.key_file {
            Some(file) if info.encrypted => {
                invocation = invocation.about(file.as_os_str()).arg("--object").name(secret(file));
                Key::Given
            }
            _ => Key::No,
        };
        Ok(if info.backing.is_some() {
            invocation.name(json_without_backing(image, protocol, key)?)
        } else {
            invocation.arg("--image-opts").name(image_opts(image, protocol, key)?)
        })
    }

    /// Looks at the image before a write, or a read of all of it, and refuses what qemu-img would do wrongly.
    async fn look_before(&self, image: &Image) -> Result<(Protocol, ImageInfo), Error> {
        let protocol = Protocol::of(&image.path)?;
        let info = self.info_of(image, protocol).await?;
        Self::usable(image, &info)?;
        Ok((protocol, info))
    }

    /// The same before something is done about the snapshots of this name: what was looked at before, and was not written to since by
    /// another, is not looked at again.
    async fn look_before_snapshot(&self, image: &Image, name: &str) -> Result<(Protocol, ImageInfo), Error> {
        let Some(info) = self.looked.of(image, name) else { return self.look_before(image).await };
        Self::usable(image, &info)?;
        Ok((Protocol::of(&image.path)?, info))
    }

    fn usable(image: &Image, info: &ImageInfo) -> Result<(), Error> {
        let refuse = |kind, why| Err(Error::new(kind, format!("the image {} {why}", quoted(&image.path))));
        if info.in_use {
            return refuse(Kind::Locked, "is open in another process");
        }
        if info.external_data_file {
            // To open it would follow a path that the header gives, which another program may have written.
            return refuse(
                Kind::Unsupported,
                "has its data in another file, which rules internal snapshots out",
            );
        }
        if info.encrypted && image.key_file.is_none() {
            return refuse(Kind::Unsupported, "is encrypted, and no file with its key is given");
        }
        Ok(())
    }

    async fn info_of(&self, image: &Image, protocol: Protocol) -> Result<ImageInfo, Error> {
        let options = image_opts(image, protocol, Key::No)?;
        let run = async |words: &[&str]| {
            let invocation = self.invoke(Does::Look, words).about(image.path.as_os_str()).name(&options);
            let output = invocation.succeed(self.limits).await?;
            json::info(&output)
                .map_err(|source| Error::new(source.kind(), about(&image.path)).with_source(source))
        };
        // -U, so that the lock is passed over, only ever reads.
        let past_lock = async || {
            let info = run(&["info", "-U", "--output=json", "--image-opts"]).await?;
            Ok(ImageInfo { in_use: true, ..info })
        };
        // A raw image is opened all the same: what is read of it is its length.
        if kept_from_readers(&image.path) == Has::Surely && image.format != "raw" {
            return past_lock().await;
        }
        let before = Stamp::of(&image.path);
        match run(&["info", "--output=json", "--image-opts"]).await {
            Ok(info) => {
                self.looked.note(image, before, &info);
                Ok(info)
            }
            // It was locked since, or is by another host.
            Err(error) if error.kind() == Kind::Locked => past_lock().await,
            Err(error) => Err(error),
        }
    }

    async fn snapshot(
        &self,
        option: &str,
        name: &str,
        image: &Image,
        protocol: Protocol,
        info: &ImageInfo,
    ) -> Result<(), Error> {
        let invocation = self.invoke(Does::Write, &["snapshot", option]).name(name);
        Self::on_image(invocation, image, protocol, info)?.succeed(self.limits).await?;
        Ok(())
    }
}

#[async_trait]
impl QemuImg for Program {
    async fn info(&self, image: &Image) -> Result<ImageInfo, Error> {
        let protocol = Protocol::of(&image.path)?;
        if let Some(info) = self.looked.unchanged(image)
            && kept_from_readers(&image.path) == Has::Not
        {
            return Ok(info);
        }
        self.info_of(image, protocol).await
    }

    async fn info_anew(&self, image: &Image) -> Result<ImageInfo, Error> {
        self.info_of(image, Protocol::of(&image.path)?).await
    }

    async fn snapshot_create(&self, image: &Image, name: &str) -> Result<(), Error> {
        check_snapshot_name(name)?;
        let (protocol, info) = self.look_before_snapshot(image, name).await?;
        let is_taken = |how: &str| {
            let message = format!("{} has a snapshot {how} {}", about(&image.path), quoted(name));
            Err(Error::new(Kind::Ambiguous, message))
        };
        if info.snapshots.iter().any(|s| s.name == name) {
            return is_taken("named");
        }
        if info.snapshots.iter().any(|s| s.id == name) {
            return is_taken("with the id");
        }
        self.snapshot("-c", name, image, protocol, &info).await?;
        self.looked.wrote(image, Change::Made(name));
        Ok(())
    }

    async fn snapshot_apply(&self, image: &Image, snapshot: &SnapshotRef) -> Result<(), Error> {
        let (protocol, info) = self.look_before_snapshot(image, &snapshot.name).await?;
        let found = resolve(image, &info, snapshot)?;
        // -a takes an id before a name, so an id is never mistaken, not even for a snapshot that is named like it.
        self.snapshot("-a", &found.id, image, protocol, &info).await?;
        self.looked.wrote(image, Change::Content);
        Ok(())
    }

    async fn snapshot_delete(&self, image: &Image, snapshot: &SnapshotRef) -> Result<(), Error> {
        let (protocol, info) = self.look_before_snapshot(image, &snapshot.name).await?;
        let found = resolve(image, &info, snapshot)?;
        // -d takes names only, and the first of equal ones.
        let same = info.snapshots.iter().filter(|s| s.name == found.name).count();
        if same > 1 {
            let message = format!(
                "{} has several snapshots ({same}) named {}, and qemu-img can delete none but the first",
                about(&image.path),
                quoted(&found.name)
            );
            return Err(Error::new(Kind::Ambiguous, message));
        }
        self.snapshot("-d", &found.name, image, protocol, &info).await?;
        self.looked.wrote(image, Change::Deleted(&found.id));
        Ok(())
    }

    async fn bitmap_remove(&self, image: &Image, name: &str) -> Result<(), Error> {
        let (protocol, info) = self.look_before(image).await?;
        if !info.bitmaps.iter().any(|bitmap| bitmap == name) {
            let message = format!("{} has no dirty bitmap {}", about(&image.path), quoted(name));
            return Err(Error::new(Kind::NotFound, message));
        }
        let invocation = self.invoke(Does::Write, &["bitmap", "--remove"]);
        let invocation = Self::on_image(invocation, image, protocol, &info)?.arg("--").name(name);
        self.looked.forget([image]);
        invocation.succeed(self.limits).await.map(drop)
    }

    async fn check(&self, image: &Image, repair: Option<Repair>) -> Result<Check, Error> {
        let (protocol, info) = self.look_before(image).await?;
        let (does, words): (_, &[&str]) = match repair {
            None => (Does::Read, &["check", "--output=json"]),
            Some(Repair::Leaks) => (Does::Write, &["check", "--output=json", "-r", "leaks"]),
            Some(Repair::All) => (Does::Write, &["check", "--output=json", "-r", "all"]),
        };
        let invocation = Self::on_image(self.invoke(does, words), image, protocol, &info)?;
        self.looked.forget([image]);
        let ended = invocation.run(self.limits).await?;
        match ended.status.code() {
            // 2: corrupt; 3: leaks; 1: maybe errors of the check itself, told in the JSON.
            Some(0 | 2 | 3) => {
                let effect = if does == Does::Write { Effect::Unknown } else { Effect::None };
                json::check(&ended.stdout).map_err(|source| {
                    Error::new(source.kind(), about(&image.path)).with_source(source).with_effect(effect)
                })
            }
            Some(1) if !ended.stdout.is_empty() => {
                json::check(&ended.stdout).map_err(|_| invocation.failure(&ended))
            }
            _ => Err(invocation.failure(&ended)),
        }
    }

    async fn commit(
        &self,
        top: &Image,
        base: &Image,
        rate: Option<NonZeroU64>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        self.commit_into(top, base, rate, done).await
    }

    async fn copy_snapshot(
        &self,
        image: &Image,
        snapshot: &SnapshotRef,
        to: &Image,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        self.convert_snapshot(image, snapshot, to, done).await
    }

    async fn copy(&self, image: &Image, to: &Image, done: &(dyn Fn(f64) + Send + Sync)) -> Result<(), Error> {
        self.copy_whole(image, to, done).await
    }

    async fn rebase(
        &self,
        image: &Image,
        below: Option<&Image>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        self.pull_up(image, below, done).await
    }

    async fn rebase_unsafe(&self, image: &Image, base: &Image) -> Result<(), Error> {
        self.rename_backing(image, base).await
    }

    async fn create(&self, image: &Image, options: &CreateOptions) -> Result<(), Error> {
        let format = checked_format(&image.format)?;
        let path = absolute(&image.path)?;
        let mut invocation = self.invoke(Does::Write, &["create", "-q", "-f", format]);
        let mut size = options.size;
        if let Some(backing) = &options.backing {
            // A header's name is read as a protocol unless it starts with a slash, and a relative one is taken as relative
            // to the image, not to us.
            let backing = Image::new(absolute(&backing.path)?, &backing.format);
            if !options.backing_unopened {
                let found = self.info(&backing).await?;
                size = size.or(Some(found.virtual_size));
            }
            let backing_format = checked_format(&backing.format)?;
            // -u: qemu-img would open all of the backing file's own chain.
            invocation = invocation.args(["-u", "-F", backing_format, "-b"]).name(&backing.path);
        }
        let Some(size) = size else {
            let message = format!("{}: a new image needs a size", about(&path));
            return Err(Error::new(Kind::Unsupported, message));
        };
        let file = NewFile::create(&path)?;
        let invocation = invocation.arg("--").name(&path).arg(size.to_string());
        // Whatever failed, the file is gone again.
        invocation.succeed(self.limits).await.map_err(|e| e.with_effect(Effect::None))?;
        file.keep()
    }
}

/// The snapshot that is meant, if exactly one is.
fn resolve<'a>(
    image: &Image,
    info: &'a ImageInfo,
    snapshot: &SnapshotRef,
) -> Result<&'a InternalSnapshot, Error> {
    let SnapshotRef { name, id } = snapshot;
    let (subject, shown) = (about(&image.path), quoted(name));
    let meant = |s: &&InternalSnapshot| s.name == *name && id.as_ref().is_none_or(|id| s.id == *id);
    let mut all = info.snapshots.iter().filter(meant);
    let Some(found) = all.next() else {
        let message = match (id, info.snapshots.iter().find(|s| s.name == *name)) {
            (Some(id), Some(other)) => format!(
                "{subject} has a snapshot {shown}, but with the id {} and not {}",
                quoted(&other.id),
                quoted(id)
            ),
            _ => format!("{subject} has no snapshot {shown}"),
        };
        return Err(Error::new(Kind::NotFound, message));
    };
    if all.next().is_some() {
        return Err(Error::new(Kind::Ambiguous, format!("{subject} has several snapshots {shown}")));
    }
    // Only a hostile image has an id twice; -a would take the first.
    if info.snapshots.iter().filter(|s| s.id == found.id).count() > 1 {
        let message = format!("{subject} has several snapshots with the id {}", quoted(&found.id));
        return Err(Error::new(Kind::Corrupt, message));
    }
    Ok(found)
}

/// Refuses names that qemu-img takes, and then cuts or can't find again.
fn check_snapshot_name(name: &str) -> Result<(), Error> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MAX_SNAPSHOT_NAME {
        format!("has {} bytes; QEMU cuts it after {MAX_SNAPSHOT_NAME}", name.len())
    } else if name.chars().any(char::is_control) {
        "has a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Unsupported, format!("the snapshot name {} {problem}", quoted(name))))
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| {
        Error::new(Kind::NotFound, "a relative path has no directory to start from").with_source(source)
    })
}

fn about(path: &Path) -> String {
    format!("the image {}", quoted(path))
}

fn quoted(word: impl AsRef<OsStr>) -> String {
    quote(word.as_ref())
}
