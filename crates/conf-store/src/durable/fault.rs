//! Makes the effects of one thread fail, to see what a crash or a full disk leaves.

use std::cell::RefCell;

use rustix::io::Errno;

#[derive(Default)]
struct Plan {
    /// Steps that still succeed; `None` for all.
    left: Option<u32>,
    /// What the failing step says.
    errno: Option<Errno>,
    /// Whether all steps after it fail too: the process is gone.
    crash: bool,
    done: Vec<String>,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Runs `act` the next time that this thread is about to lock a file it has opened: another process was faster.
pub(crate) fn before_locking(act: impl FnOnce() + 'static) {
    MEANWHILE.set(Some(Box::new(act)));
}

/// The place where [`before_locking`] acts.
pub(crate) fn about_to_lock() {
    if let Some(act) = MEANWHILE.take() {
        act();
    }
}

/// What happened under a fault.
pub(crate) struct Outcome<T> {
    pub(crate) result: T,
    /// Whether the fault was reached at all.
    pub(crate) hit: bool,
}

/// Runs `body` with its step number `after` (from 0) failing with `errno`, and with `crash` all later ones.
pub(crate) fn with<T>(after: u32, errno: Errno, crash: bool, body: impl FnOnce() -> T) -> Outcome<T> {
    PLAN.set(Plan { left: Some(after), errno: Some(errno), crash, done: Vec::new() });
    let result = body();
    let plan = PLAN.take();
    Outcome { result, hit: plan.errno.is_none() || (plan.crash && plan.left == Some(0)) }
}

/// Runs `body` and gives its steps.
pub(crate) fn steps<T>(body: impl FnOnce() -> T) -> (T, Vec<String>) {
    PLAN.set(Plan::default());
    let result = body();
    (result, PLAN.take().done)
}

pub(super) fn step(what: String) -> Result<(), Errno> {
    PLAN.with_borrow_mut(|plan| {
        match plan.left {
            Some(0) if plan.crash => return Err(plan.errno.expect("a crash never ends")),
            Some(0) => {
                if let Some(errno) = plan.errno.take() {
                    return Err(errno);
                }
            }
            Some(left) => plan.left = Some(left - 1),
            None => {}
        }
        plan.done.push(what);
        Ok(())
    })
}
