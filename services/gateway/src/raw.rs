//! Files of little-endian samples and nothing else.

use std::{
    io::{BufRead, Read},
    sync::Arc,
};

use mantis_schemas::{Quality, SampleFormat};

use crate::{
    Error, Piece, Totals,
    batch::{Output, check_name},
    mapping::{FramesMapping, Mapping, RawMapping},
    rows::Row,
    source::{Source, broken_off},
    times::{Times, steps_ns},
};

/// Reads one file, a frame of each channel at a time.
pub(crate) struct Raw {
    reader: Box<dyn BufRead + Send>,
    source: Source,
    asset: Arc<str>,
    channels: Vec<Arc<str>>,
    format: SampleFormat,
    scale: f64,
    start_ns: i64,
    rate_hz: f64,
    samples_max: usize,
    /// Samples read of each channel.
    index: u64,
}

impl Raw {
    pub(crate) fn open(
        mut reader: Box<dyn BufRead + Send>,
        source: &Source,
        mapping: &Mapping,
        (raw, frames): (&RawMapping, &FramesMapping),
    ) -> Result<Self, Error> {
        let wrong = |what: String| Error::File { file: source.label.to_string(), what };
        let none = |column: &str| Err(format!("a raw file has no column `{column}`"));
        let name = |kind, template: &crate::template::Template| {
            let bound = template.bind(&source.names, none)?;
            let name = bound.constant().unwrap_or("");
            check_name(kind, name).map(|()| Arc::from(name))
        };
        let mut times = Times::bind(&mapping.time, None, '.', 0, &source.names, none).map_err(wrong)?;
        std::io::copy(&mut (&mut reader).take(raw.skip_bytes), &mut std::io::sink()).map_err(Error::io(source.path()))?;
        Ok(Self {
            asset: name("asset", &mapping.asset).map_err(wrong)?,
            channels: raw.channels.iter().map(|channel| name("sensor", channel)).collect::<Result<_, _>>().map_err(wrong)?,
            format: raw.samples.into(),
            scale: raw.scale,
            start_ns: times.of(&Row::default(), 0, "").map_err(wrong)?,
            rate_hz: frames.rate_hz,
            samples_max: frames.samples,
            index: 0,
            source: source.clone(),
            reader,
        })
    }

    /// Reads on; false at the end.
    pub(crate) fn next(&mut self, output: &mut Output, totals: &mut Totals) -> Result<bool, Error> {
        let step = self.format.width() * self.channels.len();
        let mut bytes = Vec::new();
        let limit = step * self.samples_max;
        let ended = (&mut self.reader).take(limit as u64).read_to_end(&mut bytes);
        let broken = ended.err().map(|error| broken_off(error).map_err(Error::io(self.source.path()))).transpose()?;
        let rows = bytes.chunks_exact(step);
        if !rows.remainder().is_empty() {
            let what = format!("the file ends with {} bytes that make no sample of each channel", rows.remainder().len());
            output.refuse(totals, self.index + rows.len() as u64, what);
        }
        for (channel, sensor) in self.channels.iter().enumerate() {
            let samples = rows.clone().filter_map(|row| row.chunks_exact(self.format.width()).nth(channel));
            let mut frame = Vec::new();
            let mut from = self.index;
            for (number, sample) in (self.index..).zip(samples) {
                if self.format.values(self.scale, sample).all(f64::is_finite) {
                    frame.extend_from_slice(sample);
                } else {
                    // The samples around it are good: it ends a frame and the next one begins behind it.
                    output.refuse(totals, number, format!("the sample of `{sensor}` is not finite, and a frame cannot carry it"));
                    self.cut(output, totals, sensor, from, std::mem::take(&mut frame))?;
                    from = number + 1;
                }
            }
            self.cut(output, totals, sensor, from, frame)?;
        }
        let read = bytes.len() / step;
        self.index += read as u64;
        totals.rows += read as u64;
        if let Some(what) = &broken {
            output.refuse(totals, self.index, what);
        }
        Ok(bytes.len() == limit && broken.is_none())
    }

    fn cut(&self, output: &mut Output, totals: &mut Totals, sensor: &Arc<str>, from: u64, samples: Vec<u8>) -> Result<(), Error> {
        if samples.is_empty() {
            return Ok(());
        }
        totals.frames += 1;
        totals.samples += (samples.len() / self.format.width()) as u64;
        let start_ns = i64::try_from(i128::from(self.start_ns) + steps_ns(from, self.rate_hz))
            .map_err(|_| Error::File { file: self.source.label.to_string(), what: "its times end after 2262".into() })?;
        output.pieces.push_back(Piece::Frame {
            asset: self.asset.clone(),
            sensor: sensor.clone(),
            start_ns,
            sample_rate_hz: self.rate_hz,
            format: self.format,
            scale: self.scale,
            samples,
            quality: Quality::Good,
            line: from,
        });
        Ok(())
    }
}
