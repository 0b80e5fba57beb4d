//! What can be asked of `mantis` on the command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use mantis_kafka::letters::Place;

/// Carries sensor readings through Kafka into the stores where a plant needs them, loses none, and can prove it.
#[derive(Debug, Parser)]
#[command(name = "mantis", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 done but something needs attention.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Configuration file [default: mantis.toml in this folder, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the embedded broker and stores [default: mantis-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print JSON: one object, or one object per line
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole road in this process: embedded broker, workers, stores
    Up(Up),
    /// Run one worker against a broker
    Worker(Worker),
    /// Publish recordings as a gateway would
    Replay(Replay),
    /// Show what runs: lag, rates and last error of each worker
    Status,
    /// Look at stored readings, frames and features
    #[command(subcommand)]
    Query(Query),
    /// Show how the readings of each sensor come: rate, skew, gaps, duplicates, late ones
    Sensors(Sensors),
    /// Look at dead letters and send them again
    #[command(subcommand)]
    Dlq(Dlq),
    /// Prove that each store holds what the log says; the cache is filled from them and not looked at
    Audit(Audit),
    /// Look at the archive and check that it is whole
    #[command(subcommand)]
    Archive(Archive),
    /// Write stored readings or frames to a file, sorted by identity
    Export(Export),
    /// Change up to where a store says that it has the log
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Make the tables of the configured database, or bring them up to date
    Migrate(Migrate),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Args)]
pub struct Migrate {
    /// Address with the user that is to own the tables: postgresql://owner@host:5432/database [default: the worker's]
    #[arg(long)]
    pub url: Option<String>,
    /// File with that user's password
    #[arg(long, value_name = "FILE", requires = "url")]
    pub password_file: Option<PathBuf>,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Forget the position of a partition: its worker reads the log from its start again, and stores nothing twice
    Reset {
        /// Which store
        #[arg(value_enum)]
        store: LedgerStore,
        /// topic/partition, as `mantis status` names it
        partition: String,
    },
}

/// Stores that keep their own positions and can be filled again from the start of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LedgerStore {
    /// The raw store
    Raw,
    /// The feature store
    Timescale,
}

#[derive(Debug, Args)]
pub struct Up {
    /// Play the recording that comes with the program through the road
    #[arg(long)]
    pub demo: bool,
    /// Address of the broker; port 0 takes a free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of the health, status and metrics pages; port 0 takes a free one [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct Worker {
    /// Which worker
    #[arg(value_enum)]
    pub name: WorkerName,
    /// Kafka bootstrap servers [default: the configuration's]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub brokers: Option<String>,
    /// Address of the health, status and metrics pages; port 0 takes a free one [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WorkerName {
    /// Raw readings and frames into the raw store
    Raw,
    /// Readings and frames into condition features
    Features,
    /// Features, and slow readings of registered sensors, into the feature store
    Timescale,
    /// The latest reading and features of each sensor into the cache
    Cache,
    /// Everything into the archive
    Archive,
}

impl WorkerName {
    /// All of them: what `up` runs.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Features, Self::Timescale, Self::Cache, Self::Archive];
}

#[derive(Debug, Args)]
pub struct Replay {
    /// How to read the recordings: a mapping file
    #[arg(long, value_name = "FILE.toml")]
    pub mapping: PathBuf,
    /// The recordings, files or folders
    #[arg(required = true, value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,
    /// Kafka bootstrap servers [default: the configuration's, or the running `up` of the data folder]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub brokers: Option<String>,
    /// `max`, `recorded`, or a factor of the recorded speed
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    pub speed: Speed,
    /// Encoding of the messages
    #[arg(long, value_enum, default_value_t = Format::Avro)]
    pub format: Format,
    /// Readings per message
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub batch: u32,
    /// Begin again, also if an earlier replay of the same files was interrupted or done
    #[arg(long)]
    pub restart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    Max,
    Times(f64),
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    match text {
        "max" => Ok(Speed::Max),
        "recorded" => Ok(Speed::Times(1.0)),
        _ => match text.trim_end_matches('x').parse::<f64>() {
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
            _ => Err("use `max`, `recorded`, or a factor above 0 such as 10".into()),
        },
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    Avro,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Query {
    /// List the series: assets and their sensors
    Series,
    /// Scalar readings of a sensor
    Readings(Range),
    /// Waveform frames of a sensor
    Frames(Range),
    /// Condition features of a sensor
    Features {
        /// Length of the window: `10s`, `1m`, or `frame` [default: all that there are]
        #[arg(long, value_parser = parse_window)]
        window: Option<i64>,
        #[command(flatten)]
        range: Range,
    },
}

fn parse_window(text: &str) -> Result<i64, String> {
    mantis_schemas::parse_window(text).ok_or_else(|| "write a length like 10s, 1m, 8h or 1d, or `frame`".into())
}

#[derive(Debug, Args)]
pub struct Sensors {
    /// Only sensors of this asset
    pub asset: Option<String>,
    /// Seconds before a sensor's newest reading that are looked at
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(1..))]
    pub last: u32,
}

