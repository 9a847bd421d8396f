//! What steps on layers are carried out by while QEMU has the disks: for a dry run.

use xlsnap_orchestrator::{Command, Does, LayerFile, PortError, Stage};

use super::Live;

impl Live {
    /// What a step on layers that QEMU may have open is carried out by; `None` for one that is done elsewhere. `runs` is whether the guest
    /// does by then, and `before` what is done before.
    ///
    /// # Errors
    /// When QEMU cannot be asked what it has.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn layer_commands(
        &self,
        does: &Does,
        runs: bool,
        before: &[Stage],
    ) -> Result<Option<Vec<Command>>, PortError> {
        if !matches!(
            does,
            Does::Merge(_)
                | Does::Reheader { .. }
                | Does::SwapTop { .. }
                | Does::Detach(_)
                | Does::Unlink(_)
                | Does::RemoveLayer(_)
                | Does::EmptyLayer { .. }
                | Does::DeleteInLayer(_)
                | Does::Stream(_)
        ) {
            return Ok(None);
        }
        let is_detached = |to: &LayerFile| {
            let is_it = |does: &Does| matches!(does, Does::Detach(from) if from.disk == to.disk);
            before.iter().flat_map(Stage::steps).any(|step| is_it(&step.does))
        };
        let known = self.before(before.iter().flat_map(Stage::steps).map(|step| &step.does)).await?;
        let closed = &known.closed;
        Ok(Some(match does {
            Does::Merge(merge) => self.merge_commands(merge, runs, &known).await?,
            Does::Reheader { child, .. } => self.reheader_commands(child, &known).await?,
            Does::SwapTop { to, .. } => self.swap_commands(to, is_detached(to)).await?,
            Does::Detach(from) => self.detach_commands(from, closed).await?,
            Does::Unlink(layer) => {
                let merged = known.by_job.contains(&layer.file);
                self.unlink_commands(&layer.file, merged, closed).await?
            }
            Does::Stream(stream) => self.stream_commands(stream, &known).await?,
            Does::DeleteInLayer(target) => self.delete_inside_commands(&target.layer, &known).await?,
            Does::RemoveLayer(overlay) => self.unlink_commands(&overlay.file, false, closed).await?,
            Does::EmptyLayer { layer, overlay } => {
                let mut words = self.unlink_commands(&layer.file, false, closed).await?;
                words.push(Command::on("qemu-img create", &overlay.file));
                words
            }
            _ => return Ok(None),
        }))
    }
}
