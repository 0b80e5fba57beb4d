//! CSV files: wide, long and waveforms.

use std::{collections::HashMap, io::BufRead, sync::Arc};

use mantis_schemas::Quality;

use crate::{
    Error, Mapping, Totals,
    batch::{Output, check_name},
    frames::Framer,
    mapping::{QualityMapping, ShortRows},
    number,
    rows::{Next, Row, Rows},
    source::{Source, broken_off},
    steps::Steps,
    template::Bound,
    times::Times,
};

/// Sensors of a long file whose names are remembered.
const SENSORS_MAX: usize = 100_000;

/// Reads one file, a row at a time.
pub(crate) struct Table {
    rows: Rows,
    source: Source,
    cells: Cells,
    asset: Bound,
    asset_text: String,
    times: Times,
    quality: Option<(usize, QualityMapping)>,
    layout: Layout,
    /// Rows read.
    index: u64,
}

/// What a cell means.
struct Cells {
    width: usize,
    short_rows: ShortRows,
    decimal: char,
    blank: Vec<String>,
}

enum Layout {
    Wide(Vec<(usize, Arc<str>)>),
    Long { mapping: Arc<Mapping>, sensor: usize, value: usize, known: HashMap<String, Option<Arc<str>>>, series: String },
    Waveform { channels: Vec<(usize, Framer)>, asset: Arc<str>, steps: Steps },
}

impl Table {
    /// `None` where the file is empty.
    pub(crate) fn open(
        reader: Box<dyn BufRead + Send>,
        source: &Source,
        mapping: &Arc<Mapping>,
        days: i64,
    ) -> Result<Option<Self>, Error> {
        let io = |error| Error::io(source.path())(error);
        let wrong = |what: String| Error::File { file: source.label.to_string(), what };
        let mut rows = Rows::open(reader, &mapping.csv).map_err(io)?;
        if rows.width().map_err(io)? == 0 {
            return Ok(None);
        }
        let columns = columns(&mut rows, mapping, source)?;
        let column = |name: &str| number_of(&columns, name);
        let rate_hz = mapping.frames.as_ref().map(|frames| frames.rate_hz);
        let layout = layout(mapping, source, &columns).map_err(wrong)?;
        Ok(Some(Self {
            rows,
            source: source.clone(),
            cells: Cells {
                width: columns.len(),
                short_rows: mapping.csv.short_rows,
                decimal: mapping.csv.decimal,
                blank: mapping.csv.blank.clone(),
            },
            asset: mapping.asset.bind(&source.names, column).map_err(wrong)?,
            asset_text: String::new(),
            times: Times::bind(&mapping.time, rate_hz, mapping.csv.decimal, days, &source.names, column).map_err(wrong)?,
            quality: mapping
                .quality
                .as_ref()
                .map(|quality| column(&quality.column).map(|number| (number, quality.clone())))
                .transpose()
                .map_err(wrong)?,
            layout,
            index: 0,
        }))
    }

