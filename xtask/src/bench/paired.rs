//! Two sides in turn.

use super::sample::Sample;
use crate::Failure;

/// The rounds of two sides, in the order in which they ran.
#[derive(Debug)]
pub(super) struct Pairs<T> {
    rounds: Vec<(T, T)>,
}

/// Runs both sides `rounds` times in turn, after one round that fills the caches and is not counted.
pub(super) fn pairs<T>(
    rounds: usize,
    mut ours: impl FnMut() -> Result<T, Failure>,
    mut theirs: impl FnMut() -> Result<T, Failure>,
) -> Result<Pairs<T>, Failure> {
    ours()?;
    theirs()?;
    let rounds = (0..rounds.max(1)).map(|_| Ok((ours()?, theirs()?))).collect::<Result<_, Failure>>()?;
    Ok(Pairs { rounds })
}

impl<T> Pairs<T> {
    /// A measure of our side alone.
    pub(super) fn ours(&self, measure: impl Fn(&T) -> f64) -> Sample {
        Sample::new(self.rounds.iter().map(|(ours, _)| measure(ours)))
    }

    /// The same of the other side.
    pub(super) fn theirs(&self, measure: impl Fn(&T) -> f64) -> Sample {
        Sample::new(self.rounds.iter().map(|(_, theirs)| measure(theirs)))
    }

    /// How much more ours is than theirs, round by round.
    pub(super) fn difference(&self, measure: impl Fn(&T) -> f64) -> Sample {
        Sample::new(self.rounds.iter().map(|(ours, theirs)| measure(ours) - measure(theirs)))
    }

    /// Ours as so many times theirs, round by round.
    pub(super) fn ratio(&self, measure: impl Fn(&T) -> f64) -> Sample {
        Sample::new(self.rounds.iter().map(|(ours, theirs)| measure(ours) / measure(theirs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_phase_of_the_machine_leaves_the_ratio_alone() {
        let (mut a, mut b) = (0, 0);
        let slow = |round: &mut i32| {
            *round += 1;
            if *round > 3 { 10.0 } else { 1.0 }
        };
        let pairs = pairs(5, || Ok(3.0 * slow(&mut a)), || Ok(slow(&mut b))).unwrap();
        assert_eq!(pairs.ratio(|value| *value).most(), 3.0);
        assert_eq!(
            (pairs.difference(|value| *value).least(), pairs.difference(|value| *value).most()),
            (2.0, 20.0)
        );
        assert_eq!(pairs.ours(|value| *value).most(), 30.0);
        assert_eq!(pairs.theirs(|value| *value).least(), 1.0);
    }
}
