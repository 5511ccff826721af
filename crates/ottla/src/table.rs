//! Tables for people: aligned columns, no lines.

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under headings.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.cells(cells);
    }

    pub fn cells(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, each without spaces at its end.
    pub fn render(&self) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let lines = || std::iter::once(&headings).chain(&self.rows);
        let mut widths = vec![0; headings.len()];
        for line in lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for line in lines() {
            let mut rendered = String::new();
            for ((cell, width), (_, align)) in line.iter().zip(&widths).zip(&self.columns) {
                let padding = " ".repeat(width - cell.chars().count());
                match align {
                    Align::Left => rendered.extend([cell.as_str(), &padding, "  "]),
                    Align::Right => rendered.extend([padding.as_str(), cell, "  "]),
                }
            }
            text.push_str(rendered.trim_end());
            text.push('\n');
        }
        text.pop();
        text
    }
}

/// A bar as long as `value` is of `most`, which has the full `width`. Something is never drawn as nothing.
pub fn bar(value: i64, most: i64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "\u{258f}", "\u{258e}", "\u{258d}", "\u{258c}", "\u{258b}", "\u{258a}", "\u{2589}"];
    if value <= 0 || most <= 0 {
        return String::new();
    }
    let parts = (value.min(most) as f64 / most as f64 * (width * 8) as f64).round() as usize;
    let parts = parts.clamp(1, width * 8);
    "\u{2588}".repeat(parts / 8) + EIGHTHS[parts % 8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        for (value, most, expected) in [
            (0, 10, ""),
            (0, 0, ""),
            (-1, 10, ""),
            (10, 10, "\u{2588}\u{2588}"),
            (5, 10, "\u{2588}"),
            (1, i64::MAX, "\u{258f}"),
            (i64::MAX, i64::MAX, "\u{2588}\u{2588}"),
            (20, 10, "\u{2588}\u{2588}"),
            (3, 16, "\u{258d}"),
        ] {
            assert_eq!(bar(value, most, 2), expected, "{value} of {most}");
        }
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("TOPIC", Align::Left), ("PARTITIONS", Align::Right), ("ID", Align::Left)]);
        table.row(["a".to_owned(), "1".to_owned(), "x".to_owned()]);
        table.row(["grüße-long".to_owned(), "12345678901".to_owned(), String::new()]);
        let expected = "TOPIC        PARTITIONS  ID\na                     1  x\ngrüße-long  12345678901";
        assert_eq!(table.render(), expected);
        assert_eq!(Table::new(&[("A", Align::Left), ("B", Align::Left)]).render(), "A  B");
    }
}
