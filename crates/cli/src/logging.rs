//! The log on standard error: off unless asked for.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{Cli, Command};

/// Starts the log that the command line asks for.
pub(crate) fn start(cli: &Cli) {
    let debug = matches!(&cli.command, Command::SnapshotRevert(revert) if revert.debug);
    let verbose = cli.global.verbose.max(if debug { 2 } else { 0 });
    let level = match (verbose, cli.global.log_json) {
        (0, false) => return,
        (0 | 1, _) => LevelFilter::INFO,
        (2, _) => LevelFilter::DEBUG,
        (3.., _) => LevelFilter::TRACE,
    };
    let ours = Targets::new().with_target("xlsnap", level);
    let registry = tracing_subscriber::registry();
    if cli.global.log_json {
        let layer = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr);
        registry.with(layer.with_filter(ours)).init();
    } else {
        let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        let layer = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(std::io::stderr);
        registry.with(layer.with_filter(ours)).init();
    }
}
