//! How the files of a recording are read: a small TOML file. `docs/replay.md` describes every key.

use std::{collections::BTreeMap, path::Path};

use mantis_schemas::SampleFormat;
use serde::Deserialize;

use crate::{Error, Format, progress::Hash, template::Template};

/// Samples of a frame where the mapping does not say.
const FRAME_SAMPLES: usize = 4096;
/// Bytes of a frame's samples in a message of at most 1 MiB.
const FRAME_BYTES_MAX: usize = (1 << 20) - (4 << 10);
/// Bytes that a sample takes in JSON at most.
const JSON_SAMPLE_BYTES: usize = 25;

/// How the files of a recording become readings or frames.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What the recording is, for people.
    #[serde(default)]
    pub description: String,
    /// Which files of a folder belong to the recording: names with `*` and `?`.
    #[serde(default = "every_file")]
    pub files: Vec<String>,
    pub(crate) asset: Template,
    pub(crate) time: TimeMapping,
    /// The sensors by what they are called in the recording; `*` stands for every other one.
    #[serde(default)]
    pub sensors: BTreeMap<String, Sensor>,
    /// What `*` leaves out.
    #[serde(default)]
    pub ignore: Vec<String>,
    #[serde(default)]
    pub(crate) csv: CsvMapping,
    pub(crate) long: Option<LongMapping>,
    pub(crate) quality: Option<QualityMapping>,
    pub(crate) frames: Option<FramesMapping>,
    pub(crate) raw: Option<RawMapping>,
    /// Where it was read.
    #[serde(skip)]
    pub(crate) origin: String,
    /// Hash of its text.
    #[serde(skip)]
    pub(crate) hash: u64,
}

/// A sensor of a mapping.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    pub(crate) name: Option<Template>,
    /// Unit of its values, UCUM.
    pub unit: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeMapping {
    pub(crate) value: Template,
    #[serde(default = "iso")]
    pub(crate) format: String,
    #[serde(default = "utc")]
    pub(crate) zone: String,
    #[serde(default)]
    pub(crate) overlap: Overlap,
    #[serde(default)]
    pub(crate) gap: Gap,
    pub(crate) add: Option<AddMapping>,
    pub(crate) rate_hz: Option<f64>,
    #[serde(default)]
    pub(crate) day_rolls_over: bool,
    #[serde(default)]
    pub(crate) midnight_ends_day: bool,
}

/// Which of two times is meant where clocks were put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Overlap {
    /// The earlier, as long as time does not go back.
    #[default]
    InOrder,
    Earlier,
    Later,
    Refuse,
}

