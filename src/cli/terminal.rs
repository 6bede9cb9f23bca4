//! The terminal: the only place that writes to standard output and standard error. A closed pipe is no reason to panic.

use std::io::{self, Write as _};

/// A line on standard output.
pub(super) fn say(line: impl AsRef<str>) {
    write_line(&mut io::stdout().lock(), line.as_ref());
}

/// Text on standard output, as it is.
pub(super) fn put(text: &[u8]) {
    let mut out = io::stdout().lock();
    // Whoever read this end has gone.
    let _closed = out.write_all(text).and_then(|()| out.flush());
}

/// A line on standard error.
pub(super) fn note(line: impl AsRef<str>) {
    write_line(&mut io::stderr().lock(), line.as_ref());
}

/// What went wrong, on standard error.
pub(super) fn complain(said: &str) {
    write_line(&mut io::stderr().lock(), &format!("grantd: {said}"));
}

fn write_line(out: &mut impl io::Write, line: &str) {
    // Whoever read this end has gone.
    let _closed = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Rows as columns, as wide as they need to be.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(table(&[row(["ID", "STATUS"]), row(["notion", "ok"])]), "ID      STATUS\nnotion  ok");
    }
}
