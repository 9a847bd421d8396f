//! Merging an image into the one below it, and naming another one below it.

use std::fs::File;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use super::{Program, about, absolute, quoted, resolve};
use crate::argument::{Key, Protocol, checked_format, json_with_backing, secret};
use crate::invocation::{Does, Invocation};
use crate::{
    ChainEnd, Effect, Error, FileId, Image, ImageInfo, Kind, Layer, QemuImg, SnapshotRef, backing_file,
    backing_name, chain,
};

impl Program {
    pub(super) async fn commit_into(
        &self,
        top: &Image,
        base: &Image,
        rate: Option<NonZeroU64>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        let (_, info) = self.look_before_write(top).await?;
        let (_, below) = self.look_before_write(base).await?;
        let refuse = |kind, why: String| Err(Error::new(kind, format!("{} {why}", about(&top.path))));
        if let Some(why) = not_on(&absolute(&top.path)?, &info, &absolute(&base.path)?) {
            return refuse(Kind::Ambiguous, why);
        }
        if !info.snapshots.is_empty() {
            let count = info.snapshots.len();
            return refuse(
                Kind::Unsupported,
                format!("holds internal snapshots ({count}), which a commit leaves behind"),
            );
        }
        if info.virtual_size < below.virtual_size {
            let (size, of_base) = (info.virtual_size, below.virtual_size);
            let shown = quoted(&base.path);
            return refuse(
                Kind::Unsupported,
                format!("is smaller ({size} bytes) than {shown} below it ({of_base} bytes)"),
            );
        }
        let tree = self.tree(top, &info, base).await?;
        let mut invocation = self.invoke(Does::Move, &["commit", "-d", "-p"]).about(top.path.as_os_str());
        invocation = invocation.about(base.path.as_os_str());
        if tree.encrypted
            && let Some(key) = &top.key_file
        {
            invocation = invocation.about(key.as_os_str()).arg("--object").name(secret(key));
        }
        if let Some(rate) = rate {
            invocation = invocation.arg("-r").arg(rate.to_string());
        }
        let invocation = invocation.name(format!("json:{}", tree.options));
        self.looked.forget([top, base]);
        self.run_told(&invocation, done).await?;
        // The job flushes QEMU's own caches at its end; this brings the file to the disk whatever QEMU's cache mode was.
        durable(&base.path)
    }

    pub(super) async fn pull_up(
        &self,
        image: &Image,
        below: Option<&Image>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        let (_, info) = self.look_before_write(image).await?;
        let refuse = |kind, why: String| Err(Error::new(kind, format!("{} {why}", about(&image.path))));
        let path = absolute(&image.path)?;
        let Some(backing) = &info.backing else {
            return refuse(Kind::Ambiguous, "is on no other image".to_owned());
        };
        if !info.snapshots.is_empty() {
            let count = info.snapshots.len();
            return refuse(
                Kind::Unsupported,
                format!("holds internal snapshots ({count}), which would lose what they read from below it"),
            );
        }
        let base = backing_file(&path, &backing.name).zip(backing.format.as_ref());
        let Some((base, format)) = base else {
            let why = format!("is on {}, which is no local file of a known format", quoted(&backing.name));
            return refuse(Kind::Unsupported, why);
        };
        let base = Image::new(base, format);
        let found = chain(self, &base).await?;
        if let ChainEnd::Foreign(name) = &found.end {
            return refuse(Kind::Unsupported, format!("is on {}, which is no local file", quoted(name)));
        }
        if !info.encrypted && found.layers.iter().any(is_encrypted) {
            return refuse(Kind::Unsupported, "is not encrypted, and an image below it is".to_owned());
        }
        let name = match below {
            None => None,
            Some(below) => {
                let wanted = FileId::of(&below.path)
                    .map_err(|source| Error::new(Kind::NotFound, about(&below.path)).with_source(source))?;
                if !found
                    .layers
                    .iter()
                    .skip(1)
                    .any(|layer| FileId::of(&layer.path).is_ok_and(|id| id == wanted))
                {
                    return refuse(Kind::Ambiguous, format!("is not on {}", quoted(&below.path)));
                }
                Some(backing_name(&path, &backing.name, &absolute(&below.path)?)?)
            }
        };
        let tree = self.tree(image, &info, &base).await?;
        // Each write is on the disk when it returns: the header, which is written last, names no image below too early.
        let mut invocation = self.invoke(Does::Move, &["rebase", "-p", "-t", "writethrough"]);
        invocation = invocation.about(image.path.as_os_str()).about(base.path.as_os_str());
        if let Some(below) = below {
            invocation =
                invocation.about(below.path.as_os_str()).args(["-F", checked_format(&below.format)?]);
        }
        if tree.encrypted
            && let Some(key) = &image.key_file
        {
            invocation = invocation.about(key.as_os_str()).arg("--object").name(secret(key));
        }
        let invocation = invocation.arg("-b");
        let invocation = match below {
            // A name relative to an image that is given as JSON is none.
            Some(below) => invocation.name(absolute(&below.path)?),
            None => invocation.arg(""),
        };
        let invocation = invocation.name(format!("json:{}", tree.options));
        self.looked.forget([image]);
        self.run_told(&invocation, done).await?;
        match (below, name) {
            (Some(below), Some(name)) if name.as_str() != below.path.as_os_str() => {
                self.name_backing(image, &name, &below.format).await
            }
            _ => durable(&image.path),
        }
    }

