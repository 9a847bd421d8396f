//! Colours, where a terminal shows them and the user did not turn them off.

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style as Ansi};

/// Whether the answer is coloured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// As standard output allows: a terminal, and no `NO_COLOR`.
    pub(crate) fn of_stdout() -> Self {
        Self { colour: AutoStream::choice(&std::io::stdout()) != ColorChoice::Never }
    }

    /// Something that is as it should be.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }

    /// Something to look at.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }

    /// The thing that the answer is about.
    pub(crate) fn strong(self, text: &str) -> String {
        self.paint(Ansi::new().bold(), text)
    }

    fn paint(self, style: Ansi, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}
