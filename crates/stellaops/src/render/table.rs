use std::fmt;

use crate::log::escape;

/// A table whose columns are as wide as their widest cells.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(header: [&str; N]) -> Self {
        Self {
            rows: vec![header.map(str::to_owned)],
        }
    }

    /// Adds a row; line ends in cells are foreign and escaped.
    pub(crate) fn row(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| escape(&cell)));
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..N).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                // A format width of 65,536 or more panics.
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_any_width_is_a_column() {
        for long in ["x".repeat(65_536), "é".repeat(1 << 20)] {
            let mut table = Table::new(["NAME", "TYPE"]);
            let wide = long.chars().count();
            table.row([long, "b".into()]);
            table.row(["a".into(), "c".into()]);
            let text = table.to_string();
            let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
            assert_eq!(widths, [wide + 2 + 4, wide + 2 + 1, wide + 2 + 1]);
        }
    }
}
