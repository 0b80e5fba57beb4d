//! The registry of sensors: what is declared of them beyond what they send. Nothing has to be: a sensor without a
//! declaration is kept raw, has plain features and is in the cache.

use std::sync::Arc;

use mantis_schemas::{Series, SeriesId, SeriesTable};
use mantis_signal::{Band, BearingGeometry, FrameSettings, Group, ZoneLimits};
use serde::{Deserialize, Serialize};

use crate::features::FrameDeclaration;

/// Sensors that send faster are kept out of stores for slow readings.
pub const SLOW_RATE_HZ_MAX: f64 = 100.0;

/// What is declared of the sensors that two patterns name. `*` in a pattern stands for any text, the empty one too;
/// everything else stands for itself.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Pattern of the asset.
    pub asset: String,
    /// Pattern of the sensor.
    pub sensor: String,
    /// Unit of the values, UCUM: `mm/s`, `Cel`.
    #[serde(default)]
    pub unit: Option<String>,
    /// Readings per second.
    #[serde(default)]
    pub rate_hz: Option<f64>,
    /// Whether readings go to the feature store; absent: unless they are faster than 100 Hz.
    #[serde(default)]
    pub store: Option<bool>,
    /// The bearing that a vibration sensor sits on.
    #[serde(default)]
    pub bearing: Option<Bearing>,
    /// The class of the machine in ISO 10816-3.
    #[serde(default)]
    pub iso: Option<IsoClass>,
    /// Instead of the class: RMS velocities in mm/s at which zones A, B and C end.
    #[serde(default)]
    pub zone_limits_mm_s: Option<(f64, f64, f64)>,
    /// Bands whose RMS is wanted: from, to, in Hz.
    #[serde(default)]
    pub bands_hz: Vec<(f64, f64)>,
    /// Band of the envelope: from, to, in Hz.
    #[serde(default)]
    pub envelope_hz: Option<(f64, f64)>,
}

/// Geometry and speed of a rolling bearing.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Bearing {
    /// Number of rolling elements.
    pub balls: u32,
    /// Diameter of a rolling element, in the unit of the pitch diameter.
    pub ball_diameter: f64,
    /// Diameter of the circle of their centres.
    pub pitch_diameter: f64,
    /// Contact angle in degrees.
    #[serde(default)]
    pub contact_angle_deg: f64,
    /// Speed of the shaft in revolutions per minute.
    pub shaft_rpm: f64,
}

/// Group and support of a machine in ISO 10816-3.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct IsoClass {
    /// 1: large machines; 2: medium-sized ones.
    pub group: u8,
    /// How it stands.
    pub support: Support,
}

/// How a machine stands.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// On a rigid foundation.
    Rigid,
    /// On a flexible one.
    Flexible,
}

impl Declaration {
    /// True if readings of the sensor go to a store for slow readings.
    pub fn stores_readings(&self) -> bool {
        self.store.unwrap_or(self.rate_hz.is_none_or(|rate_hz| rate_hz <= SLOW_RATE_HZ_MAX))
    }

