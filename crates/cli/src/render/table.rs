//! Columns aligned by what a terminal shows.

use std::borrow::Cow;
use std::io::{self, Write};

use super::text::width;

/// Writes `rows` under `header`. The rows are walked twice, once to measure, so that ten thousand are never held as text.
pub(crate) fn write_table<'a, const N: usize>(
    out: &mut dyn Write,
    header: [&str; N],
    rows: impl Iterator<Item = [Cow<'a, str>; N]> + Clone,
) -> io::Result<()> {
    let mut widths = header.map(width);
    for row in rows.clone() {
        for (widest, cell) in widths.iter_mut().zip(&row) {
            *widest = (*widest).max(width(cell));
        }
    }
    write_row(out, &widths, header.iter().copied())?;
    for row in rows {
        write_row(out, &widths, row.iter().map(Cow::as_ref))?;
    }
    Ok(())
}

fn write_row<'a>(
    out: &mut dyn Write,
    widths: &[usize],
    cells: impl Iterator<Item = &'a str> + Clone,
) -> io::Result<()> {
    // Nothing is padded that only empty cells follow, so that no line ends in blanks.
    let filled = cells.clone().enumerate().filter(|(_, cell)| !cell.is_empty()).map(|(i, _)| i + 1).last();
    let filled = filled.unwrap_or(0);
    for (i, cell) in cells.take(filled).enumerate() {
        out.write_all(cell.as_bytes())?;
        if i + 1 < filled {
            let blanks = widths[i].saturating_sub(width(cell)) + 2;
            write!(out, "{:blanks$}", "")?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_width_and_no_line_ends_in_blanks() {
        let rows = [["a", "x", ""], ["日本", "", ""], ["bb", "", "end"]];
        let mut out = Vec::new();
        let cells = rows.iter().map(|row| row.map(Cow::Borrowed));
        write_table(&mut out, ["N", "STATE", "D"], cells).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "N     STATE  D\na     x\n日本\nbb           end\n");
    }
}
