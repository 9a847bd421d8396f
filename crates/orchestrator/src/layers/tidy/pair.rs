//! Which two layers can become one, and why others cannot.

use std::path::Path;

use xlsnap_types::model::{ImageFormat, Owner};

use super::Tidy;
use crate::layers::{Guard, LayerNode};
use crate::orphan::word;
use crate::plan::plain;
use crate::{Below, Layer};

/// Two layers that can become one.
pub(super) struct Pair {
    pub(super) base: LayerNode,
    /// Its only child.
    pub(super) child: LayerNode,
    pub(super) way: Way,
}

/// Where the data goes.
pub(super) enum Way {
    /// The child's into the base.
    Down,
    /// The base's into the child.
    Up,
}

impl Tidy {
    /// The only child of an unnamed layer, if they can become one.
    pub(super) fn pair(&self, file: &str) -> Result<Option<Pair>, String> {
        if !self.is_unnamed(file) {
            return Ok(None);
        }
        let mut children = self.tree.children(file);
        let (Some(base), Some(child), None) = (self.tree.get(file), children.next(), children.next()) else {
            return Ok(None);
        };
        let (below, above) = (&base.layer, &child.layer);
        let is_lent = self.lent.contains(file);
        let why = match base.owner {
            // Of a base that is not the domain's nothing is said: that it stays is what it is for.
            Owner::Foreign if base.guard == Guard::Same && !self.left.contains(file) && !is_lent => {
                return Ok(None);
            }
            Owner::Foreign if base.guard == Guard::Same && !is_lent => "it is not the domain's".to_owned(),
            _ if base.guard == Guard::Replaced || child.guard == Guard::Replaced => {
                "another file has its name now, see what check says".to_owned()
            }
            _ if base.guard == Guard::Written => "it was written to, see what check says".to_owned(),
            _ if child.guard == Guard::Written => {
                format!("{} was written to, see what check says", above.file)
            }
            _ if child.owner != Owner::Made && !self.takes_image(base, child) => {
                format!("{} above it was not made for a snapshot", above.file)
            }
            _ if !above.snapshots.is_empty() => {
                format!("{} above it holds internal snapshots, which are read through it", above.file)
            }
            _ if above.encrypted != below.encrypted => {
                format!("{} above it is not encrypted as it is", above.file)
            }
            _ if above.virtual_size < below.virtual_size => {
                format!("the disk is smaller in {} above it", above.file)
            }
            _ if above.virtual_size > below.virtual_size && below.format != ImageFormat::Qcow2 => {
                format!("the disk is larger in {} above it, and it cannot grow", above.file)
            }
            _ if self.runs
                && self.is_top(&above.file)
                && let Some(why) = &self.no_pause =>
            {
                format!("the guest cannot be stopped while {} goes down into it: {why}", above.file)
            }
            _ if let Some(why) = self.closed.get(file).or_else(|| self.closed.get(&above.file)) => {
                why.clone()
            }
            _ if let Some(why) = self.no_job(above) => return Err(why),
            _ if self.is_top(&above.file)
                && !self.renames_into(base, child)
                && let Some(why) = self.named_for_good.get(&child.disk) =>
            {
                let no_name = self.why_no_name(base, child).filter(|_| is_lent);
                let no_name = no_name.map(|why| format!(", and {why}")).unwrap_or_default();
                format!("disk {} cannot be made to write to it: {why}{no_name}", child.disk)
            }
            _ => return Ok(Some(Pair { base: base.clone(), child: child.clone(), way: Way::Down })),
        };
        // What was asked for is to write to it: to copy all of it is another thing.
        let up = !is_lent || self.left.contains(file);
        match up && self.goes_up(base, child) {
            true => Ok(Some(Pair { base: base.clone(), child: child.clone(), way: Way::Up })),
            false => Err(why),
        }
    }

    /// Whether a layer may be merged and removed although it was not made for a snapshot: the domain's image, into a file that was named for that.
    fn takes_image(&self, base: &LayerNode, child: &LayerNode) -> bool {
        self.lent.contains(&base.layer.file) && child.owner == Owner::Domain
    }

