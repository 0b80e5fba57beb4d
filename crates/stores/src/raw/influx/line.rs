//! Rows as line protocol.

use std::{io::Write, ops::Range, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use mantis_pipeline::Reason;
use mantis_schemas::{Frame, ReadingColumns, Series, SeriesId, SeriesTable};

use super::{FRAMES, READINGS, SAMPLES, names::push_tag};
use crate::{
    codes::refuse_reading,
    raw::{RawColumns, codes::refuse_frame},
};

/// Bytes of samples in one field: a multiple of 3, and less than a string may have when they are in base64.
pub(super) const SAMPLES_BYTES: usize = 48_000;
/// Bytes of lines after which a request takes no more of them. InfluxDB takes 25 MB and more.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Lines of a request, and what remains from request to request: the beginnings of the lines by series.
#[derive(Debug)]
pub(super) struct Lines {
    series: SeriesTable,
    /// Measurement and tags of readings by series id, made when first met.
    beginnings: Vec<Option<Box<[u8]>>>,
    pub(super) text: Vec<u8>,
    /// Lines in `text`.
    pub(super) rows: usize,
}

impl Lines {
    pub(super) fn new(series: SeriesTable) -> Self {
        Self { series, beginnings: Vec::new(), text: Vec::new(), rows: 0 }
    }

    /// Makes the lines of the next rows, for one request; rows that no store takes go to `rejected`. Returns the row to go on
    /// with.
    pub(super) fn fill(
        &mut self,
        columns: &RawColumns,
        rows: Range<usize>,
        rows_max: usize,
        rejected: &mut Vec<(usize, Reason)>,
    ) -> usize {
        self.text.clear();
        self.rows = 0;
        for row in rows.clone() {
            if self.rows >= rows_max || self.text.len() >= REQUEST_BYTES_MAX {
                return row;
            }
            let refused = match columns {
                RawColumns::Readings(readings) => self.reading(readings, row),
                RawColumns::Frames(frames) => self.frame(&frames.frame(row)),
            };
            match refused {
                Some(reason) => rejected.push((row, reason)),
                None => self.rows += 1,
            }
        }
        rows.end
    }

    fn reading(&mut self, readings: &ReadingColumns, row: usize) -> Option<Reason> {
        let (time_ns, value) = (readings.time_ns[row], readings.value[row]);
        if let Some(reason) = refuse_reading(time_ns, value) {
            return Some(reason);
        }
        if !self.begin(readings.series[row]) {
            return Some(unknown_series());
        }
        let (quality, arrival_ms) = (readings.quality[row] as u8, readings.arrival_ms[row]);
        // The shortest text that reads back as the same double.
        let _ = writeln!(self.text, "{value:e},quality={quality}i,arrival_ms={arrival_ms}i {time_ns}");
        None
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Option<Reason> {
        if let Some(reason) = refuse_frame(frame) {
            return Some(reason);
        }
        let Some(series) = self.name(frame.series) else { return Some(unknown_series()) };
        tags(&mut self.text, FRAMES, &series);
        let (format, quality) = (frame.format as u8, frame.quality as u8);
        let _ = write!(
            self.text,
            " sample_rate_hz={:e},format={format}i,scale={:e},quality={quality}i,arrival_ms={}i,bytes={}i",
            frame.sample_rate_hz,
            frame.scale,
            frame.arrival_ms,
            frame.samples.len()
        );
        for (number, samples) in frame.samples.chunks(SAMPLES_BYTES).enumerate() {
            let _ = write!(self.text, ",{SAMPLES}{number}=\"{}\"", STANDARD.encode(samples));
        }
        let _ = writeln!(self.text, " {}", frame.start_ns);
        None
    }

    fn name(&self, id: SeriesId) -> Option<Arc<Series>> {
        self.series.read().get(id.index()).cloned()
    }

    /// Begins the line of a reading, up to its value. False where the series has no name.
    fn begin(&mut self, id: SeriesId) -> bool {
        if self.beginnings.len() <= id.index() {
            self.beginnings.resize(id.index() + 1, None);
        }
        if self.beginnings[id.index()].is_none() {
            let Some(series) = self.name(id) else { return false };
            let mut beginning = Vec::new();
            tags(&mut beginning, READINGS, &series);
            beginning.extend(b" value=");
            self.beginnings[id.index()] = Some(beginning.into());
        }
        self.text.extend(self.beginnings[id.index()].iter().flat_map(|beginning| beginning.iter()));
        true
    }
}

fn tags(line: &mut Vec<u8>, measurement: &str, series: &Series) {
    line.extend(measurement.as_bytes());
    line.extend(b",asset=");
    push_tag(line, &series.asset);
    line.extend(b",sensor=");
    push_tag(line, &series.sensor);
}

fn unknown_series() -> Reason {
    Reason::new("unknown-series", "the row's series has no name: this is a defect of the decoder")
}

#[cfg(test)]
mod tests {
    use mantis_schemas::{FrameColumns, Quality, SampleFormat, SeriesInterner};

    use super::*;

    #[test]
    fn a_reading_is_a_line_and_what_cannot_be_stored_is_none() {
        let mut interner = SeriesInterner::new(10);
        let series = interner.intern("press 1", "flow=x").unwrap();
        let readings = ReadingColumns {
            series: vec![series; 4],
            time_ns: vec![-1, 2, i64::MAX, 1_700_000_000_000_000_000],
            value: vec![-0.0, f64::NAN, 1.0, 5e-324],
            quality: vec![Quality::Good, Quality::Good, Quality::Good, Quality::Bad],
            arrival_ms: vec![7, 7, 7, -1],
        };
        let (mut lines, mut rejected) = (Lines::new(interner.table()), Vec::new());
        assert_eq!(lines.fill(&RawColumns::Readings(readings), 0..4, 10, &mut rejected), 4);
        let expected = "readings,asset=press\\ 1,sensor=flow\\=x value=-0e0,quality=0i,arrival_ms=7i -1\n\
                        readings,asset=press\\ 1,sensor=flow\\=x value=5e-324,quality=2i,arrival_ms=-1i 1700000000000000000\n";
        assert_eq!((std::str::from_utf8(&lines.text).unwrap(), lines.rows), (expected, 2));
        let rejected: Vec<_> = rejected.into_iter().map(|(row, reason)| (row, reason.code)).collect();
        assert_eq!(rejected, [(1, "not-finite"), (2, "time-out-of-range")]);
    }

    #[test]
    fn a_request_has_its_bounds_and_the_next_goes_on_behind_it() {
        let mut interner = SeriesInterner::new(10);
        let series = interner.intern("pump", "vibration").unwrap();
        let samples = vec![0; 1 << 20];
        let mut frames = FrameColumns::default();
        for start_ns in 0..9 {
            let (sample_rate_hz, format, scale, quality) = (1.0, SampleFormat::I16, 1.0, Quality::Good);
            frames.push(Frame { series, start_ns, sample_rate_hz, format, scale, quality, arrival_ms: 7, samples: &samples });
        }
        let (columns, mut lines, mut rejected) = (RawColumns::Frames(frames), Lines::new(interner.table()), Vec::new());
        assert_eq!(lines.fill(&columns, 1..9, 10, &mut rejected), 4, "by bytes");
        assert_eq!(lines.fill(&columns, 4..9, 2, &mut rejected), 6, "by rows");
        assert_eq!((lines.fill(&columns, 6..9, 10, &mut rejected), rejected.len()), (9, 0));
    }

    #[test]
    fn a_frame_is_a_line_with_its_samples_in_fields_that_are_short_enough() {
        let mut interner = SeriesInterner::new(10);
        let samples = vec![0; SAMPLES_BYTES + 2];
        let frame = Frame {
            series: interner.intern("pump", "vibration").unwrap(),
            start_ns: 5,
            sample_rate_hz: 12_000.0,
            format: SampleFormat::I16,
            scale: 0.5,
            quality: Quality::Good,
            arrival_ms: 7,
            samples: &samples,
        };
        let mut frames = FrameColumns::default();
        frames.push(frame);
        let (mut lines, mut rejected) = (Lines::new(interner.table()), Vec::new());
        assert_eq!(lines.fill(&RawColumns::Frames(frames), 0..1, 10, &mut rejected), 1);
        let text = std::str::from_utf8(&lines.text).unwrap();
        let begin =
            "frames,asset=pump,sensor=vibration sample_rate_hz=1.2e4,format=2i,scale=5e-1,quality=0i,arrival_ms=7i,bytes=48002i,";
        assert!(text.starts_with(begin) && text.ends_with("\",samples_1=\"AAA=\" 5\n"), "{}", &text[..200]);
        assert!(text.split('"').all(|part| part.len() < 1 << 16));
    }
}
