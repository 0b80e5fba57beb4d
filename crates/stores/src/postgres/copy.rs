//! Rows in the binary format of COPY.
//!
//! Source: [COPY, "Binary Format"](https://www.postgresql.org/docs/17/sql-copy.html).

use bytes::{BufMut, Bytes, BytesMut};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Gathers rows. Each begins with [`row`](Self::row), then come its fields in order.
#[derive(Debug)]
pub(crate) struct CopyRows {
    buffer: BytesMut,
    fields: i16,
    rows: usize,
}

impl CopyRows {
    /// Rows of this many fields; room for `bytes`.
    pub(crate) fn new(fields: i16, bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(bytes + 32);
        buffer.put_slice(SIGNATURE);
        // No flags, no extension of the header.
        buffer.put_i64(0);
        Self { buffer, fields, rows: 0 }
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn row(&mut self) {
        self.rows += 1;
        self.buffer.put_i16(self.fields);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.buffer.put_i32(2);
        self.buffer.put_i16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.buffer.put_i32(4);
        self.buffer.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.buffer.put_i32(8);
        self.buffer.put_i64(value);
    }

    pub(crate) fn f64(&mut self, value: f64) {
        self.buffer.put_i32(8);
        self.buffer.put_f64(value);
    }

    pub(crate) fn f64_or_null(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.f64(value),
            None => self.buffer.put_i32(-1),
        }
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.buffer.put_i32(1);
        self.buffer.put_u8(value.into());
    }

    /// `None` is longer than a field can be.
    pub(crate) fn text(&mut self, value: &str) -> Option<()> {
        self.buffer.put_i32(i32::try_from(value.len()).ok()?);
        self.buffer.put_slice(value.as_bytes());
        Some(())
    }

    /// All of it, closed.
    pub(crate) fn finish(mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_the_manual_says() {
        let mut copy = CopyRows::new(7, 0);
        copy.row();
        copy.i16(-2);
        copy.i32(3);
        copy.i64(4);
        copy.f64(-0.0);
        copy.f64_or_null(None);
        copy.bool(true);
        copy.text("ä").unwrap();
        assert_eq!(copy.rows(), 1);
        let expected: &[&[u8]] = &[
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0",
            b"\0\x07",
            b"\0\0\0\x02\xff\xfe",
            b"\0\0\0\x04\0\0\0\x03",
            b"\0\0\0\x08\0\0\0\0\0\0\0\x04",
            b"\0\0\0\x08\x80\0\0\0\0\0\0\0",
            b"\xff\xff\xff\xff",
            b"\0\0\0\x01\x01",
            b"\0\0\0\x02\xc3\xa4",
            b"\xff\xff",
        ];
        assert_eq!(copy.finish(), expected.concat());
    }
}
