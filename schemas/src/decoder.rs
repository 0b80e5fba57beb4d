//! From payloads to columns.

use std::ops::RangeInclusive;

use crate::{
    Event, FeatureColumns, FrameColumns, ReadingColumns, Reject, RowReject, SeriesInterner, SeriesTable, events,
    features::FeatureWriter, frames::FrameWriter, framing::Framed, known, plan::Plan, readings::ReadingWriter, reject,
};

/// Longest list of rows in one record, unless configured otherwise.
pub const ROWS_PER_RECORD_MAX: u32 = 65_536;
/// Most series in one process, unless configured otherwise.
pub const SERIES_MAX: usize = 1_000_000;
/// Samples memory that is kept for the next JSON frame.
const SAMPLES_KEPT_BYTES_MAX: usize = 1 << 20;

/// Source times that are accepted: those of a record, never of the worker's clock, so that a replay decides the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedTimes {
    /// The earliest, ns since the epoch.
    pub from_ns: i64,
    /// How far a time may be ahead of the record's timestamp, ms. A record without timestamp has no upper bound.
    pub ahead_ms: i64,
}

impl Default for AcceptedTimes {
    /// From 2000-01-01 to 10 minutes ahead.
    fn default() -> Self {
        Self { from_ns: 946_684_800_000_000_000, ahead_ms: 600_000 }
    }
}

/// A writer's schema, as registered in a schema registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// The registry's id, as it stands in Confluent's framing.
    pub id: u32,
    /// The schema's JSON text.
    pub avsc: String,
}

/// What a [`Decoder`] is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderConfig {
    /// Source times that are accepted.
    pub accepted_times: AcceptedTimes,
    /// Most series in this process; rows of more are rejected.
    pub series_max: usize,
    /// Most rows in one record; records with more are rejected.
    pub rows_per_record_max: u32,
    /// Schemas of other writers. Each is known by its id and by its fingerprint.
    pub registered: Vec<RegisteredSchema>,
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            accepted_times: AcceptedTimes::default(),
            series_max: SERIES_MAX,
            rows_per_record_max: ROWS_PER_RECORD_MAX,
            registered: Vec::new(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A registered schema cannot be read, or its records are none of ours.
    #[error("schema id {id} cannot be used: {reason}")]
    Schema {
        /// The registry's id.
        id: u32,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Two registered schemas have the same id.
    #[error("schema id {0} is registered twice: remove one")]
    Twice(u32),
}

/// What a record says beside its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordMeta<'a> {
    /// The record's key: the asset, where the payload names none.
    pub key: Option<&'a [u8]>,
    /// The record's timestamp, ms since the epoch.
    pub timestamp_ms: Option<i64>,
}

/// Reads payloads of every framing and known schema straight into columns.
///
/// Pure: the same configuration and records give the same rows and rejects, at any time. Series ids depend on the
/// records read before, and so does the bound on their number.
#[derive(Debug)]
pub struct Decoder {
    interner: SeriesInterner,
    accepted_times: AcceptedTimes,
    rows_per_record_max: u32,
    plans: Plans,
    samples: Vec<u8>,
}

impl Decoder {
    /// A decoder that knows our own schemas and the registered ones.
    ///
    /// # Errors
    /// A registered schema cannot be used.
    pub fn new(config: DecoderConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            interner: SeriesInterner::new(config.series_max),
            accepted_times: config.accepted_times,
            rows_per_record_max: config.rows_per_record_max,
            plans: Plans::new(config.registered)?,
            samples: Vec::new(),
        })
    }

    /// The names behind the series ids that it gives out.
    pub fn series(&self) -> SeriesTable {
        self.interner.table()
    }

    /// Appends the good rows of a reading, readings or column batch to `into`, the refused ones to `rejects`, both in
    /// the sender's order.
    ///
    /// # Errors
    /// The record as a whole cannot be read. What was appended to `into` and `rejects` is then to be dropped.
    pub fn readings(
        &mut self,
        meta: RecordMeta<'_>,
        payload: &[u8],
        into: &mut ReadingColumns,
        rejects: &mut Vec<RowReject>,
    ) -> Result<(), Reject> {
        let framed = Framed::of(payload).map_err(Reject::clone)?;
        let writer = ReadingWriter {
            accepted: self.accepted_times.of(meta.timestamp_ms),
            interner: &mut self.interner,
            rows_max: self.rows_per_record_max,
            key: meta.key,
            arrival_ms: meta.timestamp_ms.unwrap_or(-1),
            into,
            rejects,
            row: 0,
        };
        match framed {
            Framed::Json(payload) => writer.json(payload),
            Framed::SingleObject { fingerprint, body } => writer.avro(self.plans.by_fingerprint(fingerprint)?, body),
            Framed::Confluent { id, body } => writer.avro(self.plans.by_id(id)?, body),
        }
        .map_err(Reject::clone)
    }

    /// Appends a frame to `into`, or its refusal to `rejects` as row 0.
    ///
    /// # Errors
    /// The record cannot be read. What was appended to `into` and `rejects` is then to be dropped.
    pub fn frames(
        &mut self,
        meta: RecordMeta<'_>,
        payload: &[u8],
        into: &mut FrameColumns,
        rejects: &mut Vec<RowReject>,
    ) -> Result<(), Reject> {
        let framed = Framed::of(payload).map_err(Reject::clone)?;
        let writer = FrameWriter {
            accepted: self.accepted_times.of(meta.timestamp_ms),
            interner: &mut self.interner,
            key: meta.key,
            arrival_ms: meta.timestamp_ms.unwrap_or(-1),
            into,
            rejects,
        };
        let read = match framed {
            Framed::Json(payload) => writer.json(payload, &mut self.samples),
            Framed::SingleObject { fingerprint, body } => writer.avro(self.plans.by_fingerprint(fingerprint)?, body),
            Framed::Confluent { id, body } => writer.avro(self.plans.by_id(id)?, body),
        };
        self.samples.clear();
        self.samples.shrink_to(SAMPLES_KEPT_BYTES_MAX);
        read.map_err(Reject::clone)
    }

    /// Appends the good rows of a record of features to `into`, the refused ones to `rejects`, both in the sender's order.
    ///
    /// # Errors
    /// The record as a whole cannot be read. What was appended to `into` and `rejects` is then to be dropped.
    pub fn features(
        &mut self,
        meta: RecordMeta<'_>,
        payload: &[u8],
        into: &mut FeatureColumns,
        rejects: &mut Vec<RowReject>,
    ) -> Result<(), Reject> {
        let plan = match Framed::of(payload).map_err(Reject::clone)? {
            Framed::Json(_) => return Err(reject::NOT_FEATURES.clone()),
            Framed::SingleObject { fingerprint, body } => (self.plans.by_fingerprint(fingerprint)?, body),
            Framed::Confluent { id, body } => (self.plans.by_id(id)?, body),
        };
        let writer =
            FeatureWriter { interner: &mut self.interner, rows_max: self.rows_per_record_max, key: meta.key, into, rejects };
        writer.avro(plan.0, plan.1).map_err(Reject::clone)
    }

    /// Reads an event; its texts borrow from the payload.
    ///
    /// # Errors
    /// The record cannot be read, or breaks a rule.
    pub fn event<'a>(&'a self, meta: RecordMeta<'a>, payload: &'a [u8]) -> Result<Event<'a>, Reject> {
        let accepted = self.accepted_times.of(meta.timestamp_ms);
        match Framed::of(payload).map_err(Reject::clone)? {
            Framed::Json(payload) => events::json(payload, meta.key, &accepted),
            Framed::SingleObject { fingerprint, body } => {
                events::avro(self.plans.by_fingerprint(fingerprint)?, body, meta.key, &accepted)
            }
            Framed::Confluent { id, body } => events::avro(self.plans.by_id(id)?, body, meta.key, &accepted),
        }
        .map_err(Reject::clone)
    }
}

