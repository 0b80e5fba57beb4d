//! The rows of a CSV file: lines of bounded length, cut into cells.

use std::{
    collections::VecDeque,
    io::{self, BufRead},
};

use crate::mapping::{CsvMapping, Delimiter};

/// Longest line; the rest of a longer one is skipped and the line refused.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Most lines that a quoted cell may span; a quote that stays open longer is taken for a mistake in its first line.
const QUOTED_LINES_MAX: usize = 16;
/// Lines looked at to find the delimiter.
const SNIFF_LINES: usize = 10;
/// Delimiters that are looked for, the first wins where several fit.
const SNIFFED: [u8; 4] = [b';', b'\t', b'|', b','];

/// Rows of a file, one at a time.
pub(crate) struct Rows {
    reader: Box<dyn BufRead + Send>,
    delimiter: Delimiter,
    quote: Option<u8>,
    comment: Vec<u8>,
    lines_read: u64,
    /// Lines that were read ahead.
    ahead: VecDeque<Line>,
    row: Row,
}

/// A row's cells, without the blanks around them.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Number of its first line, from 1.
    pub(crate) line: u64,
    text: String,
    ends: Vec<usize>,
}

/// What comes next in a file.
pub(crate) enum Next<'a> {
    Row(&'a Row),
    /// A line that makes no row, and why.
    Refused(u64, &'static str),
    End,
}

struct Line {
    number: u64,
    bytes: Vec<u8>,
    too_long: bool,
}

impl Rows {
    /// The rows of `reader`, after the lines to skip.
    pub(crate) fn open(mut reader: Box<dyn BufRead + Send>, csv: &CsvMapping) -> io::Result<Self> {
        skip_mark(&mut reader)?;
        let mut rows = Self {
            reader,
            delimiter: csv.delimiter,
            quote: csv.quote.bytes().next(),
            comment: csv.comment.clone().into_bytes(),
            lines_read: 0,
            ahead: VecDeque::new(),
            row: Row::default(),
        };
        for _ in 0..csv.skip_lines {
            rows.read_line()?;
        }
        if rows.delimiter == Delimiter::Auto {
            rows.sniff()?;
        }
        Ok(rows)
    }

    /// The next row.
    pub(crate) fn next(&mut self) -> io::Result<Next<'_>> {
        let Some(first) = self.line()? else { return Ok(Next::End) };
        if first.too_long {
            return Ok(Next::Refused(first.number, "the line is longer than 1 MiB"));
        }
        self.row.line = first.number;
        if self.split(&first.bytes) {
            return Ok(Next::Row(&self.row));
        }
        // A quoted cell goes on in the next line.
        let mut joined = first.bytes;
        let mut more = Vec::new();
        while more.len() < QUOTED_LINES_MAX && joined.len() <= LINE_BYTES_MAX {
            let Some(line) = self.next_line()? else { break };
            joined.push(b'\n');
            joined.extend_from_slice(&line.bytes);
            let too_long = line.too_long;
            more.push(line);
            if too_long {
                break;
            }
            if self.split(&joined) {
                return Ok(Next::Row(&self.row));
            }
        }
        more.into_iter().rev().for_each(|line| self.ahead.push_front(line));
        Ok(Next::Refused(first.number, "a quote is opened and not closed"))
    }

    /// Lines read so far, those that were left out too.
    pub(crate) fn lines_read(&self) -> u64 {
        self.lines_read
    }

    /// Number of cells of the next row, which stays the next one.
    pub(crate) fn width(&mut self) -> io::Result<usize> {
        let Some(line) = self.line()? else { return Ok(0) };
        self.split(&line.bytes);
        self.ahead.push_front(line);
        Ok(self.row.len())
    }

    /// The next line that is neither empty nor a comment.
    fn line(&mut self) -> io::Result<Option<Line>> {
        while let Some(line) = self.next_line()? {
            let comment = !self.comment.is_empty() && line.bytes.trim_ascii_start().starts_with(&self.comment);
            if !comment && (line.too_long || !line.bytes.trim_ascii().is_empty()) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read_line(),
        }
    }

    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let (mut too_long, mut any) = (false, false);
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            if bytes.len() + piece.len() > LINE_BYTES_MAX {
                too_long = true;
            } else {
                bytes.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        self.lines_read += 1;
        Ok(Some(Line { number: self.lines_read, bytes, too_long }))
    }

    /// The delimiter that cuts each of the first lines into the same number of cells, at least two; else the one that
    /// stands most often in the first line.
    fn sniff(&mut self) -> io::Result<()> {
        let mut lines = VecDeque::new();
        while lines.len() < SNIFF_LINES {
            let Some(line) = self.line()? else { break };
            lines.push_back(line);
        }
        let mut best = (false, 0, b',');
        for delimiter in SNIFFED {
            self.delimiter = Delimiter::One(delimiter);
            let mut cells = Vec::new();
            for line in &lines {
                self.split(&line.bytes);
                cells.push(self.row.len());
            }
            let first = cells.first().copied().unwrap_or(1);
            let even = first > 1 && cells.iter().all(|count| *count == first);
            if first > 1 && (even && !best.0 || even == best.0 && first > best.1 && !even) {
                best = (even, first, delimiter);
            }
        }
        self.delimiter = Delimiter::One(best.2);
        self.ahead = lines;
        Ok(())
    }

    /// Cuts a line into the row's cells; false when a quote is left open.
    fn split(&mut self, line: &[u8]) -> bool {
        let row = &mut self.row;
        row.text.clear();
        row.ends.clear();
        let line = decode(line);
        if self.delimiter == Delimiter::Blanks {
            line.split_ascii_whitespace().for_each(|cell| row.push(cell));
            return true;
        }
        let Delimiter::One(delimiter) = self.delimiter else { return true };
        let delimiter = char::from(delimiter);
        let mut rest: &str = &line;
        loop {
            let cell = rest.trim_start_matches([' ', '\u{a0}']);
            let quote = self.quote.map(char::from).filter(|quote| cell.starts_with(*quote));
            let after = match quote {
                Some(quote) => match unquote(row, cell, quote) {
                    Some(after) => after.split_once(delimiter).map(|(_, after)| after),
                    None => return false,
                },
                None => {
                    let (cell, after) = rest.split_once(delimiter).map_or((rest, None), |(cell, after)| (cell, Some(after)));
                    row.push(cell.trim());
                    after
                }
            };
            match after {
                Some(after) => rest = after,
                None => return true,
            }
        }
    }
}

