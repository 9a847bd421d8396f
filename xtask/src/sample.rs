//! What is too long for every run is drawn: another part each time, and the same part again by its seed.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is drawn by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// One that no earlier run had.
    pub fn of_now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(now.as_secs())
    }

    /// Another one, that draws others: of the same tests on this QEMU, say.
    pub(crate) fn with(self, what: &str) -> Self {
        Self(self.number_of(what))
    }

    /// Of `all`, so many, by their names: each is as likely as any other to be drawn.
    pub(crate) fn draw<T>(
        self,
        all: impl IntoIterator<Item = T>,
        count: usize,
        name: impl Fn(&T) -> &str,
    ) -> Vec<T> {
        let mut drawn: Vec<(u64, T)> = all.into_iter().map(|one| (self.number_of(name(&one)), one)).collect();
        drawn.sort_by_key(|(number, _)| *number);
        drawn.truncate(count);
        drawn.into_iter().map(|(_, one)| one).collect()
    }

    fn number_of(self, name: &str) -> u64 {
        // It begins alike in each process; another Rust may draw otherwise.
        let mut hasher = DefaultHasher::new();
        (self.0, name).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_in_time_all_are_drawn() {
        let all: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let drawn = |seed, count| Seed(seed).draw(&all, count, |name| name);
        assert_eq!(drawn(7, 5), drawn(7, 5));
        assert_eq!((drawn(7, 5).len(), drawn(7, 50).len()), (5, 20));
        let ever: BTreeSet<_> = (0..100).flat_map(|seed| drawn(seed, 5)).collect();
        assert_eq!(ever.len(), 20);
    }
}