    /// Why no data goes down into a file that may be written to, as a clause.
    pub(super) fn why_not_into(&self, file: &str) -> String {
        let below = self.tree.get(file).and_then(|node| self.tree.below(node));
        match (self.pair(file), below) {
            (Err(why), _) => why,
            (Ok(_), Some(below)) if !self.flat.is_empty() => {
                format!(
                    "it stands on {} itself, and a disk that is flattened stands on nothing",
                    below.layer.file
                )
            }
            (Ok(_), _) if self.is_state(file) => "a snapshot has its state there".to_owned(),
            (Ok(_), _) if self.tree.children(file).count() > 1 => "several files stand on it".to_owned(),
            (Ok(_), _) => "the disks that were chosen have no data above it".to_owned(),
        }
    }

    /// Why the process that has a layer open does not move data into it or out of it, as a clause.
    fn no_job(&self, layer: &Layer) -> Option<String> {
        let is_read = |top: &String| self.tree.chain(top).iter().any(|node| node.layer.file == layer.file);
        let (disk, _) = self.tops.iter().filter(|_| self.on).find(|(_, top)| is_read(top))?;
        self.no_jobs.get(disk).cloned()
    }

    /// Whether a layer takes the name of the disk's image when that is merged into it: the name by which others start it.
    pub(super) fn renames_into(&self, base: &LayerNode, child: &LayerNode) -> bool {
        let file = &child.layer.file;
        let takes_name = base.named.as_ref() == Some(file) || self.has_to_be_renamed(base, child);
        let is_followed = self.tree.children(file).next().is_none() && takes_name;
        self.is_top(file) && is_followed && self.renames.contains(&child.disk)
    }

    /// Whether a file that is not the domain's and was named for that can be the disk's image under the image's name alone, and can have
    /// that name.
    fn has_to_be_renamed(&self, base: &LayerNode, child: &LayerNode) -> bool {
        self.lent.contains(&base.layer.file)
            && self.named_for_good.contains_key(&child.disk)
            && self.why_no_name(base, child).is_none()
    }

    /// Why a file cannot have the name of the disk's image above it, as a clause.
    fn why_no_name(&self, base: &LayerNode, child: &LayerNode) -> Option<String> {
        let directory = |node: &LayerNode| Path::new(&plain(&node.layer.file)).parent().map(Path::to_owned);
        let (file, image) = (&base.layer.file, &child.layer.file);
        let (format, named) = (&base.layer.format, &child.layer.format);
        // What names the image says its format too.
        if format != named {
            return Some(format!("{file} is {format}, while {image} is {named}"));
        }
        // A header may name what is below by its place.
        if directory(base) != directory(child) {
            return Some(format!(
                "{file} lies in another directory than {image}, so that it cannot have that name"
            ));
        }
        let is_held = !self.renames.contains(&child.disk);
        is_held.then(|| "the file below cannot have that name while the domain is on".to_owned())
    }

    /// Whether the data of a layer can go up into its only child, since the child's may not go down.
    fn goes_up(&self, base: &LayerNode, child: &LayerNode) -> bool {
        let is_sound = base.guard == Guard::Same && child.guard == Guard::Same;
        is_sound
            && child.owner != Owner::Foreign
            && child.layer.format == ImageFormat::Qcow2
            && child.layer.snapshots.is_empty()
            && (child.layer.encrypted || !base.layer.encrypted)
            && !self.closed.contains_key(&child.layer.file)
            && self.no_job(&child.layer).is_none()
            && !matches!(base.layer.base, Below::Foreign(_))
            && !self.served
    }

    /// Why a file stays on which nothing stands any more, as a sentence; `None` where that is not worth a word.
    pub(super) fn why_left(&self, file: &str) -> Option<String> {
        let node = self.tree.get(file).filter(|_| !self.is_top(file) && !self.is_state(file))?;
        let disk = &node.disk;
        let said = format!("{file} (disk {disk}) stays, and nothing is read from it any more");
        if let Some(why) = self.closed.get(file) {
            return Some(format!("{said}: {why}"));
        }
        match node.owner {
            Owner::Domain if node.layer.snapshots.is_empty() => Some(format!(
                "{said}: it was the domain's own image, which is yours to remove; when you do not need it: rm {}",
                word(file)
            )),
            Owner::Foreign if self.left.contains(file) => {
                Some(format!("{said}: it was not made for a snapshot"))
            }
            _ => None,
        }
    }

    pub(super) fn why_kept(&self, file: &str) -> Option<String> {
        let disk = &self.tree.get(file)?.disk;
        match self.pair(file) {
            Err(why) => {
                Some(format!("{file} (disk {disk}) stays, although no snapshot needs it any more: {why}"))
            }
            Ok(_) => None,
        }
    }
}
