//! The layers of chains: those that are gone, those that were written to although something stands on them, and files that took their
//! names.

use crate::layers::{Guard, LayerNode, Stray};
use crate::orphan::{deleting, word};
use crate::plan::{LayerFacts, note, relocating};
use crate::step::Does;
use crate::{CheckRequest, DomainRef, Finding, FindingCode, Inventory, Repair};

/// Compares the layers with the ledger, the records and the headers.
pub(super) fn compare(
    domain: &DomainRef,
    inventory: &Inventory,
    facts: &LayerFacts,
    request: &CheckRequest,
) -> Vec<(Finding, Option<Does>)> {
    let mut found = Vec::new();
    for (layer, by) in &facts.tree.missing {
        // Of an overlay that a record names the comparison of records tells.
        let is_overlay = facts.parts.iter().any(|part| part.files.overlay == layer.file);
        if is_overlay {
            continue;
        }
        let finding = Finding {
            code: FindingCode::LayerMissing,
            disk: Some(layer.disk.clone()),
            snapshot: None,
            what: format!("{}, which {by} names, is not there", layer.file),
            risk: "what stands on it cannot be opened".to_owned(),
            repair: Repair::ByHand,
            advice: format!(
                "if it was moved or renamed: {}; else bring {} back, from a backup if it has to be",
                relocating(domain, &layer.file),
                layer.file
            ),
        };
        found.push((finding, None));
    }
    found.extend(facts.strays.iter().map(|stray| (astray(domain, stray), None)));
    for node in facts.tree.nodes() {
        let is_top = inventory.disks.iter().any(|disk| disk.image == node.layer.file);
        found.extend(of_layer(domain, (node, is_top), &facts.parts, request));
    }
    found
}

fn astray(domain: &DomainRef, stray: &Stray) -> Finding {
    let Stray { disk, file, base } = stray;
    Finding {
        code: FindingCode::OverlayOrphan,
        disk: Some(disk.clone()),
        snapshot: None,
        what: format!("no disk, record or ledger names {file}, an overlay on {base}"),
        risk: format!("it takes space; {base} is not merged with another file while it stands there"),
        repair: Repair::ByHand,
        advice: format!(
            "delete it, if it is not needed: {}; if a guest uses it, describe that as a domain (xlsnap domain add)",
            deleting(domain, file)
        ),
    }
}

fn of_layer(
    domain: &DomainRef,
    (node, is_top): (&LayerNode, bool),
    parts: &[crate::layers::ExternalPart],
    request: &CheckRequest,
) -> Option<(Finding, Option<Does>)> {
    let file = &node.layer.file;
    let snapshot = parts.iter().find(|part| part.files.image == *file).map(|part| part.snapshot.to_string());
    let back = snapshot
        .as_ref()
        .map(|name| format!(", and, to go on from that: xlsnap revert {} {}", domain.name, word(name)));
    let back = back.unwrap_or_default();
    let disk = &node.disk;
    let command = format!("xlsnap check {}", domain.name);
    let (code, what, risk) = match node.guard {
        Guard::Same => return None,
        Guard::Written => (
            FindingCode::LayerWritten,
            format!("{file} was written to, although it is read-only for what stands on it"),
            "the snapshot's state and every layer above it may read wrong data",
        ),
        Guard::Replaced => (
            FindingCode::LayerReplaced,
            format!("{file} is another file than the one that the ledger of the domain has"),
            "it is neither written to nor removed; what stands on it may read wrong data",
        ),
    };
    let is_accepted = request.keep_base.contains(disk);
    let finding = Finding {
        code,
        disk: Some(disk.clone()),
        snapshot,
        what,
        risk: risk.to_owned(),
        repair: if is_accepted { Repair::Possible } else { Repair::ByHand },
        advice: if is_accepted {
            "the ledger takes it for what it holds now".to_owned()
        } else {
            let exchanged = match node.guard {
                Guard::Replaced => format!(
                    "; if it exchanged its name with another one, name both: {} --relocate NEW={}",
                    relocating(domain, file),
                    word(file)
                ),
                _ => String::new(),
            };
            format!(
                "put the file of before back{exchanged}; or, if what it holds now is right: {command} --keep-base {disk}{back}; or, if what the disk's image holds above it is: {command} --keep-overlay {disk}"
            )
        },
    };
    let fix = is_accepted.then(|| Does::NoteLayers { add: vec![note(node, !is_top)], remove: Vec::new() });
    Some((finding, fix))
}