    /// Reads a row; false at the end.
    pub(crate) fn next(&mut self, output: &mut Output, totals: &mut Totals) -> Result<bool, Error> {
        let next = match self.rows.next() {
            Ok(next) => next,
            Err(error) => {
                let what = broken_off(error).map_err(Error::io(self.source.path()))?;
                output.refuse(totals, self.rows.lines_read(), what);
                Next::End
            }
        };
        let row = match next {
            Next::Row(row) => row,
            Next::End => {
                if let Layout::Waveform { channels, asset, .. } = &mut self.layout {
                    cut(channels, asset, output, totals);
                }
                output.flush();
                return Ok(false);
            }
            Next::Refused(line, what) => {
                totals.rows += 1;
                self.index += 1;
                output.refuse(totals, line, what);
                if let Layout::Waveform { channels, asset, steps } = &mut self.layout {
                    cut(channels, asset, output, totals);
                    steps.skip();
                }
                return Ok(true);
            }
        };
        totals.rows += 1;
        let index = self.index;
        self.index += 1;
        let read = self.cells.check(row).and_then(|()| {
            let asset = self.asset.fill(&mut self.asset_text, |column| Some(row.cell(column)).filter(|cell| !cell.is_empty()));
            asset.ok_or("the asset is blank".to_owned())?;
            check_name("asset", &self.asset_text)?;
            let quality =
                self.quality.as_ref().map_or(Ok(Quality::Good), |(column, mapping)| quality(mapping, row.cell(*column)))?;
            let asset = self.asset_text.as_str();
            match &mut self.layout {
                Layout::Wide(sensors) => {
                    let time_ns = self.times.of(row, index, asset)?;
                    for (column, sensor) in sensors {
                        match self.cells.value(row.cell(*column)) {
                            Ok(Some(value)) => output.reading(totals, row.line, (asset, sensor), time_ns, value, quality),
                            Ok(None) => totals.blanks += 1,
                            Err(what) => output.refuse(totals, row.line, format!("`{sensor}`: {what}")),
                        }
                    }
                }
                Layout::Long { mapping, sensor, value, known, series } => {
                    let name = row.cell(*sensor);
                    let Some(sensor) = sensor_of(known, mapping, &self.source, name, &mut totals.absent_sensors)? else {
                        totals.ignored += 1;
                        return Ok(());
                    };
                    let Some(value) = self.cells.value(row.cell(*value)).map_err(|what| format!("`{sensor}`: {what}"))? else {
                        totals.blanks += 1;
                        return Ok(());
                    };
                    series.clear();
                    series.push_str(asset);
                    series.push('\0');
                    series.push_str(&sensor);
                    let time_ns = self.times.of(row, index, series)?;
                    output.reading(totals, row.line, (asset, &sensor), time_ns, value, quality);
                }
                Layout::Waveform { channels, asset: open, steps } => {
                    let time_ns = self.times.of(row, index, asset)?;
                    if **open != *asset {
                        cut(channels, open, output, totals);
                        *open = asset.into();
                        steps.reset();
                    }
                    if steps.breaks(time_ns) {
                        cut(channels, open, output, totals);
                    }
                    for (column, framer) in channels {
                        let turned = framer.turn(open, quality);
                        totals.frames += u64::from(turned.is_some());
                        output.pieces.extend(turned);
                        let piece = match self.cells.value(row.cell(*column)) {
                            Ok(Some(value)) if value.is_finite() => {
                                totals.samples += 1;
                                framer.sample(open, row.line, time_ns, value, quality)
                            }
                            Ok(None) => {
                                totals.blanks += 1;
                                framer.cut(open)
                            }
                            Ok(Some(value)) => {
                                output.refuse(totals, row.line, format!("the sample is {value}, and a frame cannot carry it"));
                                framer.cut(open)
                            }
                            Err(what) => {
                                output.refuse(totals, row.line, what);
                                framer.cut(open)
                            }
                        };
                        totals.frames += u64::from(piece.is_some());
                        output.pieces.extend(piece);
                    }
                }
            }
            Ok(())
        });
        if let Err(what) = read {
            output.refuse(totals, row.line, what);
            // The samples behind a refused row lie one step further: they begin a new frame.
            if let Layout::Waveform { channels, asset, steps } = &mut self.layout {
                cut(channels, asset, output, totals);
                steps.skip();
            }
        }
        Ok(true)
    }
}

impl Cells {
    fn check(&self, row: &Row) -> Result<(), String> {
        let extra = row.cells().skip(self.width).any(|cell| !cell.is_empty());
        let short = row.len() < self.width && self.short_rows == ShortRows::Refuse;
        if extra || short {
            return Err(format!("the row has {} cells where {} are expected", row.len(), self.width));
        }
        Ok(())
    }

    fn value(&self, cell: &str) -> Result<Option<f64>, String> {
        if cell.is_empty() || self.blank.iter().any(|blank| blank == cell) {
            return Ok(None);
        }
        number::value(cell, self.decimal).map(Some).ok_or_else(|| format!("`{cell}` is no number"))
    }
}

fn cut(channels: &mut [(usize, Framer)], asset: &Arc<str>, output: &mut Output, totals: &mut Totals) {
    for (_, framer) in channels {
        let piece = framer.cut(asset);
        totals.frames += u64::from(piece.is_some());
        output.pieces.extend(piece);
    }
}

/// The names of the columns: the header's, the mapping's, or their numbers from 1.
fn columns(rows: &mut Rows, mapping: &Mapping, source: &Source) -> Result<Vec<String>, Error> {
    if !mapping.csv.columns.is_empty() {
        return Ok(mapping.csv.columns.clone());
    }
    if !mapping.csv.header {
        let width = rows.width().map_err(Error::io(source.path()))?;
        return Ok((1..=width).map(|number| number.to_string()).collect());
    }
    let wrong = |what: &str| Error::File { file: source.label.to_string(), what: what.into() };
    match rows.next().map_err(Error::io(source.path()))? {
        Next::Row(row) => Ok(row.cells().map(str::to_owned).collect()),
        Next::Refused(_, what) => Err(wrong(what)),
        Next::End => Ok(Vec::new()),
    }
}