    /// What the figures of its frames need to know.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn frame_settings(&self) -> Result<FrameSettings, String> {
        let band = |(low_hz, high_hz): (f64, f64)| Band::new(low_hz, high_hz).map_err(|error| error.to_string());
        let bands: Vec<Band> = self.bands_hz.iter().copied().map(band).collect::<Result<_, _>>()?;
        let bearing = self.bearing.map(|bearing| {
            let Bearing { balls, ball_diameter, pitch_diameter, contact_angle_deg, shaft_rpm } = bearing;
            if !(shaft_rpm.is_finite() && shaft_rpm > 0.0) {
                return Err("shaft_rpm is not above 0: give revolutions per minute".into());
            }
            BearingGeometry::new(balls, ball_diameter, pitch_diameter, contact_angle_deg).map_err(|error| error.to_string())
        });
        let own_limits = self.zone_limits_mm_s.map(|(a, b, c)| {
            let limits = ZoneLimits::new(a, b, c).map_err(|error| error.to_string());
            if self.iso.is_some() { Err("iso and zone_limits_mm_s are both given: keep one of them".into()) } else { limits }
        });
        let zone_limits = self.iso.map(|iso| {
            let group = match iso.group {
                1 => Group::Large,
                2 => Group::Medium,
                _ => return Err("iso.group is neither 1 nor 2: see ISO 10816-3".to_owned()),
            };
            let support = match iso.support {
                Support::Rigid => mantis_signal::Support::Rigid,
                Support::Flexible => mantis_signal::Support::Flexible,
            };
            Ok(ZoneLimits::iso_10816_3(group, support))
        });
        Ok(FrameSettings {
            bands,
            envelope_band: self.envelope_hz.map(band).transpose()?,
            bearing: bearing.transpose()?,
            unit: self.unit.clone(),
            zone_limits: own_limits.or(zone_limits).transpose()?,
        })
    }

    /// Turns of the shaft per second.
    pub fn shaft_hz(&self) -> Option<f64> {
        self.bearing.map(|bearing| bearing.shaft_rpm / 60.0)
    }

    fn is_of(&self, series: &Series) -> bool {
        matches(&self.asset, &series.asset) && matches(&self.sensor, &series.sensor)
    }

    /// What is wrong with it, and what to do, if something is.
    fn fault(&self) -> Option<String> {
        if self.asset.is_empty() || self.sensor.is_empty() {
            return Some("asset and sensor need a pattern: use \"*\" for all".into());
        }
        if self.rate_hz.is_some_and(|rate_hz| !(rate_hz.is_finite() && rate_hz > 0.0)) {
            return Some("rate_hz is not above 0: give readings per second".into());
        }
        FrameDeclaration::of(self).err()
    }
}

/// A declaration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the declaration of sensors {asset:?} {sensor:?} cannot be used: {fault}")]
pub struct DeclarationError {
    /// Its pattern of assets.
    pub asset: String,
    /// Its pattern of sensors.
    pub sensor: String,
    /// What is wrong, and what to do.
    pub fault: String,
}

/// All declarations, in order; of several that fit a sensor the first counts. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SensorRegistry(Arc<[Declaration]>);

impl SensorRegistry {
    /// A registry of these declarations.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(declarations: Vec<Declaration>) -> Result<Self, DeclarationError> {
        for declaration in &declarations {
            if let Some(fault) = declaration.fault() {
                let Declaration { asset, sensor, .. } = declaration.clone();
                return Err(DeclarationError { asset, sensor, fault });
            }
        }
        Ok(Self(declarations.into()))
    }

    /// What is declared of a sensor. Looks through all declarations: [`Declared`] remembers.
    pub fn find(&self, series: &Series) -> Option<&Declaration> {
        self.place(series).and_then(|place| self.0.get(place))
    }

    fn place(&self, series: &Series) -> Option<usize> {
        self.0.iter().position(|declaration| declaration.is_of(series))
    }
}

/// What is declared of the series of a process, looked up once for each.
#[derive(Debug)]
pub struct Declared {
    registry: SensorRegistry,
    series: SeriesTable,
    /// By id of the series; the place in the registry, if there is one.
    known: Vec<Option<usize>>,
}

impl Declared {
    /// Declarations for the ids of `series`.
    pub fn new(registry: SensorRegistry, series: SeriesTable) -> Self {
        Self { registry, series, known: Vec::new() }
    }

    /// What is declared of a sensor.
    pub fn get(&mut self, series: SeriesId) -> Option<&Declaration> {
        if self.known.len() <= series.index() {
            let (registry, names) = (&self.registry, self.series.read());
            let new = names.iter().skip(self.known.len());
            self.known.extend(new.map(|series| registry.place(series)));
        }
        let place = *self.known.get(series.index())?;
        self.registry.0.get(place?)
    }

    /// True if readings of the sensor go to a store for slow readings of registered sensors.
    pub fn stores_readings(&mut self, series: SeriesId) -> bool {
        self.get(series).is_some_and(Declaration::stores_readings)
    }
}

