//! Files that are not the domain's and that it may write to all the same, since the user said so of each by its name (`--into-base`).

use std::collections::{BTreeMap, BTreeSet};

use xlsnap_types::model::Owner;

use super::{LayerFacts, refused};
use crate::layers::LayerNode;
use crate::step::{Does, Stage};
use crate::{DomainRef, Effect, Error, Kind};

impl LayerFacts {
    /// Makes these files, of those below the domain's images, ones that it may write to.
    pub(crate) fn lend(&mut self, domain: &DomainRef, files: &BTreeSet<String>) -> Result<(), Error> {
        for file in files {
            match self.tree.lend(file) {
                None => return Err(self.not_below(domain, file)),
                Some(true) => drop(self.lent.insert(file.clone())),
                // What is the domain's is written to without a word.
                Some(false) => {}
            }
        }
        Ok(())
    }

    fn not_below(&self, domain: &DomainRef, file: &str) -> Error {
        let is_foreign = |node: &&LayerNode| node.owner == Owner::Foreign;
        let foreign: Vec<&str> =
            self.tree.nodes().iter().filter(is_foreign).map(|node| node.layer.file.as_str()).collect();
        let advice = match foreign.is_empty() {
            true => "leave --into-base out: all files below its disks are its own".to_owned(),
            false => format!("it can be said of these: {}", foreign.join(" ")),
        };
        let message = format!("{file} is no file below a disk of domain {}", domain.name);
        Error::new(Kind::NotFound, Effect::None, message).with_advice(advice)
    }

    /// Refuses a plan that writes nothing to a file which was lent for that; `unwritten` says why no data goes down into it.
    pub(crate) fn refuse_unused(
        &self,
        domain: &DomainRef,
        stages: &[Stage],
        unwritten: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let writes = |does: &Does, file: &str| match does {
            Does::Merge(merge) => merge.into.file == file,
            Does::DeleteInLayer(target) => target.layer.file == file,
            _ => false,
        };
        let is_unused =
            |file: &&String| !stages.iter().flat_map(Stage::steps).any(|step| writes(&step.does, file));
        let Some(file) = self.lent.iter().find(is_unused) else { return Ok(()) };
        let why = unwritten.get(file).map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("nothing of domain {} would be written to {file}{why}", domain.name);
        Err(refused(message).with_advice("change that, or leave --into-base out"))
    }
}
