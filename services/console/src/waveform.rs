//! A waveform frame: its samples, its spectrum, and what was declared of its sensor.

use mantis_schemas::Quality;
use mantis_signal::{FrameAnalyzer, FrameFeatures, SpectrumPlanner};
use mantis_stores::raw::StoredFrame;

use crate::{
    Declared,
    chart::{Axis, COLUMNS, Chart, Columns},
    text,
};

/// A frame as a page shows it.
#[derive(Debug)]
pub(crate) struct Waveform {
    pub(crate) start_ns: i64,
    pub(crate) sample_rate_hz: f64,
    pub(crate) samples: usize,
    pub(crate) format: &'static str,
    pub(crate) quality: Quality,
    pub(crate) arrival_ms: i64,
    pub(crate) wave: Chart,
    /// `None` for frames without a spectrum: too short, or constant.
    pub(crate) spectrum: Option<Chart>,
    /// Of the envelope, where a bearing was declared.
    pub(crate) envelope: Option<Chart>,
    pub(crate) figures: FrameFeatures,
    /// The bands that were declared, with their RMS.
    pub(crate) bands: Vec<(String, Option<f64>)>,
}

/// Computes what a page shows of a frame. Takes a moment for long frames: not for an async thread.
pub(crate) fn of(frame: &StoredFrame, declared: &Declared) -> Result<Waveform, String> {
    let samples: Vec<f64> = frame.format.values(frame.scale, &frame.samples).collect();
    let rate = frame.sample_rate_hz;
    let mut planner = SpectrumPlanner::new();
    let analyzer = FrameAnalyzer::new(declared.frames.clone()).map_err(|error| error.to_string())?;
    let figures = analyzer.features(&mut planner, &samples, rate, declared.shaft_hz).map_err(|error| error.to_string())?;
    let unit = declared.unit.as_deref();
    let settings = &declared.frames;
    let bands = settings.bands.iter().enumerate().map(|(index, band)| {
        let name = format!("{} to {} Hz", text::number(band.low_hz()), text::number(band.high_hz()));
        (name, figures.spectrum.as_ref().and_then(|spectrum| spectrum.band_rms.get(index).copied().flatten()))
    });
    let bands = bands.collect();
    let spectrum = planner.spectrum(&samples, rate).ok().flatten();
    let dominant_hz = spectrum.and_then(|spectrum| spectrum.dominant_frequency_hz());
    let spectrum = spectrum.and_then(|spectrum| {
        let lines = (0..spectrum.bins()).filter_map(|bin| Some((spectrum.frequency_hz(bin), spectrum.amplitude(bin)?)));
        lines_chart("Spectrum", unit, rate, lines)
    });
    let mark = dominant_hz.map(|hz| (hz, format!("{} Hz", text::number(hz))));
    let spectrum = spectrum.map(|chart| chart.with_marks(mark));
    let marks = bearing_marks(&figures);
    let envelope = match settings.bearing {
        Some(_) => planner.envelope(&samples, rate, settings.envelope_band).ok().flatten().and_then(|envelope| {
            let spectrum = envelope.spectrum();
            let highest = marks.iter().map(|(hz, _)| hz * 4.0).fold(0.0, f64::max);
            let shown = |hz: f64| highest == 0.0 || hz <= highest;
            let lines = (1..spectrum.bins()).filter_map(|bin| Some((spectrum.frequency_hz(bin), spectrum.amplitude(bin)?)));
            let to_hz = if highest == 0.0 { rate / 2.0 } else { highest.min(rate / 2.0) };
            lines_chart("Spectrum of the envelope", unit, to_hz * 2.0, lines.filter(|(hz, _)| shown(*hz)))
        }),
        None => None,
    };
    Ok(Waveform {
        start_ns: frame.start_ns,
        sample_rate_hz: rate,
        samples: samples.len(),
        format: frame.format.name(),
        quality: frame.quality,
        arrival_ms: frame.arrival_ms,
        wave: wave_chart(&samples, rate, unit),
        spectrum,
        envelope: envelope.map(|chart| chart.with_marks(marks)),
        figures,
        bands,
    })
}

fn wave_chart(samples: &[f64], rate: f64, unit: Option<&str>) -> Chart {
    let length_s = samples.len() as f64 / rate;
    let mut columns = Columns::new(0.0, length_s, COLUMNS);
    for (index, sample) in samples.iter().enumerate() {
        columns.add(index as f64 / rate, *sample, Quality::Good);
    }
    let range = columns.range().unwrap_or((0.0, 0.0));
    let label = format!(
        "Samples over {} s: from {} to {}{}",
        text::number(length_s),
        text::number(range.0),
        text::number(range.1),
        with_space(unit)
    );
    let y = Axis::of_values(range, unit.unwrap_or("value").to_owned());
    Chart::of_columns(label, Axis::exact(0.0, length_s, "s after the start".into()), y, columns.all(), f64::INFINITY)
}

