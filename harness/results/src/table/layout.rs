//! Lays cells out in columns, decimal marks below each other.

use super::number::Aligned;

/// One cell.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    /// Nothing.
    Empty,
    /// Text from the left.
    Text(String),
    /// A number, and what follows it from the left (`± 1.1 %`).
    Number(Aligned, String),
}

/// Space between columns.
const GAP: &str = "   ";

/// Lays out rows of cells below a heading; no line ends in a space.
///
/// `paint` gets the row, the column and the text; it may add colour, for by
/// then the widths are known.
pub(super) fn lay_out(
    heading: &[String],
    rows: &[Vec<Cell>],
    paint: impl Fn(usize, usize, &str) -> String,
) -> Vec<String> {
    let columns: Vec<Column> =
        (0..heading.len()).map(|i| Column::of(&heading[i], rows, i)).collect();
    let mut lines = Vec::with_capacity(rows.len() + 1);
    let heads = heading
        .iter()
        .zip(&columns)
        .map(|(head, column)| pad(head, column.width));
    lines.push(join(heads));
    for (number, row) in rows.iter().enumerate() {
        let last = heading.len() - 1;
        let cells = row.iter().zip(&columns).enumerate();
        let cells = cells.map(|(index, (cell, column))| {
            let text = column.cell(cell);
            let shown = text.trim_end();
            let gap = if index == last { "" } else { &text[shown.len()..] };
            format!("{}{gap}", paint(number, index, shown))
        });
        lines.push(join(cells));
    }
    lines
}

/// The widths of a column.
struct Column {
    left: usize,
    right: usize,
    width: usize,
}

impl Column {
    fn of(heading: &str, rows: &[Vec<Cell>], index: usize) -> Column {
        let mut column = Column { left: 0, right: 0, width: width(heading) };
        let cells = || rows.iter().filter_map(|row| row.get(index));
        for cell in cells() {
            if let Cell::Number(number, _) = cell {
                column.left = column.left.max(width(&number.left));
                column.right = column.right.max(width(&number.right));
            }
        }
        let widest = cells().map(|cell| width(&column.cell(cell))).max();
        column.width = column.width.max(widest.unwrap_or(0));
        column
    }

    fn cell(&self, cell: &Cell) -> String {
        let text = match cell {
            Cell::Empty => String::new(),
            Cell::Text(text) => text.clone(),
            Cell::Number(number, after) => {
                let indent = self.left - width(&number.left);
                let number = format!(
                    "{}{}{}",
                    " ".repeat(indent),
                    number.left,
                    pad(&number.right, self.right)
                );
                match after.as_str() {
                    "" => number,
                    after => format!("{number} {after}"),
                }
            }
        };
        pad(&text, self.width)
    }
}

/// The words of a sentence in lines of at most `most` characters; all but the
/// first are indented.
pub(super) fn wrap(text: &str, most: Option<usize>) -> Vec<String> {
    let Some(most) = most else { return vec![text.to_owned()] };
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("    {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn join(cells: impl Iterator<Item = String>) -> String {
    let line = cells.collect::<Vec<_>>().join(GAP);
    line.trim_end().to_owned()
}

fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// Columns that a text takes on a terminal: all that we print is one wide.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}
