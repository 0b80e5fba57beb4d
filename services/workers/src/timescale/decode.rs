//! Records into features and the slow readings of registered sensors.

use mantis_pipeline::{Decoder, Reason, Record, RowReject};
use mantis_schemas::{ConfigError, DecoderConfig, ReadingColumns, SeriesId, SeriesTable};
use mantis_stores::ValueColumns;

use crate::{
    decode::ValueDecoder,
    sensors::{Declared, SensorRegistry},
};

/// Decodes features and readings. Readings of a sensor that is not registered, or is too fast for this store, are no rows of
/// this worker: they neither count as decoded nor as rejected. A record that holds nothing else is one without rows. What
/// cannot be decoded at all is a dead letter, whatever its sensor.
#[derive(Debug)]
pub struct SlowDecoder {
    decoder: ValueDecoder,
    sensors: Declared,
}

impl SlowDecoder {
    /// A decoder with this configuration, for these sensors.
    ///
    /// # Errors
    /// A registered schema cannot be used.
    pub fn new(config: DecoderConfig, sensors: SensorRegistry) -> Result<Self, ConfigError> {
        let decoder = ValueDecoder::new(config)?;
        Ok(Self { sensors: Declared::new(sensors, decoder.series()), decoder })
    }

    /// The names behind the series ids in the columns.
    pub fn series(&self) -> SeriesTable {
        self.decoder.series()
    }
}

impl Decoder for SlowDecoder {
    type Columns = ValueColumns;

    fn columns(&self, topic: &str) -> ValueColumns {
        self.decoder.columns(topic)
    }

    fn decode(&mut self, record: &Record<'_>, into: &mut ValueColumns, rejects: &mut Vec<RowReject>) -> Result<(), Reason> {
        let before = match into {
            ValueColumns::Readings(readings) => readings.len(),
            ValueColumns::Features(_) => 0,
        };
        self.decoder.decode(record, into, rejects)?;
        if let ValueColumns::Readings(readings) = into {
            retain(readings, before, |series| self.sensors.stores_readings(series));
        }
        Ok(())
    }
}

/// Keeps the first `from` readings, and of the others those of series that are kept, in their order.
fn retain(readings: &mut ReadingColumns, from: usize, mut keeps: impl FnMut(SeriesId) -> bool) {
    let mut kept = from;
    for row in from..readings.len() {
        if keeps(readings.series[row]) {
            readings.series.swap(kept, row);
            readings.time_ns.swap(kept, row);
            readings.value.swap(kept, row);
            readings.quality.swap(kept, row);
            readings.arrival_ms.swap(kept, row);
            kept += 1;
        }
    }
    readings.truncate(kept);
}

#[cfg(test)]
mod tests {
    use mantis_schemas::topics;

    use super::*;
    use crate::sensors::Declaration;

    fn declaration(sensor: &str, rate_hz: f64) -> Declaration {
        let toml = format!("asset = 'pump'\nsensor = '{sensor}'\nrate_hz = {rate_hz:?}");
        toml::from_str(&toml).unwrap()
    }

    #[test]
    fn readings_of_fast_and_unregistered_sensors_are_no_rows_and_what_is_wrong_is_still_refused() {
        let sensors = SensorRegistry::new(vec![declaration("temp*", 1.0), declaration("current", 1000.0)]).unwrap();
        let mut decoder = SlowDecoder::new(DecoderConfig::default(), sensors).unwrap();
        let mut columns = decoder.columns(topics::READINGS);
        let mut rejects = Vec::new();
        let payload = br#"[
            {"asset":"pump","sensor":"current","time_ns":1700000000000000000,"value":1},
            {"asset":"pump","sensor":"temp","time_ns":1700000000000000001,"value":2},
            {"asset":"pump","sensor":"unknown","time_ns":1700000000000000002,"value":3},
            {"asset":"pump","sensor":"current","time_ns":1700000000000000003},
            {"asset":"pump","sensor":"temp 2","time_ns":1700000000000000004,"value":5}
        ]"#;
        let record = Record { offset: 0, timestamp_ms: None, key: None, payload: Some(payload) };
        for records in 1..=2 {
            decoder.decode(&record, &mut columns, &mut rejects).unwrap();
            let ValueColumns::Readings(readings) = &columns else { panic!("readings") };
            assert_eq!(readings.value, [2.0, 5.0].repeat(records));
            assert_eq!(readings.time_ns.len(), 2 * records);
        }
        assert_eq!(rejects.iter().map(|reject| reject.row).collect::<Vec<_>>(), [3, 3]);
    }
}
