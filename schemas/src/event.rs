//! Events: what happened to an asset, as the KPI rules need it.

use std::borrow::Cow;

/// Something that happened to an asset.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// The asset.
    pub asset: Cow<'a, str>,
    /// When it happened, ns since the epoch, UTC.
    pub time_ns: i64,
    /// The gateway's running number per asset, for gap detection only.
    pub seq: Option<i64>,
    /// What happened.
    pub body: EventBody<'a>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EventBody<'a> {
    /// The asset entered a state. It holds until `until_ns` or the asset's next state, whichever is first.
    MachineState {
        /// The state.
        state: State,
        /// End of the state (exclusive), where it is known; ns since the epoch, UTC.
        until_ns: Option<i64>,
        /// A stop reason, a failed component.
        reason: Option<Cow<'a, str>>,
    },
    /// Units made.
    ProductionCount {
        /// Units made, good or not (PQ).
        total: i64,
        /// Units of the total that are scrap (SQ).
        scrap: i64,
        /// Units of the total that need rework (RQ); not good.
        rework: i64,
        /// False: units since `since_ns` or the count before. True: counters that only rise, except for a reset to 0.
        counter: bool,
        /// Start of the counted interval; its end is the event's time.
        since_ns: Option<i64>,
        /// Planned run time per unit (PRU), seconds.
        unit_time_s: Option<f64>,
        /// What was made.
        product: Option<Cow<'a, str>>,
        /// The work order it was made for.
        order: Option<Cow<'a, str>>,
    },
    /// An alarm was raised or cleared.
    Alarm {
        /// The alarm's code within the asset.
        code: Cow<'a, str>,
        /// True: raised. False: cleared.
        active: bool,
        /// 1 (lowest) to 1000, as in OPC UA Part 5.
        severity: Option<i32>,
        /// What the alarm counts as: a stop category.
        category: Option<Cow<'a, str>>,
        /// For people.
        text: Option<Cow<'a, str>>,
    },
    /// A work order changed its phase on the asset.
    WorkOrder {
        /// The order's number.
        order: Cow<'a, str>,
        /// The phase it entered.
        phase: OrderPhase,
        /// What it makes.
        product: Option<Cow<'a, str>>,
        /// Units ordered.
        quantity: Option<i64>,
        /// Planned run time per unit (PRU), seconds.
        unit_time_s: Option<f64>,
    },
}

/// State of a machine (time model of ISO 22400-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Producing.
    Running = 0,
    /// Being set up: operating time, a loss of availability.
    Setup = 1,
    /// Available, without an order.
    Idle = 2,
    /// A short stop that is not a failure.
    Microstop = 3,
    /// Down for a malfunction.
    Failure = 4,
    /// Down as planned.
    PlannedDown = 5,
    /// Not scheduled.
    NoShift = 6,
    /// Not known, or a state that this version does not know.
    Unknown = 7,
}

impl State {
    /// All states with their names, in the order of the schema.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Running, "running"),
        (Self::Setup, "setup"),
        (Self::Idle, "idle"),
        (Self::Microstop, "microstop"),
        (Self::Failure, "failure"),
        (Self::PlannedDown, "planned_down"),
        (Self::NoShift, "no_shift"),
        (Self::Unknown, "unknown"),
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("unknown", |(_, name)| name)
    }
}

/// Phase of a work order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OrderPhase {
    /// Work on it began or went on.
    Started = 0,
    /// It was taken off the asset unfinished.
    Interrupted = 1,
    /// It is done.
    Finished = 2,
    /// A phase that this version does not know.
    Unknown = 3,
}

impl OrderPhase {
    /// All phases with their names, in the order of the schema.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Started, "started"),
        (Self::Interrupted, "interrupted"),
        (Self::Finished, "finished"),
        (Self::Unknown, "unknown"),
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(phase, _)| *phase == self).map_or("unknown", |(_, name)| name)
    }
}
