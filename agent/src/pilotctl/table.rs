//! Columns that line up.

use super::screen::Screen;
use super::{text, width};

/// Rows of cells under headings. Cells are text, not markup; what others wrote is made harmless.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(|cell| text::harmless(cell.as_ref()).into_owned()).collect());
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of the screen.
    pub fn show(&self, screen: &mut Screen) -> std::io::Result<()> {
        for (index, line) in self.lines().iter().enumerate() {
            let line = if index == 0 { screen.dim(line) } else { line.clone() };
            screen.line(&line)?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let widest = |column: usize, heading: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width::of(cell));
            cells.max().unwrap_or(0).max(heading.len())
        };
        let widths: Vec<_> =
            self.headings.iter().enumerate().map(|(column, heading)| widest(column, heading)).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for (cell, width) in cells.zip(&widths) {
                let padding = width.saturating_sub(width::of(cell));
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', padding + 2));
            }
            line.truncate(line.trim_end().len());
            line
        };
        let head = line(&mut self.headings.iter().copied());
        let body = self.rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
        std::iter::once(head).chain(body).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut table = Table::new(&["NODE", "NAME"]);
        table.row(["2", "\x1b[2Jä"]);
        table.row(["40000000000", ""]);
        assert_eq!(table.lines(), ["NODE         NAME", "2            \\x1b[2Jä", "40000000000"]);
    }
}