/// True if `text` is what `pattern` says. At a mismatch the last `*` takes one byte more, so the time is bounded by the
/// product of the lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(byte) if text.get(read) == Some(byte) => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, read) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use mantis_schemas::SeriesInterner;
    use proptest::prelude::*;

    use super::*;

    #[derive(Deserialize)]
    struct File {
        sensors: Vec<Declaration>,
    }

    fn registry(toml: &str) -> SensorRegistry {
        SensorRegistry::new(toml::from_str::<File>(toml).unwrap().sensors).unwrap()
    }

    fn series(asset: &str, sensor: &str) -> Series {
        Series { asset: asset.into(), sensor: sensor.into() }
    }

    #[test]
    fn a_star_stands_for_any_text_and_everything_else_for_itself() {
        for (pattern, text) in [
            ("*", "anything"),
            ("pump-*", "pump-7"),
            ("pump-*", "pump-"),
            ("*-7", "pump-7-7"),
            ("a*b*c", "a-b-b-c"),
            ("**", "x"),
            ("a?[b].c", "a?[b].c"),
            ("*ä*", "Kälte"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("pump", "Pump"),
            ("pump", "pump-7"),
            ("*-7", "pump-77"),
            ("a*b*c", "a-c-b"),
            ("a?c", "abc"),
            ("", "x"),
            ("x*y", "x"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_their_definition_says(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            fn defined(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|taken| defined(rest, &text[taken..])),
                    Some((byte, rest)) => text.split_first().is_some_and(|(first, text)| first == byte && defined(rest, text)),
                }
            }
            prop_assert_eq!(matches(&pattern, &text), defined(pattern.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn the_first_declaration_that_fits_counts_and_is_remembered() {
        let registry = registry(
            r#"
            [[sensors]]
            asset = "pump-1"
            sensor = "vibration"
            unit = "mm/s"
            rate_hz = 12000
            bearing = { balls = 9, ball_diameter = 7.94, pitch_diameter = 39.04, shaft_rpm = 1797 }
            iso = { group = 2, support = "rigid" }
            bands_hz = [[10, 1000], [1000, 5000]]
            envelope_hz = [2000, 4000]
            [[sensors]]
            asset = "pump-*"
            sensor = "*"
            unit = "Cel"
            "#,
        );
        let mut interner = SeriesInterner::new(10);
        let mut declared = Declared::new(registry.clone(), interner.table());
        for _ in 0..2 {
            for (asset, sensor, unit) in
                [("pump-1", "vibration", Some("mm/s")), ("pump-2", "vibration", Some("Cel")), ("fan", "temp", None)]
            {
                let id = interner.intern(asset, sensor).unwrap();
                assert_eq!(declared.get(id).and_then(|found| found.unit.as_deref()), unit);
                assert_eq!(registry.find(&series(asset, sensor)).and_then(|found| found.unit.as_deref()), unit);
            }
        }
    }

    #[test]
    fn slow_sensors_are_stored_unless_the_declaration_says_otherwise() {
        for (keys, stores) in [
            ("", true),
            ("rate_hz = 100", true),
            ("rate_hz = 100.5", false),
            ("rate_hz = 1000\nstore = true", true),
            ("rate_hz = 1\nstore = false", false),
        ] {
            let registry = registry(&format!("[[sensors]]\nasset = '*'\nsensor = '*'\n{keys}"));
            assert_eq!(registry.find(&series("a", "b")).map(Declaration::stores_readings), Some(stores), "{keys}");
        }
    }

    #[test]
    fn a_declaration_that_cannot_be_used_is_named_with_what_is_wrong() {
        let bearing =
            |keys: &str| format!("bearing = {{ balls = 8, ball_diameter = 2, pitch_diameter = 12, shaft_rpm = 1500, {keys} }}");
        for keys in [
            "rate_hz = 0".to_owned(),
            "rate_hz = nan".to_owned(),
            "bands_hz = [[10, 5]]".to_owned(),
            "envelope_hz = [-1, 5]".to_owned(),
            "envelope_hz = [1, inf]".to_owned(),
            "iso = { group = 3, support = 'rigid' }".to_owned(),
            bearing("contact_angle_deg = 90"),
            bearing("contact_angle_deg = 1").replace("12", "2"),
        ] {
            let file: File = toml::from_str(&format!("[[sensors]]\nasset = 'pump'\nsensor = 'x*'\n{keys}")).unwrap();
            let error = SensorRegistry::new(file.sensors).unwrap_err().to_string();
            assert!(error.contains(r#""pump" "x*""#), "{error}");
        }
        let unknown = toml::from_str::<File>("[[sensors]]\nasset = 'pump'\nsensor = 'x'\nrate = 5");
        assert!(unknown.is_err_and(|error| error.to_string().contains("unknown field `rate`")));
    }
}