fn number_of(columns: &[String], name: &str) -> Result<usize, String> {
    let mut fitting = columns.iter().enumerate().filter(|(_, column)| *column == name).map(|(number, _)| number);
    match (fitting.next(), fitting.next()) {
        (Some(number), None) => Ok(number),
        (Some(_), Some(_)) => Err(format!("two columns are called `{name}`: name them with `csv.columns`, and skip the header")),
        (None, _) => {
            let nearest = columns.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
            let hint = nearest.map(|(_, known)| format!("; the nearest is `{known}`")).unwrap_or_default();
            Err(format!("the mapping names a column `{name}`, and the file has none of that name{hint}"))
        }
    }
}

fn layout(mapping: &Arc<Mapping>, source: &Source, columns: &[String]) -> Result<Layout, String> {
    if let Some(long) = &mapping.long {
        return Ok(Layout::Long {
            mapping: mapping.clone(),
            sensor: number_of(columns, &long.sensor)?,
            value: number_of(columns, &long.value)?,
            known: HashMap::new(),
            series: String::new(),
        });
    }
    let mut sensors = Vec::new();
    for name in mapping.sensors.keys().filter(|name| *name != "*") {
        number_of(columns, name)?;
    }
    let used = used(mapping, source)?;
    for (number, column) in columns.iter().enumerate() {
        let named = mapping.sensors.contains_key(column);
        if mapping.sensor(column).is_some()
            && (named || !column.is_empty() && !used.contains(column))
            && let Some(sensor) = sensor_name(mapping, source, column)?
        {
            number_of(columns, column)?;
            if sensors.iter().any(|(_, other)| *other == sensor) {
                return Err(format!("two columns would be published as sensor `{sensor}`: give them different names"));
            }
            sensors.push((number, sensor));
        }
    }
    let Some(frames) = &mapping.frames else { return Ok(Layout::Wide(sensors)) };
    Ok(Layout::Waveform {
        channels: sensors.into_iter().map(|(number, sensor)| (number, Framer::new(sensor, frames))).collect(),
        asset: "".into(),
        steps: Steps::new(
            frames.rate_hz,
            frames.gap_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000_000)),
        ),
    })
}

/// The columns that are something else than a sensor.
fn used(mapping: &Mapping, source: &Source) -> Result<Vec<String>, String> {
    let mut used = Vec::new();
    for template in [&mapping.asset, &mapping.time.value] {
        template.bind(&source.names, |column| {
            used.push(column.to_owned());
            Ok::<_, String>(0)
        })?;
    }
    used.extend(mapping.time.add.as_ref().map(|add| add.column.clone()));
    used.extend(mapping.quality.as_ref().map(|quality| quality.column.clone()));
    Ok(used)
}

fn sensor_of(
    known: &mut HashMap<String, Option<Arc<str>>>,
    mapping: &Mapping,
    source: &Source,
    name: &str,
    absent: &mut Vec<String>,
) -> Result<Option<Arc<str>>, String> {
    if let Some(sensor) = known.get(name) {
        return Ok(sensor.clone());
    }
    absent.retain(|absent| absent != name);
    let sensor = sensor_name(mapping, source, name)?;
    if known.len() < SENSORS_MAX {
        known.insert(name.to_owned(), sensor.clone());
    }
    Ok(sensor)
}

/// The name under which a sensor is published; `None` if it is not mapped.
fn sensor_name(mapping: &Mapping, source: &Source, recorded: &str) -> Result<Option<Arc<str>>, String> {
    let template = match mapping.sensor(recorded) {
        Some(sensor) => sensor.name.as_ref(),
        // A long file without `[sensors]` publishes each under its own name.
        None if mapping.long.is_some() && mapping.sensors.is_empty() => None,
        None => return Ok(None),
    };
    let bound = template.map(|template| {
        template.bind(&source.names, |column| {
            Err(format!("the name of sensor `{recorded}` cannot take `{{{column}}}`: it is the same in all rows"))
        })
    });
    let bound = bound.transpose()?;
    let name = bound.as_ref().map_or(Some(recorded), Bound::constant).unwrap_or(recorded);
    check_name("sensor", name)?;
    Ok(Some(name.into()))
}

fn quality(mapping: &QualityMapping, cell: &str) -> Result<Quality, String> {
    let named = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(cell));
    if named(&mapping.good) {
        Ok(Quality::Good)
    } else if named(&mapping.uncertain) {
        Ok(Quality::Uncertain)
    } else if named(&mapping.bad) {
        Ok(Quality::Bad)
    } else {
        Err(format!("`{cell}` is no quality that the mapping names"))
    }
}