    pub(super) async fn rename_backing(&self, image: &Image, base: &Image) -> Result<(), Error> {
        let (_, info) = self.look_before_write(image).await?;
        let path = absolute(&image.path)?;
        let was = info.backing.as_ref().map_or("", |backing| backing.name.as_str());
        let name = backing_name(&path, was, &absolute(&base.path)?)?;
        self.name_backing(image, &name, &base.format).await
    }

    /// Writes this name into the header of `image`, durably.
    async fn name_backing(&self, image: &Image, name: &str, format: &str) -> Result<(), Error> {
        let (protocol, info) = self.look_before_write(image).await?;
        let invocation = self.invoke(Does::Write, &["rebase", "-q", "-u", "-F", checked_format(format)?]);
        let invocation = invocation.arg("-b").name(name);
        self.looked.forget([image]);
        Self::on_image(invocation, image, protocol, &info)?.succeed(self.limits).await?;
        durable(&image.path)
    }

    /// Looks at an image that is about to be written, and refuses one that is in use or that cannot be.
    async fn look_before_write(&self, image: &Image) -> Result<(Protocol, ImageInfo), Error> {
        let protocol = Protocol::of(&image.path)?;
        let info = self.info_of(image, protocol).await?;
        let refuse = |kind, why| Err(Error::new(kind, format!("{} {why}", about(&image.path))));
        if info.in_use {
            return refuse(Kind::Locked, "is open in another process");
        }
        if info.corrupt {
            return refuse(Kind::Corrupt, "is marked as damaged");
        }
        if info.external_data_file {
            return refuse(Kind::Unsupported, "has its data in another file");
        }
        Ok((protocol, info))
    }

    /// The options that open `top` for a commit: each file of its chain by itself and with its format, so that QEMU neither
    /// follows a header nor probes. What is below `base` is read where a cluster of `base` is larger than one of `top`.
    async fn tree(&self, top: &Image, info: &ImageInfo, base: &Image) -> Result<Tree, Error> {
        let (opened, base_is_encrypted) = self.opened(top, base).await?;
        let encrypted = info.encrypted || base_is_encrypted;
        let options = options(top, top, info.encrypted, opened)?;
        Ok(Tree { options, encrypted })
    }