impl AcceptedTimes {
    /// The accepted source times of a record with this timestamp, ns.
    pub fn of(&self, timestamp_ms: Option<i64>) -> RangeInclusive<i64> {
        let until = timestamp_ms.map_or(i64::MAX, |ms| ms.saturating_add(self.ahead_ms).saturating_mul(1_000_000));
        self.from_ns..=until
    }
}

/// The plans, by what a framing names them with. Few: sorted lists.
#[derive(Debug)]
struct Plans {
    plans: Vec<Plan>,
    by_fingerprint: Vec<(u64, usize)>,
    by_id: Vec<(u32, usize)>,
}

impl Plans {
    fn new(registered: Vec<RegisteredSchema>) -> Result<Self, ConfigError> {
        let mut plans = Self { plans: Vec::new(), by_fingerprint: Vec::new(), by_id: Vec::new() };
        for schema in known::all() {
            // That each of our own compiles is a test; one that did not would be unknown, and its records dead letters.
            if let Ok(plan) = Plan::compile(schema.avsc) {
                plans.add(plan);
            }
        }
        for RegisteredSchema { id, avsc } in registered {
            let plan = Plan::compile(&avsc).map_err(|reason| ConfigError::Schema { id, reason })?;
            let index = plans.add(plan);
            match plans.by_id.binary_search_by_key(&id, |(id, _)| *id) {
                Ok(_) => return Err(ConfigError::Twice(id)),
                Err(place) => plans.by_id.insert(place, (id, index)),
            }
        }
        Ok(plans)
    }

    /// A fingerprint that is already there keeps its plan: equal canonical forms are read alike, but for logical types and
    /// aliases, and ours are the ones that the single-object marking of our own writers means.
    fn add(&mut self, plan: Plan) -> usize {
        let index = self.plans.len();
        let fingerprint = plan.schema.fingerprint;
        if let Err(place) = self.by_fingerprint.binary_search_by_key(&fingerprint, |(fingerprint, _)| *fingerprint) {
            self.by_fingerprint.insert(place, (fingerprint, index));
        }
        self.plans.push(plan);
        index
    }

    fn by_fingerprint(&self, fingerprint: u64) -> Result<&Plan, Reject> {
        let place = self.by_fingerprint.binary_search_by_key(&fingerprint, |(fingerprint, _)| *fingerprint);
        let plan = place.ok().and_then(|place| self.by_fingerprint.get(place)).and_then(|(_, index)| self.plans.get(*index));
        plan.ok_or_else(|| {
            Reject::new(
                "unknown-schema",
                format!(
                    "the schema with fingerprint {fingerprint:016x} is not known: add it under [[schemas]] in mantis.toml and replay \
                     the dead letter"
                ),
            )
        })
    }

    fn by_id(&self, id: u32) -> Result<&Plan, Reject> {
        let place = self.by_id.binary_search_by_key(&id, |(id, _)| *id);
        let plan = place.ok().and_then(|place| self.by_id.get(place)).and_then(|(_, index)| self.plans.get(*index));
        plan.ok_or_else(|| {
            Reject::new(
                "unknown-schema",
                format!("schema id {id} is not registered: add it under [[schemas]] in mantis.toml and replay the dead letter"),
            )
        })
    }
}
