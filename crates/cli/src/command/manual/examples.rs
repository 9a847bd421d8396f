//! What a manual page shows beside the definition of its command. A test holds each line against those that tests run: the
//! lines of docs/cookbook.md and docs/commands.md.

/// A line, and what it is for.
pub(super) struct Example(pub(super) &'static str, pub(super) &'static str);

/// What the page of one command shows.
pub(super) struct Shown {
    /// The page's name.
    page: &'static str,
    pub(super) examples: &'static [Example],
    /// Other pages, of section 1.
    pub(super) see: &'static [&'static str],
    /// Whether it reads or writes the files below the root.
    pub(super) files: bool,
}

/// What the page shows. One that stands nowhere shows nothing, and a test finds it.
pub(super) fn shown(page: &str) -> &'static Shown {
    const NOTHING: Shown = Shown { page: "", examples: &[], see: &[], files: false };
    SHOWN.iter().find(|shown| shown.page == page).unwrap_or(&NOTHING)
}

const fn on_domains(page: &'static str, see: &'static [&'static str], examples: &'static [Example]) -> Shown {
    Shown { page, examples, see, files: true }
}

const fn alone(page: &'static str, see: &'static [&'static str], examples: &'static [Example]) -> Shown {
    Shown { page, examples, see, files: false }
}

const SHOWN: [Shown; 28] = [
    on_domains(
        "xlsnap",
        &[
            "xlsnap-domain",
            "xlsnap-create",
            "xlsnap-list",
            "xlsnap-revert",
            "xlsnap-delete",
            "qemu-img",
            "xl",
        ],
        &[
            Example(
                "xlsnap domain add web --disk vda=/srv/vm/web.qcow2 --disk vdb=/srv/vm/data.qcow2",
                "Describe a domain by its images.",
            ),
            Example(
                "xlsnap create web before-upgrade --description \"known good\"",
                "Make a snapshot of all its disks.",
            ),
            Example("xlsnap list web --tree", "See what was made on top of what."),
            Example(
                "xlsnap revert web before-upgrade --safety lost",
                "Go back, and keep what would be lost.",
            ),
        ],
    ),
    on_domains(
        "xlsnap-create",
        &["xlsnap-list", "xlsnap-revert", "xlsnap-delete"],
        &[
            Example("xlsnap create web", "All writable disks; the snapshot is named by the time."),
            Example("xlsnap create web after-upgrade --dry-run", "Only say what would be done."),
            Example(
                "xlsnap create web with-memory --memory",
                "The guest's memory too, so that it goes on exactly where it was.",
            ),
            Example(
                "xlsnap create web quiet --quiesce",
                "With the guest's file systems at rest; its agent has to run.",
            ),
            Example("xlsnap create web system --disk vda", "One disk, and no other."),
            Example(
                "xlsnap create app s1 --external vda,vdb",
                "A new file on top of each image takes the writes; the image keeps the state.",
            ),
            Example(
                "xlsnap create web nightly --label by=cron --expires 14d",
                "With words for the script that deletes it.",
            ),
        ],
    ),
    on_domains(
        "xlsnap-list",
        &["xlsnap-show", "xlsnap-domain-list"],
        &[
            Example("xlsnap list", "The snapshots of every domain."),
            Example("xlsnap list web --tree", "Those of one, as a tree; * is where its disks are now."),
        ],
    ),
    on_domains(
        "xlsnap-show",
        &["xlsnap-list", "xlsnap-revert"],
        &[Example("xlsnap show web before-upgrade", "All that is known of one snapshot.")],
    ),
    on_domains(
        "xlsnap-revert",
        &["xlsnap-create", "xlsnap-recover", "xlsnap-domain-start"],
        &[
            Example(
                "xlsnap revert web before-upgrade --safety lost",
                "Go back, and keep what would be lost as another snapshot.",
            ),
            Example("xlsnap revert web with-memory", "The guest goes on where it was."),
            Example(
                "xlsnap revert web with-memory --without-memory",
                "The disks alone, if the memory is damaged or lost.",
            ),
            Example("xlsnap revert web before-upgrade --paused", "Have a look before the guest runs."),
            Example("xlsnap revert web s1 --dry-run", "Only say what would be done."),
        ],
    ),
    on_domains(
        "xlsnap-delete",
        &["xlsnap-create", "xlsnap-flatten", "xlsnap-check"],
        &[
            Example("xlsnap delete web system", "One snapshot; what was made on top of it stays."),
            Example("xlsnap delete web packed --children", "And everything that was made on top of it."),
            Example("xlsnap delete app s2 --no-merge", "Merge the files of an external one later."),
            Example("xlsnap delete app s3 --rate 50M", "Move no more than 50 MiB a second."),
        ],
    ),
    on_domains(
        "xlsnap-flatten",
        &["xlsnap-create", "xlsnap-delete"],
        &[
            Example("xlsnap flatten app -n", "What is copied into which file."),
            Example("xlsnap flatten app --disk vda", "One disk."),
            Example(
                "xlsnap flatten clone --into-base /srv/vm/clone/base.qcow2",
                "What the image has goes down into the file below it, which is not the domain's.",
            ),
            Example(
                "xlsnap flatten app --keep 3",
                "First delete the older snapshots, all but the nearest three.",
            ),
        ],
    ),
    on_domains(
        "xlsnap-check",
        &["xlsnap-recover", "xlsnap-delete", "qemu-img"],
        &[
            Example("xlsnap check", "Every domain."),
            Example("xlsnap check web --repair", "Do what can lose nothing."),
            Example("xlsnap check web --deep", "Read every memory file, and check every image."),
            Example("xlsnap check web --adopt theirs", "Make a record of a snapshot that qemu-img made."),
            Example(
                "xlsnap check app --relocate /srv/vm/app=/srv/ssd/app",
                "Follow a directory that was moved.",
            ),
        ],
    ),
    on_domains(
        "xlsnap-recover",
        &["xlsnap-check", "xlsnap-revert"],
        &[
            Example("xlsnap recover web --dry-run", "What would be finished or undone."),
            Example("xlsnap recover", "Finish or undo it, on every domain."),
        ],
    ),
    on_domains(
        "xlsnap-domain",
        &["xlsnap-domain-add", "xlsnap-domain-start", "xlsnap-domain-stop"],
        &[
            Example("xlsnap domain add mail --qmp /run/mail.qmp", "Let a running QEMU tell its disks."),
            Example("xlsnap domain list", "The domains that are described."),
        ],
    ),
    on_domains(
        "xlsnap-domain-add",
        &["xlsnap-domain-show", "xlsnap-domain-remove"],
        &[
            Example(
                "xlsnap domain add web --disk vda=/srv/vm/web.qcow2 --disk vdb=/srv/vm/data.qcow2",
                "One that is off, or that is only files.",
            ),
            Example(
                "xlsnap domain add db --disk vda=/srv/vm/db.qcow2 --qmp /run/db.qmp",
                "With the socket of its QEMU.",
            ),
            Example("xlsnap domain add mail --qmp /run/mail.qmp", "Let a running QEMU tell its disks."),
        ],
    ),
    on_domains(
        "xlsnap-domain-list",
        &["xlsnap-domain-show", "xlsnap-list"],
        &[Example("xlsnap domain list", "Each with its kind, its uuid and its socket.")],
    ),
    on_domains(
        "xlsnap-domain-show",
        &["xlsnap-domain-status", "xlsnap-domain-list"],
        &[Example("xlsnap domain show web", "Its file, its disks, and how it is reached now.")],
    ),
    on_domains(
        "xlsnap-domain-remove",
        &["xlsnap-domain-forget", "xlsnap-domain-add"],
        &[Example("xlsnap domain remove app --force", "Its file; the records of its snapshots stay.")],
    ),
    on_domains(
        "xlsnap-domain-forget",
        &["xlsnap-domain-remove"],
        &[Example(
            "xlsnap domain forget app --records-only",
            "The records too; images, overlays and memory files stay.",
        )],
    ),
    on_domains(
        "xlsnap-domain-start",
        &["xlsnap-domain-run", "xlsnap-domain-stop", "xlsnap-domain-status"],
        &[Example("xlsnap domain start web", "Returns when QEMU's monitor answers.")],
    ),
    on_domains(
        "xlsnap-domain-stop",
        &["xlsnap-domain-start", "xlsnap-domain-status"],
        &[
            Example("xlsnap domain stop web", "Ask the guest, then tell QEMU, then kill it."),
            Example(
                "xlsnap domain stop web --powerdown 300 --quit 0 --kill 0",
                "Give the guest five minutes, and do nothing else. If it runs still, the exit code is 1.",
            ),
            Example("xlsnap domain stop web --powerdown 0", "Do not ask the guest; QEMU closes its images."),
        ],
    ),
    on_domains(
        "xlsnap-domain-status",
        &["xlsnap-domain-show", "xlsnap-domain-start"],
        &[Example("xlsnap domain status web", "Off, running or paused; its process, its sockets.")],
    ),
    on_domains(
        "xlsnap-domain-run",
        &["xlsnap-domain-start", "xlsnap-domain-stop"],
        &[Example("xlsnap domain run web", "On this terminal, until it ends.")],
    ),
    alone(
        "xlsnap-domain-help",
        &["xlsnap-domain", "xlsnap-help"],
        &[Example("xlsnap domain help start", "The same as `xlsnap domain start --help`.")],
    ),
    alone(
        "xlsnap-json",
        &["xlsnap-snapshot-create"],
        &[
            Example("xlsnap json record", "The canonical form, or where it is wrong."),
            Example("xlsnap json --libxl record", "Take what libxl itself takes."),
        ],
    ),
    alone(
        "xlsnap-completions",
        &["xlsnap-man"],
        &[Example("xlsnap completions bash > /etc/bash_completion.d/xlsnap", "For every user's bash.")],
    ),
    alone(
        "xlsnap-man",
        &["xlsnap-help", "man"],
        &[Example("xlsnap man --out /usr/local/share/man/man1", "A page for each command.")],
    ),
    alone(
        "xlsnap-help",
        &["xlsnap-man"],
        &[Example("xlsnap help create", "The same as `xlsnap create --help`.")],
    ),
    on_domains(
        "xlsnap-snapshot-create",
        &["xlsnap-create", "xlsnap-snapshot-revert", "xl"],
        &[
            Example("xlsnap snapshot-create snap.cfg web", "As the file says."),
            Example("xlsnap snapshot-create -n s1 -D web", "The disks alone."),
        ],
    ),
    on_domains(
        "xlsnap-snapshot-list",
        &["xlsnap-list", "xl"],
        &[Example("xlsnap snapshot-list -l web", "Descriptions and disks too.")],
    ),
    on_domains(
        "xlsnap-snapshot-delete",
        &["xlsnap-delete", "xl"],
        &[Example("xlsnap snapshot-delete -n s1 web", "Delete a snapshot.")],
    ),
    on_domains(
        "xlsnap-snapshot-revert",
        &["xlsnap-revert", "xl"],
        &[
            Example("xlsnap snapshot-revert -n s1 web", "Go back to a snapshot."),
            Example("xlsnap snapshot-revert -n s1 -p web", "And leave the guest paused."),
        ],
    ),
];