/// A chart of amplitudes over frequencies up to half of the rate; of a column the largest is seen.
fn lines_chart(name: &str, unit: Option<&str>, rate: f64, lines: impl Iterator<Item = (f64, f64)>) -> Option<Chart> {
    let mut columns = Columns::new(0.0, rate / 2.0, COLUMNS);
    let mut largest = (0.0, 0.0);
    for (hz, amplitude) in lines {
        columns.add(hz, amplitude, Quality::Good);
        if amplitude > largest.1 {
            largest = (hz, amplitude);
        }
    }
    let (_, high) = columns.range()?;
    let label =
        format!("{name}: largest amplitude {}{} at {} Hz", text::number(largest.1), with_space(unit), text::number(largest.0));
    let y = Axis::exact(
        0.0,
        if high > 0.0 { high * 1.1 } else { 1.0 },
        format!("amplitude, {}", unit.unwrap_or("unit of the value")),
    );
    Some(Chart::of_columns(label, Axis::exact(0.0, rate / 2.0, "Hz".into()), y, columns.all(), f64::INFINITY))
}

/// The lines of the bearing that are expected.
fn bearing_marks(figures: &FrameFeatures) -> Vec<(f64, String)> {
    let Some(lines) = figures.bearing else { return Vec::new() };
    let named = [("BPFO", lines.bpfo), ("BPFI", lines.bpfi), ("BSF", lines.bsf), ("FTF", lines.ftf)];
    named.into_iter().filter_map(|(name, line)| Some((line?.expected_hz, name.to_owned()))).collect()
}

fn with_space(unit: Option<&str>) -> String {
    unit.map(|unit| format!(" {unit}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use mantis_schemas::SampleFormat;
    use mantis_signal::{Band, BearingGeometry, FrameSettings};

    use super::*;

    fn frame(samples: impl Iterator<Item = f64>) -> StoredFrame {
        StoredFrame {
            start_ns: 0,
            sample_rate_hz: 12_000.0,
            format: SampleFormat::F64,
            scale: 1.0,
            quality: Quality::Good,
            arrival_ms: 1,
            samples: samples.flat_map(f64::to_le_bytes).collect(),
        }
    }

    fn sine(hz: f64) -> StoredFrame {
        frame((0..12_000).map(move |index| (f64::from(index) / 12_000.0 * hz * std::f64::consts::TAU).sin()))
    }

    #[test]
    fn a_sine_stands_at_its_frequency_and_declared_bands_and_lines_are_there() {
        let declared = Declared {
            unit: Some("m/s2".into()),
            frames: FrameSettings {
                bands: vec![Band::new(900.0, 1_100.0).unwrap()],
                bearing: Some(BearingGeometry::new(9, 7.94, 39.04, 0.0).unwrap()),
                ..FrameSettings::default()
            },
            shaft_hz: Some(29.95),
        };
        let shown = of(&sine(1_000.0), &declared).unwrap();
        let spectrum = shown.spectrum.unwrap();
        assert!(spectrum.label.contains("1 m/s2 at 1000 Hz"), "{}", spectrum.label);
        assert_eq!(spectrum.marks.iter().map(|mark| mark.text.as_str()).collect::<Vec<_>>(), ["1000 Hz"]);
        let (name, rms) = &shown.bands[0];
        assert_eq!(name, "900 to 1100 Hz");
        assert!((rms.unwrap() - 0.5_f64.sqrt()).abs() < 1e-6);
        let marks: Vec<_> = shown.envelope.unwrap().marks.into_iter().map(|mark| mark.text).collect();
        assert_eq!(marks, ["BPFO", "BPFI", "BSF"], "the cage turns too slowly for a frame of a second");
    }

    #[test]
    fn short_and_constant_frames_have_no_spectrum_and_broken_ones_say_why() {
        let shown = of(&frame([1.0, 1.0].into_iter()), &Declared::default()).unwrap();
        assert!(shown.spectrum.is_none() && shown.envelope.is_none());
        let error = of(&frame([f64::NAN].into_iter()), &Declared::default()).unwrap_err();
        assert!(error.contains("not finite"), "{error}");
    }
}
