//! Files that are not the domain's and that it may write to all the same, since the user said so of each by its name (`--into-base`).

use std::collections::{BTreeMap, BTreeSet};

use xlsnap_types::model::Owner;

use super::{LayerFacts, refused};
use crate::layers::{Guard, LayerNode};
use crate::orphan::word;
use crate::step::{Does, Stage};
use crate::{DomainRef, Effect, Error, Kind};

impl LayerFacts {
    /// Lets the domain write to these files, of those below its images.
    pub(crate) fn lend(&mut self, domain: &DomainRef, files: &BTreeSet<String>) -> Result<(), Error> {
        for file in files {
            let Some(node) = self.tree.get(file) else { return Err(self.not_below(domain, file)) };
            if node.guard != Guard::Same {
                let message = format!(
                    "nothing of domain {} goes into {file}: it was written to, or another file has its name now",
                    domain.name
                );
                return Err(refused(message)
                    .with_advice(format!("see what is wrong with it: xlsnap check {}", domain.name)));
            }
            // What is the domain's is written to without a word.
            if node.owner == Owner::Foreign {
                self.lent.insert(file.clone());
            }
        }
        Ok(())
    }

    fn not_below(&self, domain: &DomainRef, file: &str) -> Error {
        let can_be = |node: &&LayerNode| node.owner == Owner::Foreign && node.guard == Guard::Same;
        let foreign: Vec<String> = self
            .tree
            .nodes()
            .iter()
            .filter(can_be)
            .map(|node| format!("--into-base {}", word(&node.layer.file)))
            .collect();
        let advice = match foreign.is_empty() {
            true => "leave --into-base out: all files below its disks are its own".to_owned(),
            false => format!("it can be: {}", foreign.join(", or ")),
        };
        let message = format!("{file} is no file below a disk of domain {}", domain.name);
        Error::new(Kind::NotFound, Effect::None, message).with_advice(advice)
    }

    /// Refuses a plan that writes nothing to a file which was named for that; `why_not` says why no data goes down into it.
    pub(crate) fn refuse_unused(
        &self,
        domain: &DomainRef,
        stages: &[Stage],
        why_not: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let writes = |does: &Does, file: &str| match does {
            Does::Merge(merge) => merge.into.file == file,
            Does::DeleteInLayer(target) => target.layer.file == file,
            _ => false,
        };
        let is_unused =
            |file: &&String| !stages.iter().flat_map(Stage::steps).any(|step| writes(&step.does, file));
        let Some(file) = self.lent.iter().find(is_unused) else { return Ok(()) };
        let why = why_not.get(file).map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("nothing of domain {} would be written to {file}{why}", domain.name);
        Err(refused(message).with_advice("change that, or leave --into-base out"))
    }
}
