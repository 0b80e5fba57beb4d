//! Rolling-element bearings: the frequencies at which their defects strike.

use crate::{EnvelopeSpectrum, Line, finite};

/// Geometry of a bearing, as its maker states it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BearingGeometry {
    rolling_elements: u32,
    /// Element diameter over pitch diameter.
    diameters: f64,
    contact_angle_cos: f64,
}

/// Why a bearing cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// Too few elements.
    #[error("a bearing with {0} rolling elements: give their number in one row, at least 3")]
    RollingElements(u32),
    /// Diameters that do not fit.
    #[error("rolling elements of {element} on a pitch circle of {pitch}: give both diameters in one unit, the first the smaller")]
    Diameters {
        /// Diameter of a rolling element.
        element: f64,
        /// Diameter of the pitch circle.
        pitch: f64,
    },
    /// An angle that is none.
    #[error("a contact angle of {0} degrees: give 0 up to, but not including, 90")]
    ContactAngle(f64),
}

/// Frequencies of a bearing's defects at a shaft speed, without slip, outer ring at rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BearingFrequencies {
    /// Ball pass frequency, outer race: n/2 * fr * (1 - c).
    pub bpfo_hz: f64,
    /// Ball pass frequency, inner race: n/2 * fr * (1 + c).
    pub bpfi_hz: f64,
    /// Ball spin frequency: D/(2d) * fr * (1 - c^2).
    pub bsf_hz: f64,
    /// Fundamental train frequency, of the cage: fr/2 * (1 - c).
    pub ftf_hz: f64,
}

/// What the envelope spectrum has at a bearing's frequencies; `None` as for [`EnvelopeSpectrum::line`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BearingLines {
    /// Outer race.
    pub bpfo: Option<Line>,
    /// Inner race.
    pub bpfi: Option<Line>,
    /// Rolling element.
    pub bsf: Option<Line>,
    /// Rolling element, at twice its spin: a defect of it strikes both races in a turn.
    pub bsf2: Option<Line>,
    /// Cage.
    pub ftf: Option<Line>,
}

impl BearingGeometry {
    /// A bearing with `rolling_elements` in a row, of `element_diameter` on a circle of `pitch_diameter` (in one unit), and a
    /// contact angle in degrees.
    ///
    /// # Errors
    /// For what cannot be a bearing.
    pub fn new(
        rolling_elements: u32,
        element_diameter: f64,
        pitch_diameter: f64,
        contact_angle_deg: f64,
    ) -> Result<Self, GeometryError> {
        if rolling_elements < 3 {
            return Err(GeometryError::RollingElements(rolling_elements));
        }
        let diameters = element_diameter / pitch_diameter;
        if !(element_diameter > 0.0 && pitch_diameter.is_finite() && diameters > 0.0 && diameters < 1.0) {
            return Err(GeometryError::Diameters { element: element_diameter, pitch: pitch_diameter });
        }
        if !(0.0..90.0).contains(&contact_angle_deg) {
            return Err(GeometryError::ContactAngle(contact_angle_deg));
        }
        Ok(Self { rolling_elements, diameters, contact_angle_cos: contact_angle_deg.to_radians().cos() })
    }

    /// The frequencies at `shaft_hz` turns per second (rpm / 60). `None` unless that is finite and above 0.
    ///
    /// The formulas with c = d/D cos(phi) are those of Randall and Antoni, "Rolling element bearing diagnostics: a tutorial",
    /// Mechanical Systems and Signal Processing 25 (2011).
    pub fn frequencies(&self, shaft_hz: f64) -> Option<BearingFrequencies> {
        let elements = f64::from(self.rolling_elements);
        let c = self.diameters * self.contact_angle_cos;
        let shaft_hz = finite(shaft_hz).filter(|hz| *hz > 0.0)?;
        Some(BearingFrequencies {
            bpfo_hz: finite(elements / 2.0 * (1.0 - c) * shaft_hz)?,
            bpfi_hz: finite(elements / 2.0 * (1.0 + c) * shaft_hz)?,
            bsf_hz: finite((1.0 - c * c) / (2.0 * self.diameters) * shaft_hz)?,
            ftf_hz: finite((1.0 - c) / 2.0 * shaft_hz)?,
        })
    }
}

impl BearingFrequencies {
    /// What the spectrum has at these frequencies.
    pub fn lines(&self, envelope: &EnvelopeSpectrum<'_>) -> BearingLines {
        BearingLines {
            bpfo: envelope.line(self.bpfo_hz),
            bpfi: envelope.line(self.bpfi_hz),
            bsf: envelope.line(self.bsf_hz),
            bsf2: envelope.line(2.0 * self.bsf_hz),
            ftf: envelope.line(self.ftf_hz),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check((elements, element, pitch, angle): (u32, f64, f64, f64), shaft_hz: f64, expected: [&str; 4]) {
        let found = BearingGeometry::new(elements, element, pitch, angle).unwrap().frequencies(shaft_hz).unwrap();
        let found = [found.bpfo_hz, found.bpfi_hz, found.bsf_hz, found.ftf_hz].map(|hz| format!("{hz:.4}"));
        assert_eq!(found, expected);
    }

    #[test]
    fn defects_strike_where_the_textbooks_say() {
        check((8, 2.0, 12.0, 15.0), 25.0, ["83.9012", "116.0988", "73.0562", "10.4877"]);
        check((9, 7.94, 39.04, 0.0), 1797.0 / 60.0, ["107.3643", "162.1857", "70.5846", "11.9294"]);
    }

    #[test]
    fn what_cannot_be_a_bearing_is_refused() {
        let ok = BearingGeometry::new(8, 2.0, 12.0, 15.0).unwrap();
        assert_eq!(BearingGeometry::new(2, 2.0, 12.0, 15.0), Err(GeometryError::RollingElements(2)));
        for (element, pitch) in [(0.0, 12.0), (12.0, 12.0), (f64::NAN, 12.0), (2.0, f64::INFINITY), (-2.0, -12.0)] {
            assert!(matches!(BearingGeometry::new(8, element, pitch, 0.0), Err(GeometryError::Diameters { .. })));
        }
        for angle in [-1.0, 90.0, f64::NAN] {
            assert!(matches!(BearingGeometry::new(8, 2.0, 12.0, angle), Err(GeometryError::ContactAngle(_))));
        }
        for speed in [0.0, -25.0, f64::NAN, f64::INFINITY, f64::MAX] {
            assert_eq!(ok.frequencies(speed), None);
        }
    }
}
