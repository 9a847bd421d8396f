//! `xlsnap list`.

use std::borrow::Cow;
use std::io::Write;

use xlsnap::{DomainListing, Listing, Row, tree};

use super::health::go_on;
use crate::answer::{ListAnswer, chain};
use crate::args::List;
use crate::context::{Context, selector};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::chain::write_chains;
use crate::render::forest::drawings;
use crate::render::style::Style;
use crate::render::table::write_table;
use crate::render::text::visible;
use crate::render::time::Times;
use crate::render::words;

pub(crate) fn run(context: &Context, args: &List) -> Result<Exit, Failure> {
    let host = context.host()?;
    let titled = args.domain.domain.is_none();
    let mut failed = None;
    let listings = context.block_on(async {
        let selectors = match &args.domain.domain {
            Some(domain) => vec![selector(domain, &args.domain.monitor)?],
            None => host.domains().await?,
        };
        let mut listings = Vec::with_capacity(selectors.len());
        for selector in &selectors {
            match host.list(selector).await {
                Ok(listing) => {
                    // Without external snapshots a disk is one file.
                    let wanted = args.tree && listing.listing.rows.iter().any(|row| row.external > 0);
                    let chains = if wanted { Some(host.chains(selector).await) } else { None };
                    listings.push((listing, chains));
                }
                Err(error) if titled => go_on(context, &mut failed, error.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok::<_, Failure>(listings)
    })??;
    context.answer(&ListAnswer::new(&listings), |out, style| {
        for (i, (of_domain, chains)) in listings.iter().enumerate() {
            if titled {
                let gap = if i > 0 { "\n" } else { "" };
                writeln!(out, "{gap}domain {}", style.strong(&visible(&of_domain.domain)))?;
            }
            tell(out, style, of_domain, args.tree)?;
            match chains {
                None => {}
                Some(Ok(files)) => {
                    writeln!(out)?;
                    write_chains(out, &files.iter().collect::<Vec<_>>())?;
                }
                Some(Err(error)) => {
                    let why = visible(&chain(error).join(": ")).into_owned();
                    writeln!(out, "\nthe files of its disks were not looked at: {why}")?;
                }
            }
        }
        Ok(())
    })?;
    Ok(failed.unwrap_or(Exit::Done))
}

fn tell(out: &mut dyn Write, style: Style, of_domain: &DomainListing, as_tree: bool) -> Result<(), Failure> {
    let Listing { rows, unreadable, current } = &of_domain.listing;
    words::pending(out, style, &of_domain.domain, of_domain.pending.as_ref())?;
    if rows.is_empty() && unreadable.is_empty() {
        writeln!(out, "no snapshots")?;
    }
    let times = Times::local();
    let line = |drawing: &str, row: &Row| {
        let here = if current.as_ref() == Some(&row.name) { "* " } else { "  " };
        [
            Cow::Owned(format!("{here}{drawing}{}", visible(row.name.as_str()))),
            Cow::Owned(times.human(row.creation_time)),
            Cow::Borrowed(words::state(row.state)),
            Cow::Owned(disks(row)),
            Cow::Borrowed(words::consistency(row.consistency)),
        ]
    };
    const HEADER: [&str; 5] = ["  NAME", "CREATED", "STATE", "DISKS", "CONSISTENCY"];
    if rows.is_empty() {
        // Only what cannot be read is left to tell.
    } else if as_tree {
        let nodes = tree(rows, current.as_ref());
        let drawings = drawings(&nodes);
        let lines = nodes.iter().zip(&drawings).map(|(node, drawing)| line(drawing, &rows[node.row]));
        write_table(out, HEADER, lines)?;
    } else {
        write_table(out, HEADER, rows.iter().map(|row| line("", row)))?;
    }
    for (name, why) in unreadable {
        writeln!(out, "{} {}: {}", style.bad("unreadable:"), visible(name), visible(&why.to_string()))?;
    }
    Ok(())
}

fn disks(row: &Row) -> String {
    match (row.internal, row.external) {
        (internal, 0) => internal.to_string(),
        (0, external) => format!("{external} external"),
        (internal, external) => format!("{internal} + {external} external"),
    }
}
