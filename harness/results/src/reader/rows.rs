//! Streams the rows of one table, in constant memory.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use csv::StringRecord;

use super::error::{Place, ReadError};
use crate::schema::{Column, Kind, Table};

/// A row with the place where it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Located<T> {
    /// The row.
    pub row: T,
    /// Its line in the file, from 1; the header is line 1.
    pub line: u64,
    /// Offset of the first byte after it.
    pub end: u64,
}

/// Streams the whole rows of a table's file.
///
/// A last line without its line feed was cut off in the middle of a write:
/// it is left out, and [`Rows::torn_bytes`] tells its length.
#[derive(Debug)]
pub struct Rows<T> {
    path: PathBuf,
    reader: csv::Reader<BufReader<Take<File>>>,
    record: StringRecord,
    cells: usize,
    header_end: u64,
    torn_bytes: u64,
    failed: bool,
    row: PhantomData<T>,
}

impl<T: Table> Rows<T> {
    /// Opens the table's file in a run directory and checks its header.
    pub fn open(directory: &Path) -> Result<Rows<T>, ReadError> {
        let path = directory.join(T::FILE);
        let opened = open_regular(&path).and_then(|mut file| {
            let length = file.seek(SeekFrom::End(0))?;
            let whole = whole_lines(&mut file, length)?;
            file.seek(SeekFrom::Start(0))?;
            Ok((file, whole, length - whole))
        });
        let (file, whole, torn_bytes) = match opened {
            Ok(opened) => opened,
            Err(source) => return Err(ReadError::Io { path, source }),
        };
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // The schema has line feeds only; a carriage return is an edit.
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(BufReader::new(file.take(whole)));
        let mut rows = Rows {
            path,
            reader,
            record: StringRecord::new(),
            cells: T::COLUMNS.len(),
            header_end: 0,
            torn_bytes,
            failed: false,
            row: PhantomData,
        };
        if whole > 0 {
            rows.read_header()?;
        }
        Ok(rows)
    }

    /// Bytes of a line at the end that was cut off; 0 if there is none.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Offset of the first row; 0 if not even the header is whole.
    pub fn header_end(&self) -> u64 {
        self.header_end
    }

    /// The file being read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A place in this file.
    pub fn place(&self, line: u64) -> Place {
        Place { path: self.path.clone(), line }
    }

    /// The columns of ours that the file has: an older one may lack the last.
    pub fn columns(&self) -> usize {
        self.cells.min(T::COLUMNS.len())
    }

    fn read_header(&mut self) -> Result<(), ReadError> {
        self.read_record()?;
        let least = T::COLUMNS.len() - T::LATER;
        let present = self.record.len().clamp(least, T::COLUMNS.len());
        for (index, column) in T::COLUMNS[..present].iter().enumerate() {
            let found = self.record.get(index).unwrap_or("");
            if found != column.name {
                return Err(ReadError::Header {
                    place: self.place(1),
                    number: index + 1,
                    found: found.to_owned(),
                    expected: column.name,
                });
            }
        }
        self.cells = self.record.len();
        self.header_end = self.reader.position().byte();
        Ok(())
    }

    fn read_record(&mut self) -> Result<bool, ReadError> {
        let line = self.reader.position().line();
        match self.reader.read_record(&mut self.record) {
            Ok(found) => Ok(found),
            Err(error) => Err(self.csv_error(error, line)),
        }
    }

    fn csv_error(&self, error: csv::Error, line: u64) -> ReadError {
        let line = error.position().map_or(line, |p| p.line());
        let reason = error.to_string();
        match error.into_kind() {
            csv::ErrorKind::Io(source) => {
                ReadError::Io { path: self.path.clone(), source }
            }
            _ => ReadError::Garbled { place: self.place(line), reason },
        }
    }

    fn read_row(&mut self) -> Result<Option<Located<T>>, ReadError> {
        if !self.read_record()? {
            return Ok(None);
        }
        // The position of the record itself: blank lines are skipped.
        let line = self.record.position().map_or(0, |p| p.line());
        if self.record.len() != self.cells {
            return Err(ReadError::Length {
                place: self.place(line),
                found: self.record.len(),
                expected: self.cells,
            });
        }
        for _ in self.columns()..T::COLUMNS.len() {
            self.record.push_field("");
        }
        let row: T = match self.record.deserialize(None) {
            Ok(row) => row,
            Err(error) => return Err(self.bad_cell(error, line)),
        };
        if let Some(name) = row.first_non_finite() {
            let index = T::COLUMNS.iter().position(|c| c.name == name);
            return Err(self.cell_error(index.unwrap_or(0), line));
        }
        let end = self.reader.position().byte();
        Ok(Some(Located { row, line, end }))
    }

    /// Finds which cell an error is about; the parser names it only for
    /// numbers.
    fn bad_cell(&self, error: csv::Error, line: u64) -> ReadError {
        let named = match error.kind() {
            csv::ErrorKind::Deserialize { err, .. } => err.field(),
            _ => None,
        };
        let index = named
            .and_then(|field| usize::try_from(field).ok())
            .filter(|index| *index < T::COLUMNS.len())
            .or_else(|| {
                let cells = self.record.iter();
                T::COLUMNS.iter().zip(cells).position(|(c, v)| !fits(c, v))
            });
        match index {
            Some(index) => self.cell_error(index, line),
            None => self.csv_error(error, line),
        }
    }

    fn cell_error(&self, index: usize, line: u64) -> ReadError {
        let column = &T::COLUMNS[index];
        ReadError::Cell {
            place: self.place(line),
            column: column.name,
            value: self.record.get(index).unwrap_or("").to_owned(),
            expected: expectation(column),
        }
    }
}

impl<T: Table> Iterator for Rows<T> {
    type Item = Result<Located<T>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.header_end == 0 {
            return None;
        }
        let row = self.read_row().transpose();
        // After damage nothing that follows can be trusted.
        self.failed = matches!(row, Some(Err(_)));
        row
    }
}

/// Opens a file that has an end: a FIFO would be waited for.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(path)
}

/// Length of the part of a file that ends with its last line feed.
fn whole_lines(file: &mut (impl Read + Seek), length: u64) -> io::Result<u64> {
    const CHUNK: u64 = 4096;
    let mut end = length;
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        file.take(end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|b| *b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn fits(column: &Column, value: &str) -> bool {
    if value.is_empty() {
        return column.optional;
    }
    match column.kind {
        Kind::Integer => value.parse::<u64>().is_ok(),
        Kind::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
        Kind::Text => true,
        Kind::Word(words) => words.contains(&value),
    }
}

fn expectation(column: &Column) -> String {
    let mut text = match column.kind {
        Kind::Integer => "a whole number".to_owned(),
        Kind::Number => "a finite number".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
    };
    if column.optional {
        text.push_str(" or nothing");
    }
    text
}
