//! Text in columns.

use std::fmt;

/// Columns of cells under a head. Columns of words are flush left, columns of numbers flush right.
pub(crate) struct Table {
    head_rows: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a head of one or more rows.
    pub(crate) fn new<const COLUMNS: usize>(head: &[[&str; COLUMNS]]) -> Self {
        let rows = head.iter().map(|row| row.map(String::from).into());
        Self {
            head_rows: head.len(),
            rows: rows.collect(),
        }
    }

    /// Add a row; cells that are missing at its end stay empty.
    pub(crate) fn push(&mut self, mut row: Vec<String>) {
        row.resize(self.rows[0].len(), String::new());
        self.rows.push(row);
    }

    fn width(&self, column: usize) -> usize {
        let lengths = self.rows.iter().map(|row| row[column].chars().count());
        lengths.max().unwrap_or(0)
    }

    fn holds_words(&self, column: usize) -> bool {
        let mut cells = self.rows[self.head_rows..].iter().map(|row| &row[column]);
        cells.all(|cell| cell.is_empty() || cell.starts_with(char::is_alphabetic))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = self.width(column);
                line += &match self.holds_words(column) {
                    true => format!("  {cell:<width$}"),
                    false => format!("  {cell:>width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
