//! Exit codes: few, documented in docs/errors.md, and stable.

use std::process::ExitCode;

use serde::Serialize;
use xlsnap::Kind;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Exit {
    /// It was done.
    Done = 0,
    /// It failed, and nothing was changed but what the failure tells.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The domain, snapshot or disk is not there.
    NotFound = 3,
    /// Another process holds the domain, an image or the monitor.
    Busy = 4,
    /// A check refused it before any effect.
    Refused = 5,
    /// It failed, and `xlsnap recover` has to finish or undo it.
    RecoveryPending = 6,
    /// `xlsnap check` has findings left.
    FindingsLeft = 7,
}

impl Exit {
    /// The process's exit status.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::NotFound => Self::NotFound,
            Kind::Busy => Self::Busy,
            Kind::Refused => Self::Refused,
            Kind::RecoveryPending => Self::RecoveryPending,
            // `Failed`, and what a newer library may add.
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of docs/errors.md and the enum say the same.
    #[test]
    fn the_documented_codes_are_the_codes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
        let document = std::fs::read_to_string(path).unwrap();
        let documented: Vec<(String, String)> = document
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
                let code = cells.next()?;
                code.parse::<u8>().ok()?;
                Some((code.to_owned(), cells.next()?.trim_matches('`').to_owned()))
            })
            .collect();
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Busy,
            Exit::Refused,
            Exit::RecoveryPending,
            Exit::FindingsLeft,
        ];
        let word = |exit: &Exit| serde_json::to_value(exit).unwrap().as_str().unwrap().to_owned();
        let coded: Vec<(String, String)> = all.iter().map(|e| (e.code().to_string(), word(e))).collect();
        assert_eq!(documented, coded);
    }
}