    /// The options that open `base` and what is below it, and whether any of that is encrypted, with the key that is `top`'s.
    async fn opened(&self, top: &Image, base: &Image) -> Result<(Option<Value>, bool), Error> {
        let below = chain(self, base).await?;
        let broken = |why: String| Err(Error::new(Kind::Unsupported, format!("{} {why}", about(&base.path))));
        let mut opened = match below.end {
            ChainEnd::Base => Some(Value::Null),
            // QEMU opens by itself what is no local file, as it does when the domain starts.
            ChainEnd::Foreign(_) => None,
            ChainEnd::Missing(file) => {
                let why = format!("is on {}, which is not there", quoted(&file));
                return Err(Error::new(Kind::NotFound, format!("{} {why}", about(&base.path))));
            }
            ChainEnd::Cycle => return broken("is below itself".to_owned()),
            ChainEnd::TooDeep => return broken("has too many images below it".to_owned()),
        };
        let mut encrypted = false;
        for layer in below.layers.iter().rev() {
            let Some(format) = layer.format.clone() else {
                return broken(format!(
                    "is on {}, and no header says the format of that",
                    quoted(&layer.path)
                ));
            };
            encrypted |= is_encrypted(layer);
            let image = Image::new(&layer.path, format);
            opened = Some(options(top, &image, is_encrypted(layer), opened)?);
        }
        Ok((opened, encrypted))
    }

    pub(super) async fn convert_snapshot(
        &self,
        image: &Image,
        snapshot: &SnapshotRef,
        to: &Image,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        let info = self.info_of(image, Protocol::of(&image.path)?).await?;
        let found = resolve(image, &info, snapshot)?;
        let (opened, encrypted) = self.opened(image, image).await?;
        let Some(opened) = opened.filter(|_| !encrypted) else {
            let why = if encrypted { "is encrypted" } else { "is on what is no local file" };
            return Err(Error::new(Kind::Unsupported, format!("{} {why}", about(&image.path))));
        };
        let id = format!("snapshot.id={}", found.id);
        // -U: a process may have the image open below another one, and only reads it then.
        let words = ["convert", "-p", "-U", "-l", id.as_str(), "-O", checked_format(&to.format)?];
        self.convert(&words, opened, (image, to), done).await
    }

    pub(super) async fn copy_whole(
        &self,
        image: &Image,
        to: &Image,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        let info = self.info_of(image, Protocol::of(&image.path)?).await?;
        let refuse = |kind, why: String| Err(Error::new(kind, format!("{} {why}", about(&image.path))));
        if info.corrupt {
            return refuse(Kind::Corrupt, "is marked as damaged".to_owned());
        }
        if info.external_data_file {
            return refuse(Kind::Unsupported, "has its data in another file".to_owned());
        }
        let (path, new) = (absolute(&image.path)?, absolute(&to.path)?);
        // A relative name leads elsewhere from another directory.
        let mut below = None;
        if let Some(backing) = &info.backing
            && let file = backing_file(&path, &backing.name)
            && file != backing_file(&new, &backing.name)
        {
            let Some((file, format)) = file.zip(backing.format.as_ref()) else {
                let shown = quoted(&backing.name);
                return refuse(
                    Kind::Unsupported,
                    format!("is on {shown}, which is no local file of a known format"),
                );
            };
            below = Some(Image::new(file, format));
        }
        // The file's own bytes, whatever is in them. -C: the file system copies, if it can. -U: as with a snapshot.
        let words = ["convert", "-p", "-U", "-C", "-O", "raw"];
        let bytes = Image::new(&path, "raw");
        let opened = options(&bytes, &bytes, false, None)?;
        self.convert(&words, opened, (image, to), done).await?;
        for bitmap in &info.bitmaps {
            self.bitmap_remove(to, bitmap).await?;
        }
        match below {
            Some(below) => {
                self.looked.forget([to]);
                self.rename_backing(to, &below).await
            }
            None => Ok(()),
        }
    }

