//! The steps of a plan in the order in which they are done: what goes together, and what one write is enough for.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Does;

/// A part of a plan: its steps are begun together, and it ends when all have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "most stages are one step, and a plan has a few dozen")]
pub enum Stage {
    /// One step.
    One(Step),
    /// Steps of different images, at the same time.
    Parallel(Vec<Step>),
    /// Steps of one instant: one transaction where a process has the disks, and all or none.
    AtOnce(Vec<Step>),
    /// Changes of one file of ours, the domain's description or a record, which is written once: all or none.
    OneWrite(Vec<Step>),
}

impl Stage {
    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::One(step) => std::slice::from_ref(step),
            Self::Parallel(steps) | Self::AtOnce(steps) | Self::OneWrite(steps) => steps,
        }
    }

    /// The steps that have commands of their own: of those that write one file the first, since it is written once.
    pub fn commanded(&self) -> &[Step] {
        match self {
            Self::OneWrite(steps) => &steps[..1.min(steps.len())],
            _ => self.steps(),
        }
    }

    /// The same, to be changed.
    pub(crate) fn steps_mut(&mut self) -> &mut [Step] {
        match self {
            Self::One(step) => std::slice::from_mut(step),
            Self::Parallel(steps) | Self::AtOnce(steps) | Self::OneWrite(steps) => steps,
        }
    }

    /// Whether one of its steps is so.
    pub(crate) fn any(&self, is_it: impl Fn(&Does) -> bool) -> bool {
        self.steps().iter().any(|step| is_it(&step.does))
    }

    /// One step on this domain.
    pub(crate) fn one(domain: Uuid, does: Does) -> Self {
        Self::One(Step { domain, does })
    }

    /// Several steps on different disks as one stage.
    pub(crate) fn of(mut steps: Vec<Step>) -> Self {
        let are_one_write =
            |steps: &[Step]| steps.windows(2).all(|two| two[0].does.writes_with(&two[1].does));
        match steps.len() {
            1 => Self::One(steps.remove(0)),
            _ if are_one_write(&steps) => Self::OneWrite(steps),
            _ => Self::Parallel(steps),
        }
    }

    /// The same stages, with each run of steps that write one file of ours as one, and each run of removals as one: a file is written once
    /// for all disks, and a look at what others have open serves all that goes.
    pub(crate) fn gathered(stages: Vec<Self>) -> Vec<Self> {
        let mut gathered: Vec<Self> = Vec::with_capacity(stages.len());
        for stage in stages {
            match (gathered.last_mut(), &stage) {
                (Some(last), Self::One(step)) if last.gathers(step) => {
                    let mut steps = last.steps().to_vec();
                    steps.push(step.clone());
                    *last = Self::of(steps);
                }
                _ => gathered.push(stage),
            }
        }
        gathered
    }

    /// Whether a step that follows can be one of this stage's.
    fn gathers(&self, step: &Step) -> bool {
        let is_other_disk = self.steps().iter().all(|own| own.does.disk() != step.does.disk());
        match self {
            Self::One(own) if own.domain != step.domain => false,
            Self::One(_) | Self::OneWrite(_) if self.any(|own| own.writes_with(&step.does)) => is_other_disk,
            Self::One(_) | Self::Parallel(_) => self.removes() && step.does.is_removal(),
            Self::OneWrite(_) | Self::AtOnce(_) => false,
        }
    }

    /// Whether all that it does is to unlink layers.
    pub(crate) fn removes(&self) -> bool {
        self.steps().iter().all(|step| step.does.is_removal())
    }

    /// Whether it only looks: a dry run does not list it.
    pub fn looks(&self) -> bool {
        self.steps().iter().all(|step| matches!(step.does, Does::Look(_)))
    }
}

/// One step of a plan, on one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The domain's uuid.
    pub domain: Uuid,
    /// What it does.
    pub does: Does,
}

/// Whether what a guest holds in memory is lost with the stage `at`, its process is known to be gone, or another one is there from then on.
/// Looking afterwards cannot tell that, where disks go back without a mark of theirs, so that the journal says how far the list is.
pub(crate) fn gives_up_guest(stages: &[Stage], at: usize) -> bool {
    let ended = at
        .checked_sub(1)
        .is_some_and(|before| stages[before].any(|does| matches!(does, Does::EndProcess(_))));
    ended
        || stages[at].any(|does| {
            matches!(
                does,
                Does::ResetGuest
                    | Does::EndProcess(_)
                    | Does::Start { .. }
                    | Does::Restore { .. }
                    | Does::Load { .. }
            )
        })
}

#[cfg(test)]
mod tests {
    use xlsnap_types::model::ImageFormat;

    use super::*;
    use crate::LayerFile;
    use crate::layers::PartFiles;

    const DOMAIN: Uuid = Uuid::from_u128(1);

    fn file(disk: &str) -> LayerFile {
        let format = ImageFormat::Qcow2;
        LayerFile { disk: disk.parse().unwrap(), file: format!("/{disk}"), format, identity: None }
    }

    fn part(snapshot: &str, disk: &str) -> Does {
        let LayerFile { disk, file, format, .. } = file(disk);
        let (image, overlay) = (file.clone(), file);
        let from = PartFiles { image, format: format.clone(), overlay, overlay_format: format };
        Does::SetPart { snapshot: snapshot.parse().unwrap(), disk, to: from.clone(), from }
    }

    fn gathered(all: Vec<Does>) -> Vec<(&'static str, usize)> {
        let stages = all.into_iter().map(|does| Stage::one(DOMAIN, does)).collect();
        let kind = |stage: &Stage| match stage {
            Stage::One(_) => "one",
            Stage::Parallel(_) => "parallel",
            Stage::AtOnce(_) => "at once",
            Stage::OneWrite(_) => "one write",
        };
        Stage::gathered(stages).iter().map(|stage| (kind(stage), stage.steps().len())).collect()
    }

    #[test]
    fn what_writes_one_file_is_one_write() {
        let parts = vec![part("s1", "vda"), part("s1", "vdb"), part("s2", "vda"), part("s2", "vdb")];
        assert_eq!(gathered(parts), [("one write", 2), ("one write", 2)]);
        // Once more for a disk: the later word counts, in a write of its own.
        let again = vec![part("s1", "vda"), part("s1", "vda")];
        assert_eq!(gathered(again), [("one", 1), ("one", 1)]);
        let removals = vec![Does::Unlink(file("vda")), Does::Unlink(file("vda")), Does::Unlink(file("vdb"))];
        assert_eq!(gathered(removals), [("parallel", 3)]);
        let mixed = vec![Does::Unlink(file("vda")), part("s1", "vda"), Does::Unlink(file("vdb"))];
        assert_eq!(gathered(mixed), [("one", 1), ("one", 1), ("one", 1)]);
    }
}
