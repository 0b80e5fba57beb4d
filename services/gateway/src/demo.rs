//! The small recording that is part of the program.

use crate::{Error, Format, Mapping, Recording, source::Source};

/// Two hours of a cooling-water pump, `pump-7`: temperature, pressure and current every two seconds, and six seconds
/// of its bearing's vibration as a waveform. Made by formula (`examples/demo`), so that it can be shipped.
///
/// # Errors
/// None that a released program has: the demo's mappings and files are tested.
pub fn demo(batch: usize, format: Format) -> Result<Recording, Error> {
    let pump = Mapping::parse(include_str!("../../../examples/demo/pump.toml"), "demo/pump.toml")?;
    let vibration = Mapping::parse(include_str!("../../../examples/demo/vibration.toml"), "demo/vibration.toml")?;
    let pump_file = Source::embedded("pump-7.csv", "demo", include_bytes!("../../../examples/demo/pump-7.csv"));
    let vibration_file = Source::embedded("pump-7.f64le", "demo", include_bytes!("../../../examples/demo/pump-7.f64le"));
    Recording::of(vec![(pump, vec![pump_file]), (vibration, vec![vibration_file])], 0, batch, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_read_without_a_refusal() {
        let mut recording = demo(50, Format::Avro).unwrap();
        while recording.next_piece().unwrap().is_some() {}
        let totals = recording.totals();
        assert_eq!((totals.rows, totals.readings, totals.refused, totals.blanks), (3_600 + 12_288, 10_800, 0, 0));
        assert_eq!((totals.frames, totals.samples), (6, 12_288));
    }
}