impl Row {
    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The cell of a column, from 0; a cell that the row lacks is blank.
    pub(crate) fn cell(&self, column: usize) -> &str {
        let from = column.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(column).and_then(|end| self.text.get(from..*end)).unwrap_or("")
    }

    /// The cells.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|column| self.cell(column))
    }

    #[cfg(test)]
    pub(crate) fn of(cells: &[&str]) -> Self {
        let mut row = Self::default();
        cells.iter().for_each(|cell| row.push(cell));
        row
    }

    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }
}

/// Appends the quoted cell that `cell` begins with; what is left behind its closing quote, or `None` without one.
fn unquote<'a>(row: &mut Row, cell: &'a str, quote: char) -> Option<&'a str> {
    let mut rest = cell.get(1..)?;
    let from = row.text.len();
    loop {
        let Some((text, after)) = rest.split_once(quote) else {
            row.text.truncate(from);
            return None;
        };
        row.text.push_str(text);
        match after.strip_prefix(quote) {
            Some(after) => {
                row.text.push(quote);
                rest = after;
            }
            None => {
                row.ends.push(row.text.len());
                return Some(after);
            }
        }
    }
}

/// UTF-8, or else Latin-1, of which every byte sequence is a text: older loggers write their degree signs so.
fn decode(line: &[u8]) -> std::borrow::Cow<'_, str> {
    match std::str::from_utf8(line) {
        Ok(text) => text.into(),
        Err(_) => line.iter().copied().map(char::from).collect::<String>().into(),
    }
}

