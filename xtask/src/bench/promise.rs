//! A measure beside what was promised of it.

use super::sample::Sample;

/// What is promised of a median.
#[derive(Debug, Clone, Copy)]
pub(super) enum Promise {
    /// Nothing: it is there to be compared with.
    None,
    /// It is not above this.
    AtMost(f64),
    /// It is not below this.
    AtLeast(f64),
}

/// A line of the table.
#[derive(Debug)]
pub(super) struct Line {
    /// What was measured, with its unit.
    pub(super) what: String,
    pub(super) sample: Sample,
    pub(super) promise: Promise,
}

impl Line {
    pub(super) fn new(what: &str, sample: Sample, promise: Promise) -> Self {
        Self { what: what.to_owned(), sample, promise }
    }

    pub(super) fn is_kept(&self) -> bool {
        match self.promise {
            Promise::None => true,
            Promise::AtMost(limit) => self.sample.median() <= limit,
            Promise::AtLeast(limit) => self.sample.median() >= limit,
        }
    }
}

/// The lines of a scenario, aligned, under its name.
pub(super) fn table(name: &str, lines: &[Line]) -> String {
    let mut table = format!("{name:<44} {:>10} {:>10} {:>10}   promise\n", "median", "least", "most");
    for line in lines {
        let sample = &line.sample;
        let verdict = if line.is_kept() { "kept" } else { "BROKEN" };
        let promise = match line.promise {
            Promise::None => String::new(),
            Promise::AtMost(limit) => format!("at most {limit}: {verdict}"),
            Promise::AtLeast(limit) => format!("at least {limit}: {verdict}"),
        };
        let (median, least, most) = (sample.median(), sample.least(), sample.most());
        table.push_str(
            format!("  {:<42} {median:>10.3} {least:>10.3} {most:>10.3}   {promise}", line.what).trim_end(),
        );
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_judged_and_not_the_outlier() {
        let line = |values: [f64; 3]| Line::new("x (ms)", Sample::new(values), Promise::AtMost(2.0));
        assert!(line([1.0, 2.0, 90.0]).is_kept());
        assert!(!line([1.0, 2.1, 2.2]).is_kept());
        assert!(table("t", &[line([1.0, 2.1, 2.2])]).contains("at most 2: BROKEN"));
        let speed = |values: [f64; 3]| Line::new("x (MB/s)", Sample::new(values), Promise::AtLeast(2.0));
        assert!(speed([1.0, 2.0, 90.0]).is_kept());
        assert!(!speed([1.0, 1.9, 90.0]).is_kept());
    }
}
