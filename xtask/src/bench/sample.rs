//! Numbers of one kind, and what is said of them.

/// Measurements of one thing, at least one.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    /// # Panics
    /// Without any value, or with one that is not a number: a scenario without rounds measures nothing.
    pub(super) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        assert!(!sorted.is_empty(), "a sample has one value at least");
        assert!(sorted.iter().all(|value| !value.is_nan()), "a sample has numbers only");
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    pub(super) fn median(&self) -> f64 {
        let (lower, upper) = (self.sorted[(self.sorted.len() - 1) / 2], self.sorted[self.sorted.len() / 2]);
        f64::midpoint(lower, upper)
    }

    pub(super) fn least(&self) -> f64 {
        self.sorted[0]
    }

    pub(super) fn most(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_any_order() {
        assert_eq!(Sample::new([3.0]).median(), 3.0);
        assert_eq!(Sample::new([9.0, 1.0, 2.0]).median(), 2.0);
        let even = Sample::new([4.0, 100.0, 1.0, 2.0]);
        assert_eq!((even.least(), even.median(), even.most()), (1.0, 3.0, 100.0));
    }
}