#[derive(Debug, Args)]
pub struct Range {
    pub asset: String,
    pub sensor: String,
    /// From this time on, RFC 3339, e.g. 2026-01-31T08:00:00Z
    #[arg(long)]
    pub from: Option<Timestamp>,
    /// Up to, not including, this time
    #[arg(long)]
    pub to: Option<Timestamp>,
    /// Rows at most, of features of each length; says so where there are more
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one)]
    pub limit: usize,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|rows| *rows > 0).ok_or_else(|| "give a number above 0".into())
}

#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List refused records, the newest first: one each, with those who refused it and why
    List(DlqFilter),
    /// Show one refused record whole, with what each worker says of it
    Show {
        /// topic/partition/offset, as `list` prints it
        position: String,
        #[command(flatten)]
        source: DlqSource,
    },
    /// Send dead letters to their topics again
    Replay(DlqFilter),
}

#[derive(Clone, Debug, Default, Args)]
pub struct DlqSource {
    /// Kafka bootstrap servers [default: the configuration's, or the running `up` of the data folder]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub brokers: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct DlqFilter {
    #[command(flatten)]
    pub source: DlqSource,
    /// Only records of this source topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Only this reason, by its code
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// Only this record: topic/partition/offset
    #[arg(long, value_name = "POSITION")]
    pub position: Option<String>,
    /// Also those that were replayed before
    #[arg(long)]
    pub all: bool,
    /// Only letters that lie here or behind it in the dead-letter topics, the oldest first: a call that left some out says
    /// where they begin
    #[arg(long, value_name = "TOPIC/PARTITION/OFFSET")]
    pub from: Option<Place>,
}

#[derive(Debug, Args)]
pub struct Audit {
    /// Only what this worker writes [default: each whose store is here]
    #[arg(value_enum)]
    pub store: Option<AuditStore>,
    /// Kafka bootstrap servers [default: the configuration's, or the running `up` of the data folder]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub brokers: Option<String>,
    /// Wait up to this many seconds for the workers to reach the end of the log first
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub wait: u64,
}

#[derive(Debug, Subcommand)]
pub enum Archive {
    /// List the objects
    List(ArchiveFilter),
    /// Check that each position is in exactly one object, whole, and compare with the log where it still has the records
    Verify(ArchiveVerify),
    /// Print rows in order of the log, a JSON object per line
    Cat {
        /// An object's key, topic/partition/offset, or topic/partition/from-to (the end not included)
        what: String,
    },
    /// Compute all features again from archived readings and waveforms, a JSON object per line
    Features,
}

#[derive(Debug, Args)]
pub struct ArchiveFilter {
    /// Only objects of this topic
    #[arg(long)]
    pub topic: Option<String>,
}

#[derive(Debug, Args)]
pub struct ArchiveVerify {
    /// Kafka bootstrap servers [default: the configuration's, or the running `up` of the data folder]
    #[arg(long, value_name = "HOST:PORT,...")]
    pub brokers: Option<String>,
    /// Check the archive by itself, without the log
    #[arg(long)]
    pub offline: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuditStore {
    /// Readings and frames in the raw store
    Raw,
    /// Features, computed again, in the feature store
    Features,
    /// Slow readings of registered sensors in the feature store
    Timescale,
    /// The objects of the archive
    Archive,
}

impl AuditStore {
    pub const ALL: [Self; 4] = [Self::Raw, Self::Features, Self::Timescale, Self::Archive];
}

#[derive(Debug, Args)]
pub struct Export {
    #[arg(value_enum)]
    pub what: ExportWhat,
    #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
    pub format: ExportFormat,
    /// File to write; `-` is standard output
    #[arg(long, short, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
    /// From this time on, RFC 3339
    #[arg(long)]
    pub from: Option<Timestamp>,
    /// Up to, not including, this time
    #[arg(long)]
    pub to: Option<Timestamp>,
    /// Add the arrival time of each row, which differs from run to run
    #[arg(long)]
    pub arrival: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportWhat {
    Readings,
    Frames,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Csv,
    Parquet,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration and print what holds
    Check,
}