    /// Runs what says how far it is (`-p`), to its end.
    async fn run_told(
        &self,
        invocation: &Invocation<'_>,
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        let heard = Mutex::new(Percent::default());
        let hear = |output: &[u8]| {
            let part = heard.lock().ok().and_then(|mut percent| percent.hear(output));
            part.into_iter().for_each(done);
        };
        let ended = invocation.run_heard(self.limits, &hear).await?;
        if !ended.status.success() {
            return Err(invocation.failure(&ended));
        }
        Ok(())
    }

    /// Runs a conversion of what is opened so, and brings what it writes to the disk.
    async fn convert(
        &self,
        words: &[&str],
        opened: Value,
        (image, to): (&Image, &Image),
        done: &(dyn Fn(f64) + Send + Sync),
    ) -> Result<(), Error> {
        let invocation =
            self.invoke(Does::Move, words).about(image.path.as_os_str()).about(to.path.as_os_str());
        let invocation = invocation.name(format!("json:{opened}")).name(absolute(&to.path)?);
        self.run_told(&invocation, done).await?;
        durable(&to.path)
    }
}

/// What opens `image`, with the key that is `top`'s.
fn options(top: &Image, image: &Image, encrypted: bool, backing: Option<Value>) -> Result<Value, Error> {
    if encrypted && top.key_file.is_none() {
        let message = format!("{} is encrypted, and no file with its key is given", about(&image.path));
        return Err(Error::new(Kind::Unsupported, message));
    }
    let key = if encrypted { Key::Given } else { Key::No };
    json_with_backing(image, Protocol::of(&image.path)?, key, backing)
}

/// What opens a chain.
struct Tree {
    options: Value,
    encrypted: bool,
}

fn is_encrypted(layer: &Layer) -> bool {
    layer.info.as_ref().is_some_and(|info| info.encrypted)
}

/// Why the image at `top` is not right on top of the one at `base`, if it isn't.
fn not_on(top: &Path, info: &ImageInfo, base: &Path) -> Option<String> {
    let wanted = quoted(base);
    let Some(backing) = &info.backing else {
        return Some(format!("is on no other image, and not on {wanted}"));
    };
    let named = backing_file(top, &backing.name);
    let is_base = |file: &Path| {
        file == base || matches!((FileId::of(file), FileId::of(base)), (Ok(a), Ok(b)) if a == b)
    };
    let is_it = named.as_deref().is_some_and(is_base);
    (!is_it).then(|| format!("is on {}, and not on {wanted}", quoted(&backing.name)))
}

/// Brings a file to the disk.
fn durable(file: &Path) -> Result<(), Error> {
    File::open(file).and_then(|file| file.sync_all()).map_err(|source| {
        Error::new(Kind::Failed, format!("{} can't be brought to the disk", about(file)))
            .with_effect(Effect::Unknown)
            .with_source(source)
    })
}

/// What `-p` writes: `    (12.34/100%)` and a carriage return, again and again.
#[derive(Default)]
struct Percent {
    /// What came after the last one.
    rest: String,
}

impl Percent {
    /// The longest that is kept of something else, in bytes.
    const KEPT: usize = 256;

    /// The part that is done by the last line of `output`.
    fn hear(&mut self, output: &[u8]) -> Option<f64> {
        self.rest.push_str(&String::from_utf8_lossy(output));
        let end = self.rest.rfind("/100%)")?;
        let start = self.rest[..end].rfind('(');
        let part = start.and_then(|start| self.rest[start + 1..end].parse::<f64>().ok());
        self.rest.drain(..end + 1);
        if self.rest.len() > Self::KEPT {
            self.rest.clear();
        }
        part.map(|percent| (percent / 100.0).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_heard_in_pieces() {
        let mut percent = Percent::default();
        assert_eq!(percent.hear(b"    (0.00/100%)\r    (12"), Some(0.0));
        assert_eq!(percent.hear(b".50/100"), None);
        assert_eq!(percent.hear(b"%)\r    (13.00/100%)\r    (50.00/100%)\r"), Some(0.5));
        assert_eq!(percent.hear(b"\nImage committed.\n"), None);
    }
}