/// What becomes of a time that was skipped where clocks were put forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Gap {
    #[default]
    Refuse,
    /// The clock had not been put forward yet: the offset before the gap holds.
    Shift,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddMapping {
    pub(crate) column: String,
    pub(crate) unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Unit {
    #[serde(rename = "ns")]
    Ns,
    #[serde(rename = "us")]
    Us,
    #[serde(rename = "ms")]
    Ms,
    #[serde(rename = "100ms")]
    Tenth,
    #[serde(rename = "s")]
    S,
    #[serde(rename = "min")]
    Min,
    #[serde(rename = "h")]
    H,
    #[serde(rename = "d")]
    D,
}

impl Unit {
    pub(crate) fn ns(self) -> i64 {
        match self {
            Self::Ns => 1,
            Self::Us => 1_000,
            Self::Ms => 1_000_000,
            Self::Tenth => 100_000_000,
            Self::S => 1_000_000_000,
            Self::Min => 60_000_000_000,
            Self::H => 3_600_000_000_000,
            Self::D => 86_400_000_000_000,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CsvMapping {
    pub(crate) delimiter: Delimiter,
    pub(crate) quote: String,
    pub(crate) comment: String,
    pub(crate) skip_lines: u64,
    pub(crate) header: bool,
    pub(crate) columns: Vec<String>,
    pub(crate) decimal: char,
    pub(crate) blank: Vec<String>,
    pub(crate) short_rows: ShortRows,
}

impl Default for CsvMapping {
    fn default() -> Self {
        Self {
            delimiter: Delimiter::Auto,
            quote: "\"".into(),
            comment: String::new(),
            skip_lines: 0,
            header: true,
            columns: Vec::new(),
            decimal: '.',
            blank: Vec::new(),
            short_rows: ShortRows::Refuse,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Delimiter {
    /// Found in the first lines of each file.
    Auto,
    /// Runs of blanks and tabs.
    Blanks,
    One(u8),
}

impl TryFrom<String> for Delimiter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.as_bytes()) {
            ("auto", _) => Ok(Self::Auto),
            ("blanks", _) => Ok(Self::Blanks),
            (_, [one]) if one.is_ascii() && !one.is_ascii_alphanumeric() => Ok(Self::One(*one)),
            _ => Err(format!("`{text}` is no delimiter: give one ASCII character, \"auto\" or \"blanks\"")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ShortRows {
    Refuse,
    Blank,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LongMapping {
    pub(crate) sensor: String,
    pub(crate) value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QualityMapping {
    pub(crate) column: String,
    #[serde(default = "good")]
    pub(crate) good: Vec<String>,
    #[serde(default = "uncertain")]
    pub(crate) uncertain: Vec<String>,
    #[serde(default = "bad")]
    pub(crate) bad: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FramesMapping {
    pub(crate) rate_hz: f64,
    #[serde(default = "frame_samples")]
    pub(crate) samples: usize,
    pub(crate) gap_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMapping {
    pub(crate) samples: RawFormat,
    pub(crate) channels: Vec<Template>,
    #[serde(default = "one")]
    pub(crate) scale: f64,
    #[serde(default)]
    pub(crate) skip_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum RawFormat {
    #[serde(rename = "f64le")]
    F64,
    #[serde(rename = "f32le")]
    F32,
    #[serde(rename = "i16le")]
    I16,
}

impl From<RawFormat> for SampleFormat {
    fn from(format: RawFormat) -> Self {
        match format {
            RawFormat::F64 => Self::F64,
            RawFormat::F32 => Self::F32,
            RawFormat::I16 => Self::I16,
        }
    }
}

impl Mapping {
    /// Reads a mapping from its file.
    ///
    /// # Errors
    /// The file cannot be read, or is no mapping.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a mapping from its text; `origin` names it in errors.
    ///
    /// # Errors
    /// The text is no mapping: where, what, and the nearest known key.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let mut mapping: Self = toml::from_str(text).map_err(|error| toml_error(text, origin, &error))?;
        mapping.check().map_err(|what| Error::Mapping(format!("{origin}: {what}")))?;
        mapping.origin = origin.to_owned();
        mapping.hash = Hash::of(text.as_bytes());
        Ok(mapping)
    }

    fn check(&self) -> Result<(), String> {
        if let Some(frames) = &self.frames {
            check_rate("frames.rate_hz", frames.rate_hz)?;
            if frames.samples == 0 {
                return Err("`frames.samples` is 0: give 1 or more".into());
            }
        }
        if let Some(rate_hz) = self.time.rate_hz {
            check_rate("time.rate_hz", rate_hz)?;
        }
        match (&self.raw, &self.frames) {
            (Some(_), None) => return Err("`[raw]` files hold waveforms: add `[frames]` with `rate_hz`".into()),
            (Some(raw), Some(_)) => self.check_raw(raw)?,
            (None, _) if self.sensors.is_empty() && self.long.is_none() => {
                return Err(
                    "`[sensors]` is missing: name the columns that hold values, or `\"*\" = {}` for every other column".into()
                );
            }
            (None, _) => {}
        }
        if self.long.is_some() && self.frames.is_some() {
            return Err("`[long]` and `[frames]` exclude each other: a waveform needs a column per channel".into());
        }
        let same_time = self.raw.is_none() && self.frames.is_none() && self.time.rate_hz.is_none();
        if same_time && self.long.is_none() && !self.time.value.has_columns() && self.time.add.is_none() {
            return Err("`time.value` names no column, so every row would have the same time: name one, or give `time.rate_hz` or `time.add`".into());
        }
        if !matches!(self.csv.decimal, '.' | ',') {
            return Err(format!("`csv.decimal` is `{}`: give \".\" or \",\"", self.csv.decimal));
        }
        if self.csv.quote.len() > 1 || self.csv.comment.len() > 16 {
            return Err("`csv.quote` is one ASCII character or nothing, `csv.comment` at most 16 bytes".into());
        }
        if self.csv.header && !self.csv.columns.is_empty() {
            return Err("`csv.columns` names the columns of files without a header: add `header = false`".into());
        }
        crate::times::check_format(&self.time.format)?;
        jiff::tz::TimeZone::get(&self.time.zone)
            .map(|_| ())
            .map_err(|_| format!("`time.zone` is `{}`: give an IANA name such as \"UTC\" or \"Europe/Berlin\"", self.time.zone))
    }

    /// Checks what depends on how messages are written.
    pub(crate) fn check_format(&self, format: Format) -> Result<(), Error> {
        let Some(frames) = &self.frames else { return Ok(()) };
        let samples = self.raw.as_ref().map_or(SampleFormat::F64, |raw| raw.samples.into());
        let bytes = match format {
            Format::Avro => samples.width(),
            Format::Json => JSON_SAMPLE_BYTES,
        };
        let most = FRAME_BYTES_MAX / bytes;
        if frames.samples <= most {
            return Ok(());
        }
        let what = format!("`frames.samples` is {}: give at most {most}, a message may have 1 MiB", frames.samples);
        Err(Error::Mapping(format!("{}: {what}", self.origin)))
    }

    fn check_raw(&self, raw: &RawMapping) -> Result<(), String> {
        if self.quality.is_some() {
            return Err("`[quality]` names a column, and raw files have none: leave it out".into());
        }
        if raw.channels.is_empty() {
            return Err("`raw.channels` is empty: name the sensor of each channel, in the order of the samples".into());
        }
        if raw.samples == RawFormat::I16 && (raw.scale == 0.0 || !raw.scale.is_finite())
            || raw.samples != RawFormat::I16 && raw.scale != 1.0
        {
            return Err(format!("`raw.scale` is {}: it is the factor of i16le samples, finite and not 0", raw.scale));
        }
        let columns = self.asset.has_columns() || self.time.value.has_columns() || raw.channels.iter().any(Template::has_columns);
        if columns || self.time.add.is_some() {
            return Err("raw files have no columns: use `{file.name}`, `{file.stem}` and `{file.parent}` only".into());
        }
        Ok(())
    }

    /// The mapping of the sensor that the recording calls `recorded`: `None` if it is not mapped.
    pub(crate) fn sensor(&self, recorded: &str) -> Option<&Sensor> {
        let other = || self.sensors.get("*").filter(|_| !self.ignore.iter().any(|ignored| ignored == recorded));
        self.sensors.get(recorded).or_else(other)
    }
}

fn check_rate(key: &str, rate_hz: f64) -> Result<(), String> {
    if rate_hz.is_finite() && rate_hz > 0.0 { Ok(()) } else { Err(format!("`{key}` is {rate_hz}: give a finite rate above 0")) }
}

/// `origin:line:column: what`, and the nearest known key where one was misspelt.
fn toml_error(text: &str, origin: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let nearest = message.starts_with("unknown").then(|| {
        let wrong = quoted.next()?;
        quoted.map(|known| (strsim::damerau_levenshtein(wrong, known), known)).min().filter(|(far, _)| *far <= 3)
    });
    let hint = nearest.flatten().map(|(_, known)| format!("; did you mean `{known}`?")).unwrap_or_default();
    Error::Mapping(format!("{origin}:{line}:{column}: {message}{hint}"))
}

fn every_file() -> Vec<String> {
    vec!["*".into()]
}

fn iso() -> String {
    "iso".into()
}

fn utc() -> String {
    "UTC".into()
}

fn good() -> Vec<String> {
    vec!["good".into()]
}

fn uncertain() -> Vec<String> {
    vec!["uncertain".into()]
}

fn bad() -> Vec<String> {
    vec!["bad".into()]
}

fn frame_samples() -> usize {
    FRAME_SAMPLES
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "asset = \"a\"\n[time]\nvalue = \"{t}\"\n[sensors]\nx = { unit = \"Cel\" }\n";

    fn error(text: &str) -> String {
        Mapping::parse(text, "m.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_place_and_the_nearest_known_one() {
        let text = SMALL.replace("value", "vlaue");
        assert!(error(&text).starts_with("m.toml:3:1: unknown field `vlaue`"), "{}", error(&text));
        assert!(error(&text).ends_with("did you mean `value`?"), "{}", error(&text));
    }

    #[test]
    fn what_cannot_work_is_an_error_before_anything_is_read() {
        assert!(Mapping::parse(SMALL, "m.toml").is_ok());
        for (extra, word) in [
            ("[frames]\nrate_hz = -1\n", "frames.rate_hz"),
            ("[frames]\nrate_hz = 1.0\nsamples = 0\n", "frames.samples"),
            ("[csv]\ndelimiter = \"::\"\n", "delimiter"),
            ("[csv]\ncolumns = [\"t\"]\n", "header = false"),
            ("[raw]\nsamples = \"f64le\"\nchannels = [\"x\"]\n", "[frames]"),
        ] {
            assert!(error(&format!("{SMALL}{extra}")).contains(word), "{}", error(&format!("{SMALL}{extra}")));
        }
        assert!(error(&SMALL.replace("{t}", "2020-01-01")).contains("same time"));
        assert!(error(&SMALL.replace("[sensors]", "zone = \"Mars/Base\"\n[sensors]")).contains("time.zone"));
        assert!(error(&SMALL.replace("[sensors]\nx = { unit = \"Cel\" }", "")).contains("[sensors]"));
    }

    #[test]
    fn a_star_takes_every_other_sensor_but_the_ignored() {
        let text = format!("ignore = [\"flag\"]\n{SMALL}\"*\" = {{}}\n");
        let mapping = Mapping::parse(&text, "m.toml").unwrap();
        assert_eq!(mapping.sensor("x").and_then(|sensor| sensor.unit.as_deref()), Some("Cel"));
        assert!(mapping.sensor("y").is_some());
        assert!(mapping.sensor("flag").is_none());
    }
}
