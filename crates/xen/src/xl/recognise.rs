//! What xl means by what it says. The texts are those of Xen 4.17; one that is not known here is a failure.

use super::Kind;
use crate::domains::GuestKind;

/// The kind of a failure.
pub(super) fn kind(said: &str) -> Kind {
    const MEANINGS: [(&str, Kind); 17] = [
        ("No space left on device", Kind::NoSpace),
        ("not enough free memory", Kind::NoSpace),
        ("failed to free memory", Kind::NoSpace),
        ("already exists.", Kind::NameInUse),
        ("Could not obtain handle on privileged command interface", Kind::NoXen),
        ("Could not open control interface", Kind::NoXen),
        ("cannot init xl context", Kind::NoXen),
        ("cannot open libxc handle", Kind::NoXen),
        ("Can't find hypervisor information", Kind::NoXen),
        ("not running on Xen", Kind::NoXen),
        ("wrong magic number", Kind::Malformed),
        ("mandatory flag", Kind::Malformed),
        ("Restore failed", Kind::Malformed),
        ("Invalid header", Kind::Malformed),
        ("is an invalid domain identifier", Kind::NoSuchDomain),
        ("does not exist", Kind::NoSuchDomain),
        ("Non-existant domain", Kind::NoSuchDomain),
    ];
    // The first that applies: a restore that fails for want of memory or of a name says that it failed, too, and that the
    // domain which it could not make is not there.
    MEANINGS.into_iter().find(|(text, _)| said.contains(text)).map_or(Kind::Failed, |(_, kind)| kind)
}

/// The bytes of memory that are saved, and of how many, as the last line of progress says: `xc: progress: Frames: 2048/40960    5%`.
/// A frame is a page of 4 KiB.
pub(super) fn progress(said: &str) -> Option<(u64, u64)> {
    const PAGE: u64 = 4096;
    let line = said.rsplit(['\n', '\r']).find_map(|line| line.split_once("progress: Frames: "))?.1;
    let (done, rest) = line.split_once('/')?;
    let total = rest.split_ascii_whitespace().next()?;
    let bytes = |frames: &str| frames.parse::<u64>().ok()?.checked_mul(PAGE);
    Some((bytes(done)?, bytes(total)?))
}

/// Whether Xen can tell which pages a guest of this kind writes to, as `xl info` says of the host: by the processor (`hap`), or by page tables
/// of its own (`shadow`), which Debian's Xen is built without. A PV guest has the second alone.
pub(super) fn saves_live(info: &str, kind: GuestKind) -> bool {
    let line = info.lines().find_map(|line| line.strip_prefix("virt_caps")?.trim_start().strip_prefix(':'));
    let mut can = line.unwrap_or_default().split_ascii_whitespace();
    can.any(|word| word == "shadow" || word == "hap" && kind != GuestKind::Pv)
}

/// What it said without its progress and what is only for the curious, on one line that does nothing to a terminal.
pub(super) fn essence(said: &str) -> String {
    const SHOWN: usize = 1500;
    const NOISE: [&str; 7] = [
        "xc: progress:",
        "xc: info:",
        "Saving to ",
        "Loading new save file",
        "Savefile contains",
        "Parsing config from",
        "Failed to save domain, resuming domain",
    ];
    let lines = said.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let told: Vec<&str> = lines.filter(|line| !NOISE.iter().any(|noise| line.starts_with(noise))).collect();
    let line = told.join("; ");
    let skipped = line.chars().count().saturating_sub(SHOWN);
    let shown = line.chars().skip(skipped).map(|c| if c.is_control() { ' ' } else { c });
    if skipped == 0 { shown.collect() } else { "... ".chars().chain(shown).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from xl 4.17.
    const FULL: &str = "\
Saving to /mnt/small/x.save new xl format (info 0x3/0x0/1306)
xc: info: Saving domain 2, type x86 PV
xc: progress: Frames: 2048/40960    5%
xc: progress: Frames: 4096/40960   10%
xc: error: Failed to write page data to stream (28 = No space left on device): Internal error
Failed to save domain, resuming domain
";

    #[test]
    fn kinds_are_recognised() {
        let in_use = "libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain 3:Domain with name \"pv1\" already exists.\n\
                      libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 3:Non-existant domain";
        let truncated = "xc: error: Restore failed (0 = Success): Internal error\n\
                         libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 4:Non-existant domain";
        for (said, kind) in [
            (FULL, Kind::NoSpace),
            ("nosuch is an invalid domain identifier (rc=-6)", Kind::NoSuchDomain),
            (in_use, Kind::NameInUse),
            (truncated, Kind::Malformed),
            ("Failed to open temp file /nonexistent/x.save for writing", Kind::Failed),
            ("", Kind::Failed),
        ] {
            assert_eq!(super::kind(said), kind, "{said}");
        }
    }

    #[test]
    fn what_can_be_saved_live_is_told() {
        use GuestKind::{Hvm, Pv, Pvh};
        let debian = "hw_caps : 078bf3fd\nvirt_caps              : pv hvm hap gnttab-v1 gnttab-v2\nxen_version : 4.17.7";
        assert!(saves_live(debian, Hvm) && saves_live(debian, Pvh) && !saves_live(debian, Pv));
        let other = "virt_caps              : pv hvm hvm_directio pv_directio hap shadow";
        assert!(saves_live(other, Pv) && saves_live(other, Hvm));
        let old = "virt_caps              : hvm hvm_directio\n";
        assert!(!saves_live(old, Hvm) && !saves_live("", Hvm));
    }

    #[test]
    fn progress_is_the_last_that_was_told() {
        assert_eq!(progress(FULL), Some((4096 * 4096, 40960 * 4096)));
        assert_eq!(progress("xc: progress: Frames: 1/x"), None);
        assert_eq!(progress("xc: progress: Frames: 18446744073709551615/2 "), None);
        assert_eq!(progress(""), None);
    }

    #[test]
    fn what_is_shown_is_what_went_wrong() {
        let shown = essence(FULL);
        assert_eq!(
            shown,
            "xc: error: Failed to write page data to stream (28 = No space left on device): Internal error"
        );
        assert!(essence(&"é\u{1b}[2J".repeat(2000)).chars().all(|c| !c.is_control()));
    }
}