fn skip_mark(reader: &mut Box<dyn BufRead + Send>) -> io::Result<()> {
    let start = reader.fill_buf()?;
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is UTF-16: save it as UTF-8"));
    }
    if start.starts_with(&[0xef, 0xbb, 0xbf]) {
        reader.consume(3);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static [u8], csv: CsvMapping) -> Vec<(u64, Vec<String>)> {
        let mut rows = Rows::open(Box::new(text), &csv).unwrap();
        let mut found = Vec::new();
        loop {
            match rows.next().unwrap() {
                Next::Row(row) => found.push((row.line, row.cells().map(str::to_owned).collect())),
                Next::Refused(line, what) => found.push((line, vec![format!("refused: {what}")])),
                Next::End => return found,
            }
        }
    }

    fn cells(text: &'static [u8]) -> Vec<Vec<String>> {
        read(text, CsvMapping::default()).into_iter().map(|(_, cells)| cells).collect()
    }

    #[test]
    fn the_delimiter_is_found_in_each_file() {
        assert_eq!(cells(b"a;b\n1,5;2\n3,5;4"), [["a", "b"], ["1,5", "2"], ["3,5", "4"]]);
        assert_eq!(cells(b"a,b\n1,2\n"), [["a", "b"], ["1", "2"]]);
        assert_eq!(cells(b"a\tb\n1\t2\n"), [["a", "b"], ["1", "2"]]);
        assert_eq!(cells(b"t;v\n1;1,5\n2;2,25\n"), [["t", "v"], ["1", "1,5"], ["2", "2,25"]]);
        assert_eq!(cells(b"only\n1\n"), [["only"], ["1"]]);
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_are_no_part_of_cells() {
        assert_eq!(cells(b"\xef\xbb\xbfa;b\r\n1;2\r\n"), [["a", "b"], ["1", "2"]]);
    }

    #[test]
    fn quoted_cells_hold_delimiters_quotes_and_line_ends() {
        assert_eq!(cells(b"a,b\n\"1,\"\"x\"\"\", 2 \n\"l\nm\",3\n"), [["a", "b"], ["1,\"x\"", "2"], ["l\nm", "3"]]);
    }

    #[test]
    fn a_quote_that_stays_open_costs_its_own_line_only() {
        let csv = CsvMapping { delimiter: Delimiter::One(b','), ..CsvMapping::default() };
        let found = read(b"a,b\n1,\"2\n3,4\n5,6", csv);
        assert_eq!(found[1], (2, vec!["refused: a quote is opened and not closed".to_owned()]));
        assert_eq!(found[2], (3, vec!["3".to_owned(), "4".to_owned()]));
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn runs_of_blanks_comments_and_skipped_lines_keep_the_line_numbers() {
        let csv = CsvMapping { delimiter: Delimiter::Blanks, comment: "#".into(), skip_lines: 1, ..CsvMapping::default() };
        let found = read(b"title\n# c\n 1  2\t3  \n\n4 5 6\n", csv);
        assert_eq!(found, [(3, vec!["1".to_owned(), "2".into(), "3".into()]), (5, vec!["4".to_owned(), "5".into(), "6".into()])]);
    }

    #[test]
    fn a_line_without_end_is_refused_in_bounded_memory() {
        let long: &'static [u8] = Box::leak([vec![b'x'; 3 << 20], b"\n1,2\n".to_vec()].concat().into_boxed_slice());
        let found = read(long, CsvMapping { delimiter: Delimiter::One(b','), ..CsvMapping::default() });
        assert_eq!(found[0].1, ["refused: the line is longer than 1 MiB"]);
        assert_eq!(found[1], (2, vec!["1".to_owned(), "2".to_owned()]));
    }

    #[test]
    fn latin_1_is_read_where_utf_8_is_not() {
        assert_eq!(cells(b"t;\xb0C\n1;2\n"), [["t", "°C"], ["1", "2"]]);
    }
}
