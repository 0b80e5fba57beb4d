//! Vibration severity after ISO 10816-3: industrial machines above 15 kW, measured on their bearings.

use crate::{Band, Spectrum};

/// Version of [`Severity`]: stored with the rows; raise when a figure or a verdict could change.
pub const SEVERITY_VERSION: u32 = 1;

/// Frequencies that count.
pub const SEVERITY_BAND: Band = Band::known(10.0, 1000.0);
/// No verdict at this sample rate or below: the band would not be in the signal.
pub const SAMPLE_RATE_ABOVE_HZ: f64 = 2000.0;
/// No verdict on a shorter frame: it does not hold one turn of the band's lowest frequency.
pub const FRAME_MIN_S: f64 = 0.1;
/// The one unit (UCUM) that gives a verdict: nothing is converted or integrated.
pub const UNIT: &str = "mm/s";

/// How severe a machine vibrates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Severity {
    /// RMS of the velocity from 10 Hz to 1000 Hz.
    pub velocity_rms_mm_s: f64,
    /// The zone that it is in.
    pub zone: Zone,
}

/// An evaluation zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Zone {
    /// As newly commissioned.
    A,
    /// Fit for long-term operation.
    B,
    /// Not fit for long: plan a repair.
    C,
    /// Severe enough to do damage.
    D,
}

/// Size of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Group 1: above 300 kW, or shaft height from 315 mm.
    Large,
    /// Group 2: 15 kW to 300 kW, or shaft height 160 mm to 315 mm.
    Medium,
}

/// What the machine stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Support {
    /// The lowest natural frequency of machine and support lies at least 25 % above the main excitation.
    Rigid,
    /// Any other.
    Flexible,
}

/// Where zones end. A velocity on a boundary is in the better zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZoneLimits {
    a_mm_s: f64,
    b_mm_s: f64,
    c_mm_s: f64,
}

/// Why three numbers are no limits.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("zones that end at {0}, {1} and {2} mm/s: give finite velocities above 0, each larger than the one before")]
pub struct ZoneLimitsError(f64, f64, f64);

impl ZoneLimits {
    /// Limits of one's own: the velocities at which zones A, B and C end.
    ///
    /// # Errors
    /// Unless 0 < A < B < C and all are finite.
    pub fn new(a_mm_s: f64, b_mm_s: f64, c_mm_s: f64) -> Result<Self, ZoneLimitsError> {
        if 0.0 < a_mm_s && a_mm_s < b_mm_s && b_mm_s < c_mm_s && c_mm_s.is_finite() {
            Ok(Self { a_mm_s, b_mm_s, c_mm_s })
        } else {
            Err(ZoneLimitsError(a_mm_s, b_mm_s, c_mm_s))
        }
    }

    /// The limits of ISO 10816-3.
    pub fn iso_10816_3(group: Group, support: Support) -> Self {
        let (a_mm_s, b_mm_s, c_mm_s) = match (group, support) {
            (Group::Large, Support::Rigid) => (2.3, 4.5, 7.1),
            (Group::Large, Support::Flexible) => (3.5, 7.1, 11.0),
            (Group::Medium, Support::Rigid) => (1.4, 2.8, 4.5),
            (Group::Medium, Support::Flexible) => (2.3, 4.5, 7.1),
        };
        Self { a_mm_s, b_mm_s, c_mm_s }
    }

    /// The zone of a velocity. `None` for NaN.
    pub fn zone(&self, velocity_rms_mm_s: f64) -> Option<Zone> {
        let ends = [(Zone::A, self.a_mm_s), (Zone::B, self.b_mm_s), (Zone::C, self.c_mm_s), (Zone::D, f64::INFINITY)];
        ends.into_iter().find(|(_, end)| velocity_rms_mm_s <= *end).map(|(zone, _)| zone)
    }
}

impl Severity {
    /// The severity of a frame whose samples were declared to be in `unit`. `None` unless that is [`UNIT`], the sample rate is above
    /// [`SAMPLE_RATE_ABOVE_HZ`] and the frame lasts [`FRAME_MIN_S`].
    pub fn of(spectrum: &Spectrum<'_>, unit: Option<&str>, limits: &ZoneLimits) -> Option<Self> {
        let seconds = spectrum.samples as f64 / spectrum.sample_rate_hz;
        if unit != Some(UNIT) || spectrum.sample_rate_hz <= SAMPLE_RATE_ABOVE_HZ || seconds < FRAME_MIN_S {
            return None;
        }
        let velocity_rms_mm_s = spectrum.band_rms(SEVERITY_BAND)?;
        Some(Self { velocity_rms_mm_s, zone: limits.zone(velocity_rms_mm_s)? })
    }
}
