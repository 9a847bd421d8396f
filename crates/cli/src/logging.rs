//! The log on standard error: warnings alone, as sentences, unless more is asked for.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{Cli, Command};
use crate::render::text::visible;

/// Starts the log that the command line asks for.
pub(crate) fn start(cli: &Cli) {
    let debug = matches!(&cli.command, Command::SnapshotRevert(revert) if revert.debug);
    let verbose = cli.global.verbose.max(if debug { 2 } else { 0 });
    let level = match (verbose, cli.global.log_json) {
        // What reads errors as JSON takes no other line.
        (0, false) if cli.global.json => return,
        (0, false) => LevelFilter::WARN,
        (0 | 1, _) => LevelFilter::INFO,
        (2, _) => LevelFilter::DEBUG,
        (3.., _) => LevelFilter::TRACE,
    };
    let ours = Targets::new().with_target("xlsnap", level);
    let registry = tracing_subscriber::registry();
    if cli.global.log_json {
        let layer = tracing_subscriber::fmt::layer().json().with_writer(io::stderr);
        registry.with(layer.with_filter(ours)).init();
    } else if verbose == 0 {
        registry.with(Sentences::default().with_filter(ours)).init();
    } else {
        let colour = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
        let layer = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(io::stderr);
        registry.with(layer.with_filter(ours)).init();
    }
}

/// Warnings for people, a line each, and each once.
#[derive(Default)]
struct Sentences {
    told: Mutex<HashSet<String>>,
}

impl<S: Subscriber> Layer<S> for Sentences {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        let text = format!("{}{}", sentence.message, sentence.fields);
        if !self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            return;
        }
        // The status line is drawn again by the next step.
        let clear = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        let line = format!("{clear}xlsnap: warning: {}\n", visible(&text));
        // Written at once, so that the lines of two processes do not mix. Standard error that does not take it is no reason to stop.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// What an event says, and after it what it names beside.
#[derive(Default)]
struct Sentence {
    message: String,
    fields: String,
}

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // To a string, which does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "error" => write!(self.fields, ": {value:?}"),
            name => write!(self.fields, "; {name}: {value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let told: Vec<String> = causes.map(ToString::to_string).collect();
        self.record_str(field, &told.join(": "));
    }
}
